"""The way of a message, from the final dot to the verdict. The order of the stages is here.

Every front end builds a Submission and calls :meth:`Pipeline.submit`. Each stage either goes on
or raises Reject. Whatever happens, the journal has a record of it, one event is published, and
the client gets one reply that names the message id.

There is no queue: the client's 250 is sent only after the upstream's. So a refusal or a fault
at any stage loses nothing, because the client still has its copy. The one window that remains
is RFC 1047's: the final dot went out and no answer came. Then the client gets 451, the
recipients stay counted, and the outcome is ``in-doubt``.

The store counts a message and has its record before the upstream has the message, and it has
the verdict before the client does. So every submission can be looked up, however the gate ends.
A message may be signed while the store counts it, and is relayed only after both.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, assert_never

from smtpgate.admission import Admission
from smtpgate.authorizing import Authorizer
from smtpgate.completing import Completer, Early, Uncompleted
from smtpgate.core.address import Mailbox
from smtpgate.core.authorization.charges import charges_of
from smtpgate.core.authorization.roles import Authorization, Denial
from smtpgate.core.events import BudgetExhausted, Stage, SubmissionDone
from smtpgate.core.feedback.return_path import PathTagger
from smtpgate.core.identity import DkimKey, Identity
from smtpgate.core.limits import Charge, LimitExceededError
from smtpgate.core.message.body import Body
from smtpgate.core.message.envelope import Submission
from smtpgate.core.message.reading import ReadMessage, read_message, takes_long_to_read
from smtpgate.core.outbox.mail import sent_mail
from smtpgate.core.outbox.refusals import refused_at_once
from smtpgate.core.reply import Reject, Reply, accepted, reject
from smtpgate.core.routing.route import RoutedMessage
from smtpgate.core.routing.routes import RouteTable
from smtpgate.core.upstream import Answered, Delivery, InDoubt, NotSent, RecipientReply
from smtpgate.core.upstream.verdict import bounced_at_once, is_gates_own, refusal_of, worded
from smtpgate.pacing import Pacer
from smtpgate.ports import (
    Begun,
    ClientGone,
    Clock,
    DeliveryAttempt,
    DirectoryUnavailableError,
    EventSink,
    JournalUnavailableError,
    LedgerUnavailableError,
    SteadyDirectory,
    Store,
    Upstream,
)
from smtpgate.publishing import EventPublisher
from smtpgate.tasks import Offload
from smtpgate.withholding import Withholding

_MAY_BE_SENT: Final = ("accepted", "in-doubt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The settings that change what the pipeline decides."""

    hostname: str
    region: str
    infer_arn: bool = True
    pass_long_lines: bool = False
    max_received: int = 50
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
        directory: SteadyDirectory,
        store: Store,
        pacer: Pacer,
        upstream: Upstream,
        routes: RouteTable,
        admission: Admission,
        publisher: EventPublisher | None,
        withholding: Withholding,
        tagger: PathTagger | None,
        events: EventSink,
        clock: Clock,
        offload: Offload,
        on_error: Callable[[BaseException], None],
    ) -> None:
        """Without ``publisher`` there are no sending events, and no message is sent in part.

        Without ``tagger`` MAIL FROM is always the client's.
        """
        self._rules = rules
        self._authorizer = Authorizer(
            hostname=rules.hostname,
            region=rules.region,
            infer_arn=rules.infer_arn,
            directory=directory,
            clock=clock,
            offload=offload,
        )
        self._store = store
        self._pacer = pacer
        self._upstream, self._routes = upstream, routes
        self._admission = admission
        self._publisher, self._withholding = publisher, withholding
        self._tagger = tagger
        self._events, self._clock = events, clock
        self._offload = offload
        self._completer = Completer(
            hostname=rules.hostname,
            mask_client=rules.mask_client,
            offload=offload,
            on_error=on_error,
        )
        self._on_error = on_error
        self.in_flight = 0  # messages that are on their way

    async def submit(self, submission: Submission, *, client_gone: ClientGone = None) -> Reply:
        """Carry one message through and return the reply with the verdict; never raises Reject.

        When ``client_gone`` is done the client has left: a message that waits is not sent then.
        """
        # The verdict if this task is ended by force before there is one.
        done = SubmissionDone(submission=submission, outcome="deferred", reason="gate-stopped")
        self.in_flight += 1
        try:
            done.reply = await self._carry(done, client_gone)
        except Reject as refusal:
            done.reply = _refuse(done, refusal)
            if is_gates_own(refusal):
                self._admission.note_refusal(submission.principal.account.id)
        except Exception as error:  # noqa: BLE001 - for the log; the peer learns nothing of it
            self._on_error(error)
            done.reply = _refuse(done, Reject.of("internal-error"))
        finally:
            self.in_flight -= 1
            await self._conclude(done)
        return done.reply

    async def _carry(self, done: SubmissionDone, client_gone: ClientGone) -> Reply:
        began_s = done.stage_s
        early: Early | None = None
        now_s = self._clock.monotonic
        try:
            began_s["message"] = now_s()
            message = await self._read(done)
            began_s["authorization"] = now_s()
            authorization = await self._authorize(message, done)
            began_s["limits"] = now_s()
            draft = self._draft(message, authorization, done)
            early = self._completer.begin(draft)
            goes_on = False
            try:
                authorization = await self._begin(message, authorization, done, client_gone)
                if self._withholding.concerns(done, authorization.signing_identity):
                    began_s["recipients"] = now_s()
                    await self._withhold(authorization, done)
                goes_on = not done.withheld or bool(done.relayed)
            finally:
                account_id = done.submission.principal.account.id
                self._completer.note(account_id, goes_on=goes_on)
            if goes_on:
                began_s["signing"] = now_s()
                if authorization is not draft.authorization:
                    draft = self._draft(message, authorization, done)
                signed = await self._sign(draft, early, done)
                began_s["relay"] = now_s()
                await self._relay(draft, signed, done, client_gone)
        finally:
            if early is not None:
                early.end()
            _end_stages(began_s, now_s())
        return accepted(done.submission.message_id)

    # -- the stages ----------------------------------------------------------------------------

    async def _read(self, done: SubmissionDone) -> ReadMessage:
        """Cut the message, take the X-SES fields out, find the authors."""
        submission = done.submission
        message = await self._offload.run(
            takes_long_to_read(submission.message),
            read_message,
            submission.message,
            smtputf8=submission.envelope.smtputf8,
            pass_long_lines=self._rules.pass_long_lines,
            max_received=self._rules.max_received,
        )
        done.long_line = message.long_line
        done.header, done.intent = message.block, message.intent
        done.authors, done.sender, done.resent = message.authors, message.sender, message.resent
        return message

    async def _authorize(self, message: ReadMessage, done: SubmissionDone) -> Authorization:
        """Find the identity of each role, and evaluate the policies of both sides."""
        authorization = await self._authorizer.authorize(message, done)
        self._must_be_signable(message, authorization)
        done.return_path = self._return_path(done.submission, authorization.signing_identity)
        return authorization

    def _must_be_signable(self, message: ReadMessage, authorization: Authorization) -> None:
        """Refuse a message that nobody can sign, before anything is counted or written."""
        if _keys_of(authorization) or authorization.may_be_unsigned:
            return
        if self._rules.require_signature:
            domain = message.authors[0].mailbox.domain
            problem = f"the identity's owner has no active DKIM key for {domain}"
            reject("no-signing-key", problem)

    def _return_path(self, submission: Submission, identity: Identity | None) -> Mailbox | None:
        """The return path at the MAIL FROM domain of the From identity; mostly there is none.

        Then MAIL FROM stays the client's, as the null reverse-path always does.
        """
        mail_from = None if identity is None else identity.mail_from
        is_null = submission.envelope.reverse_path.is_null
        if mail_from is None or self._tagger is None or is_null:
            return None
        if mail_from.has_mx:
            return self._tagger.path_of(submission.message_id, mail_from.domain)
        if mail_from.must_have_mx:
            reject("mail-from-not-verified", f"the MX record of {mail_from.domain} is missing")
        return None

    async def _begin(
        self,
        message: ReadMessage,
        authorization: Authorization,
        done: SubmissionDone,
        client_gone: ClientGone,
    ) -> Authorization:
        """Count the recipients, and write down what is about to be relayed.

        Both are one request. The limits are those of the sender's own account; any account may
        own the identity. Over a rate the message waits for its turn. It is authorized again
        then, because the directory may have changed.
        """

        async def ask(waited_s: float) -> Begun:
            nonlocal authorization
            done.paced_s = waited_s
            if waited_s:
                authorization = await self._authorize(message, done)
                done.charges = _charges(authorization, done.submission)
            return await self._store.begin(done, done.charges, self._clock.now())

        done.charges = _charges(authorization, done.submission)
        recipients = len(done.submission.envelope.recipients)
        try:
            begun = await self._pacer.pace(done.charges, recipients, ask, client_gone)
        except LimitExceededError as error:
            raise Reject.of(error.limit, str(error)) from None
        except LedgerUnavailableError as error:
            if not self._rules.allow_when_ledger_fails:
                reject("ledger-unavailable", str(error))
            done.uncounted = str(error)
            begun = await self._store.begin(done, (), self._clock.now())
        done.reservation = begun.reservation
        if begun.reservation is not None:
            done.used = begun.reservation.used
        if begun.problem is not None and not self._rules.allow_when_journal_fails:
            reject("journal-unavailable", begun.problem)
        return authorization

    async def _withhold(self, authorization: Authorization, done: SubmissionDone) -> None:
        """Keep the message from suppressed and simulated recipients; their events are made.

        When no other is left, the message is accepted.
        """
        now = self._clock.now()
        try:
            done.withheld = await self._withholding.find(done, authorization.signing_identity)
            if done.withheld and self._publisher is not None:
                done.events, done.tasks = await self._publisher.withheld(done, now)
        except DirectoryUnavailableError as error:
            reject("directory-unavailable", str(error))
        if done.withheld and not done.relayed:
            await self._add_sends(done)
            done.counted = len(done.withheld) - done.simulated
            done.outcome, done.reason = "accepted", "accepted"

    def _draft(
        self, message: ReadMessage, authorization: Authorization, done: SubmissionDone
    ) -> Uncompleted:
        """The message with its way to the upstreams; mostly there is only one."""
        choice = self._routes.only or self._routes.choose(
            RoutedMessage(
                account_id=done.submission.principal.account.id,
                identity=done.from_identity,
                from_domain=message.authors[0].mailbox.domain,
                listener=done.submission.client.listener,
                tags=message.intent.tags,
            )
        )
        return Uncompleted(done.submission, message, authorization, choice)

    async def _sign(
        self, draft: Uncompleted, early: Early | None, done: SubmissionDone
    ) -> list[Body]:
        """Complete the message and sign it, unless that is done or under way."""
        done.route, done.route_reason = draft.choice.route.name, draft.choice.reason
        completed = await self._completer.complete(draft, early)
        done.signing_domain, done.selectors = completed.domain, completed.selectors
        return completed.content

    async def _relay(
        self,
        draft: Uncompleted,
        signed: list[Body],
        done: SubmissionDone,
        client_gone: ClientGone,
    ) -> None:
        """Carry out one upstream transaction; its verdict is the message's. Raises Reject."""
        # 8-bit header octets of a client that did not declare SMTPUTF8 are old habit, and pass
        # as they came; a client that declared it for nothing needs no upstream that has it.
        envelope = done.submission.envelope.relayed(
            done.return_path,
            done.relayed if done.withheld else None,
            smtputf8=draft.message.has_utf8_header,
            body_8bit=draft.message.is_8bit,
        )
        account_id = done.submission.principal.account.id
        attempt = DeliveryAttempt(account_id, client_gone, route=draft.choice.route)
        if self._publisher is not None:
            attempt.in_part = partial(self._note_refused, self._publisher, done)
            await self._add_sends(done)
        delivery: Delivery
        try:
            delivery = await self._upstream.deliver(envelope, signed, attempt)
        except Exception as error:
            if attempt.certain is None:
                raise
            self._on_error(error)
            delivery = attempt.certain
        except asyncio.CancelledError:
            if attempt.certain is not None:
                refusal = self._note_delivery(attempt.certain, done)
                if refusal is not None:
                    _refuse(done, refusal)
            raise
        finally:
            done.tried = attempt.failed
        refusal = self._note_delivery(delivery, done)
        if refusal is not None:
            await self._note_bounces(bounced_at_once(delivery, refusal), done)
            raise refusal

    async def _add_sends(self, done: SubmissionDone) -> None:
        """Add the tasks of the event that the message is sent, if it has destinations."""
        publisher = self._publisher
        if publisher is None or not publisher.wants_sends(done, done.from_identity):
            return
        try:
            sends = await publisher.sends(done, self._clock.now())
            if done.submission.unrendered is None:
                done.tasks = (*sends, *(done.tasks or ())) or None
        except DirectoryUnavailableError as error:
            reject("directory-unavailable", str(error))

    async def _note_refused(
        self, publisher: EventPublisher, done: SubmissionDone, refused: Sequence[RecipientReply]
    ) -> bool:
        """Record the bounces of refused recipients before the others get the message.

        False if that is not possible: then nothing is sent, and the client tries again.
        """
        try:
            events, tasks = await publisher.refusals(done, refused, self._clock.now())
            done.events = (*(done.events or ()), *events)
            if tasks:
                done.tasks = (*(done.tasks or ()), *tasks)
            await self._store.note(tasks, events)
        except (DirectoryUnavailableError, JournalUnavailableError) as error:
            self._on_error(error)
            return False
        done.refused = tuple(refused)
        return True

    async def _note_bounces(
        self, bounced: Sequence[RecipientReply], done: SubmissionDone
    ) -> None:
        """Note the bounces of a message that was refused for its recipients, as some are."""
        if not bounced:
            return
        recipients, now = done.submission.envelope.recipients, self._clock.now()
        hostname = self._rules.hostname
        mail = sent_mail(done.submission, done.from_identity, None, done.intent)
        done.events = refused_at_once(mail, recipients, bounced, now, hostname)
        if self._publisher is None:
            return
        try:
            mail = await self._publisher.mail(done)
            done.events = refused_at_once(mail, recipients, bounced, now, hostname)
            done.tasks = await self._publisher.lists(done.events) or done.tasks
        except DirectoryUnavailableError as error:
            # They count for no default configuration set, and are put on no list this time.
            self._on_error(error)

    def _note_delivery(self, delivery: Delivery, done: SubmissionDone) -> Reject | None:
        """Note what became of the message; the refusal unless the upstream took it."""
        submission = done.submission
        recipients = len(submission.envelope.recipients) - done.simulated
        match delivery:
            case Answered():
                done.upstream, done.upstream_reply = delivery.upstream, delivery.reply
                if delivery.is_accepted:
                    refused = len(delivery.refused) if delivery.is_in_part else 0
                    done.counted = recipients - refused
                    done.outcome, done.reason = "accepted", "accepted"
                    if self._publisher is not None and not delivery.has_dsn:
                        self._publisher.add_relayed(done, delivery, self._clock.now())
                    return None
                self._admission.note_refused_recipients(delivery, submission)
            case InDoubt():
                done.counted = recipients - len(done.refused)
            case NotSent(reason="upstream-busy"):
                now = self._clock.now()
                event = BudgetExhausted(submission.client, now, "upstream-line")
                self._events.publish(event)
            case NotSent():
                pass
            case _:
                assert_never(delivery)
        return refusal_of(delivery)

    # -- around them ---------------------------------------------------------------------------

    async def _conclude(self, done: SubmissionDone) -> None:
        """Write the verdict down and settle the count, in one request; and publish the verdict.

        When it cannot be written before the relay, the message is deferred instead. After the
        relay the verdict is what it is.
        """
        try:
            is_open = "relay" not in done.stage_s and not self._rules.allow_when_journal_fails
            if not await self._is_recorded(done) and is_open:
                refusal = Reject.of("journal-unavailable")
                done.reply = _refuse(done, refusal)
                done.may_be_recorded = True
                await self._is_recorded(done)
        finally:
            done.done_at = self._clock.now()
            self._events.publish(done)

    async def _is_recorded(self, done: SubmissionDone) -> bool:
        done.done_at = now = self._clock.now()
        if done.outcome != "accepted":
            # The client has its copy, and what it tries again is refused again.
            done.tasks = done.tasks and tuple(one for one in done.tasks if one.event.is_refusal)
            if done.events:
                done.events = tuple(one for one in done.events if one.is_refusal)
        reservation, done.reservation = done.reservation, None
        if reservation is not None and done.simulated and done.outcome in _MAY_BE_SENT:
            # As with Amazon SES the simulator counts for the rate alone.
            reservation = reservation.with_only_rate(done.simulated)
        try:
            finished = await self._store.finish(done, reservation, now)
        except Exception as error:  # noqa: BLE001 - the message's fate is decided already
            self._on_error(error)
            return False
        done.crossings += finished.crossings
        return finished.is_recorded


def _charges(authorization: Authorization, submission: Submission) -> tuple[Charge, ...]:
    return charges_of(
        submission.principal,
        submission.client.access_key_id,
        submission.key_limits,
        submission.received_at,
        authorization.capped_by,
    )


def _keys_of(authorization: Authorization) -> tuple[DkimKey, ...]:
    """The keys that sign: those of the From identity's owner."""
    identity = authorization.signing_identity
    return () if identity is None else identity.dkim_keys


def _end_stages(began_s: dict[Stage, float], ended_s: float) -> None:
    """Replace the moment of each stage by the time that it took, until the next one began."""
    for stage in reversed(began_s):
        began_s[stage], ended_s = ended_s - began_s[stage], began_s[stage]


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
