"""Documents applied to the directory: all of what differs in one transaction, or nothing."""

import asyncio
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from smtpgate.directory.change import Change, ConflictError
from smtpgate.directory.declared.content import Declared
from smtpgate.directory.declared.draft import draft
from smtpgate.directory.declared.drafting import Drafting
from smtpgate.directory.declared.plan import Plan
from smtpgate.directory.declared.present import read_present
from smtpgate.directory.store import DirectoryStore

__all__ = ["apply", "planned"]


async def planned(store: DirectoryStore, declared: Declared, prune: bool) -> Plan:
    """What applying would do now; nothing is changed.

    Raises DirectoryError when it could not be done, DirectoryUnavailableError.
    """
    async with store.reading() as connection:
        return await _drafted(connection, store, declared, prune, store.now())


async def apply(
    change: Change,
    store: DirectoryStore,
    declared: Declared,
    *,
    prune: bool,
    expected: Plan | None = None,
) -> Plan:
    """Make the directory what the documents declare; what was done is the plan.

    ``prune`` deletes what no document names. ``expected`` is a plan that somebody agreed to:
    when the directory is such that another one would come out, that is a ConflictError. Raises
    DirectoryError or RefusedChangeError too; nothing must be committed then.
    """
    plan = await _drafted(change.connection, store, declared, prune, change.now)
    if expected is not None and plan != expected:
        raise ConflictError(
            "the directory was changed after the plan was made; look at the new plan first"
        )
    await plan.perform(change)
    return plan


async def _drafted(
    connection: AsyncConnection,
    store: DirectoryStore,
    declared: Declared,
    prune: bool,
    now: datetime,
) -> Plan:
    drafting = Drafting(
        declared=declared,
        present=await read_present(connection, store.region),
        master_keys=store.master_keys,
        region=store.region,
        partition=store.partition,
        prune=prune,
        now=now,
    )
    return await asyncio.to_thread(draft, drafting)
