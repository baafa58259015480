"""The resources that can have tags, looked up before their tags are."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from smtpgate.directory.configuration_sets import configuration_set
from smtpgate.directory.identities import identity
from smtpgate.directory.tags import Tagged, TaggedKind
from smtpgate.directory.topics import topic
from smtpgate.sql.asynchronous import AsyncConnection


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Find = Callable[[AsyncConnection, str, str, str], Awaitable[_Named]]
_FINDERS: Final[Mapping[TaggedKind, _Find]] = {
    "identity": identity,
    "set": configuration_set,
    "topic": topic,
}


async def tagged_resource(
    connection: AsyncConnection, account_id: str, region: str, kind: TaggedKind, name: str
) -> Tagged:
    """The resource of that kind and name. Raises NotFoundError."""
    row = await _FINDERS[kind](connection, account_id, region, name)
    return Tagged(account_id, region, kind, row.name)
