"""Bodies of requests: read whole, within bounds of octets and time for all of them together."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from smtpgate.core.api.faults import ApiError

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

# A caller that names no usable key is refused; its signature can be looked at with so much.
_STRANGERS_OCTETS: Final = 64 * 1024
_MAX_DIGITS: Final = 12


class ClientLeftError(Exception):
    """The client closed its connection before its request was complete."""


class Bodies:
    """The bodies that are in memory now."""

    def __init__(self, *, max_octets: int, max_inflight_octets: int, timeout_s: float) -> None:
        """``max_octets`` is for one body, ``max_inflight_octets`` for all at once."""
        self._max_octets = max_octets
        self._max_inflight_octets = max_inflight_octets
        self._timeout_s = timeout_s
        self.octets = 0

    async def read(self, receive: Receive, content_length: bytes, *, is_trusted: bool) -> bytes:
        """The body of a request; it counts until it is released.

        Raises ApiError, or ClientLeftError.
        """
        most = self._max_octets if is_trusted else _STRANGERS_OCTETS
        declared = content_length.strip()
        if declared.isdigit() and (len(declared) > _MAX_DIGITS or int(declared) > most):
            raise _too_large(most)
        pieces: list[bytes] = []
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._read_into(pieces, receive, most)
        except BaseException as error:
            for piece in pieces:
                self.release(piece)
            if isinstance(error, TimeoutError):
                raise ApiError("too-slow", "The body did not arrive in time.") from None
            raise
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def release(self, body: bytes) -> None:
        """Count a body, or a piece of one, no longer."""
        self.octets -= len(body)

    async def _read_into(self, pieces: list[bytes], receive: Receive, most: int) -> None:
        octets, more = 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise ClientLeftError
            if piece := message.get("body", b""):
                pieces.append(piece)
                octets += len(piece)
                self.octets += len(piece)
                self._must_fit(octets, most)
            more = message.get("more_body", False)

    def _must_fit(self, read_octets: int, most: int) -> None:
        if read_octets > most:
            raise _too_large(most)
        if self.octets > self._max_inflight_octets:
            raise ApiError("unavailable", "Too many requests are being read now.")


def _too_large(most: int) -> ApiError:
    return ApiError("too-large", f"The body must not be larger than {most} octets.")
