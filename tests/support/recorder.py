"""An upstream that records what it is sent, octet for octet, and can be made to wait.

smtp-sink knows no SMTPUTF8 and rewrites line ends; this one, on aiosmtpd in a thread of its
own, keeps the message as it came over the wire. Recipients can be refused by name.
"""

import asyncio
import re
import threading
from collections.abc import Callable

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.support.daemons import LOOPBACK, PATIENCE_S, Lab, eventually, free_port
from tests.support.smtpsink import SunkMessage

_TAKEN = "250 2.1.5 Ok"


class _Session(SMTP):
    """A session that is on the list of live ones."""

    live: set[SMTP]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.live.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.live.discard(self)


class _Controller(Controller):
    """Ends what is still connected before its loop is closed."""

    def __init__(self, handler: "Recorder", port: int) -> None:
        super().__init__(handler, hostname=LOOPBACK, port=port)
        self._live: set[SMTP] = set()

    def factory(self) -> SMTP:
        session = _Session(
            self.handler,
            hostname="upstream.example.net",
            enable_SMTPUTF8=True,
            data_size_limit=64 * 1024 * 1024,
            loop=self.loop,
        )
        session.live = self._live
        return session

    async def hang_up(self) -> None:
        for session in self._live:
            if isinstance(session.transport, asyncio.WriteTransport):
                session.transport.abort()
        while self._live:  # noqa: ASYNC110 - aiosmtpd has no event for that
            await asyncio.sleep(0)


def _take(_: str, __: int) -> str:
    return _TAKEN


class Recorder:
    """A recording SMTP server on a loopback port, in its own thread.

    ``answer_rcpt`` gives the reply for a recipient, from its address and from how many this
    transaction has already; ``answered`` is every such reply that was given.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.messages: list[SunkMessage] = []
        self.answer_rcpt: Callable[[str, int], str] = _take
        self.answered: list[tuple[str, str]] = []
        self._arrived = threading.Event()
        self._open = threading.Event()
        self._open.set()
        self._controller = _Controller(self, port)

    # the hooks' names are aiosmtpd's
    async def handle_RCPT(  # noqa: N802
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,
        address: str,
        options: list[str],
    ) -> str:
        """Take the recipient, or refuse it."""
        reply = self.answer_rcpt(address, len(envelope.rcpt_tos))
        self.answered.append((address, reply))
        if reply.startswith("250"):
            envelope.rcpt_tos.append(address)
            envelope.rcpt_options.extend(options)
        return reply

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Keep the message; answer once the gate at the end of DATA is open."""
        content = envelope.content
        assert isinstance(content, bytes)
        self._arrived.set()
        await asyncio.to_thread(self._open.wait, PATIENCE_S)
        self.messages.append(
            SunkMessage(
                (envelope.mail_from or "").removeprefix("<").removesuffix(">"),
                tuple(envelope.rcpt_tos),
                content,
                tuple(envelope.mail_options),
            )
        )
        return f"250 2.0.0 Ok: number {len(self.messages)}"

    def hold(self) -> None:
        """Answer no more messages until :meth:`release`."""
        self._arrived.clear()
        self._open.clear()

    def release(self) -> None:
        """Answer the delayed requests."""
        self._open.set()

    def wait_for_arrival(self) -> None:
        """Wait until a whole message has come in, answered or not."""
        assert self._arrived.wait(PATIENCE_S), "no message came to the recorder"

    def wait_for(self, count: int) -> list[SunkMessage]:
        """Wait until that many messages are kept."""
        eventually(lambda: len(self.messages) >= count, f"{count} messages at the recorder")
        return list(self.messages)

    def start(self) -> None:
        """Listen."""
        self._controller.start()

    def close(self) -> None:
        """Stop listening; what it kept can still be read."""
        self._open.set()
        if self._controller.server is None:
            return
        ended = asyncio.run_coroutine_threadsafe(
            self._controller.hang_up(), self._controller.loop
        )
        ended.result(PATIENCE_S)
        self._controller.stop()


def recorder(lab: Lab, *, port: int | None = None) -> Recorder:
    """Start a recorder that stops with the lab."""
    upstream = Recorder(port or free_port())
    upstream.start()
    lab.keep(upstream)
    return upstream


def message_ids(taken: Recorder) -> list[str]:
    """The Message-ID of each message that it has taken."""
    found = (re.search(rb"(?im)^Message-ID: (<[^>]+>)", one.header) for one in taken.messages)
    return [one[1].decode() for one in found if one is not None]
