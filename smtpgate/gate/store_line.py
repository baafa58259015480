"""The worker's end of its line to the store's thread of its parent, in its event loop."""

import asyncio
from collections.abc import Callable

from smtpgate.gate.frames import OfMessage, StoreAnswer, decode_answers, encode_packet
from smtpgate.gate.store_answers import failure
from smtpgate.workers.line import PacketLine


def _ignore(_: StoreAnswer) -> None:
    """Nothing was asked yet."""


class StoreLine:
    """Sends requests of messages, and passes each answer to ``take``.

    All that is sent in one turn of the event loop is one packet. A packet for which there is no
    room goes over the channel, request by request.
    """

    def __init__(
        self,
        line: PacketLine,
        send_over_channel: Callable[[OfMessage], None],
        on_end: Callable[[], None],
    ) -> None:
        self.take: Callable[[StoreAnswer], None] = _ignore
        self._line = line
        self._send_over_channel = send_over_channel
        self._on_end = on_end
        self._is_closed = False
        self._unsent: list[OfMessage] = []
        asyncio.get_running_loop().add_reader(line.fileno(), self._read)

    def send(self, request: OfMessage) -> None:
        """Send a request, with all others of this turn."""
        if not self._unsent:
            _ = asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(request)

    def _flush(self) -> None:
        requests, self._unsent = self._unsent, []
        try:
            packet = encode_packet(requests)
        except Exception:  # noqa: BLE001 - the defect of one request, as a rule
            requests = [request for request in requests if self._can_be_sent(request)]
            packet = encode_packet(requests)
        try:
            is_sent = self._line.send(packet)
        except ConnectionError:
            return  # _read finds that it has ended
        if not is_sent:
            for request in requests:
                self._send_over_channel(request)

    def _can_be_sent(self, request: OfMessage) -> bool:
        """True if it can be encoded; if not, its defect is its answer."""
        try:
            _ = encode_packet([request])
        except Exception as error:  # noqa: BLE001 - goes to the caller
            self.take(failure(request.number, error))
            return False
        return True

    def _read(self) -> None:
        packet = self._line.receive()
        if packet is None:
            self.close()
            self._on_end()
        elif packet:
            for answer in decode_answers(packet):
                self.take(answer)

    def close(self) -> None:
        """Close this end; the second time does nothing."""
        if not self._is_closed:
            self._is_closed = True
            _ = asyncio.get_running_loop().remove_reader(self._line.fileno())
            self._line.close()
