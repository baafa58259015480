"""One SMTP session of the listener for mail that comes back: aiosmtpd's, within bounds.

What aiosmtpd does is changed in a few places: the handshake is the event loop's own, there is
no AUTH to offer after it, VRFY and HELP reveal no address, and a session that sends more
commands than a mail server needs is ended.
"""

import asyncio
import logging
import ssl
from collections import defaultdict
from collections.abc import Callable
from typing import Final, Protocol, cast

from aiosmtpd.smtp import SMTP, Envelope, Session

from smtpgate.config.sections import FeedbackConfig
from smtpgate.core.message.envelope import network_of_client
from smtpgate.core.reply import Reply

_RECIPIENTS: Final = 20
_TOO_MANY: Final = Reply(452, "4.5.3", "Too many recipients")
_BUSY: Final = b"421 4.3.2 Too many connections, try again later\r\n"
_LINE_OCTETS: Final = 512
# A server brings many reports over one connection; more of anything else is no mail.
_MOST: Final = {"MAIL": 1000, "RCPT": 1000, "DATA": 1000, "RSET": 1000, "*": 100}

# It writes what strangers send, and has no other way to be quiet.
logging.getLogger("mail.log").addHandler(logging.NullHandler())
logging.getLogger("mail.log").propagate = False


class TakesFeedback(Protocol):
    """Decides about addresses, and takes messages."""

    def refusal(self, address: str) -> Reply | None:
        """The reply to an address whose mail is not taken, or ``None``."""

    async def take(self, address: str, octets: bytes) -> Reply:
        """Take a message; the reply to its sender."""


class Places(Protocol):
    """The bounds on connections."""

    def enter(self, session: "FeedbackSession", client: str) -> bool:
        """Count a connection; false if there are too many."""

    def leave(self, session: "FeedbackSession", client: str) -> None:
        """Count it no more."""


class Handler:
    """Decides about recipients and messages; aiosmtpd calls it by these names."""

    def __init__(
        self, intake: TakesFeedback, on_error: Callable[[BaseException], None]
    ) -> None:
        self._intake = intake
        self._on_error = on_error

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self,
        server: "FeedbackSession",
        session: Session,
        envelope: Envelope,
        hostname: str,
        responses: list[str],
    ) -> list[str]:
        """The extensions: without AUTH, which nobody can use, and with STARTTLS."""
        del envelope
        session.host_name = hostname
        kept = [one for one in responses if not one.startswith("250-AUTH")]
        return [*kept[:-1], "250-STARTTLS", kept[-1]] if server.offers_tls else kept

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,
        address: str,
        options: list[str],
    ) -> str:
        """Take or refuse an address."""
        del server, session, options
        refusal = self._intake.refusal(address)
        if refusal is not None:
            return str(refusal)
        if len(envelope.rcpt_tos) >= _RECIPIENTS:
            return str(_TOO_MANY)
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """The first reply that is no 250 is that of all: its sender has the whole message."""
        del server, session
        octets = envelope.original_content or b""
        # Letter case makes no other address of ours: an answer is sent on once.
        for address in {one.casefold(): one for one in envelope.rcpt_tos}.values():
            reply = await self._intake.take(address, octets)
            if reply.code != 250:
                return str(reply)
        return "250 2.0.0 Ok"

    async def handle_exception(self, error: Exception) -> str:
        """A fault of ours: nothing of it is shown."""
        self._on_error(error)
        return "451 4.3.0 Temporary failure, try again later"


class FeedbackSession(SMTP):
    """One session; its time ends whatever the client does."""

    # What a server returns may have longer lines than it should; nothing is lost by reading it.
    line_length_limit = 65_536

    def __init__(
        self,
        places: Places,
        handler: Handler,
        settings: FeedbackConfig,
        hostname: str,
        tls: ssl.SSLContext | None,
    ) -> None:
        # aiosmtpd has one for all sessions, and empties it with each new one.
        self.command_size_limits = defaultdict(lambda: _LINE_OCTETS)
        super().__init__(
            handler,
            hostname=hostname,
            ident="ESMTP",
            data_size_limit=settings.max_octets,
            timeout=settings.timeout_s,
            enable_SMTPUTF8=True,
            auth_exclude_mechanism=("LOGIN", "PLAIN"),
            command_call_limit=dict(_MOST),
            loop=asyncio.get_running_loop(),
        )
        self._places = places
        self._client = ""
        self._end: asyncio.TimerHandle | None = None
        self._settings = settings
        self._tls = tls
        self._is_encrypted = False

    @property
    def offers_tls(self) -> bool:
        """True if the client may begin TLS now."""
        return self._tls is not None and not self._is_encrypted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the session, if there is room for it."""
        peer = transport.get_extra_info("peername")
        self._client = network_of_client(str(peer[0])) if peer else ""
        if not self._places.enter(self, self._client):
            refused = cast("asyncio.Transport", transport)
            refused.write(_BUSY)
            refused.close()
            return
        self._end = self.loop.call_later(self._settings.session_s, self.hang_up)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """The session is over."""
        if self._end is None:
            return
        self._end.cancel()
        self._end = None
        self._places.leave(self, self._client)
        super().connection_lost(error)

    def hang_up(self) -> None:
        """Close the connection at once."""
        if self.transport is not None:
            cast("asyncio.Transport", self.transport).abort()

    # -- commands ------------------------------------------------------------------------------

    async def smtp_STARTTLS(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd's name
        """Begin TLS (RFC 3207). The session begins again, without what came in plain text."""
        if arg:
            await self.push("501 5.5.4 STARTTLS takes no parameter")
        elif self._tls is None or self._is_encrypted:
            await self.push("502 5.5.1 STARTTLS is not offered")
        else:
            await self.push("220 2.0.0 Ready to start TLS")
            await self._start_tls(self._tls)

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        self._reader._buffer.clear()  # type: ignore[attr-defined]
        try:
            transport = await self.loop.start_tls(
                cast("asyncio.Transport", self.transport),  # uvloop's are of no such class
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=self._settings.handshake_timeout_s,
            )
        except OSError:
            # The event loop reports no connection as lost whose handshake fails.
            self.hang_up()
            self.connection_lost(None)
            return
        if transport is None or self._end is None:
            return
        self._is_encrypted = True
        self.transport = transport
        self._reader._transport = transport  # type: ignore[attr-defined]
        self._writer._transport = transport  # type: ignore[attr-defined]
        peer = transport.get_extra_info("peername")
        self.envelope = self._create_envelope()
        self.session = self._create_session()
        self.session.peer = peer
        self.session.ssl = {"cipher": transport.get_extra_info("cipher")}

    async def smtp_AUTH(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd's name
        """There is no login."""
        del arg
        await self.push("502 5.5.1 AUTH is not offered")

    async def smtp_VRFY(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd's name
        """The same for every address (RFC 5321 §3.5.3)."""
        if arg:
            await self.push("252 2.5.2 Cannot say; send mail, and see")
        else:
            await self.push("501 5.5.4 VRFY needs an address")

    async def smtp_EXPN(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd's name
        """There are no lists."""
        del arg
        await self.push("502 5.5.1 EXPN is not offered")

    async def smtp_HELP(self, arg: str | None) -> None:  # noqa: N802 - aiosmtpd's name
        """The purpose of the listener (RFC 5321 §4.1.1.8)."""
        del arg
        await self.push("214 2.0.0 This server takes bounces of its own mail, and complaints")
