"""The commands of a session, from EHLO to the final dot (RFC 5321, RFC 6409, RFC 4954)."""

import asyncio
import base64
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from smtpgate.core.account import AccessKey
from smtpgate.core.address import Mailbox
from smtpgate.core.events import (
    Authenticated,
    AuthFailed,
    AuthReason,
    SessionClosed,
    SessionOpened,
)
from smtpgate.core.limits.budget import BUDGETS, BudgetName
from smtpgate.core.message.envelope import Client, Envelope, Submission
from smtpgate.core.message.reading import LARGE_OCTETS
from smtpgate.core.reply import CATALOGUE, Reply, reply_of
from smtpgate.ports import DirectoryUnavailableError
from smtpgate.smtp.command import (
    CommandError,
    MailCommand,
    parse_helo,
    parse_mail,
    parse_rcpt,
    split_command,
)
from smtpgate.smtp.door import Door
from smtpgate.smtp.intake import MessageIntake, unstuffed
from smtpgate.smtp.protocol import (
    ILL_ENDED,
    TOO_LONG,
    GateProtocol,
    HangUp,
    OutOfBudget,
)
from smtpgate.smtp.sasl import MECHANISMS, Credentials, SaslError, decode_response
from smtpgate.smtp.session_events import SessionEvents
from smtpgate.smtp.sockets import Place

_SHOWN_OCTETS: Final = 64
# The replies of every transaction, in wire form.
_SAID: Final = {
    name: CATALOGUE[name].wire() for name in ("ok", "sender-ok", "recipient-ok", "start-data")
}
# They bring no message nearer; a client that sends nothing else does not go on for ever.
_JUNK: Final = frozenset({b"NOOP", b"RSET", b"VRFY", b"HELP", b"HELO", b"EHLO"})


class Registry(Protocol):
    """Keeps the sessions of a listener."""

    def enter(self, session: "GateSession") -> None:
        """The session has begun."""

    def leave(self, session: "GateSession") -> None:
        """The session's socket is closed."""


@dataclass(slots=True)
class _Spent:
    """What the client has used of its budgets since its last accepted message."""

    errors: int = 0
    junk_commands: int = 0
    excess_recipients: int = 0


class GateSession(GateProtocol):
    """One client's session: EHLO, TLS and AUTH state, and the transaction in progress."""

    def __init__(
        self, door: Door, registry: Registry, client_address: str, place: Place
    ) -> None:
        super().__init__(
            door.config,
            hostname=door.hostname,
            tasks=door.tasks,
            loop=asyncio.get_running_loop(),
            clock=door.clock,
        )
        self.door = door
        self.client_address = client_address  # as a proxy tells it, when there is one
        self.place = place
        self.is_submitting = False
        self._registry = registry
        self._helo = ""
        self._is_esmtp = False
        self._key: AccessKey | None = None
        self._mail: MailCommand | None = None
        self._recipients: dict[Mailbox, None] = {}
        self._refused_recipients: dict[Mailbox, None] = {}
        self._verb = b""  # of the command that is obeyed
        self._has_tls_failed = False
        self._session_id = door.new_session_id()
        self._spent = _Spent()
        self._max_junk_commands = door.config.max_junk_commands
        self._excused = 0  # commands out of sequence that are no errors of the client's
        self._auth_failures = 0

    # -- the loop ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Enter the session into its listener's list, and start it."""
        self._registry.enter(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is closed: it counts no longer."""
        super().connection_lost(error)
        self._registry.leave(self)
        # With TLS 1.3 the client judges the certificate after the server's handshake is done.
        if isinstance(error, ssl.SSLError) and self._key is None:
            self.note_tls_failed(error)

    @property
    def _events(self) -> SessionEvents:
        # Made when there is one. Kept, it would be part of a circle, and every session's
        # memory, with that of its TLS, would wait for the garbage collector.
        return SessionEvents(self.door.events, self.door.clock, self._facts)

    def note_tls_failed(self, error: Exception) -> None:
        """Publish why TLS failed, once: a handshake that failed ends the connection too."""
        if not self._has_tls_failed:
            self._has_tls_failed = True
            self._events.tls_failed(error)

    async def _serve_client(self) -> None:
        self.door.events.publish(SessionOpened(self.door.config.name))
        last_word: Reply | None = None
        try:
            self.end_if_due()
            self.reply(reply_of("greeting", hostname=self.hostname))
            while True:
                await self._obey(await self.read_line())
        except HangUp as hang_up:
            last_word = hang_up.reply
            if last_word is None:
                self._abandon()
            if isinstance(hang_up, OutOfBudget):
                self._note_exhausted(hang_up.budget)
                if last_word is None:
                    self.abort()
        except (ConnectionError, asyncio.CancelledError):
            self.abort()
        except Exception as error:  # noqa: BLE001 - the session ends, the gate lives on
            self.door.on_error(error)
            last_word = CATALOGUE["temporary-failure"]
        finally:
            if self._key is not None:
                self.door.watch.leave(self, self._key)
            try:
                await self.close(last_word)
            finally:
                self.door.events.publish(SessionClosed(self.door.config.name))

    async def _obey(self, line: bytes) -> None:
        self._verb = b""
        if line.startswith(b"\n"):  # a mark that stands for a line which is no command
            self._note_error(CATALOGUE[_NO_COMMAND[line]])
            return
        verb, argument = split_command(line)
        self._verb = verb
        if verb not in (b"RCPT", b"DATA"):
            self._excused = 0
        command = _COMMANDS.get(verb)
        if command is None:
            self._note_error(CATALOGUE["unknown-command"])
            return
        try:
            await command(self, argument)
        except CommandError as error:
            self._note_error(error.reply)
        else:
            if verb in _JUNK:
                self._count_junk()

    # -- what the client has cost --------------------------------------------------------------

    def _refuse(self, reply: Reply, *, has_event: bool = False) -> None:
        """Answer a command with a refusal: every one that the session gives goes through here.

        Verdicts on messages are the pipeline's. A refusal is one event; ``has_event`` says that
        it had one of its own.
        """
        self.reply(reply)
        if not has_event:
            self._events.refused(self._verb, reply)

    def _note_error(self, reply: Reply, *, has_event: bool = False) -> None:
        """Refuse a command for the client's own fault."""
        self._refuse(reply, has_event=has_event)
        self._count_error()

    def _count_error(self) -> None:
        self._spent.errors += 1
        if self._spent.errors >= self.door.config.max_errors:
            raise OutOfBudget("errors")

    def _count_junk(self) -> None:
        self._spent.junk_commands += 1
        over = self._spent.junk_commands - self._max_junk_commands
        if over > 0:
            self._count_over("junk-commands", over)

    def _count_over(self, budget: BudgetName, over: int) -> None:
        """Beyond the budget, each one counts as an error."""
        if over == 1:
            self._note_exhausted(budget)
        if over > 0:
            self._count_error()

    def _note_exhausted(self, budget: BudgetName) -> None:
        self._events.exhausted(budget)

    def _bad_sequence(self, problem: str) -> None:
        reply = reply_of("bad-sequence", problem=problem)
        if self._excused:
            self._excused -= 1
            self._refuse(reply)
        else:
            self._note_error(reply)

    # -- greeting, TLS, small commands ---------------------------------------------------------

    async def on_helo(self, argument: bytes) -> None:
        """HELO: no extensions, so no way to authenticate."""
        self._helo = parse_helo(argument)
        self._is_esmtp = False
        self._abandon()
        self.reply_lines(f"250 {self.hostname}\r\n".encode())

    async def on_ehlo(self, argument: bytes) -> None:
        """EHLO: offer what is really kept, here and by the upstream as last seen."""
        self._helo = parse_helo(argument)
        self._is_esmtp = True
        self._abandon()
        *lines, last = self.hostname, *self._extensions()
        wire = "".join(f"250-{line}\r\n" for line in lines) + f"250 {last}\r\n"
        self.reply_lines(wire.encode())

    def _extensions(self) -> list[str]:
        upstream = self.door.upstream.extensions
        offered = [f"SIZE {self._max_octets}", "PIPELINING", "ENHANCEDSTATUSCODES"]
        offered += [
            name for name in ("8BITMIME", "SMTPUTF8") if upstream is None or name in upstream
        ]
        if self._may_start_tls:
            offered.append("STARTTLS")
        if self._may_authenticate:
            offered.append("AUTH PLAIN LOGIN")
        return offered

    @property
    def _max_octets(self) -> int:
        """The largest message: the gate's bound, or the upstream's where that is smaller."""
        bound, upstream = self.door.max_message_octets, self.door.upstream.max_octets
        return bound if upstream is None else min(bound, upstream)

    @property
    def _may_start_tls(self) -> bool:
        return self.door.config.tls == "starttls" and not self.is_tls

    @property
    def _may_authenticate(self) -> bool:
        return self.is_tls or self.door.config.allow_plaintext_auth

    async def on_starttls(self, argument: bytes) -> None:
        """STARTTLS: everything said before is forgotten (RFC 3207 §4.2)."""
        if argument:
            self._note_error(reply_of("syntax", syntax="STARTTLS"))
        elif not self._may_start_tls or self.door.tls is None:
            self._note_error(CATALOGUE["tls-unavailable"])
        elif self._key is not None or self._mail is not None:
            self._bad_sequence("STARTTLS comes before AUTH and MAIL")
        else:
            self.reply(CATALOGUE["start-tls"])
            await self.start_tls(self.door.tls.context)
            self._helo, self._is_esmtp = "", False

    async def on_noop(self, _argument: bytes) -> None:
        """NOOP."""
        self.reply_lines(_SAID["ok"])

    async def on_rset(self, _argument: bytes) -> None:
        """RSET: end the transaction."""
        self._abandon()
        self.reply_lines(_SAID["ok"])

    async def on_vrfy(self, _argument: bytes) -> None:
        """VRFY: neither yes nor no (RFC 5321 §3.5.3)."""
        self.reply(CATALOGUE["vrfy"])

    async def on_help(self, _argument: bytes) -> None:
        """HELP."""
        self.reply(CATALOGUE["help"])

    async def on_expn(self, _argument: bytes) -> None:
        """EXPN, ETRN, TURN: known, not offered."""
        self._note_error(CATALOGUE["not-implemented"])

    async def on_quit(self, _argument: bytes) -> None:
        """QUIT."""
        self._abandon()
        raise HangUp(CATALOGUE["bye"])

    # -- authentication ------------------------------------------------------------------------

    async def on_auth(self, argument: bytes) -> None:
        """AUTH PLAIN and LOGIN, with or without an initial response (RFC 4954 §4)."""
        mechanism, _, initial = argument.partition(b" ")
        if not self._may_authenticate:
            self._note_error(CATALOGUE["tls-first"])
        elif not self._is_esmtp:
            self._bad_sequence("say EHLO first")
        elif self._key is not None:
            self._bad_sequence("already authenticated")
        elif self._mail is not None:
            self._bad_sequence("AUTH comes before MAIL")
        elif mechanism.upper() not in MECHANISMS:
            self._note_error(CATALOGUE["auth-mechanism"])
        else:
            credentials = await self._exchange(mechanism.upper(), initial.strip() or None)
            if credentials is not None:
                await self._check_credentials(credentials)

    async def _exchange(self, mechanism: bytes, response: bytes | None) -> Credentials | None:
        exchange = MECHANISMS[mechanism]()
        challenge = next(exchange)
        while True:
            if response is None:
                encoded = base64.b64encode(challenge).decode("ascii")
                self.reply(reply_of("auth-continue", challenge=encoded))
                response = await self.read_line()
                if response == b"*":
                    self._note_error(CATALOGUE["auth-aborted"])
                    return None
                if response == TOO_LONG:  # RFC 4954 §4: the exchange is over
                    self._note_error(CATALOGUE["line-too-long"])
                    return None
            try:
                challenge = exchange.send(decode_response(response))
            except StopIteration as done:
                credentials: Credentials = done.value
                return credentials
            except SaslError:
                self._note_error(CATALOGUE["auth-malformed"])
                return None
            response = None

    async def _check_credentials(self, credentials: Credentials) -> None:
        door, changes = self.door, self.door.watch.changes
        if credentials.acts_as not in (b"", credentials.username):
            await self._refuse_login(credentials, "other-identity")
            return
        try:
            found = await door.authenticator.authenticate(
                credentials.username, credentials.password, self.client_address
            )
        except DirectoryUnavailableError:
            self._refuse(CATALOGUE["auth-unavailable"])
            return
        if not isinstance(found, AccessKey):
            await self._refuse_login(credentials, found)
            return
        self._key = found
        self.lift_bounds_before_auth()
        door.watch.enter(self, found, changes=changes)
        account_id, now = found.principal.account.id, door.clock.now()
        door.events.publish(Authenticated(self._client(), found.id, account_id, now))
        self.reply(CATALOGUE["auth-ok"])

    async def _refuse_login(self, credentials: Credentials, reason: AuthReason) -> None:
        self._auth_failures += 1
        username = credentials.username[:_SHOWN_OCTETS].decode("utf-8", "replace")
        now = self.door.clock.now()
        self.door.events.publish(AuthFailed(self._client(), username, reason, now))
        # Guessing is slowed for this connection only; others are not made to wait.
        await asyncio.sleep(self.door.config.auth_failure_delay_s)
        self._refuse(CATALOGUE["auth-invalid"], has_event=True)
        if self._auth_failures >= self.door.config.max_auth_failures:
            raise OutOfBudget("auth-failures")

    # -- the transaction -----------------------------------------------------------------------

    async def on_mail(self, argument: bytes) -> None:
        """MAIL FROM: begin a transaction."""
        if self._key is None:
            self._note_error(CATALOGUE["auth-first" if self._may_authenticate else "tls-first"])
        elif self._mail is not None:
            self._bad_sequence("a transaction is open; RSET ends it")
        elif not self.door.admission.has_refusals_left(self._account_id):
            raise OutOfBudget("refusals")
        else:
            mail = parse_mail(argument)
            if mail.size > self._max_octets:
                self._note_exhausted("message-octets")
                self._note_error(CATALOGUE["too-long"])
                return
            refusal = await self.door.admission.refusal_at_mail(self._key, self._client())
            if refusal is not None:
                # Of a pipelined group (RFC 2920 §3.1), up to DATA, it is the only error.
                self._excused = self.door.max_recipients + 1
                self._note_error(refusal, has_event=True)
                return
            self._mail = mail
            self.in_transaction = True
            self.reply_lines(_SAID["sender-ok"])

    async def on_rcpt(self, argument: bytes) -> None:
        """RCPT TO: one more recipient."""
        if self._mail is None:
            self._bad_sequence("MAIL comes first")
            return
        recipient = parse_rcpt(argument, smtputf8=self._mail.smtputf8)
        if recipient in self._recipients:  # relayed and charged once
            self.reply_lines(_SAID["recipient-ok"])
            self._count_junk()
        elif len(self._recipients) >= self._max_recipients:
            self._refuse_recipient()
        elif (refusal := self._refusal_of_upstream(self._mail, recipient)) is not None:
            self._refuse(refusal)
        else:
            self._recipients[recipient] = None
            self.reply_lines(_SAID["recipient-ok"])

    @property
    def _account_id(self) -> str:
        return "" if self._key is None else self._key.principal.account.id

    @property
    def _max_recipients(self) -> int:
        """The fewer of the gate's limit and the upstream's."""
        learned = self.door.upstream.max_recipients
        limit = self.door.max_recipients
        return limit if learned is None else min(limit, learned)

    def _refusal_of_upstream(self, mail: MailCommand, mailbox: Mailbox) -> Reply | None:
        """What the upstream answered for a recipient when it refused a part of the message.

        It is no error of the client's: a message may have many such recipients.
        """
        refusal = self.door.admission.refusal_at_rcpt(
            self._account_id, mail.reverse_path, mailbox
        )
        if mailbox in self._refused_recipients:
            self._count_junk()
        elif refusal is not None:
            self._refused_recipients[mailbox] = None
        return refusal

    def _refuse_recipient(self) -> None:
        self._refuse(reply_of("too-many-recipients", limit=self._max_recipients))
        if not self._spent.excess_recipients:
            self._note_exhausted("recipients")
        self._spent.excess_recipients += 1
        over = self._spent.excess_recipients - self.door.config.max_excess_recipients
        self._count_over("excess-recipients", over)

    async def on_data(self, argument: bytes) -> None:
        """DATA: take the message, hand it to the pipeline, answer with its verdict."""
        if argument:
            self._note_error(reply_of("syntax", syntax="DATA"))
            return
        if self._mail is None or not self._recipients or self._key is None:
            self._bad_sequence("MAIL and RCPT come first")
            self._excused = 0
            return
        self.reply_lines(_SAID["start-data"])
        intake = MessageIntake(
            self.door.intake, self._max_octets, self._key.principal.account.id
        )
        try:
            wire = await self.read_message(intake)
            self.is_submitting = wire is not None
            message = None if wire is None else await self._read_whole(wire)
            if message is None:
                self._refuse_message(intake.refusal or "message-octets")
            else:
                reply = await self._submit(self._key, self._mail, message)
                intake.release()
                await self._slow_down(reply)
                self.reply(reply)
                if reply.is_positive:
                    self._spent = _Spent()
                    self._forget_refused()
        except HangUp as hang_up:
            # A budget that is used up has an event of its own.
            if not (self.is_submitting or isinstance(hang_up, OutOfBudget)):
                self._events.cut_off("gate" if hang_up.reply else "client", intake.octets)
            raise
        finally:
            intake.release()
            self._reset()

    async def _read_whole(self, wire: bytes) -> bytes | None:
        """The message as the client means it; ``None`` when its line ends made it too long."""
        message = await self.door.offload.run(
            len(wire) > LARGE_OCTETS,
            unstuffed,
            wire,
            normalize_bare_lf=self.door.normalize_bare_lf,
        )
        return message if len(message) <= self._max_octets else None

    async def _slow_down(self, reply: Reply) -> None:
        """An account whose messages are refused again and again waits for the next refusal."""
        if not reply.is_positive:
            delay_s = self.door.admission.delay_s(self._account_id)
            if delay_s:
                await asyncio.sleep(delay_s)

    def _refuse_message(self, budget: BudgetName) -> None:
        """There is no room for the message."""
        self._note_exhausted(budget)
        reply = CATALOGUE[BUDGETS[budget].reply]
        if reply.is_permanent:
            self._note_error(reply)
        else:
            self._refuse(reply)

    async def _submit(self, key: AccessKey, mail: MailCommand, message: bytes) -> Reply:
        door = self.door
        received_at = door.clock.now()
        return await door.pipeline.submit(
            Submission(
                message_id=door.new_message_id(received_at),
                principal=key.principal,
                access_key_id=key.id,
                client=self._client(),
                envelope=Envelope(mail.reverse_path, tuple(self._recipients), mail.smtputf8),
                message=message,
                received_at=received_at,
                key_limits=key.limits,
            ),
            client_gone=self.client_gone,
        )

    def _forget_refused(self) -> None:
        """The client knows of its refused recipients: the upstream is asked again next time."""
        if self._mail is not None and self._refused_recipients:
            self.door.admission.forget_refused(
                self._account_id, self._mail.reverse_path, self._refused_recipients
            )

    def _abandon(self) -> None:
        """End a transaction without a message.

        The client knows of its refused recipients, and sends nothing to the others either: it
        does not split messages, so the old answers must not hold this one back for hours.
        """
        self._forget_refused()
        self._reset()

    def _reset(self) -> None:
        self._refused_recipients = {}
        self.is_submitting = False
        self._mail = None
        self._recipients = {}
        self.in_transaction = False

    def _facts(self) -> tuple[Client, AccessKey | None]:
        return self._client(), self._key

    def _client(self) -> Client:
        cipher = self._wire.get_extra_info("cipher")
        return Client(
            address=self.client_address,
            helo=self._helo,
            listener=self.door.config.name,
            # RFC 3848: S for TLS, A for AUTH.
            protocol="ESMTP" + ("S" if cipher else "") + ("A" if self._key else ""),
            tls_version=cipher[1] if cipher else None,
            tls_cipher=cipher[0] if cipher else None,
            session_id=self._session_id,
        )


_NO_COMMAND: Final = {ILL_ENDED: "bad-line-end", TOO_LONG: "line-too-long"}
_COMMANDS: Final[dict[bytes, Callable[[GateSession, bytes], Awaitable[None]]]] = {
    b"HELO": GateSession.on_helo,
    b"EHLO": GateSession.on_ehlo,
    b"STARTTLS": GateSession.on_starttls,
    b"AUTH": GateSession.on_auth,
    b"MAIL": GateSession.on_mail,
    b"RCPT": GateSession.on_rcpt,
    b"DATA": GateSession.on_data,
    b"RSET": GateSession.on_rset,
    b"NOOP": GateSession.on_noop,
    b"VRFY": GateSession.on_vrfy,
    b"EXPN": GateSession.on_expn,
    b"ETRN": GateSession.on_expn,
    b"TURN": GateSession.on_expn,
    b"HELP": GateSession.on_help,
    b"QUIT": GateSession.on_quit,
}
