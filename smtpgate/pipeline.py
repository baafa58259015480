"""The way of a message, from the final dot to the verdict. The order of the stages is here.

Every door builds a Submission and calls :meth:`Pipeline.submit`. Each stage either goes on or
raises Reject; whatever happens, the journal has it, one event tells of it, and the client hears
one reply that names the message id.

There is no spool: the client's 250 is sent only after the upstream's. So a refusal or a fault
at any stage loses nothing, because the client still has its copy. The one window that remains
is RFC 1047's: the final dot went out and no answer came. Then the client hears 451, the
recipients stay counted, and the event says ``in-doubt``.

The journal is part of the outcome: it has a submission before the upstream does, and its
verdict before the client does. So no end of the gate leaves anything that nobody can look up.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from smtpgate.admission import Admission
from smtpgate.core.account import usable_key
from smtpgate.core.authorization import (
    Authorization,
    Denial,
    Question,
    identity_names,
    takes_long,
)
from smtpgate.core.authorization.charges import charges_of
from smtpgate.core.authorization.context import submission_context
from smtpgate.core.authorization.reports import (
    authorize_message,
    report_names,
    report_recipients,
)
from smtpgate.core.events import BudgetExhausted, Stage, SubmissionDone
from smtpgate.core.limits import LimitExceededError, Reservation
from smtpgate.core.message.envelope import Submission
from smtpgate.core.message.headers import Field
from smtpgate.core.message.reading import (
    LARGE_OCTETS,
    ReadMessage,
    read_message,
    takes_long_to_read,
)
from smtpgate.core.message.trace import complete, received_field
from smtpgate.core.reply import Reject, Reply, reject, reply_of
from smtpgate.core.signing import signature_fields
from smtpgate.core.upstream import (
    ClientGoneError,
    Delivery,
    InDoubtError,
    LacksExtensionError,
    UpstreamBusyError,
    UpstreamUnavailableError,
)
from smtpgate.core.upstream.verdict import is_gates_own, refusal_of, worded
from smtpgate.pacing import Pacer
from smtpgate.ports import (
    Attempt,
    Clock,
    Directory,
    DirectoryUnavailableError,
    EventSink,
    Journal,
    JournalUnavailableError,
    Ledger,
    LedgerUnavailableError,
    Upstream,
)
from smtpgate.tasks import Offload

_UPSTREAM_ERRORS: Final = (
    InDoubtError,
    LacksExtensionError,
    UpstreamUnavailableError,
    OSError,
)
# Each is a question to the directory; a message has a few.
_MAX_DOMAINS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The settings that change what the pipeline decides."""

    hostname: str
    region: str
    infer_arn: bool = True
    pass_long_lines: bool = False
    require_signature: bool = True
    allow_when_ledger_fails: bool = False
    allow_when_journal_fails: bool = False
    mask_client: bool = False


class Pipeline:
    """Carries submissions through: one method, one line a stage."""

    def __init__(
        self,
        rules: Rules,
        *,
        directory: Directory,
        ledger: Ledger,
        pacer: Pacer,
        upstream: Upstream,
        journal: Journal,
        admission: Admission,
        events: EventSink,
        clock: Clock,
        offload: Offload,
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._rules = rules
        self._directory = directory
        self._ledger = ledger
        self._pacer = pacer
        self._upstream = upstream
        self._journal = journal
        self._admission = admission
        self._events = events
        self._clock = clock
        self._offload = offload
        self._on_error = on_error

    async def submit(
        self, submission: Submission, *, client_gone: asyncio.Future[None] | None = None
    ) -> Reply:
        """Carry one message through and answer with the verdict; never raises Reject.

        When ``client_gone`` is done the client has left: a message that waits is not sent then.
        """
        # What stands when this task is ended by force before there is a verdict.
        done = SubmissionDone(submission=submission, outcome="deferred", reason="gate-stopped")
        attempt = Attempt(submission.principal.account.id, client_gone)
        try:
            done.reply = await self._carry(submission, done, attempt)
        except Reject as refusal:
            done.reply = _refuse(done, refusal)
            if is_gates_own(refusal):
                self._admission.note_refusal(attempt.account_id)
        except Exception as error:  # noqa: BLE001 - for the log; the peer hears nothing of it
            self._on_error(error)
            unexpected = Reject.of("internal-error")
            done.reply = _refuse(done, unexpected)
        finally:
            await self._conclude(done)
        return done.reply

    async def _carry(
        self, submission: Submission, done: SubmissionDone, attempt: Attempt
    ) -> Reply:
        with self._timed("message", done):
            message = await self._read(submission, done)
        with self._timed("authorization", done):
            submission = done.submission = await self._as_of_now(submission)
            authorization = await self._authorize(submission, message, done)
        with self._timed("limits", done):
            reservation = await self._reserve(submission, authorization, done, attempt)
        try:
            if done.held_s:  # what was decided before it waited may not be so any more
                submission = done.submission = await self._as_of_now(submission)
                authorization = await self._authorize(submission, message, done)
            with self._timed("signing", done):
                signed = await self._sign(submission, message, authorization, done)
            await self._begin_record(done)
            with self._timed("relay", done):
                await self._relay(submission, message, signed, done, attempt)
        finally:
            await self._settle(reservation, done)
        return reply_of("accepted", message_id=submission.message_id)

    # -- the stages ----------------------------------------------------------------------------

    async def _read(self, submission: Submission, done: SubmissionDone) -> ReadMessage:
        """Cut the message, take the X-SES fields out, find the authors."""
        message = await self._offload.run(
            takes_long_to_read(submission.message),
            read_message,
            submission.message,
            smtputf8=submission.envelope.smtputf8,
            pass_long_lines=self._rules.pass_long_lines,
        )
        done.long_line = message.long_line
        done.header, done.intent = message.block, message.intent
        done.authors, done.sender, done.resent = message.authors, message.sender, message.resent
        return message

    async def _as_of_now(self, submission: Submission) -> Submission:
        """With the principal as it is now: a key may have been revoked since the login."""
        try:
            found = await self._directory.access_key(submission.access_key_id)
        except DirectoryUnavailableError as error:
            reject("directory-unavailable", str(error))
        key = usable_key(found, submission.client.address, self._clock.now())
        if key.principal is submission.principal and key.limits == submission.key_limits:
            return submission
        return replace(submission, principal=key.principal, key_limits=key.limits)

    async def _authorize(
        self,
        submission: Submission,
        message: ReadMessage,
        done: SubmissionDone,
    ) -> Authorization:
        """Find the identity of each role and ask the policies of both sides."""
        envelope, hostname = submission.envelope, self._rules.hostname
        reverse_path = envelope.reverse_path.mailbox
        names = identity_names(message.intent, reverse_path, message.shown)
        report = report_recipients(message, reverse_path, envelope.recipients)
        names |= report_names(report, hostname)
        if sum("@" not in name for name in names) > _MAX_DOMAINS:
            problem = (
                f"its mailboxes have more than {_MAX_DOMAINS} domains with those above them"
            )
            reject("too-many-authors", problem=problem)
        try:
            known = {name: await self._directory.identities(name) for name in names}
        except DirectoryUnavailableError as error:
            reject("directory-unavailable", str(error))
        question = Question(
            principal=submission.principal,
            intent=message.intent,
            reverse_path=reverse_path,
            authors=message.authors,
            sender=message.sender,
            resent=message.resent,
            context=submission_context(submission, self._rules.region),
            known=known,
            region=self._rules.region,
            infer_arn=self._rules.infer_arn,
        )
        authorization = await self._offload.run(
            takes_long(question), authorize_message, question, report, hostname
        )
        done.identities, done.decision = authorization.identities, authorization.decision
        return authorization

    async def _reserve(
        self,
        submission: Submission,
        authorization: Authorization,
        done: SubmissionDone,
        attempt: Attempt,
    ) -> Reservation | None:
        """Count the recipients against the sender's own account, whoever owns the identity.

        And against the limits within it. Over a rate the message waits for its turn.
        """
        now, recipients = submission.received_at, len(submission.envelope.recipients)
        done.charges = charges_of(
            submission.principal,
            submission.access_key_id,
            submission.key_limits,
            now,
            authorization.capped_by,
        )
        try:
            reservation, done.held_s = await self._pacer.reserve(
                done.charges, recipients, attempt.client_gone
            )
        except LimitExceededError as error:
            raise Reject.of(error.limit, str(error)) from None
        except LedgerUnavailableError as error:
            if not self._rules.allow_when_ledger_fails:
                reject("ledger-unavailable", str(error))
            done.uncounted = str(error)
            return None
        done.used = reservation.used
        return reservation

    async def _sign(
        self,
        submission: Submission,
        message: ReadMessage,
        authorization: Authorization,
        done: SubmissionDone,
    ) -> list[bytes | memoryview]:
        """Complete the header block and sign it with the keys of the From identity's owner."""
        hostname, now = self._rules.hostname, submission.received_at
        message_id = submission.message_id
        block = complete(message.block, message_id=message_id, hostname=hostname, now=now)
        identity = authorization.signing_identity
        signatures: tuple[Field, ...] = ()
        if identity is not None and identity.dkim_keys:
            try:
                signatures = await self._offload.run(
                    len(message.body) > LARGE_OCTETS,
                    signature_fields,
                    block,
                    message.body,
                    domain=identity.name,
                    keys=identity.dkim_keys,
                    now=now,
                )
            except Exception as error:  # noqa: BLE001 - signing fails closed, whatever it was
                self._on_error(error)
                reject("signing-failed")
            done.signing_domain = identity.name
            done.selectors = tuple(key.selector for key in identity.dkim_keys)
        elif self._rules.require_signature and not authorization.may_be_unsigned:
            domain = message.authors[0].mailbox.domain
            reject(
                "no-signing-key",
                f"the identity's owner has no active DKIM key for {domain}",
            )
        received = received_field(
            submission.client,
            hostname=hostname,
            message_id=message_id,
            now=now,
            mask_client=self._rules.mask_client,
        )
        # The body stays where it is in memory; it is not copied into a new message.
        parts = block.with_first(received, *signatures).raw_parts
        return [b"".join([*parts, b"\r\n"]), message.body]

    async def _relay(
        self,
        submission: Submission,
        message: ReadMessage,
        signed: list[bytes | memoryview],
        done: SubmissionDone,
        attempt: Attempt,
    ) -> None:
        """One upstream transaction; its verdict is ours."""
        # 8-bit header octets of a client that did not declare SMTPUTF8 are old habit, and pass
        # as they came; who declared it for nothing needs no upstream that has it.
        envelope = replace(
            submission.envelope,
            smtputf8=submission.envelope.smtputf8 and message.has_utf8_header,
            body_8bit=message.is_8bit,
        )
        outcome: Delivery | Exception
        try:
            outcome = await self._upstream.deliver(envelope, signed, attempt)
        except _UPSTREAM_ERRORS as error:
            outcome = error
        except Exception as error:
            if attempt.outcome is None:
                raise
            self._on_error(error)
            outcome = attempt.outcome
        except asyncio.CancelledError:
            try:
                if attempt.outcome is not None:
                    self._judge(attempt.outcome, done)
            except Reject as refusal:
                _refuse(done, refusal)
            raise
        self._judge(outcome, done)

    def _judge(self, outcome: Delivery | Exception, done: SubmissionDone) -> None:
        """Note what the upstream did with the message. Raises Reject unless it took it."""
        recipients = len(done.submission.envelope.recipients)
        match outcome:
            case Delivery():
                done.upstream, done.upstream_reply = outcome.upstream, outcome.reply
                refusal = refusal_of(outcome)
                if refusal is not None:
                    self._admission.note_refused_recipients(outcome, done.submission)
                    raise refusal
                done.counted = recipients - len(outcome.refused)
                done.outcome, done.reason = "accepted", "accepted"
            case InDoubtError():
                done.counted = recipients
                reject("in-doubt", str(outcome))
            case LacksExtensionError(extension="8BITMIME"):
                reject("needs-8bitmime")
            case LacksExtensionError():
                reject("needs-smtputf8")
            case UpstreamBusyError():
                self._note_exhausted(done)
                reject("upstream-busy", str(outcome))
            case ClientGoneError():
                reject("client-gone")
            case _:
                reject("upstream-unreachable", str(outcome))

    def _note_exhausted(self, done: SubmissionDone) -> None:
        submission = done.submission
        self._events.publish(
            BudgetExhausted(
                "upstream-line",
                submission.client,
                submission.access_key_id,
                submission.principal.account.id,
                self._clock.now(),
            )
        )

    # -- around them ---------------------------------------------------------------------------

    async def _settle(self, reservation: Reservation | None, done: SubmissionDone) -> None:
        """Commit what was or may have been accepted, refund the rest."""
        if reservation is None:
            return
        now = self._clock.now()
        try:
            if done.counted:
                done.crossings = await self._ledger.commit(reservation, done.counted, now)
            else:
                await self._ledger.refund(reservation, now)
        except Exception as error:  # noqa: BLE001 - the message's fate is decided already
            # The count stays as it was reserved, and the client hears what happened.
            self._on_error(error)

    async def _begin_record(self, done: SubmissionDone) -> None:
        """Write down what is about to be relayed, so that no end of the gate can hide it."""
        try:
            await self._journal.begin(done)
        except JournalUnavailableError as error:
            if not self._rules.allow_when_journal_fails:
                reject("journal-unavailable", str(error))

    async def _conclude(self, done: SubmissionDone) -> None:
        """Write the verdict down, and publish it.

        When it cannot be written before the relay, the message is put off instead. After the
        relay the verdict is what it is.
        """
        try:
            done.done_at = self._clock.now()
            is_open = "relay" not in done.stage_s and not self._rules.allow_when_journal_fails
            if not await self._is_recorded(done) and is_open:
                refusal = Reject.of("journal-unavailable")
                done.reply = _refuse(done, refusal)
                await self._is_recorded(done)
        finally:
            done.done_at = self._clock.now()
            self._events.publish(done)

    async def _is_recorded(self, done: SubmissionDone) -> bool:
        try:
            await self._journal.finish(done)
        except JournalUnavailableError:
            return False
        except Exception as error:  # noqa: BLE001 - the message's fate is decided already
            self._on_error(error)
            return False
        return True

    @contextmanager
    def _timed(self, stage: Stage, done: SubmissionDone) -> Iterator[None]:
        started = self._clock.monotonic()
        try:
            yield
        finally:
            done.stage_s[stage] = self._clock.monotonic() - started


def _refuse(done: SubmissionDone, refusal: Reject) -> Reply:
    """Note the refusal as the verdict; the reply is the client's."""
    done.reason, done.detail = refusal.reason, refusal.detail
    if refusal.reason == "in-doubt":
        done.outcome = "in-doubt"
    else:
        done.outcome = "deferred" if refusal.reply.is_transient else "refused"
    shown: Reject | None = None
    if isinstance(refusal, Denial):
        done.decision, done.identities = refusal.decision, refusal.identities
        shown = refusal.shown
    done.is_masked = shown is not None
    return worded(shown or refusal, done.submission.message_id)
