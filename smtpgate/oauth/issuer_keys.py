"""The keys of an issuer: fetched ahead, refreshed in the background, kept while it is away.

A token with a key that is not known has them fetched once more, at most every half minute,
since an issuer may have changed its keys. While a fetch fails the keys that there are serve on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from smtpgate.oauth.verifying import (
    BadKeysError,
    IssuerKey,
    UnverifiedToken,
    keys_for,
    read_keys,
)
from smtpgate.ports import NoIssuerKeysError, Reading
from smtpgate.tasks import Rhythm, TaskOwner

_AGAIN_S: Final = 30.0
_WAIT_S: Final = 10.0

Fetch = Callable[[], Awaitable[bytes]]
"""Reads the JWK Set, in bounded time. Raises NoIssuerKeysError."""
OnKeys = Callable[[str | None], None]
"""Is called with why fetches begin to fail, and with ``None`` when they work again."""


class IssuerKeys:
    """The keys of one issuer."""

    def __init__(
        self, fetch: Fetch, *, refresh_s: float, tasks: TaskOwner, on_trouble: OnKeys
    ) -> None:
        self.version = 0  # of the set; it grows when the set changes
        self._fetch = fetch
        self._refresh_s = refresh_s
        self._tasks = tasks
        self._on_trouble = on_trouble
        self._keys: tuple[IssuerKey, ...] = ()
        self._octets = b""
        self._problem: str | None = None
        self._tried_at_s: float | None = None
        self._failures = 0  # so far
        self._read_at_s: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: asyncio.Task[None] | None = None
        self._rhythm = Rhythm()
        self._is_started = self._is_closed = False

    def readings(self, issuer: str) -> Iterator[Reading]:
        """The state of the keys of the issuer of that name, for a scrape."""
        name = (issuer,)
        is_up = self._problem is None and bool(self._keys)
        yield Reading("smtpgate_issuer_keys", len(self._keys), name)
        yield Reading("smtpgate_issuer_keys_up", float(is_up), name)
        yield Reading("smtpgate_issuer_keys_failures_total", self._failures, name)
        if self._read_at_s is not None and self._loop is not None:
            age_s = self._loop.time() - self._read_at_s
            yield Reading("smtpgate_issuer_keys_age_seconds", age_s, name)

    def start(self) -> None:
        """Fetch the keys now, and again from time to time; a second time does nothing."""
        if self._is_started:
            return
        self._is_started = True
        _ = self._tasks.start(self._refresh(), name="issuer-keys")

    def close(self) -> None:
        """Fetch no more."""
        self._is_closed = True
        self._rhythm.end()

    async def of(self, token: UnverifiedToken) -> tuple[IssuerKey, ...]:
        """The keys that the token may be of; none if the issuer has no such key.

        Raises NoIssuerKeysError while no keys were ever read.
        """
        found = keys_for(token, self._keys)
        if not found and self._may_try():
            _ = await asyncio.wait([self._begin()], timeout=_WAIT_S)
            found = keys_for(token, self._keys)
        if not self._keys:
            raise NoIssuerKeysError(self._problem or "the keys are being fetched")
        return found

    def _may_try(self) -> bool:
        if self._is_closed:
            return False
        if self._running is not None or self._tried_at_s is None:
            return True
        return asyncio.get_running_loop().time() - self._tried_at_s >= _AGAIN_S

    def _begin(self) -> asyncio.Task[None]:
        """The fetch that is under way, or a fresh one."""
        if self._running is None:
            self._loop = asyncio.get_running_loop()
            self._tried_at_s = self._loop.time()
            self._running = self._tasks.start(self._renew(), name="issuer-keys-fetch")
        return self._running

    async def _refresh(self) -> None:
        while not self._is_closed:
            _ = await asyncio.wait([self._begin()])
            wait_s = self._refresh_s if self._problem is None else _AGAIN_S
            if not await self._rhythm.goes_on(wait_s):
                return

    async def _renew(self) -> None:
        try:
            octets = await self._fetch()
            if octets != self._octets:
                keys = await asyncio.to_thread(read_keys, octets)
                self._keys, self._octets = keys, octets
                self.version += 1
        except (NoIssuerKeysError, BadKeysError) as error:
            self._failures += 1
            self._note(str(error))
        else:
            self._read_at_s = self._tried_at_s
            self._note(None)
        finally:
            self._running = None

    def _note(self, problem: str | None) -> None:
        if problem != self._problem:
            self._problem = problem
            self._on_trouble(problem)
