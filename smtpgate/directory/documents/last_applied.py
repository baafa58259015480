"""The fields of documents as they were last applied, kept by object in the directory.

They are read before a plan is made, and written with it.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from sqlalchemy import insert, select

from smtpgate.directory.change import Change
from smtpgate.directory.documents.object_keys import Fields, ObjectKey
from smtpgate.directory.rows import delete_by_key
from smtpgate.directory.schema import applied_objects
from smtpgate.sql.asynchronous import AsyncConnection

_COLUMNS: Final = tuple(applied_objects.c[name] for name in ObjectKey._fields)
# So few at once that the event loop is never blocked for long.
_PAGE: Final = 100
_ROWS: Final = 25


class Records(NamedTuple):
    """The applied fields to store, and those to delete."""

    new: Sequence[tuple[ObjectKey, Fields]]
    gone: Sequence[ObjectKey]


async def read_last_applied(
    connection: AsyncConnection, region: str
) -> dict[ObjectKey, Fields]:
    """The fields that were applied last, for one region."""
    query = select(*_COLUMNS, applied_objects.c.said).where(
        applied_objects.c.region.in_(("", region))
    )
    found: dict[ObjectKey, Fields] = {}
    async with connection.stream(query, execution_options={"yield_per": _PAGE}) as rows:
        async for *key, wanted in rows:
            found[ObjectKey(*key)] = wanted
    return found


def records_to_keep(
    known: Mapping[ObjectKey, Fields], last: Mapping[ObjectKey, Fields]
) -> Records:
    """The changes of the stored fields that make them ``last``."""
    new = [(key, wanted) for key, wanted in last.items() if known.get(key) != wanted]
    gone = [key for key in known if key not in last] + [key for key, _ in new if key in known]
    return Records(new, gone)


async def keep(change: Change, what: Records) -> None:
    """Store and delete them."""
    for start in range(0, len(what.gone), _ROWS):
        keys = [key._asdict() for key in what.gone[start : start + _ROWS]]
        await delete_by_key(change, applied_objects, keys)
    for start in range(0, len(what.new), _ROWS):
        await change.connection.execute(
            insert(applied_objects),
            [
                {**key._asdict(), "said": wanted, "applied_at": change.now}
                for key, wanted in what.new[start : start + _ROWS]
            ],
        )
