"""Places that ledgers keep their counts in, so that several can be opened on one backend."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from redis import Redis

from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.core.limits import (
    Charge,
    Crossing,
    LimitStatus,
    Reservation,
    Subject,
)
from smtpgate.core.moments import microseconds
from smtpgate.ledger.memory import MemoryLedger
from smtpgate.ledger.redis import RedisLedger
from smtpgate.ledger.sqlite import SqliteLedger
from smtpgate.ports import Ledger
from tests.support.daemons import LOOPBACK, Daemon, Lab, free_port, need
from tests.support.waiting import answered

LEASE_S = 900.0


async def used_24h(ledger: Ledger, subject: Subject, now: datetime) -> int:
    """The recipients that a subject is charged with for the last 24 hours."""
    charge = Charge(subject, SendingLimits(UNLIMITED, UNLIMITED))
    (limit_status,) = await ledger.limit_statuses([charge], now)
    return limit_status.used_24h


class LedgerBackend(Protocol):
    """A store of counts, for any ledger."""

    def open(self) -> Ledger:
        """A ledger of its own, as another process would have it."""


class MemoryBackend:
    """Memory is shared by nobody: there is one ledger, and it is not lost with a process."""

    def __init__(self) -> None:
        self._ledger = MemoryLedger(lease_s=LEASE_S)

    def open(self) -> Ledger:
        """The one that there is."""
        return self._ledger


class SqliteBackend:
    """A file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> Ledger:
        """A ledger with its own thread and connection."""
        return SqliteLedger(self.path, timeout_s=10, lease_s=LEASE_S)


class RedisBackend:
    """A server, emptied. Its clock shows the time of the last question, or its own."""

    def __init__(self, url: str, *, has_own_clock: bool = False) -> None:
        self.url = url
        self._has_own_clock = has_own_clock
        with Redis.from_url(url) as client:
            client.flushall()
            client.set("clock", 0)

    def open(self) -> Ledger:
        """A ledger with its own connection."""
        if self._has_own_clock:
            return RedisLedger(self.url, timeout_s=10, lease_s=LEASE_S)
        return _SettingTheClock(self.url)


class _SettingTheClock(RedisLedger):
    """Before it asks, it sets what the scripts take for the server's clock."""

    _CLOCK = 'local function now_us() return tonumber(redis.call("GET", "clock")) end'

    def __init__(self, url: str) -> None:
        super().__init__(url, timeout_s=10, lease_s=LEASE_S, clock=self._CLOCK)
        self._clock = Redis.from_url(url)

    async def reserve(
        self, charges: Sequence[Charge], recipients: int, now: datetime
    ) -> Reservation:
        """At that time."""
        self._set(now)
        return await super().reserve(charges, recipients, now)

    async def commit(
        self, reservation: Reservation, accepted: int, now: datetime
    ) -> tuple[Crossing, ...]:
        """At that time."""
        self._set(now)
        return await super().commit(reservation, accepted, now)

    async def limit_statuses(
        self, charges: Sequence[Charge], now: datetime
    ) -> tuple[LimitStatus, ...]:
        """At that time."""
        self._set(now)
        return await super().limit_statuses(charges, now)

    async def close(self) -> None:
        """Close both."""
        await super().close()
        self._clock.close()

    def _set(self, now: datetime) -> None:
        self._clock.set("clock", microseconds(now))


class RedisServer:
    """A server of our own, whose data survive a restart."""

    def __init__(self, lab: Lab, settings: tuple[str, ...]) -> None:
        self._lab = lab
        self._program = need("redis-server", "redis-server")
        self._folder = lab.new_folder("redis")
        self._settings = settings
        self.port = free_port()
        self.url = f"redis://{LOOPBACK}:{self.port}/0"
        self.daemon = self.start()

    def start(self) -> Daemon:
        """Start it, also again, and wait until it has read its data."""
        self.daemon = self._lab.start(
            "redis-server",
            [
                self._program,
                *("--bind", LOOPBACK, "--port", str(self.port), "--dir", self._folder),
                *("--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
                *self._settings,
            ],
            self._folder / "log",
            ready=self.answers,
        )
        return self.daemon

    def answers(self) -> bool:
        """True if it answers to PING."""
        try:
            with Redis(LOOPBACK, self.port, socket_timeout=1, protocol=2) as client:
                return bool(client.ping())
        except Exception:  # noqa: BLE001 - not there, or still loading
            return False


def redis_server(lab: Lab, *settings: str) -> RedisServer:
    """Start a server on a free loopback port; ``settings`` are options of its command line."""
    return RedisServer(lab, settings)


async def soon(
    ask: Callable[[], Awaitable[object]], wanted: object, timeout_s: float = 10
) -> None:
    """Ask until that is the answer: what a ledger makes up for later tells nobody."""
    found: object = None

    async def is_so() -> bool:
        nonlocal found
        found = await ask()
        return found == wanted

    try:
        await answered(is_so, timeout_s)
    except TimeoutError:
        raise AssertionError(f"{found} is not {wanted}") from None
