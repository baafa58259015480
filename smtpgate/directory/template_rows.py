"""Templates that go with the account that they are of."""

from collections.abc import Sequence

from sqlalchemy import delete

from smtpgate.directory.change import Change
from smtpgate.directory.schema import email_templates


async def drop_templates(change: Change, account_ids: Sequence[str]) -> None:
    """Delete the templates of accounts that are deleted."""
    where = email_templates.c.account_id.in_(account_ids)
    await change.connection.execute(delete(email_templates).where(where))
