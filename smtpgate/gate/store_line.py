"""The worker's end of its line to the store's thread of its parent, in its event loop."""

import asyncio
from collections.abc import Callable

from smtpgate.gate.frames import OnLine, StoreAnswer, decode_answers, encode_packet
from smtpgate.gate.store_answers import failure
from smtpgate.sql.few_a_turn import FewATurn
from smtpgate.workers.line import PacketLine


def _ignore(_: StoreAnswer) -> None:
    """Nothing was asked yet."""


class StoreLine:
    """Sends requests of messages, and passes ``answers`` on.

    All that is sent in one turn of the event loop is one packet. A packet for which there is no
    room goes over the channel, request by request.
    """

    def __init__(
        self,
        line: PacketLine,
        send_over_channel: Callable[[OnLine], None],
        on_end: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.answers: FewATurn[StoreAnswer] = FewATurn(self._loop, _ignore)
        self._line = line
        self._send_over_channel = send_over_channel
        self._on_end = on_end
        self._is_closed = False
        self._unsent: list[OnLine] = []
        self._loop.add_reader(line.fileno(), self._read)

    def send(self, request: OnLine) -> None:
        """Send a request, with all others of this turn."""
        if not self._unsent:
            _ = self._loop.call_soon(self._flush)
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

    def _can_be_sent(self, request: OnLine) -> bool:
        """True if it can be encoded; if not, its defect is its answer."""
        try:
            _ = encode_packet([request])
        except Exception as error:  # noqa: BLE001 - goes to the caller
            self.answers.take(failure(request.number, error))
            return False
        return True

    def _read(self) -> None:
        if self.answers.waiting:
            return  # they come first, also before the end; the loop calls again
        packet = self._line.receive()
        if packet is None:
            self.close()
            self._on_end()
        elif packet:
            self.answers.add(decode_answers(packet))

    def close(self) -> None:
        """Close this end; the second time does nothing."""
        if not self._is_closed:
            self._is_closed = True
            _ = self._loop.remove_reader(self._line.fileno())
            self._line.close()
