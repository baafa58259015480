"""The octets of chunks (RFC 3030): taken as BDAT announced them, whatever they are.

Chunks are kept in memory until the message is complete, or go to its file when it is larger
than ``spool_octets``. No octet of a chunk is ever read as a command, also when the chunk is
refused: then all of it is thrown away, and the reply follows it.
"""

from abc import abstractmethod
from functools import partial

from smtpgate.core.message.body import StoredMessage
from smtpgate.smtp.arrival import Chunk, IncomingMessage
from smtpgate.smtp.messages import AHEAD_OCTETS, MessageProtocol
from smtpgate.smtp.protocol import PAUSE_OCTETS, Work
from smtpgate.spool import SpoolError


class ChunkProtocol(MessageProtocol):
    """A connection whose messages may come in chunks."""

    __slots__ = ()

    @abstractmethod
    def chunk_taken(
        self, chunk: Chunk, incoming: IncomingMessage | None, message: bytes | StoredMessage
    ) -> Work | None:
        """All octets of a chunk have come; behind the last one the message is complete.

        ``incoming`` is ``None`` for a chunk that is no part of a message.
        """

    def begin_chunks(self, incoming: IncomingMessage) -> None:
        """Take the chunks that come as one message."""
        self.incoming = incoming

    def drop_message(self) -> None:
        """Forget the chunks of a message that is not complete, if there are any."""
        if self.incoming is not None:
            self.incoming.close()
            self.incoming = None

    def expect_chunk(self, chunk: Chunk) -> Work | None:
        """Take the octets that come next as that chunk."""
        if chunk.left:
            self.chunk = chunk
            if self.incoming is not None:
                in_memory = min(chunk.left, self.incoming.intake.spool_octets)
                self._pause_octets = PAUSE_OCTETS + in_memory
            return None
        if chunk.is_last and self.incoming is not None and self.incoming.intake.goes_to_file:
            return partial(self._move_chunk, self.incoming, chunk, 0)
        return self._end_chunk(chunk)

    def take_chunk(self, chunk: Chunk) -> bool:
        """Take what has come of a chunk; false until there is more."""
        size, incoming = min(chunk.left, len(self._input)), self.incoming
        if incoming is not None and incoming.kept is not None:
            intake, ready = incoming.intake, len(incoming.kept) + size
            intake.count(intake.in_file + ready)
            if not intake.refusal:
                is_end = size == chunk.left and chunk.is_last
                if intake.goes_to_file and (is_end or ready > PAUSE_OCTETS):
                    self._leave(partial(self._move_chunk, incoming, chunk, size))
                    return True
                if size < chunk.left:
                    return False
                incoming.kept.extend(memoryview(self._input)[:size])
            else:
                incoming.arrival.close()
                incoming.kept.clear()
        del self._input[:size]
        chunk.left -= size
        if chunk.left:
            return False
        self._leave(self._end_chunk(chunk))
        return True

    async def _move_chunk(self, incoming: IncomingMessage, chunk: Chunk, size: int) -> None:
        """Move what is kept, and the first octets of the input, to the message's file."""
        intake, wire = incoming.intake, bytearray(incoming.kept or b"")
        wire += memoryview(self._input)[:size]
        if incoming.kept is not None:
            incoming.kept.clear()
        del self._input[:size]
        chunk.left -= size
        intake.moved(len(wire))
        self._pause_octets = AHEAD_OCTETS
        self._resume_input()
        await self._store(incoming, wire)
        if chunk.left:
            return
        stored: bytes | StoredMessage = b""
        if chunk.is_last and not intake.refusal:
            try:
                await incoming.arrival.end_line()
                stored = incoming.arrival.conclude()
            except SpoolError:
                intake.refuse("storage")
                incoming.arrival.close()
        work = self._end_chunk(chunk, stored)
        if work is not None:
            await work()

    def _end_chunk(self, chunk: Chunk, stored: bytes | StoredMessage = b"") -> Work | None:
        """All of a chunk has come; behind the last one the message is whole."""
        incoming, self.chunk, message = self.incoming, None, stored
        # What comes next is no message's before it is looked at.
        self._pause_octets = PAUSE_OCTETS
        if incoming is not None and chunk.is_last:
            if incoming.kept:
                message = bytes(incoming.kept)
                incoming.kept.clear()
            self.incoming = None
        return self.chunk_taken(chunk, incoming, message)
