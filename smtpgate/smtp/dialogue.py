"""The state of a session that its commands share, and how a command is refused.

Commands are functions of a dialogue and their argument: ``auth`` and ``transaction`` have
those with subjects of their own, ``session`` the others and the table of all.
"""

import asyncio
import ssl
from abc import abstractmethod
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol

from msgspec import Struct, field

from smtpgate.core.account import AccessKey
from smtpgate.core.address import Mailbox
from smtpgate.core.events import BudgetExhausted, CommandRefused, Event, HandshakeFailed
from smtpgate.core.limits.budget import BudgetName
from smtpgate.core.message.envelope import Client, Recipient, SmtpFacts
from smtpgate.core.reply import CATALOGUE, Reply, reply_of
from smtpgate.ports import TokenLogin, UpstreamFacts
from smtpgate.smtp.certificate import pin_of
from smtpgate.smtp.chunks import ChunkProtocol
from smtpgate.smtp.command import MailCommand
from smtpgate.smtp.handshake import handshake_problem
from smtpgate.smtp.protocol import HangUp, OutOfBudget
from smtpgate.smtp.sasl import Exchange
from smtpgate.smtp.session_parts import SessionParts
from smtpgate.smtp.sockets import ConnectionSlot
from smtpgate.tracing import SessionTranscript

# The replies of every transaction, in wire form.
WIRE: Final = {
    name: CATALOGUE[name].wire() for name in ("ok", "sender-ok", "recipient-ok", "start-data")
}


class SessionOwner(Protocol):
    """The listener, as its sessions see it."""

    def enter(self, session: "Dialogue") -> None:
        """The session has begun."""

    def leave(self, session: "Dialogue") -> None:
        """The session's socket is closed."""


class Transaction(Struct, frozen=True, gc=False):
    """A mail transaction: MAIL began it; RSET or the end of DATA ends it (RFC 5321 §3.3).

    ``max_octets`` is the size of the largest message that was taken when it began, and
    ``refused`` are the recipients of it that the upstream refused at an earlier try.
    """

    key: AccessKey
    account_id: str
    mail: MailCommand
    max_octets: int
    recipients: dict[Mailbox, Recipient] = field(default_factory=dict)
    refused: dict[Mailbox, None] = field(default_factory=dict)


@dataclass(slots=True)
class Spent:
    """The use of a client's budgets since its last accepted message."""

    errors: int = 0
    junk_commands: int = 0
    excess_recipients: int = 0

    def clear(self) -> None:
        """Make the budgets whole again, after a message was accepted."""
        self.errors = self.junk_commands = self.excess_recipients = 0


class Dialogue(ChunkProtocol):
    """One client's session: EHLO, TLS and AUTH state, and the transaction in progress.

    Nothing that it keeps refers back to it: so its memory is free as soon as it ends.
    """

    __slots__ = (
        "_certificate",
        "_client",
        "_drains_after_first",
        "_has_had_transaction",
        "_has_tls_failed",
        "_next_parts",
        "_peer",
        "_upstream",
        "auth_failures",
        "exchange",
        "excused",
        "helo",
        "is_esmtp",
        "is_submitting",
        "key",
        "login",
        "mechanism",
        "offered",
        "owner",
        "parts",
        "place",
        "session_id",
        "spent",
        "transaction",
        "transcript",
        "verb",
    )

    def __init__(
        self, parts: SessionParts, owner: SessionOwner, peer: Client, place: ConnectionSlot
    ) -> None:
        super().__init__(
            parts.config,
            hostname=parts.hostname,
            tasks=parts.tasks,
            loop=asyncio.get_running_loop(),
            turns=parts.turns,
        )
        self.parts = parts
        self._next_parts: SessionParts | None = None  # after the transaction
        self.place = place
        self.owner = owner
        self.helo = ""
        self.is_esmtp = False
        self.offered: frozenset[str] = frozenset()  # by the last EHLO
        self.mechanism = ""
        self.exchange: Exchange | None = None  # of AUTH, while it waits for a response
        self.key: AccessKey | None = None
        self.login: TokenLogin | None = None  # if it was by a token
        self.auth_failures = 0
        self._has_had_transaction = self._drains_after_first = False
        self.transaction: Transaction | None = None
        self.is_submitting = False
        self.spent = Spent()
        self.excused = 0  # commands out of sequence that are no errors of the client's
        self.verb = b""  # of the command that is obeyed
        self._peer = peer
        self.session_id = parts.new_session_id()
        self.transcript: SessionTranscript | None = None  # while a trace runs
        self._client: Client | None = None
        self._certificate: str | None = None  # not looked at yet
        self._upstream: UpstreamFacts | None = None
        self._has_tls_failed = False

    # -- another configuration -----------------------------------------------------------------

    def take_over(self, parts: SessionParts, owner: SessionOwner) -> None:
        """Go on with the parts of another listener, after the transaction if there is one."""
        self.owner, self._next_parts = owner, parts
        if not self.in_transaction:
            self.use_next_parts()
            if self._may_end:
                self._advance()

    def use_next_parts(self) -> None:
        """Between two transactions: use the settings that have changed meanwhile.

        A session that they would not have let in so far ends with 421.
        """
        parts, self._next_parts = self._next_parts, None
        if parts is None:
            return
        self.parts, self.hostname, self._upstream = parts, parts.hostname, None
        self.use_settings(parts.config)
        has_begun = hasattr(self, "_wire")  # with implicit TLS, after the handshake
        if has_begun and not self._may_go_on():
            # Not at once: it may be in the middle of a command, whose reply comes first.
            last_word = reply_of("shutting-down", hostname=self.hostname)
            self._ending, self._may_end = self._ending or HangUp(last_word), True

    def _may_go_on(self) -> bool:
        """True if the session could begin with the settings that it has now."""
        cipher = self.cipher
        if cipher is not None and self.parts.config.min_tls == "1.3":
            return cipher[1] == "TLSv1.3"
        return self.key is None or self.may_authenticate

    # -- the end -------------------------------------------------------------------------------

    def drain_after_first(self) -> None:
        """End before the second transaction; as :meth:`drain` if there has been one.

        After the first one the client may still say QUIT.
        """
        self._drains_after_first = True
        if self._has_had_transaction:
            self.drain()

    def end_transaction(self) -> None:
        """There is no transaction any more."""
        self._has_had_transaction |= self.transaction is not None
        self.transaction = None
        self.is_submitting = False
        if self._next_parts is not None:
            self.use_next_parts()

    def end_before_mail(self) -> None:
        """Raises HangUp when the session is to end before the transaction that begins."""
        if self._drains_after_first and self._has_had_transaction:
            raise HangUp(reply_of("shutting-down", hostname=self.hostname))
        if self.login is not None and not self.parts.authenticator.allows(self.login):
            raise HangUp(CATALOGUE["session-token-ended"])

    # -- facts ---------------------------------------------------------------------------------

    @property
    def client(self) -> Client:
        """The client, with all that is known of it by now."""
        if self._client is None:
            self._client = self._described()
        return self._client

    def forget_client(self) -> None:
        """Something about the client has changed."""
        self._client = self._upstream = None

    @property
    def client_address(self) -> str:
        """The client's address, from its proxy where there is one."""
        return self._peer.address

    @property
    def client_certificate(self) -> str:
        """The pin of the certificate that the client showed in the handshake, or empty."""
        if self._certificate is None:
            tls: ssl.SSLObject | None = self._wire.get_extra_info("ssl_object")
            if tls is None:  # STARTTLS may come
                return ""
            self._certificate = pin_of(tls.getpeercert(binary_form=True))
        return self._certificate

    @property
    def in_transaction(self) -> bool:
        """True if a transaction is open."""
        return self.transaction is not None

    @property
    def max_octets(self) -> int:
        """The largest message: the gate's bound, or the upstream's where that is smaller."""
        bound, upstream = self.parts.max_message_octets, self.upstream.max_octets
        return bound if upstream is None else min(bound, upstream)

    @property
    def upstream(self) -> UpstreamFacts:
        """The facts of the upstreams that may get the client's messages."""
        if self._upstream is None:
            key = self.key
            account_id = "" if key is None else key.principal.account.id
            self._upstream = self.parts.upstreams.facts(self._peer.listener, account_id)
        return self._upstream

    @property
    def may_start_tls(self) -> bool:
        """True if STARTTLS is offered."""
        return self.parts.config.tls == "starttls" and not self.is_tls

    @property
    def may_authenticate(self) -> bool:
        """True if AUTH is offered."""
        return self.is_tls or self.parts.config.allow_plaintext_auth

    @property
    def takes_tokens(self) -> bool:
        """True if the mechanisms with a token are offered: only over TLS."""
        return self.is_tls and self.parts.authenticator.takes_tokens

    def _described(self) -> Client:
        cipher, key, peer = self.cipher, self.key, self._peer
        return Client(
            address=peer.address,
            port=peer.port,
            listener=peer.listener,
            # RFC 3848: S for TLS, A for AUTH.
            protocol="ESMTP" + ("S" if cipher else "") + ("A" if key else ""),
            is_tls=bool(cipher),
            session_id=self.session_id,
            access_key_id="" if key is None else key.id,
            account_id="" if key is None else key.principal.account.id,
            certificate=self.client_certificate,
            token="" if self.login is None else self.login.subject,
            smtp=SmtpFacts(
                helo=self.helo,
                tls_version=cipher[1] if cipher else None,
                tls_cipher=cipher[0] if cipher else None,
                mechanism=self.mechanism,
                proxy=peer.smtp.proxy,
            ),
        )

    # -- replies -------------------------------------------------------------------------------

    def reply(self, reply: Reply) -> None:
        """Queue a reply; it is written when the session next waits."""
        self.reply_lines(reply.wire())

    def reply_lines(self, wire: bytes) -> None:
        """Queue a reply that is already in wire form."""
        if self.parts.tracer.traces:
            self.trace_replies(wire)
        self._output += wire

    @abstractmethod
    def trace_replies(self, wire: bytes) -> None:
        """A trace runs: show it the replies."""

    @abstractmethod
    def trace_note(self, text: str) -> None:
        """A trace runs: show it what happens to the session."""

    # -- refusals and budgets ------------------------------------------------------------------

    def refuse(self, reply: Reply, *, has_event: bool = False) -> None:
        """Answer a command with a refusal: every refusal of the session goes through here.

        Verdicts on messages are the pipeline's. A refusal is one event; ``has_event`` says that
        it had one of its own.
        """
        self.reply(reply)
        if not has_event:
            now = self.parts.clock.now()
            self.publish(
                CommandRefused(self.client, now, self.verb.decode("ascii") or "other", reply)
            )

    def note_error(self, reply: Reply, *, has_event: bool = False) -> None:
        """Refuse a command for the client's own fault. Raises OutOfBudget."""
        self.refuse(reply, has_event=has_event)
        self.count_error()

    def bad_sequence(self, problem: str) -> None:
        """Refuse a command that may not come now."""
        reply = reply_of("bad-sequence", problem=problem)
        if self.excused:
            self.excused -= 1
            self.refuse(reply)
        else:
            self.note_error(reply)

    def must_have_waited(self) -> None:
        """The client had to wait for the coming reply before it went on (RFC 2920 §3.1).

        One that did not gets another reply, and its octets are not obeyed. Raises HangUp.
        """
        if self._input and self.parts.config.early_talkers == "refuse":
            self.refuse_early()

    def refuse_early(self) -> NoReturn:
        """End the session of a client that did not wait. Raises HangUp."""
        self.is_early = True
        self.refuse(CATALOGUE["too-early"])
        raise HangUp

    def count_error(self) -> None:
        """Count an error of the client. Raises OutOfBudget."""
        self.spent.errors += 1
        if self.spent.errors >= self.parts.config.max_errors:
            raise OutOfBudget("errors")

    def count_junk(self) -> None:
        """Count a command that brings no message nearer."""
        self.spent.junk_commands += 1
        over = self.spent.junk_commands - self.parts.config.max_junk_commands
        if over > 0:
            self.count_over("junk-commands", over)

    def count_over(self, budget: BudgetName, over: int) -> None:
        """Beyond the budget, each one counts as an error."""
        if over == 1:
            self.note_exhausted(budget)
        if over > 0:
            self.count_error()

    # -- events --------------------------------------------------------------------------------

    def publish(self, event: Event) -> None:
        """Hand an event to the log, the metrics and the journal."""
        self.parts.events.publish(event)

    def note_exhausted(self, budget: BudgetName) -> None:
        """The client has used up a budget."""
        self.publish(BudgetExhausted(self.client, self.parts.clock.now(), budget))
        if self.parts.tracer.traces:
            self.trace_note(f"used up: {budget}")

    def note_tls_failed(self, error: Exception) -> None:
        """Publish why TLS failed, once: a handshake that failed ends the connection too."""
        if not self._has_tls_failed:
            self._has_tls_failed = True
            problem = handshake_problem(error)
            self.publish(HandshakeFailed(self.client, self.parts.clock.now(), problem))
            if self.parts.tracer.traces:
                self.trace_note(f"TLS failed: {problem}")
