"""An upstream that keeps every message, for the demonstration and tests.

It is aiosmtpd's unchanged ``SMTP`` class, so a server that shares no code with the gate judges
what the gate sends.
"""

import asyncio
from dataclasses import dataclass
from typing import Self

from aiosmtpd.smtp import SMTP, Envelope, Session

_MAX_OCTETS = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Delivered:
    """One message as it arrived."""

    mail_from: str
    recipients: tuple[str, ...]
    content: bytes


class Sink:
    """Listens on a free loopback port; a context manager."""

    def __init__(self) -> None:
        self.messages: list[Delivered] = []
        self._server: asyncio.Server | None = None
        self._arrived = asyncio.Condition()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self, port: int = 0) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(
                self,
                hostname="sink.example",
                ident="ESMTP",
                enable_SMTPUTF8=True,
                data_size_limit=_MAX_OCTETS,
                loop=loop,
            ),
            "127.0.0.1",
            port,
        )

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._server is None:
            raise RuntimeError("the sink is not started")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """Keep the message."""
        content = envelope.original_content or b""
        recipients = tuple(envelope.rcpt_tos)
        self.messages.append(Delivered(envelope.mail_from or "", recipients, content))
        async with self._arrived:
            self._arrived.notify_all()
        return "250 2.0.0 kept"

    async def wait_for(self, count: int, timeout_s: float = 10) -> list[Delivered]:
        """Wait until there are ``count`` messages. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s), self._arrived:
            await self._arrived.wait_for(lambda: len(self.messages) >= count)
        return self.messages

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None
