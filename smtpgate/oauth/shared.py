"""An upstream's access token in a process that uses it; one process of the host fetches it.

The token is asked for when it is needed, and kept until shortly before its end. It is fetched
ahead of time, so the answer mostly comes at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from smtpgate.core.secret import Secret
from smtpgate.oauth.tokens import SharedToken, is_worth_using
from smtpgate.ports import NoTokenError, Reading, TokenState

# A server that refuses every token would else have one asked for at each connection.
_REFUSALS_APART_S: Final = 60.0

Ask = Callable[[Secret | None], Awaitable[SharedToken]]
"""Asks for the token, and reports one that the upstream refused. Raises NoTokenError."""


class SharedTokens:
    """Implements the AccessTokens port; closing it ends no fetch."""

    def __init__(self, upstream: str, ask: Ask) -> None:
        self._upstream = upstream
        self._ask = ask
        self._shared: SharedToken | None = None
        self._ends_at = 0.0
        self._refused: Secret | None = None  # not reported yet
        self._refused_at: float | None = None
        self._problem: str | None = None
        self._answers = self._failures = 0
        self._is_closed = False

    async def token(self) -> Secret:
        """The token. Raises NoTokenError."""
        if self._is_closed:
            raise NoTokenError("the gate is stopping")
        now = asyncio.get_running_loop().time
        shared = self._shared
        if shared is not None and is_worth_using(self._ends_at - now(), shared.lifetime_s):
            return shared.value
        refused, self._refused = self._refused, None
        began = now()
        try:
            shared = await self._ask(refused)
        except NoTokenError as error:
            self._problem, self._failures = str(error), self._failures + 1
            raise
        self._shared, self._ends_at = shared, began + shared.left_s
        self._problem, self._failures, self._answers = None, 0, self._answers + 1
        return shared.value

    def refused(self, token: Secret) -> bool:
        """Note that the upstream refused that token; whether it is worth asking for another."""
        if self._shared is None or self._shared.value != token:
            return True  # another one was shared meanwhile
        now = asyncio.get_running_loop().time()
        if self._refused_at is not None and now - self._refused_at < _REFUSALS_APART_S:
            return False
        self._refused_at = now
        self._shared, self._refused = None, token
        return True

    def state(self) -> TokenState:
        """The state here, without the token."""
        left_s = None
        if self._shared is not None:
            left_s = self._ends_at - asyncio.get_running_loop().time()
        return TokenState(self._upstream, left_s, self._problem, self._failures, self._answers)

    def readings(self) -> Iterator[Reading]:
        """None: the fetcher has them."""
        return iter(())

    def close(self) -> None:
        """Ask for no more of them."""
        self._is_closed = True
