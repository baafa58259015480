"""The measures of a large directory: starting, asking, deciding, and memory.

Each function here is one measurement, in a process of its own when it is about a start or about
memory. Times are in milliseconds.
"""

import asyncio
import gc
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from smtpgate.clock import SystemClock
from smtpgate.core.account import AccessKey
from smtpgate.core.address import Mailbox, ReversePath
from smtpgate.core.authorization.context import submission_context
from smtpgate.core.authorization.roles import AuthorizationRequest, authorize, identity_names
from smtpgate.core.message.author import Author
from smtpgate.core.message.envelope import SEND_RAW_EMAIL, Client, Envelope, Submission
from smtpgate.core.message.intent import SendingIntent
from smtpgate.directory.live import LiveDirectory, LiveSettings
from tests.bench.bulk import ADDRESSES, KINDS, Size
from tests.support.directory import live, open_store
from tests.support.world import REGION

Figures = dict[str, float]
_SAMPLES: Final = 2_000
_DECISIONS: Final = 100
_WARM_ROUNDS: Final = 20
# Enough of each kind to weigh some 10 MiB, so that what a process takes for itself is noise.
_WEIGHED: Final = {"20 policies of 4 KB": 60, "RSA key": 1_000}
_WEIGHED_ELSE: Final = 10_000


@asynccontextmanager
async def _opened(url: str, max_octets: int = 64 * 1024 * 1024) -> AsyncIterator[LiveDirectory]:
    clock = SystemClock()
    async with open_store(url, clock=clock) as store:
        directory = live(store, clock, LiveSettings(max_octets=max_octets))
        await directory.start()
        try:
            yield directory
        finally:
            await directory.stop()


def _resident() -> int:
    """Octets of this process in memory."""
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


async def _ms(work: Awaitable[object]) -> float:
    begin = time.perf_counter()
    await work
    return (time.perf_counter() - begin) * 1000


def _spread(what: str, times_ms: list[float]) -> Figures:
    ordered = sorted(times_ms)
    p99 = ordered[min(len(ordered) * 99 // 100, len(ordered) - 1)]
    return {f"{what}, median ms": statistics.median(ordered), f"{what}, p99 ms": p99}


def _sample(numbers: range, count: int) -> list[int]:
    return random.Random(1).sample(numbers, min(count, len(numbers)))


# -- measurements ------------------------------------------------------------------------------


def start(url: str, size: Size) -> Figures:
    """From nothing to the first answer, the interpreter's own start aside."""

    async def measure() -> float:
        begin = time.perf_counter()
        async with _opened(url) as directory:
            assert await directory.identities(size.name(size.identities // 2 + 2))
            return (time.perf_counter() - begin) * 1000

    return {"start to first answer, ms": asyncio.run(measure())}


def answers(url: str, size: Size) -> Figures:
    """Single answers: cold is not kept (its pages may be the operating system's), warm is."""

    async def measure() -> Figures:
        async with _opened(url) as directory:
            key_ids = [size.key_id(one) for one in _sample(range(size.accounts), _SAMPLES)]
            figures = await _asked("access key", directory.access_key, key_ids)
            for kind in KINDS:
                names = [size.name(one) for one in _sample(size.numbers(kind), _SAMPLES // 10)]
                figures |= await _asked(f"identity, {kind}", directory.identities, names)
            names = [size.name(one) for one in _sample(range(size.identities), _SAMPLES)]
            figures |= await _asked("identity, any", directory.identities, names)
            return figures

    return asyncio.run(measure())


async def _asked(
    what: str, ask: Callable[[str], Awaitable[object]], names: Iterable[str]
) -> Figures:
    cold, warm = [], []
    for name in names:
        cold.append(await _ms(ask(name)))
        warm.append(await _ms(ask(name)))
    return _spread(f"{what}, cold", cold) | _spread(f"{what}, warm", warm)


def decisions(url: str, size: Size) -> Figures:
    """Key, identities of all covering names, and policies: 20 of 4 KB on the identity."""

    async def measure() -> Figures:
        figures: Figures = {}
        async with _opened(url) as directory:
            for kind in ("20 policies of 4 KB", "one policy"):
                cold, warm = [], []
                for number in _sample(size.numbers(kind), _DECISIONS):
                    directory.cache.clear()
                    cold.append(await _ms(_decide(directory, size, number)))
                    warm += [
                        await _ms(_decide(directory, size, number)) for _ in range(_WARM_ROUNDS)
                    ]
                figures |= _spread(f"decision, {kind}, cold", cold)
                figures |= _spread(f"decision, {kind}, warm", warm)
        return figures

    return asyncio.run(measure())


async def _decide(directory: LiveDirectory, size: Size, number: int) -> None:
    key = await directory.access_key(size.key_id(size.account_number(number)))
    assert key is not None
    sender = Mailbox("team+spring", size.name(number))
    author = Author(mailbox=sender, display_name="Team")
    names = identity_names(SendingIntent(), sender, [author])
    known = {name: await directory.identities(name) for name in names}
    _ = authorize(
        AuthorizationRequest(
            principal=key.principal,
            action=SEND_RAW_EMAIL,
            intent=SendingIntent(),
            reverse_path=sender,
            authors=(author,),
            sender=None,
            resent=(),
            context=submission_context(_submission(key, sender), REGION),
            known=known,
            region=REGION,
            infer_arn=True,
        )
    )


def _submission(key: AccessKey, sender: Mailbox) -> Submission:
    return Submission(
        "m1",
        key.principal,
        Client(address="192.0.2.7", listener="submission", protocol="ESMTPSA", is_tls=True),
        SEND_RAW_EMAIL,
        Envelope.of(ReversePath(sender), [Mailbox("user", "example.net")]),
        b"",
        datetime(2026, 6, 1, tzinfo=UTC),
    )


def residence(url: str, size: Size, touched: int, max_octets: int) -> Figures:
    """The memory of the process before and after very many identities, with a bounded cache."""

    async def measure() -> Figures:
        async with _opened(url, max_octets) as directory:
            _ = await directory.identities(size.name(2))
            before = _resident()
            numbers = _sample(range(size.identities), touched)
            for number in numbers:
                _ = await directory.identities(size.name(number))
            return {
                "identities touched": len(numbers),
                "resident before, MiB": before / 2**20,
                "resident after, MiB": _resident() / 2**20,
                "counted by the cache, MiB": directory.cache.octets / 2**20,
                "entries kept": len(directory.cache),
            }

    return asyncio.run(measure())


def memory(url: str, size: Size, kind: str) -> Figures:
    """The memory of an entry of a kind, and the octets that the cache counts for it."""

    async def measure() -> Figures:
        async with _opened(url, 2**40) as directory:
            names, ask = _weighed(directory, size, kind)
            for name in names[::10]:  # what the first answers take is not theirs
                _ = await ask(name)
            kept, before = directory.cache.octets, _resident()
            entries = len(directory.cache)
            for name in names:
                _ = await ask(name)
            entries = len(directory.cache) - entries
            if not entries:
                return {}
            counted = (directory.cache.octets - kept) / entries
            taken = (_resident() - before) / entries
            return {
                f"{kind}, taken octets": taken,
                f"{kind}, counted octets": counted,
                f"{kind}, counted to taken": counted / taken,
            }

    return asyncio.run(measure())


def _weighed(
    directory: LiveDirectory, size: Size, kind: str
) -> tuple[list[str], Callable[[str], Awaitable[object]]]:
    if kind == "access key":
        return [size.key_id(one) for one in range(min(size.accounts, _WEIGHED_ELSE))], (
            directory.access_key
        )
    if kind == f"{ADDRESSES} addresses":
        names = [f"nobody@c{one}.example.com" for one in range(size.crowded)]
        return names, directory.identities
    count = _WEIGHED.get(kind, _WEIGHED_ELSE)
    return [size.name(one) for one in size.numbers(kind)[:count]], directory.identities
