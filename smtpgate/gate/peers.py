"""The other workers of a gate, as one of them reaches them: over their parent."""

import asyncio
from collections.abc import Callable
from typing import Final

from smtpgate.gate.frames import Noted, PeerNote

_PASSED_ON_S: Final = 1.0


class WorkerPeers:
    """Has the other workers take notes."""

    def __init__(self, send: Callable[[Noted], None]) -> None:
        """``send`` sends a frame to the parent."""
        self._send = send
        self._waiting: dict[int, asyncio.Event] = {}
        self._number = 0

    def tell(self, note: PeerNote) -> None:
        """Have the others take a note soon."""
        self._send(Noted(note))

    async def share(self, note: PeerNote) -> None:
        """Have the others take a note; it is on its way to each of them afterwards.

        A parent that does not answer in a second is not waited for.
        """
        self._number += 1
        number = self._number
        self._waiting[number] = passed_on = asyncio.Event()
        self._send(Noted(note, number))
        try:
            async with asyncio.timeout(_PASSED_ON_S):
                _ = await passed_on.wait()
        except TimeoutError:
            return
        finally:
            del self._waiting[number]

    def passed_on(self, number: int) -> None:
        """The parent has passed on the note of that number."""
        if (waiting := self._waiting.get(number)) is not None:
            waiting.set()
