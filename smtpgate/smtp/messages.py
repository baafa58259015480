"""The octets of messages behind DATA: in bulk, with one search for the final dot, never line by
line. A message larger than ``spool_octets`` goes to its file while it comes in.
"""

import asyncio
from abc import abstractmethod
from functools import partial
from typing import Final

from smtpgate.core.message.body import StoredMessage
from smtpgate.smtp.arrival import Arrival, IncomingMessage
from smtpgate.smtp.intake import MessageIntake
from smtpgate.smtp.protocol import PAUSE_OCTETS, GateProtocol, OutOfBudget, Work
from smtpgate.spool import SpoolError

# As much of a large message may come while the part before it is written to the file.
AHEAD_OCTETS: Final = 256 * 1024


class MessageProtocol(GateProtocol):
    """A connection on which messages come in."""

    __slots__ = ()

    @abstractmethod
    def take_message(
        self, incoming: IncomingMessage, message: bytes | StoredMessage | None
    ) -> Work | None:
        """Take a message that has come; ``None`` if the intake refused it.

        One in memory is still dot-stuffed.
        """

    def expect_message(self, intake: MessageIntake, arrival: Arrival) -> None:
        """Take what comes as a message, up to the final dot; all of it within the time."""
        deadline = self.loop.time() + self._config.data_timeout_s
        self.incoming = IncomingMessage(intake, arrival, deadline)
        self._pause_octets = intake.spool_octets

    def take_part(self, incoming: IncomingMessage) -> bool:
        """Take the message, or what has come of a large one; false until there is more."""
        intake = incoming.intake
        size = intake.look(self._input)
        if intake.refusal:
            incoming.arrival.close()
        elif intake.goes_to_file:
            if size is None and len(self._input) <= PAUSE_OCTETS:
                return False
            is_last = size is not None
            part = len(self._input) - 4 if size is None else size
            self._leave(partial(self._move, incoming, part, is_last=is_last))
            return True
        if size is None:
            return False
        wire = self._input
        self._end_message(size)
        del wire[size:]
        message = None if intake.refusal else bytes(wire)
        self._leave(self.take_message(incoming, message))
        return True

    def _end_message(self, size: int) -> None:
        # A new buffer: the memory of a large message is not kept for the session's life.
        self._input = self._input[size + 3 :]
        self.incoming, self._pause_octets = None, PAUSE_OCTETS

    async def _move(self, incoming: IncomingMessage, size: int, *, is_last: bool) -> None:
        """Move the first octets of the input to the message's file; more come in meanwhile."""
        intake, arrival, wire = incoming.intake, incoming.arrival, self._input
        self._input = wire[size:]
        del wire[size:]
        intake.moved(size)
        self._pause_octets = AHEAD_OCTETS
        self._resume_input()
        await self._store(incoming, wire)
        if is_last:
            self._end_message(0)
            work = self.take_message(incoming, None if intake.refusal else arrival.conclude())
            if work is not None:
                await work()

    async def _store(self, incoming: IncomingMessage, wire: bytearray) -> None:
        """Write octets to the message's file, within the message's time."""
        try:
            async with asyncio.timeout_at(incoming.deadline):
                await incoming.arrival.add(wire)
        except TimeoutError:
            raise OutOfBudget("message-time") from None
        except SpoolError:
            incoming.intake.refuse("storage")
            incoming.arrival.close()
