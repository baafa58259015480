"""The fields of documents as they were last applied, kept by object in the directory.

They are read before a plan is made, and written with it. For a directory of a version that kept
none, the audit log shows whether documents or people changed an object last. The state after
documents is taken for the documents' own; after a change by people, the state is taken for the
documents' present one, so that the change stays.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from smtpgate.core.naming import user_key
from smtpgate.directory.change import Change
from smtpgate.directory.documents.current import Current
from smtpgate.directory.documents.current_fields import current_fields
from smtpgate.directory.documents.fields import (
    plain,
)
from smtpgate.directory.documents.object_keys import Fields, ObjectKey
from smtpgate.directory.rows import delete_by_key
from smtpgate.directory.schema import applied_objects, audit_log

# The beginning of the origin of changes that a gate makes from its documents.
FROM_DOCUMENTS: Final = "directory.apply = "
_COLUMNS: Final = tuple(applied_objects.c[name] for name in ObjectKey._fields)
_UPGRADE: Final = ObjectKey("upgrade")
# So few at once that the event loop is never blocked for long.
_PAGE: Final = 100
_ROWS: Final = 25
_ENTRIES: Final = select(
    *(audit_log.c[name] for name in ("origin", "action", "kind", "account_id", "name")),
    *(audit_log.c[name] for name in ("before", "after")),
).order_by(audit_log.c.seq)


class LastApplied(NamedTuple):
    """The last applied fields; ``is_kept`` is false when they come from the audit log."""

    fields: Mapping[ObjectKey, Fields]
    is_kept: bool = True


class Records(NamedTuple):
    """The applied fields to store, and those to delete."""

    new: Sequence[tuple[ObjectKey, Fields]]
    gone: Sequence[ObjectKey]


async def read_last_applied(
    connection: AsyncConnection, region: str, current: Current, now: Mapping[ObjectKey, Fields]
) -> LastApplied:
    """The fields that were applied before those of ``now``, for one region."""
    query = select(*_COLUMNS, applied_objects.c.said).where(
        applied_objects.c.region.in_(("", region))
    )
    found: dict[ObjectKey, Fields] = {}
    async with connection.stream(query, execution_options={"yield_per": _PAGE}) as rows:
        async for *key, wanted in rows:
            found[ObjectKey(*key)] = wanted
    if found.pop(_UPGRADE, None) is None:
        return LastApplied(found)
    words = await _last_words(connection, region, now)
    return LastApplied(
        await asyncio.to_thread(_applied_before, words, current, now), is_kept=False
    )


def records_to_keep(before: LastApplied, last: Mapping[ObjectKey, Fields]) -> Records:
    """The changes of the stored fields that make them ``last``."""
    known = before.fields if before.is_kept else {}
    new = [(key, wanted) for key, wanted in last.items() if known.get(key) != wanted]
    gone = [key for key in known if key not in last] + [key for key, _ in new if key in known]
    return Records(new, gone if before.is_kept else [*gone, _UPGRADE])


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


# -- from the audit log ------------------------------------------------------------------------


async def _last_words(
    connection: AsyncConnection, region: str, now: Mapping[ObjectKey, Fields]
) -> dict[ObjectKey, bool]:
    """For each object whether documents made its last change, or a person.

    Objects that documents neither made nor name are left out: there may be very many.
    """
    parts: defaultdict[ObjectKey, list[ObjectKey]] = defaultdict(list)
    for key in now:
        if key.name:
            kind = "user" if key.kind == "user-policy" else "identity"
            parts[key._replace(kind=kind, name="")].append(key)
    found: dict[ObjectKey, bool] = {}
    async with connection.stream(_ENTRIES, execution_options={"yield_per": _PAGE}) as rows:
        async for row in rows:
            is_documents = row.origin.startswith(FROM_DOCUMENTS)
            for key in _keys(row, region):
                if is_documents or key in now or key in found:
                    found[key] = is_documents
                if row.action == "delete" and key in parts:
                    found.update(dict.fromkeys(parts[key], is_documents))
    return found


def _applied_before(
    last_words: Mapping[ObjectKey, bool], current: Current, now: Mapping[ObjectKey, Fields]
) -> dict[ObjectKey, Fields]:
    found = {}
    for key, is_documents in last_words.items():
        there = current_fields(current, key)
        if is_documents and there is not None:
            found[key] = plain(there)
        elif not is_documents and key in now:
            found[key] = now[key]
    return found


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


# The facts of entries that are about a part of an identity.
_PARTS: Final = {"policy": "identity-policy", "selector": "dkim-key", "delegate": "cap"}
