"""The directory's database itself: its tables, its master keys, its copies."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from smtpgate.admin.errors import RefusedChangeError
from smtpgate.admin.session import Session
from smtpgate.directory import backup, copying, sealing
from smtpgate.directory import rekey as sealing_keys
from smtpgate.directory.audit import AuditFilter, audit_page
from smtpgate.directory.counts import counted
from smtpgate.directory.store import SCHEMA
from smtpgate.sql.database import Database
from smtpgate.sql.upgrade import revision_of, upgrade


async def status(session: Session) -> Mapping[str, Any]:
    """Its database, what is in it, the master keys that it needs, and the last change."""
    session.must_be_allowed("MaintainDirectory", "*")
    store = session.store
    async with store.reading() as connection:
        counts = await counted(connection)
        newest = await audit_page(connection, AuditFilter(), newest_first=True, limit=1)
    last = newest[0] if newest else None
    return {
        "database": store.database.name,
        "kind": "sqlite" if store.database.is_sqlite else "postgresql",
        "revision": await revision_of(store.database, SCHEMA),
        "region": session.region,
        "master_keys": list(store.master_keys.ids),
        "current_master_key": store.master_keys.current,
        **{what.replace(" ", "_").lower(): number for what, number in counts.items()},
        "last_change": last.seq if last else None,
        "last_change_at": last.at if last else None,
        "last_change_by": last.actor if last else None,
    }


async def upgrade_tables(session: Session) -> tuple[str | None, str]:
    """Make the tables, or bring them to this version; the revisions before and after.

    Raises SchemaError, or OSError when a file cannot be made.
    """
    session.must_be_allowed("MaintainDirectory", "*")
    revisions = await upgrade(session.store.database, SCHEMA)
    await session.store.open(may_upgrade=False)
    return revisions


def new_master_key(key_id: str) -> str:
    """A line with a new key for the master key file. Raises RefusedChangeError."""
    line = sealing.new_master_key(key_id)
    try:
        _ = sealing.MasterKeys.parse(line)
    except sealing.MasterKeyError as error:
        raise RefusedChangeError(str(error)) from None
    return line


async def rekey(session: Session) -> Mapping[str, int]:
    """Seal all secrets under the first master key; how many of each kind it was."""
    session.must_be_allowed("MaintainDirectory", "*")
    return await sealing_keys.rekey(session.store, session.actor)


async def back_up(session: Session, file: Path, *, replace: bool = False) -> None:
    """Copy a directory in SQLite into a file. Raises RefusedChangeError or OSError."""
    session.must_be_allowed("MaintainDirectory", "*")
    await backup.backup(session.store.database, file, replace=replace)


async def copy(session: Session, target: Database, report: Callable[[str, int], None]) -> int:
    """Copy everything into an empty database; the last entry of the audit log in the copy.

    ``report`` is called with each table and its number of rows. Raises RefusedChangeError,
    ConflictError or OSError.
    """
    session.must_be_allowed("MaintainDirectory", "*")
    return await copying.copy(session.store, target, report)
