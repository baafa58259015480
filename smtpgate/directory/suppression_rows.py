"""Suppression lists that go with the account that they are of."""

from collections.abc import Sequence

from sqlalchemy import delete

from smtpgate.directory.change import Change
from smtpgate.directory.schema import suppressed_addresses, suppression_settings


async def drop_suppression(change: Change, account_ids: Sequence[str]) -> None:
    """Delete the lists and settings of accounts that are deleted."""
    for table in (suppressed_addresses, suppression_settings):
        where = table.c.account_id.in_(account_ids)
        await change.connection.execute(delete(table).where(where))
