"""The size of a directory."""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import func, select

from smtpgate.core.wording import numbered
from smtpgate.directory.schema import (
    access_keys,
    accounts,
    configuration_sets,
    dkim_keys,
    identities,
    topics,
    users,
)
from smtpgate.sql.asynchronous import AsyncConnection

_COUNTED: Final = {
    "accounts": accounts,
    "users": users,
    "access keys": access_keys,
    "identities": identities,
    "DKIM keys": dkim_keys,
    "topics": topics,
    "configuration sets": configuration_sets,
}


def in_words(counts: Mapping[str, int]) -> str:
    """The numbers with their words: ``2 accounts, 1 user``."""
    return ", ".join(numbered(number, what) for what, number in counts.items())


async def counted(connection: AsyncConnection) -> dict[str, int]:
    """The number of rows of each kind, of all regions."""
    return {
        what: (await connection.execute(select(func.count()).select_from(table))).scalar() or 0
        for what, table in _COUNTED.items()
    }
