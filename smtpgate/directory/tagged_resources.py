"""The resources that can have tags, looked up before their tags are."""

from sqlalchemy.ext.asyncio import AsyncConnection

from smtpgate.directory.configuration_sets import configuration_set
from smtpgate.directory.identities import identity
from smtpgate.directory.tags import Tagged, TaggedKind


async def tagged_resource(
    connection: AsyncConnection, account_id: str, region: str, kind: TaggedKind, name: str
) -> Tagged:
    """The identity or configuration set of that name. Raises NotFoundError."""
    find = identity if kind == "identity" else configuration_set
    row = await find(connection, account_id, region, name)
    return Tagged(account_id, region, kind, row.name)
