"""Tags of identities, configuration sets and topics in the directory."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import insert, select

from smtpgate.directory.change import AuditSubject, Change, RefusedChangeError
from smtpgate.directory.rows import delete_by_key, selects
from smtpgate.directory.schema import resource_tags
from smtpgate.sql.asynchronous import AsyncConnection

TaggedKind = Literal["identity", "set", "topic"]
MAX_TAGS: Final = 50  # of a resource, as AWS


@dataclass(frozen=True, slots=True)
class Tagged:
    """A resource that has tags: an identity, a configuration set, or a topic."""

    account_id: str
    region: str
    kind: TaggedKind
    name: str

    @property
    def subject(self) -> AuditSubject:
        """The subject of its audit entries."""
        return AuditSubject(self.kind, self.account_id, self.name)

    @property
    def key(self) -> dict[str, Any]:
        """The values of the columns that name it."""
        return {name: getattr(self, name) for name in self.__slots__}


async def tags_of(connection: AsyncConnection, resource: Tagged) -> dict[str, str]:
    """Its tags, by key."""
    columns = resource_tags.c
    query = select(columns.tag, columns.value).where(selects(resource_tags, resource.key))
    found = await connection.execute(query.order_by(columns.tag))
    return {row.tag: row.value for row in found}


async def put_tags(change: Change, resource: Tagged, tags: Mapping[str, str]) -> None:
    """Set tags of a resource that is there; others stay. Raises RefusedChangeError."""
    before = await tags_of(change.connection, resource)
    after = {**before, **tags}
    if len(after) > MAX_TAGS:
        raise RefusedChangeError(
            f"{resource.subject} would have {len(after)} tags; {MAX_TAGS} are the most it may"
        )
    await _replace(change, resource, before, after)


async def drop_tags(change: Change, resource: Tagged, keys: Iterable[str]) -> None:
    """Remove tags by their keys; one that it has not is none to remove."""
    before, away = await tags_of(change.connection, resource), frozenset(keys)
    after = {key: value for key, value in before.items() if key not in away}
    await _replace(change, resource, before, after)


async def drop_all_tags(change: Change, resources: Sequence[Tagged]) -> None:
    """Remove all tags of resources that are deleted."""
    await delete_by_key(change, resource_tags, [resource.key for resource in resources])


async def _replace(
    change: Change, resource: Tagged, before: Mapping[str, str], after: Mapping[str, str]
) -> None:
    if before == after:
        return
    await delete_by_key(change, resource_tags, [resource.key])
    rows = [{**resource.key, "tag": key, "value": value} for key, value in after.items()]
    if rows:
        await change.connection.execute(insert(resource_tags), rows)
    await change.note(
        "set-tags", resource.subject, before={"tags": dict(before)}, after={"tags": dict(after)}
    )
