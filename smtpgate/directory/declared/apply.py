"""Documents applied to the directory: what they changed, in one transaction, or nothing."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from smtpgate.directory.change import Change, ConflictError, Subject
from smtpgate.directory.declared.before import Before, Keeping, keep, keeping, read_before
from smtpgate.directory.declared.content import Declared
from smtpgate.directory.declared.draft import draft
from smtpgate.directory.declared.drafting import Drafting
from smtpgate.directory.declared.plan import Plan
from smtpgate.directory.declared.present import read_present
from smtpgate.directory.declared.said import ObjectKey, Said, all_said
from smtpgate.directory.store import DirectoryStore

# What the audit log calls documents that were applied.
APPLIED: Final = "apply-documents"
FORCED: Final = "force-documents"
_DIRECTORY: Final = Subject("store", "")


@dataclass(frozen=True, slots=True)
class _Draft:
    """A plan, and what to keep of the documents when it was carried out."""

    plan: Plan
    keeping: Keeping


async def planned(
    store: DirectoryStore, declared: Declared, prune: bool, *, force: bool = False
) -> Plan:
    """What applying would do now; nothing is changed.

    Raises DirectoryError when it could not be done, DirectoryUnavailableError.
    """
    async with store.reading() as connection:
        found = await _drafted(connection, store, declared, store.now(), (prune, force))
    return found.plan


async def apply(
    change: Change,
    store: DirectoryStore,
    declared: Declared,
    *,
    prune: bool,
    force: bool = False,
    expected: Plan | None = None,
) -> Plan:
    """Apply what documents changed since they were applied; what was done is the plan.

    ``prune`` deletes what they name no more. ``force`` makes the directory what they say,
    whoever changed it, and prunes all that they do not name. ``expected`` is a plan that
    somebody agreed to: when another one would come out, that is a ConflictError. Raises
    DirectoryError or RefusedChangeError too; nothing must be committed then.
    """
    found = await _drafted(change.connection, store, declared, change.now, (prune, force))
    plan = found.plan
    if expected is not None and plan != expected:
        raise ConflictError(
            "the directory was changed after the plan was made; look at the new plan first"
        )
    await plan.perform(change)
    await keep(change, found.keeping)
    if plan.steps:
        facts = {"steps": len(plan.steps), "drift": len(plan.drift), "prune": prune}
        await change.note(FORCED if force else APPLIED, _DIRECTORY, after=facts)
    return plan


async def _drafted(
    connection: AsyncConnection,
    store: DirectoryStore,
    declared: Declared,
    at: datetime,
    how: tuple[bool, bool],
) -> _Draft:
    prune, force = how
    present = await read_present(connection, store.region)
    now = await asyncio.to_thread(all_said, declared, store.region)
    before = await read_before(connection, store.region, present, now)
    drafting = Drafting(
        declared=declared,
        present=present,
        before=before.said,
        master_keys=store.master_keys,
        region=store.region,
        partition=store.partition,
        prune=prune,
        force=force,
        now=at,
    )
    return await asyncio.to_thread(_made, drafting, before, now)


def _made(drafting: Drafting, before: Before, now: Mapping[ObjectKey, Said]) -> _Draft:
    # Without pruning, what they do not name may stand in other documents: it stays known, so
    # that those do not make again what was deleted meanwhile.
    last = now if drafting.prune else {**before.said, **now}
    return _Draft(draft(drafting), keeping(before, last))
