"""An upstream that accepts every message and keeps none."""

import asyncio
from typing import cast


class Forgetful(asyncio.Protocol):
    """One connection; its client sends DATA alone, as the gate does for one recipient."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(b"220 mx\r\n")
        self._tail = b""
        self._is_in_message = False

    def data_received(self, data: bytes) -> None:
        """Answer each command, and each final dot."""
        if self._is_in_message:
            self._tail = (self._tail + data[-5:])[-5:]
            if self._tail == b"\r\n.\r\n":
                self._is_in_message = False
                self._transport.write(b"250 2.0.0 ok\r\n")
            return
        for command in data.splitlines():
            self._is_in_message = command == b"DATA"
            self._transport.write(b"354 go\r\n" if self._is_in_message else b"250 ok\r\n")
