"""One SMTP connection as its client sees it, without a socket.

Constitution: everything that decides which command comes next, and what the server's replies
amount to, is in this module; :mod:`smtpgate.core.upstream.login` says how a login begins. It
does no input or output and knows no time. The owner of the socket feeds in octets and the
failures of the connection, and carries out the steps that come back.

Theory of operation. A server answers commands in their order (RFC 5321 §4.1.4, RFC 2920 §3.2),
so one queue, ``_due``, says what the coming replies answer. ``TRANSITIONS`` says what follows
from each class of reply to each command; a pair that is not in it is a protocol error. After a
protocol error, or a reply to no command, the connection is closed: a client that guesses which
reply belongs to which command will one day take another reply for the one to the message.

A transaction is sent in flights. With PIPELINING (RFC 2920) the first flight is MAIL and every
RCPT, and for a single recipient DATA too, because then a refusal takes DATA with it. Otherwise
DATA is sent only when every recipient was accepted. When anything was refused nothing is sent:
RSET follows, and the delivery names the refused recipients. If a 354 comes nevertheless the
connection is dropped, because its only other end is an empty message. There is one exception:
when some recipients were refused for good and the others accepted, the owner may have the
message sent to the others, once it has recorded the refusals.

With CHUNKING (RFC 3030) a large message goes out as BDAT commands, one behind the other: there
are no dots to double, and a server that refuses a chunk need not read the rest. After such a
refusal no chunk follows, the transaction has failed (§2), and RSET ends it. The last chunk
waits for the replies to all others: so no message with a hole is ever ended, and a surplus
reply is found out before it is taken for the verdict, unless it comes late (there is no 354).

The message counts as sent when ``message_sent`` was called. From then until the answer, every
failure leaves the message in doubt (RFC 1047); before, and after any negative answer, nothing
was accepted.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from smtpgate.core.message.body import Body, StoredBody
from smtpgate.core.message.envelope import Envelope
from smtpgate.core.reply import Reply
from smtpgate.core.upstream.commands import (
    CommandError,
    chunk_commands,
    ehlo_command,
    only_chunk,
    transaction_commands,
    wire_line,
    wire_octets,
    wire_pieces,
)
from smtpgate.core.upstream.delivery import (
    Answered,
    InDoubt,
    LoginRefusedError,
    RecipientReply,
    UpstreamProtocolError,
    UpstreamUnavailableError,
)
from smtpgate.core.upstream.limits import NO_LIMITS, limits_of
from smtpgate.core.upstream.login import UpstreamLogin, login_at
from smtpgate.core.upstream.recipient_limit import is_too_many
from smtpgate.core.upstream.replies import Answer, ReplyReader, extensions_of
from smtpgate.core.upstream.sasl import PROBLEM_SEEN, login_response
from smtpgate.core.upstream.steps import (
    Done,
    Due,
    Failed,
    Ready,
    RefusedInPart,
    Send,
    SendMessage,
    SendWhole,
    StartTls,
    State,
    Step,
    Terms,
)

_SIZE_DIGITS: Final = 20  # RFC 1870 §4
_INVALID_CREDENTIALS: Final = 535  # RFC 4954 §6
# A smaller message is one write, with DATA, which costs the least.
_SMALL_OCTETS: Final = 64 * 1024


class UpstreamSession:
    """The client's side of one connection."""

    def __init__(self, terms: Terms) -> None:
        self.state: State = "opening"
        self.extensions: Mapping[str, str] = {}
        self.limits = NO_LIMITS
        self.has_answer = False  # a whole reply was in what was received last
        self._terms = terms
        self._is_encrypted = terms.is_encrypted
        self._reader = ReplyReader()
        self._due: deque[Due] = deque(["the connection"])
        self._unsent: deque[tuple[Due, bytes]] = deque()
        self._steps: list[Step] = []
        self._login: UpstreamLogin  # once it has begun
        self._last_verdict: Reply | None = None
        self._octets = 0
        self._is_large = self._is_in_chunks = self._reads_file = self._may_be_in_part = False
        self._forget_transaction()

    def _forget_transaction(self) -> None:
        self._envelope: Envelope | None = None
        self._message: Sequence[Body] = ()
        self._unsent.clear()
        self._replies: list[Reply] = []  # to RCPT
        self._refusals: list[Reply] = []  # those of them that are negative
        self._refusal: Reply | None = None
        self._verdict: Answered | None = None
        self._is_untouched = True
        self._is_message_sent = False
        self._is_in_part = False

    @property
    def replies_due(self) -> int:
        """The number of replies that are outstanding."""
        return len(self._due)

    @property
    def max_octets(self) -> int | None:
        """The largest message that the server takes; 0 and nonsense mean no such limit."""
        digits = self.extensions.get("SIZE", "")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= _SIZE_DIGITS):
            return None
        return int(digits) or None

    @property
    def wants_chunks(self) -> bool:
        """False once a chunk was refused (RFC 3030 §2: then no other may follow)."""
        return self._verdict is None

    # -- what the owner of the socket calls ----------------------------------------------------

    def receive(self, octets: bytes) -> list[Step]:
        """Take in what the server sent."""
        self._steps, self.has_answer = [], False
        if self.state == "closed":
            return self._steps
        reader, all_due = self._reader, self._due
        # The last reply to a message mostly names it; those before are the same for all.
        answers = reader.read(octets, len(all_due))
        left = len(answers)
        self.has_answer = left > 0
        try:
            for answer in answers:
                if not all_due:
                    break
                left -= 1
                due = all_due.popleft()
                if (left or reader.has_rest) and not all_due and due not in _FINAL:
                    raise self._surplus()
                action = TRANSITIONS[due].get(answer.kind)
                if action is None:
                    self._not_expected(answer, due)
                    return self._steps
                self._is_untouched = False
                action(self, answer)
            if left or reader.has_rest:
                self._look_at_rest(reader)
        except UpstreamUnavailableError as error:
            self._fail(error)
        return self._steps

    def tls_started(self) -> list[Step]:
        """The handshake is done; what the server offered before is void (RFC 3207 §4.2)."""
        self._steps = []
        self.state, self._is_encrypted = "opening", True
        self._greeted()
        return self._steps

    def begin(
        self, envelope: Envelope, message: Sequence[Body], *, may_be_in_part: bool = False
    ) -> list[Step]:
        """Begin a transaction; whatever it raises, nothing was sent.

        A message with more recipients than the server announces to take is done at once.
        With ``may_be_in_part`` there is a step RefusedInPart where it applies. Raises
        LacksExtensionError, CommandError.
        """
        if self.state != "ready":
            raise RuntimeError(f"no transaction can begin in the state {self.state}")
        if not envelope.recipients:
            raise CommandError("a transaction needs a recipient")
        if self.limits is not NO_LIMITS and (done := self._beyond_limits(envelope)):
            return [done]
        self._octets = octets = sum(map(len, message))
        commands = transaction_commands(envelope, octets, self.extensions)
        dues: list[Due] = ["MAIL"]
        dues += ["RCPT"] * len(envelope.recipients)
        self._envelope, self._message = envelope, message
        self._reads_file = StoredBody in map(type, message)
        self._is_large = octets > _SMALL_OCTETS or self._reads_file
        self._is_in_chunks = envelope.body_binary or (self._is_large and self._pays_to_chunk())
        self._may_be_in_part = may_be_in_part
        self._is_untouched = True
        self.state = "busy"
        if "PIPELINING" not in self.extensions:
            self._steps = []
            self._unsent.extend(zip(dues, map(wire_line, commands), strict=True))
            self._send(*self._unsent.popleft())
            return self._steps
        if len(commands) == 2 and not self._is_in_chunks:
            commands.append("DATA")
            dues.append("DATA")
        self._due.extend(dues)
        return [Send(wire_line("\r\n".join(commands)))]

    def check(self) -> list[Step]:
        """Send NOOP (RFC 5321 §4.1.1.9): a step Ready follows if the server still serves us."""
        if self.state != "ready":
            raise RuntimeError(f"nothing can begin in the state {self.state}")
        self.state, self._steps = "busy", []
        self._send("NOOP", b"NOOP\r\n")
        return self._steps

    def _beyond_limits(self, envelope: Envelope) -> Done | None:
        """The end of a message that exceeds what the server announced (RFC 9422 §4)."""
        answers = self.limits.answers(envelope.mailboxes)
        refusal = next((one for one in answers if not one.is_positive), None)
        if refusal is None:
            return None
        entries = map(RecipientReply, envelope.mailboxes, answers)
        return Done(Answered(self._terms.name, refusal, tuple(entries)))

    def go_on(self) -> list[Step]:
        """Send the message to the recipients that were accepted."""
        self._steps, self._is_in_part = [], True
        self._offer_message()
        return self._steps

    def leave(self) -> list[Step]:
        """Send the message to nobody."""
        self._steps = []
        refusal = self._refused()
        if refusal is not None:
            self._reset(refusal)
        return self._steps

    def chunk_written(self, *, is_last: bool) -> None:
        """A chunk of the message was handed to the socket, so its reply is due.

        The last one only when no other reply is.
        """
        if is_last and self._due:
            raise RuntimeError("the last chunk must wait for the replies to the others")
        self._due.append("the message" if is_last else "BDAT")

    def message_sent(self) -> None:
        """The last octet of the message has left."""
        self._is_message_sent = True

    def hung_up(self, reason: str) -> list[Step]:
        """The connection was closed or broke."""
        self._steps = []
        error = UpstreamUnavailableError(self._named(reason))
        self._fail(error, is_stale=self._is_untouched)
        return self._steps

    def timed_out(self, after: str) -> list[Step]:
        """The wait for a reply is over."""
        self._steps = []
        at_rest = self.state if self.state == "the TLS handshake" else "the message"
        awaited = self._due[0] if self._due else at_rest
        problem = self._named(f"no answer to {awaited} {after}")
        self._fail(UpstreamUnavailableError(problem, "timeout"))
        return self._steps

    def quit(self) -> list[Step]:
        """Send QUIT (RFC 5321 §4.1.1.10); the reply is not read."""
        self.state = "closed"
        return [Send(b"QUIT\r\n")]

    # -- inside --------------------------------------------------------------------------------

    def _named(self, text: str) -> str:
        return self._terms.named(text)

    def _send(self, due: Due, octets: bytes) -> None:
        self._due.append(due)
        self._steps.append(Send(octets))

    def _look_at_rest(self, reader: ReplyReader) -> None:
        """Octets are left behind the replies that were due. Raises UpstreamProtocolError."""
        if not self._due:
            raise self._surplus()
        if reader.problem:
            raise UpstreamProtocolError(self._named(reader.problem))

    def _not_expected(self, answer: Answer, due: Due) -> None:
        """End with 421, which may come at any time. Raises UpstreamProtocolError of others."""
        if answer.kind == 421:
            self._served_no_more(answer)
        else:
            problem = f"it answered {due} with {answer.reply}"
            raise UpstreamProtocolError(self._named(problem))

    def _surplus(self) -> UpstreamProtocolError:
        return UpstreamProtocolError(self._named("it sent a reply to no command"))

    def _served_no_more(self, answer: Answer) -> None:
        # It is a refusal, so nothing is in doubt.
        was_sent, self._is_message_sent = self._is_message_sent, False
        error = UpstreamUnavailableError(
            self._named(str(answer.reply)), "421", is_final=was_sent
        )
        self._fail(error, is_stale=self._is_untouched)

    def _fail(self, error: UpstreamUnavailableError, *, is_stale: bool = False) -> None:
        """End the connection; what is certain by then stays certain."""
        state, self.state = self.state, "closed"
        is_concluded = self._conclude()
        if not is_concluded and self._is_message_sent:
            self._steps.append(Done(InDoubt(str(error))))
        elif not is_concluded and state in ("opening", "the TLS handshake", "busy"):
            self._steps.append(Failed(error, is_stale=is_stale and state == "busy"))
        self._due.clear()
        self._reader = ReplyReader()  # what else it sent is not read
        self._forget_transaction()

    # -- opening a connection ------------------------------------------------------------------

    def _greeted(self, _: Answer | None = None) -> None:
        self._send("EHLO", ehlo_command(self._terms.helo))

    def _not_served(self, answer: Answer) -> None:
        raise UpstreamUnavailableError(self._named(str(answer.reply)), "refused")

    def _offered(self, answer: Answer) -> None:
        self.extensions = self._usable(extensions_of(answer.more))
        self.limits = limits_of(self.extensions.get("LIMITS", ""))
        if self._is_encrypted or self._terms.tls == "off":
            self._log_in()
        elif "STARTTLS" in self.extensions:
            self._send("STARTTLS", b"STARTTLS\r\n")
        else:
            self._go_on_in_clear("it does not offer STARTTLS")

    @property
    def _is_verified(self) -> bool:
        """True under TLS with a certificate that was verified."""
        return self._is_encrypted and self._terms.tls == "required"

    def _usable(self, offered: dict[str, str]) -> Mapping[str, str]:
        """The extensions that are used, of those that the server offers."""
        if not self._is_verified:
            offered.pop("REQUIRETLS", None)  # RFC 8689 §2: the server must be authenticated
        if not self._terms.chunking:
            offered.pop("CHUNKING", None)
        if "CHUNKING" not in offered:  # RFC 3030 §3: it needs BDAT
            offered.pop("BINARYMIME", None)
        return offered

    def _begin_tls(self, _: Answer) -> None:
        self.state = "the TLS handshake"
        self._steps.append(StartTls())

    def _tls_refused(self, answer: Answer) -> None:
        self._go_on_in_clear(f"it refused STARTTLS: {answer.reply}")

    def _go_on_in_clear(self, problem: str) -> None:
        if self._terms.tls == "required":
            raise UpstreamUnavailableError(self._named(problem), "tls")
        self._log_in()

    def _log_in(self) -> None:
        offered = self.extensions.get("AUTH", "").split()
        login = login_at(self._terms, offered, is_verified=self._is_verified)
        if login is None:
            self._get_ready()
            return
        self._login = login
        self._send(login.due, login.command)

    def _send_credentials(self, _: Answer) -> None:
        self._send("our credentials", self._login.response)

    def _end_login(self, answer: Answer) -> None:
        """Answer the challenge with which a server refuses a token."""
        mechanism = self._login.mechanism
        if self._terms.token is None:
            problem = f"it answered AUTH {mechanism} with {answer.reply}"
            raise UpstreamProtocolError(self._named(problem))
        self._send("the end of our login", PROBLEM_SEEN[mechanism])

    def _send_username(self, _: Answer) -> None:
        self._send("the user name", login_response(self._terms.username))

    def _send_password(self, _: Answer) -> None:
        self._send("the password", login_response(self._terms.password))

    def _login_refused(self, answer: Answer) -> None:
        problem = self._named(f"it refused our login: {answer.reply}")
        raise LoginRefusedError(problem, is_invalid=answer.reply.code == _INVALID_CREDENTIALS)

    def _get_ready(self, _: Answer | None = None) -> None:
        self.state = "ready"
        self._steps.append(Ready())

    # -- a transaction -------------------------------------------------------------------------

    def _mail_refused(self, answer: Answer) -> None:
        if answer.reply == self._last_verdict:
            # The refusal of the message before, sent twice, must not become this one's. If
            # it is the server's reply to MAIL, a fresh connection will get it too.
            error = UpstreamProtocolError(self._named("it repeated its last refusal"))
            self._fail(error, is_stale=True)
            return
        self._refusal = answer.reply
        self._unsent.clear()
        self._go_on()

    def _rcpt_accepted(self, answer: Answer) -> None:
        if self._refusal is not None:  # a late reply to something else
            refusal, self._refusal = self._refusal, None
            problem = f"it refused MAIL with {refusal} and accepted RCPT"
            raise UpstreamProtocolError(self._named(problem))
        self._replies.append(answer.reply)
        if not self._due:
            self._go_on()

    def _rcpt_refused(self, answer: Answer) -> None:
        # After a refused MAIL the replies to pipelined RCPTs say only that MAIL is missing.
        if self._refusal is None:
            self._refusals.append(reply := answer.reply)
            self._replies.append(reply)
        self._go_on()

    def _go_on(self, _: Answer | None = None) -> None:
        """Send the next flight once this one is answered."""
        if self._due:
            return
        if self._unsent:
            self._send(*self._unsent.popleft())
            return
        refusal = self._refused()
        if refusal is None:
            self._offer_message()
        elif self._may_be_in_part and (refused := self._refused_for_good()):
            self._steps.append(RefusedInPart(refused))
        else:
            self._reset(refusal)

    def _refused(self) -> Reply | None:
        """The refusal that keeps the message back: MAIL's, or a recipient's, deferrals first.

        A deferral outweighs a permanent refusal: the client keeps its message and tries again.
        Nothing does that is sent in part.
        """
        if self._is_in_part:
            return None
        if self._refusal is not None or not self._refusals:
            return self._refusal
        return next((one for one in self._refusals if one.is_transient), self._refusals[0])

    def _refused_for_good(self) -> tuple[RecipientReply, ...]:
        """The refused recipients, if all of these were for good and others were accepted."""
        replies, refused = self._replies, self._refusals
        is_for_good = all(one.is_permanent and not is_too_many(one) for one in refused)
        if self._envelope is None or not is_for_good or len(refused) == len(replies):
            return ()
        pairs = zip(self._envelope.mailboxes, replies, strict=True)
        return tuple(RecipientReply(*pair) for pair in pairs if not pair[1].is_positive)

    def _data_refused(self, answer: Answer) -> None:
        self._reset(self._refused() or answer.reply)

    def _reset(self, refusal: Reply) -> None:
        """Leave the transaction; the verdict is final, whatever happens to the connection."""
        self._verdict = self._answered_with(refusal)
        self._send("RSET", b"RSET\r\n")

    def _was_reset(self, _: Answer) -> None:
        self._conclude()
        self._finish()

    def _pays_to_chunk(self) -> bool:
        """True if BDAT carries a large message for less than DATA."""
        return "CHUNKING" in self.extensions and "PIPELINING" in self.extensions

    def _offer_message(self) -> None:
        """Send DATA, or with BDAT the message itself."""
        if not self._is_in_chunks:
            self._send("DATA", b"DATA\r\n")
        elif "PIPELINING" in self.extensions:
            is_text = self._envelope is None or not self._envelope.body_binary
            self._send_message(chunk_commands(self._message, is_text=is_text), in_chunks=True)
        else:  # each chunk would wait for its reply, so there is one
            self._due.append("the message")
            pieces = only_chunk(self._message, self._octets)
            if self._is_large:
                self._send_message(pieces)
            else:
                self._send_whole(b"".join(pieces))

    def _data_wanted(self, _: Answer) -> None:
        if self._refused() is not None:
            raise UpstreamProtocolError(self._named("it accepted DATA without a recipient"))
        self._due.append("the message")
        if self._is_large:
            self._send_message(wire_pieces(self._message))
        else:  # in memory, because a message in a file counts as large
            self._send_whole(wire_octets(self._message))  # type: ignore[arg-type]

    def _send_whole(self, wire: bytes) -> None:
        self._steps.append(SendWhole(wire, self._octets))
        self._message = ()

    def _send_message(self, pieces: Iterator[bytes], *, in_chunks: bool = False) -> None:
        self._steps.append(SendMessage(pieces, self._octets, self._reads_file, in_chunks))
        self._message = ()

    def _chunk_taken(self, _: Answer) -> None:
        """The next chunk is on its way already."""

    def _chunk_refused(self, answer: Answer) -> None:
        """Leave the transaction: it has failed, whatever of it is on its way (RFC 3030 §2)."""
        if self._verdict is None:
            self._reset(answer.reply)

    def _message_answered(self, answer: Answer) -> None:
        self._last_verdict = reply = answer.reply
        if self._is_message_sent:
            self._steps.append(Done(self._answered_with(reply)))
            self._finish()
            return
        # A refusal before its end spares the rest of a message, and costs the connection.
        if not reply.is_positive:
            self._verdict = self._answered_with(reply)
        raise UpstreamProtocolError(
            self._named(f"it answered before the end of the message: {reply}"),
            is_final=True,
        )

    def _conclude(self) -> bool:
        """Report the outcome, if there is one by now."""
        delivery = self._verdict or self._certain()
        if delivery is not None:
            self._steps.append(Done(delivery))
        return delivery is not None

    def _finish(self) -> None:
        """The transaction is over, and another can begin."""
        self.state = "ready"
        self._forget_transaction()

    def _certain(self) -> Answered | None:
        """The delivery that the answers so far amount to, when later ones cannot change it."""
        if self._envelope is None:
            return None
        refusal = self._refused()
        is_complete = len(self._replies) == len(self._envelope.recipients)
        if refusal is None or not (is_complete or self._refusal is not None):
            return None
        return self._answered_with(refusal)

    def _answered_with(self, reply: Reply) -> Answered:
        mailboxes = () if self._envelope is None else self._envelope.mailboxes
        entries = tuple(map(RecipientReply, mailboxes, self._replies))
        has_dsn = "DSN" in self.extensions
        return Answered(self._terms.name, reply, entries, self._is_in_part, has_dsn)


# After these replies none is due: octets behind them cannot be taken for another reply.
_FINAL: Final[frozenset[Due]] = frozenset({"the message", "RSET", "NOOP"})

_Action = Callable[[UpstreamSession, Answer], None]
_S: Final = UpstreamSession

# What follows from a reply, by what it answers and by the first digit of its code.
TRANSITIONS: Final[Mapping[Due, Mapping[int, _Action]]] = {
    "the connection": {2: _S._greeted, 4: _S._not_served, 5: _S._not_served},
    "EHLO": {2: _S._offered, 4: _S._not_served, 5: _S._not_served},
    "STARTTLS": {2: _S._begin_tls, 4: _S._tls_refused, 5: _S._tls_refused},
    "AUTH": {3: _S._send_credentials, 4: _S._login_refused, 5: _S._login_refused},
    "our credentials": {
        2: _S._get_ready,
        3: _S._end_login,
        4: _S._login_refused,
        5: _S._login_refused,
    },
    "the end of our login": {4: _S._login_refused, 5: _S._login_refused},
    "AUTH LOGIN": {3: _S._send_username, 4: _S._login_refused, 5: _S._login_refused},
    "the user name": {3: _S._send_password, 4: _S._login_refused, 5: _S._login_refused},
    "the password": {2: _S._get_ready, 4: _S._login_refused, 5: _S._login_refused},
    "MAIL": {2: _S._go_on, 4: _S._mail_refused, 5: _S._mail_refused},
    "RCPT": {2: _S._rcpt_accepted, 4: _S._rcpt_refused, 5: _S._rcpt_refused},
    "DATA": {3: _S._data_wanted, 4: _S._data_refused, 5: _S._data_refused},
    "BDAT": {2: _S._chunk_taken, 4: _S._chunk_refused, 5: _S._chunk_refused},
    "the message": {2: _S._message_answered, 4: _S._message_answered, 5: _S._message_answered},
    "RSET": {2: _S._was_reset},
    "NOOP": {2: _S._get_ready, 4: _S._not_served, 5: _S._not_served},
}
