"""The documents of ``directory.apply``: read, applied at a start or reload, or only planned."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from smtpgate.config import Config
from smtpgate.core.identity import PrivateKey
from smtpgate.core.wording import numbered
from smtpgate.directory.change import Actor, RefusedChangeError
from smtpgate.directory.counts import in_words
from smtpgate.directory.documents.apply import apply, planned
from smtpgate.directory.documents.desired import Desired
from smtpgate.directory.documents.known_keys import key_loader
from smtpgate.directory.documents.plan import Plan
from smtpgate.directory.documents.read import read_desired
from smtpgate.directory.sealing import MasterKeyError
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.errors import OpenError
from smtpgate.ports import DirectoryUnavailableError
from smtpgate.signing.private_keys import load_private_key

# Steps and differences that are listed one by one.
_LISTED: Final = 50


async def apply_documents(config: Config, store: DirectoryStore, warnings: list[str]) -> Plan:
    """Apply what the documents of ``directory.apply`` changed, and return the steps taken.

    A new master key is registered in the same transaction, so that documents with errors leave
    the directory untouched. Raises OpenError or DirectoryError.
    """
    if config.directory.apply is None:
        return Plan()
    actor = Actor("smtpgate serve", f"directory.apply = {config.directory.apply}")
    try:
        load_key = await key_loader(store, config.signing.min_rsa_bits)
        desired = await read_documents(store, config.directory.apply, load_key)
        warnings += desired.warnings
        async with store.changing(actor) as change:
            await store.register(change.connection)
            return await apply(change, store, desired, prune=config.directory.prune)
    except (DirectoryUnavailableError, MasterKeyError, RefusedChangeError) as error:
        raise OpenError(f"directory.apply: {error}") from None


@dataclass(frozen=True, slots=True)
class Applied:
    """The end of an apply: its steps, the differences that stay, some of them, and warnings."""

    steps: int
    drift: int
    differences: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]


Apply = Callable[[Config, DirectoryStore], Awaitable[Applied]]


async def apply_here(config: Config, store: DirectoryStore) -> Applied:
    """Apply what the documents changed, in this process. Raises OpenError or DirectoryError."""
    warnings: list[str] = []
    plan = await apply_documents(config, store, warnings)
    differences = tuple((drift.what, drift.how) for drift in plan.drift[:_LISTED])
    return Applied(len(plan.steps), len(plan.drift), differences, tuple(warnings))


async def read_documents(
    store: DirectoryStore,
    path: Path,
    load_key: Callable[[bytes], PrivateKey] = load_private_key,
) -> Desired:
    """The content of the documents at that path. Raises DirectoryError."""
    return await asyncio.to_thread(
        read_desired,
        path,
        region=store.region,
        partition=store.partition,
        load_key=load_key,
    )


def documents_summary(path: Path, desired: Desired) -> str:
    """The number of objects in the documents, in a line."""
    counts = {
        "accounts": desired.accounts,
        "users": desired.users,
        "access keys": desired.access_keys,
        "identities": desired.identities,
    }
    numbers = in_words({what: len(found) for what, found in counts.items()})
    return f"directory.apply: {path}: {numbers}"


async def planned_steps(
    config: Config, store: DirectoryStore, desired: Desired
) -> Iterator[str]:
    """The steps that the next start takes, and the drift that it leaves, a line each."""
    return plan_lines(await planned(store, desired, config.directory.prune))


def plan_lines(plan: Plan) -> Iterator[str]:
    """The steps and the drift of a plan, with their numbers."""
    if not plan.steps:
        yield "directory.apply: no steps to be taken by the next start"
    else:
        number = numbered(len(plan.steps), "steps")
        yield f"directory.apply: {number} to be taken by the next start:"
    yield from _some([f"  {step}" for step in plan.steps])
    if plan.drift:
        number = numbered(len(plan.drift), "differences")
        yield (
            f"directory.apply: {number} that the next start leaves, since the directory was "
            f"changed by command (`smtpgate apply --force' ends them):"
        )
    yield from _some([f"  {one}" for one in plan.drift])


def _some(lines: Sequence[str]) -> Iterator[str]:
    yield from lines[:_LISTED]
    if len(lines) > _LISTED:
        yield f"  and {len(lines) - _LISTED} more; `smtpgate apply --dry-run' has them all"
