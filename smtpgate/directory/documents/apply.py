"""Applies the changes of documents to the directory, all in one transaction or none."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from smtpgate.directory.change import AuditSubject, Change, ConflictError
from smtpgate.directory.documents.current import read_current
from smtpgate.directory.documents.desired import Desired
from smtpgate.directory.documents.fields import all_fields
from smtpgate.directory.documents.last_applied import (
    Records,
    keep,
    read_last_applied,
    records_to_keep,
)
from smtpgate.directory.documents.object_keys import Fields, ObjectKey
from smtpgate.directory.documents.plan import Plan
from smtpgate.directory.documents.plan_accounts import make_plan
from smtpgate.directory.documents.planning import Planning
from smtpgate.directory.store import DirectoryStore
from smtpgate.sql.asynchronous import AsyncConnection

# The actions of applied documents in the audit log.
APPLIED: Final = "apply-documents"
FORCED: Final = "force-documents"
_DIRECTORY: Final = AuditSubject("store", "")


@dataclass(frozen=True, slots=True)
class _Planned:
    """A plan, and the fields to store when it has been carried out."""

    plan: Plan
    records_to_keep: Records


async def planned(
    store: DirectoryStore, desired: Desired, prune: bool, *, force: bool = False
) -> Plan:
    """The plan that applying would carry out now; nothing is changed.

    Raises DirectoryError when it could not be done, DirectoryUnavailableError.
    """
    async with store.reading() as connection:
        found = await _planned(connection, store, desired, store.now(), (prune, force))
    return found.plan


async def apply(
    change: Change,
    store: DirectoryStore,
    desired: Desired,
    *,
    prune: bool,
    force: bool = False,
    expected: Plan | None = None,
) -> Plan:
    """Apply the changes of documents since they were last applied; returns the plan.

    ``prune`` deletes objects that they no longer name. ``force`` overwrites changes by
    commands, and prunes all objects that they do not name. ``expected`` is a plan that was
    agreed to: when the plan is another one now, that is a ConflictError. Raises DirectoryError
    or RefusedChangeError too; nothing must be committed then.
    """
    found = await _planned(change.connection, store, desired, change.now, (prune, force))
    plan = found.plan
    if expected is not None and plan != expected:
        raise ConflictError(
            "the directory was changed after the plan was made; look at the new plan first"
        )
    await plan.perform(change)
    await keep(change, found.records_to_keep)
    if plan.steps:
        facts = {"steps": len(plan.steps), "drift": len(plan.drift), "prune": prune}
        await change.note(FORCED if force else APPLIED, _DIRECTORY, after=facts)
    return plan


async def _planned(
    connection: AsyncConnection,
    store: DirectoryStore,
    desired: Desired,
    at: datetime,
    how: tuple[bool, bool],
) -> _Planned:
    prune, force = how
    current = await read_current(connection, store.region)
    now = await asyncio.to_thread(all_fields, desired, store.region)
    before = await read_last_applied(connection, store.region)
    planning = Planning(
        desired=desired,
        current=current,
        before=before,
        master_keys=store.master_keys,
        region=store.region,
        partition=store.partition,
        prune=prune,
        force=force,
        now=at,
    )
    return await asyncio.to_thread(_made, planning, now)


def _made(planning: Planning, now: Mapping[ObjectKey, Fields]) -> _Planned:
    # Without pruning, other documents may name the other objects: their fields stay stored, so
    # that those documents do not make objects again that were deleted meanwhile.
    last = now if planning.prune else {**planning.before, **now}
    return _Planned(make_plan(planning), records_to_keep(planning.before, last))
