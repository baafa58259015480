"""The addresses of the upstream's name, as this system resolves it; answers are kept.

``getaddrinfo`` resolves it, so that /etc/hosts and nsswitch.conf count as they do for every
other program. It blocks, at worst for half a minute, and cannot be ended: each lookup has a
thread of its own, and there is one lookup at a time, however many messages wait for it.

An answer is used for a while without another lookup, and before that is over the name is looked
up again in the background, as long as connections are opened from time to time. Otherwise the
next connection looks it up again, and waits for that only a moment: while the resolver is slow
or fails, the old answer stays in use (as RFC 8767 has it for resolvers), for a day at most.
That there is no such name is an answer.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

# Family, type, protocol, canonical name and socket address, as getaddrinfo returns them.
Address = tuple[Any, ...]
LookUp = Callable[[str, int], Sequence[Address]]

_FRESH_S: Final = 30.0
_RENEWED_S: Final = 25.0
_USED_S: Final = 600.0  # after the last connection it is looked up no more
_RETRY_S: Final = 5.0  # after a lookup that failed
_PATIENCE_S: Final = 0.5  # with the resolver, while there is an answer to fall back to
_STALE_S: Final = 86_400.0
_NO_SUCH_NAME: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", None)})


def look_up(host: str, port: int) -> Sequence[Address]:
    """Ask the system's resolver. Raises OSError."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


class Names:
    """The addresses of one host and port."""

    def __init__(self, host: str, port: int, ask: LookUp | None = None) -> None:
        self._host = host
        self._port = port
        self._ask = ask
        self._answer: Sequence[Address] = _literal(host, port)
        self._is_literal = bool(self._answer)
        self._answered_at = 0.0
        self._ask_again_at = 0.0
        self._asked_at = 0.0
        self._lookup: asyncio.Future[Sequence[Address]] | None = None
        self._used_at = 0.0
        self._renewal: asyncio.TimerHandle | None = None

    async def addresses(self) -> Sequence[Address]:
        """All addresses, in the order in which to try them. Raises OSError."""
        if self._is_literal:
            return self._answer
        now = self._used_at = asyncio.get_running_loop().time()
        if self._answer and now - self._answered_at > _STALE_S:
            self._answer = ()
        if self._answer and now < self._ask_again_at:
            return self._answer
        lookup = self._lookup or self._begin(now)
        if not self._answer:
            return await asyncio.shield(lookup)
        with contextlib.suppress(OSError):  # a time-out is one
            async with asyncio.timeout_at(self._asked_at + _PATIENCE_S):
                return await asyncio.shield(lookup)
        if self._answer:
            return self._answer
        return await asyncio.shield(lookup)  # there is no such name any more

    def close(self) -> None:
        """Look it up no more."""
        if self._renewal is not None:
            self._renewal.cancel()

    def doubt(self) -> None:
        """No address could be connected to: look the name up again at the next connection."""
        self._ask_again_at = 0.0

    def _begin(self, now: float) -> asyncio.Future[Sequence[Address]]:
        loop = asyncio.get_running_loop()
        ask = self._ask or look_up
        self._asked_at = now
        lookup = self._lookup = loop.create_future()
        lookup.add_done_callback(self._ended)

        def work() -> None:
            try:
                answer, error = ask(self._host, self._port), None
            except OSError as problem:
                answer, error = (), problem
            except Exception as problem:  # noqa: BLE001 - such as a name that cannot be encoded
                answer, error = (), OSError(str(problem))
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(_settle, lookup, answer, error)

        # No pool: its threads are waited for when the process ends, and this one may hang.
        threading.Thread(target=work, name="smtpgate-names", daemon=True).start()
        return lookup

    def _renew_after(self, delay_s: float, loop: asyncio.AbstractEventLoop) -> None:
        """Look it up again in the background, if it is of use by then."""
        self.close()
        self._renewal = loop.call_later(delay_s, self._renew, loop)

    def _renew(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        if self._lookup is None and now - self._used_at <= _USED_S:
            _ = self._begin(now)

    def _ended(self, lookup: asyncio.Future[Sequence[Address]]) -> None:
        self._lookup = None
        loop = lookup.get_loop()
        now = loop.time()
        error = None if lookup.cancelled() else lookup.exception()
        if lookup.cancelled() or error is not None:
            self._ask_again_at = now + _RETRY_S
            self._renew_after(_RETRY_S, loop)
            if isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_NAME:
                self._answer = ()
            return
        self._answer = lookup.result()
        self._answered_at, self._ask_again_at = now, now + _FRESH_S
        self._renew_after(_RENEWED_S, loop)


def _literal(host: str, port: int) -> Sequence[Address]:
    """The address of a host in numbers, without a lookup; nothing for a name."""
    try:
        return socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    except OSError:
        return ()


def _settle(
    lookup: asyncio.Future[Sequence[Address]],
    answer: Sequence[Address],
    error: OSError | None,
) -> None:
    if lookup.done():
        return
    if error is None:
        lookup.set_result(answer)
    else:
        lookup.set_exception(error)
