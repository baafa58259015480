"""Secrets on their way into the database, sealed under a master key that the database knows.

The table of master keys says which ones have to stay in the file. A process that still has the
file from before the key was replaced must seal nothing under the old one: it could not be
opened once that line is deleted.
"""

from sqlalchemy import select

from smtpgate.directory.change import Change, RefusedChangeError
from smtpgate.directory.schema import master_keys as known
from smtpgate.directory.sealing import MasterKeys


async def must_be_known(change: Change, master_keys: MasterKeys) -> None:
    """Raises RefusedChangeError when the current master key was replaced meanwhile."""
    query = select(known.c.check).where(known.c.id == master_keys.current)
    check: bytes | None = (await change.connection.execute(query)).scalar()
    if check is None or not master_keys.is_same(check):
        raise RefusedChangeError(
            f"master key {master_keys.current} was replaced since this process started; "
            f"restart it with the current master key file"
        )
