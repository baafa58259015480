"""One upstream's access token: fetched ahead of time, one fetch at a time, in memory only.

The first one is fetched when it is first needed. From then on another one is fetched before it
ends, after four fifths of its time, so that no message waits for it; while that fails it is
tried again, with growing pauses, and the token that there is serves until its end.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final

from smtpgate.core.secret import Secret
from smtpgate.oauth.answer import Token, token_of
from smtpgate.oauth.grants import Grant, TokenRequest
from smtpgate.ports import Clock, NoTokenError, Reading, TokenState
from smtpgate.tasks import TaskOwner

_PART_BEFORE_RENEWAL: Final = 0.8
_LEAST_S: Final = 10.0  # a token with less time than this may end during the login,
_LEAST_PART: Final = 0.1  # or with less than this part of its time
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
_DEFECT: Final = "the fetch failed by a defect; the gate's log has the error"
# A server that refuses every token would else have one fetched for each connection.
_REFUSALS_APART_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """The token endpoint's answer; ``content`` is its body, bounded."""

    status: int
    content: bytes


@dataclass(frozen=True, slots=True)
class SharedToken:
    """A token for another process; the seconds that it lasts from now on, and in all."""

    value: Secret
    left_s: float
    lifetime_s: float


def is_worth_using(left_s: float, lifetime_s: float) -> bool:
    """False for a token that may end during a login."""
    return left_s >= min(_LEAST_S, lifetime_s * _LEAST_PART)


Post = Callable[[TokenRequest], Awaitable[TokenAnswer]]
"""Makes a request, in bounded time. Raises NoTokenError."""
OnTrouble = Callable[[str | None], None]
"""Is called with why fetches begin to fail, and with ``None`` when they work again."""


class TokenSource:
    """Implements the AccessTokens port."""

    def __init__(
        self,
        upstream: str,
        grant: Grant,
        post: Post,
        *,
        clock: Clock,
        tasks: TaskOwner,
        on_trouble: OnTrouble | None = None,
    ) -> None:
        self._upstream = upstream
        self._grant = grant
        self._post = post
        self._clock = clock
        self._tasks = tasks
        self._on_trouble = on_trouble
        self._token: Token | None = None
        self._ends_at = 0.0
        self._refused_at: float | None = None
        self._problem: str | None = None
        self._failures = 0
        self._fetches = 0
        self._try_again_at = 0.0
        self._fetch: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    async def token(self) -> Secret:
        """The token, fetched if there is none. Raises NoTokenError."""
        self._loop = self._loop or asyncio.get_running_loop()
        if (kept := self._kept()) is not None:
            return kept
        if self._fetch is None and self._now() < self._try_again_at:
            raise NoTokenError(self._problem or "no token")
        await asyncio.wait([self._begin()])  # a cancellation ends this wait alone
        if (kept := self._kept()) is not None:
            return kept
        raise NoTokenError(self._problem or "no token")

    async def share(self) -> SharedToken:
        """The token for a user that keeps it, fetched if there is none. Raises NoTokenError."""
        value = await self.token()
        token = self._token
        if token is None:  # it was refused in this moment
            raise NoTokenError(self._problem or "no token")
        return SharedToken(value, self._ends_at - self._now(), token.lifetime_s)

    def refused(self, token: Secret) -> bool:
        """Note that the upstream refused that token; whether it is worth asking for another."""
        if self._token is None or self._token.value != token:
            return True  # another one was fetched meanwhile
        now = self._now()
        if self._refused_at is not None and now - self._refused_at < _REFUSALS_APART_S:
            return False
        self._refused_at = now
        self._token = None
        return True

    def state(self) -> TokenState:
        """The state, without the token."""
        left_s = None if self._token is None else self._ends_at - self._now()
        return TokenState(self._upstream, left_s, self._problem, self._failures, self._fetches)

    def readings(self) -> Iterator[Reading]:
        """The state, for a scrape: nothing before the first token was asked for."""
        if not (self._fetches or self._failures):
            return
        now, name = self._now(), (self._upstream,)
        left_s = 0.0 if self._token is None else max(self._ends_at - now, 0.0)
        yield Reading("smtpgate_upstream_token_up", float(not self._failures), name)
        yield Reading("smtpgate_upstream_token_left_seconds", left_s, name)

    def close(self) -> None:
        """Fetch no more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    # -- inside --------------------------------------------------------------------------------

    def _now(self) -> float:
        """The event loop's time, as its timers count it; 0 before the first use."""
        return 0.0 if self._loop is None else self._loop.time()

    def _kept(self) -> Secret | None:
        if self._token is None:
            return None
        if not is_worth_using(self._ends_at - self._now(), self._token.lifetime_s):
            return None
        return self._token.value

    def _begin(self) -> asyncio.Task[None]:
        """The fetch that is under way, or a fresh one."""
        if self._is_closed:
            raise NoTokenError("the gate is stopping")
        if self._fetch is None:
            if self._timer is not None:
                self._timer.cancel()
            self._fetch = self._tasks.start(self._renew(), name="oauth-token")
        return self._fetch

    async def _renew(self) -> None:
        try:
            await self._ask()
        except NoTokenError as error:
            self._failed(str(error))
        except Exception:
            self._failed(_DEFECT)  # and asked again like after any failure
            raise
        finally:
            self._fetch = None

    async def _ask(self) -> None:
        request = await asyncio.to_thread(self._grant.request, self._clock.now().timestamp())
        began = self._now()
        answer = await self._post(request)
        token = token_of(answer.status, answer.content)
        if token.refresh_token is not None:
            await asyncio.to_thread(self._grant.renewed, token.refresh_token)
        self._token, self._ends_at = token, began + token.lifetime_s
        self._fetches += 1
        if self._failures and self._on_trouble is not None:
            self._on_trouble(None)
        self._failures, self._problem, self._try_again_at = 0, None, 0.0
        wait_s = max(token.lifetime_s * _PART_BEFORE_RENEWAL, _FIRST_PAUSE_S)
        self._begin_after(wait_s)

    def _failed(self, problem: str) -> None:
        self._failures += 1
        is_news = self._problem != problem
        self._problem = problem
        pause_s = min(_FIRST_PAUSE_S * 2 ** min(self._failures - 1, 10), _LONGEST_PAUSE_S)
        self._try_again_at = self._now() + pause_s
        if is_news and self._on_trouble is not None:
            self._on_trouble(problem)
        self._begin_after(pause_s)

    def _begin_after(self, delay_s: float) -> None:
        if not self._is_closed and self._loop is not None:
            self._timer = self._loop.call_later(delay_s, self._begin_unless_closed)

    def _begin_unless_closed(self) -> None:
        if not self._is_closed:
            _ = self._begin()
