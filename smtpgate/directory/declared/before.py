"""What documents said before: kept by object, read before a plan is made, written with it.

A directory of a version that kept nothing has its audit log: it tells of each object whether
documents or people had the last word. What documents left is taken for what they said; what
people left, for what the documents say now, so that it stays.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from smtpgate.core.naming import user_key
from smtpgate.directory.change import Change
from smtpgate.directory.declared.held import held
from smtpgate.directory.declared.present import Present
from smtpgate.directory.declared.said import ObjectKey, Said, plain
from smtpgate.directory.schema import applied_objects, audit_log

__all__ = ["FROM_DOCUMENTS", "Before", "keep", "read_before"]

# What the origin of a change begins with that a gate made from its documents.
FROM_DOCUMENTS: Final = "directory.apply = "
_COLUMNS: Final = tuple(applied_objects.c[name] for name in ObjectKey._fields)
_UPGRADE: Final = ObjectKey("upgrade")
_ROWS: Final = 500
_IT: Final = tuple(column == bindparam(f"its_{column.name}") for column in _COLUMNS)
_ENTRIES: Final = select(
    *(audit_log.c[name] for name in ("origin", "action", "kind", "account_id", "name")),
    *(audit_log.c[name] for name in ("before", "after")),
).order_by(audit_log.c.seq)


class Before(NamedTuple):
    """What documents last said; ``is_kept`` is false where it was taken from the audit log."""

    said: Mapping[ObjectKey, Said]
    is_kept: bool = True


async def read_before(
    connection: AsyncConnection, region: str, present: Present, now: Mapping[ObjectKey, Said]
) -> Before:
    """What documents said before those that say ``now``, as far as a region is concerned."""
    query = select(*_COLUMNS, applied_objects.c.said).where(
        applied_objects.c.region.in_(("", region))
    )
    found: dict[ObjectKey, Said] = {}
    async with connection.stream(query, execution_options={"yield_per": _ROWS}) as rows:
        async for *key, said in rows:
            found[ObjectKey(*key)] = said
    if found.pop(_UPGRADE, None) is None:
        return Before(found)
    return Before(await _from_audit_log(connection, region, present, now), is_kept=False)


async def keep(change: Change, before: Before, now: Mapping[ObjectKey, Said]) -> None:
    """Keep what documents say now in the place of what they said before.

    An object that ``now`` lacks is forgotten.
    """
    known = before.said if before.is_kept else {}
    new = [(key, said) for key, said in now.items() if known.get(key) != said]
    gone = [key for key in known if key not in now] + [key for key, _ in new if key in known]
    if not before.is_kept:
        gone.append(_UPGRADE)
    for start in range(0, len(gone), _ROWS):
        await change.connection.execute(
            delete(applied_objects).where(*_IT),
            [
                {f"its_{name}": value for name, value in key._asdict().items()}
                for key in gone[start : start + _ROWS]
            ],
        )
    for start in range(0, len(new), _ROWS):
        await change.connection.execute(
            insert(applied_objects),
            [
                {**key._asdict(), "said": said, "applied_at": change.now}
                for key, said in new[start : start + _ROWS]
            ],
        )


# -- from the audit log ------------------------------------------------------------------------


async def _from_audit_log(
    connection: AsyncConnection, region: str, present: Present, now: Mapping[ObjectKey, Said]
) -> dict[ObjectKey, Said]:
    children: defaultdict[ObjectKey, list[ObjectKey]] = defaultdict(list)
    for key in now:
        if key.name:
            kind = "user" if key.kind == "user-policy" else "identity"
            children[key._replace(kind=kind, name="")].append(key)
    is_of_documents: dict[ObjectKey, bool] = {}
    async for key, action, is_documents in _last_words(connection, region):
        is_of_documents[key] = is_documents
        if action == "delete":
            is_of_documents.update(dict.fromkeys(children[key], is_documents))
    found = {}
    for key, is_documents in is_of_documents.items():
        there = held(present, key)
        if is_documents and there is not None:
            found[key] = plain(there)
        elif not is_documents and key in now:
            found[key] = now[key]
    return found


async def _last_words(
    connection: AsyncConnection, region: str
) -> AsyncIterator[tuple[ObjectKey, str, bool]]:
    """Of each entry which object it is about, what was done, and whether documents did it."""
    async with connection.stream(_ENTRIES, execution_options={"yield_per": _ROWS}) as rows:
        async for row in rows:
            for key in _keys(row, region):
                yield key, row.action, row.origin.startswith(FROM_DOCUMENTS)


def _keys(row: Any, region: str) -> Iterator[ObjectKey]:  # noqa: ANN401 - a row
    facts = {**(row.before or {}), **(row.after or {})}
    if row.kind == "account":
        yield ObjectKey("account", row.account_id)
    elif row.kind == "key":
        yield ObjectKey("key", "", "", row.name)
    elif row.kind == "user":
        user = ObjectKey("user", row.account_id, "", user_key(row.name))
        name = facts.get("policy")
        yield user if name is None else user._replace(kind="user-policy", name=name)
    elif row.kind == "identity":
        identity = ObjectKey("identity", row.account_id, region, row.name)
        for fact, kind in _PARTS.items():
            if fact in facts:
                yield identity._replace(kind=kind, name=facts[fact])
                return
        yield identity


# What an entry says besides that is about a part of an identity.
_PARTS: Final = {"policy": "identity-policy", "selector": "dkim-key", "delegate": "cap"}
