"""Trials: the decision of the gate on a message that is not sent.

The same functions decide as for a real message. Keys of the request replace those that the gate
would derive.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from smtpgate.core.account import Principal
from smtpgate.core.address import (
    AddressError,
    Mailbox,
    ReversePath,
    parse_forward_path,
    parse_mailbox,
)
from smtpgate.core.arn import ArnError, IdentityArn
from smtpgate.core.authorization.context import submission_context
from smtpgate.core.authorization.roles import (
    AuthorizationRequest,
    Denial,
    Known,
    authorize,
    identity_names,
)
from smtpgate.core.events import UsedIdentity
from smtpgate.core.message.author import Author
from smtpgate.core.message.envelope import SEND_RAW_EMAIL, Client, Envelope, Submission
from smtpgate.core.message.intent import SendingIntent
from smtpgate.core.policy import Context, Decision, Determining, Outcome
from smtpgate.core.policy.values import read_instant

_LOOPBACK: Final = "127.0.0.1"
_NANO: Final = 10**9
_ZERO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FROM: Final = "ses:fromaddress"
_NAME: Final = "ses:fromdisplayname"
_FEEDBACK: Final = "ses:feedbackaddress"
_RECIPIENTS: Final = "ses:recipients"
_TIME: Final = "aws:currenttime"
_EPOCH: Final = "aws:epochtime"
_OF_MESSAGE: Final = frozenset({_FROM, _NAME, _FEEDBACK, _RECIPIENTS, _TIME})


class TrialError(ValueError):
    """A request that does not describe a message, with all its problems."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True)
class TrialResult:
    """The decision of the gate; ``decision`` is ``None`` if no policy was evaluated."""

    outcome: Outcome
    reasons: tuple[str, ...]
    decision: Decision | None = None
    identities: tuple[UsedIdentity, ...] = ()

    @property
    def determining(self) -> tuple[Determining, ...]:
        """The determining statements."""
        return self.decision.determining if self.decision else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The facts of a message that matter for authorization.

    ``given`` are keys in place of derived ones, ``absent`` are keys to remove; neither is about
    From.
    """

    principal: Principal
    identity_arn: IdentityArn | None
    authors: tuple[Author, ...]
    reverse_path: Mailbox | None
    recipients: tuple[Mailbox, ...]
    at: datetime
    given: Context = field(default_factory=dict)
    absent: frozenset[str] = frozenset()

    @property
    def intent(self) -> SendingIntent:
        """The identity is named for From, as in ``X-SES-FROM-ARN``; other roles inherit it."""
        return SendingIntent(from_arn=self.identity_arn)

    def names(self) -> set[str]:
        """The names of all identities that can matter."""
        return identity_names(self.intent, self.reverse_path, self.authors)

    def run(self, known: Known, *, region: str, infer_arn: bool) -> TrialResult:
        """Decide as the gate would."""
        paused_reason = self.principal.account.why_paused
        if paused_reason is not None:
            reason = f"the account is paused: {paused_reason}" if paused_reason else ""
            return TrialResult("implicit-deny", (reason or "the account is paused",))
        request = AuthorizationRequest(
            principal=self.principal,
            action=SEND_RAW_EMAIL,
            intent=self.intent,
            reverse_path=self.reverse_path,
            authors=self.authors,
            sender=None,
            resent=(),
            context=self._context(region),
            known=known,
            region=region,
            infer_arn=infer_arn,
        )
        try:
            authorization = authorize(request)
        except Denial as denial:
            return _denied(denial)
        decision = authorization.decision
        return TrialResult(
            decision.outcome, decision.reasons, decision, authorization.identities
        )

    def _context(self, region: str) -> Context:
        submission = Submission(
            message_id="",
            principal=self.principal,
            client=Client(address=_LOOPBACK, listener="", protocol="ESMTPSA", is_tls=True),
            action=SEND_RAW_EMAIL,
            envelope=Envelope.of(ReversePath(self.reverse_path), self.recipients),
            message=b"",
            received_at=self.at,
        )
        derived = submission_context(submission, region)
        context = {**derived, **self.given}
        return {key: values for key, values in context.items() if key not in self.absent}


def _denied(denial: Denial) -> TrialResult:
    if denial.decision is None:
        said = (denial.detail,) if denial.detail else ()
        reasons = (denial.reply.text, *said)
        return TrialResult("implicit-deny", reasons, None, denial.identities)
    decision = denial.decision
    return TrialResult(decision.outcome, decision.reasons, decision, denial.identities)


def trial_of(
    principal: Principal,
    identity_arn: str | None,
    context: Context,
    *,
    now: datetime,
    action: str = SEND_RAW_EMAIL,
    absent: frozenset[str] = frozenset(),
) -> Trial:
    """The trial that the keys of a request context, in lower case, describe. Raises TrialError.

    ``ses:FromAddress`` must be present, and may have several values. MAIL FROM is
    ``ses:FeedbackAddress``, or the From address, or null if that key is ``absent``.
    """
    reader = _Reader(context)
    if action.lower() != SEND_RAW_EMAIL.lower():
        reader.problems.append(f"action: the gate checks {SEND_RAW_EMAIL} alone, not {action}")
    authors = reader.authors()
    feedback = reader.mailboxes(_FEEDBACK)
    if len(feedback) > 1:
        reader.problems.append(f"context.{_FEEDBACK}: has more than one value")
    reverse_path = next(iter([*feedback, *(author.mailbox for author in authors)]), None)
    if _FEEDBACK in absent:
        reverse_path = None
    at = reader.moment(now)
    recipients = reader.mailboxes(_RECIPIENTS, parse_forward_path)
    arn = reader.identity_arn(identity_arn)
    if reader.problems:
        raise TrialError(reader.problems)
    return Trial(
        principal=principal,
        identity_arn=arn,
        authors=authors,
        reverse_path=reverse_path,
        recipients=recipients,
        at=at,
        given={key: values for key, values in context.items() if key not in _OF_MESSAGE},
        absent=absent - {_FEEDBACK},
    )


class _Reader:
    """Reads the parts of a message from a context and collects the problems."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.problems: list[str] = []

    def mailboxes(
        self, key: str, parse: Callable[[str], Mailbox] = parse_mailbox
    ) -> tuple[Mailbox, ...]:
        """The values of a key as mailboxes."""
        found: list[Mailbox] = []
        for value in self.context.get(key, ()):
            try:
                found.append(parse(value))
            except AddressError as error:
                self.problems.append(f"context.{key}: {value!a} is not an address: {error}")
        return tuple(found)

    def authors(self) -> tuple[Author, ...]:
        """Each From mailbox, all with the one display name."""
        mailboxes = self.mailboxes(_FROM)
        if not self.context.get(_FROM):
            self.problems.append("context.ses:FromAddress: is missing: a message has a From")
        names = self.context.get(_NAME, ())
        if len(names) > 1:
            self.problems.append(f"context.{_NAME}: has more than one value")
        name = names[0] if names else None
        return tuple(Author(name, mailbox) for mailbox in mailboxes)

    def moment(self, now: datetime) -> datetime:
        """The time in the context, or now."""
        for key in (_TIME, _EPOCH):
            for value in self.context.get(key, ()):
                moment = _moment(value)
                if moment is not None:
                    return moment
                self.problems.append(f"context.{key}: {value!a} is not a time")
        return now

    def identity_arn(self, text: str | None) -> IdentityArn | None:
        """The named identity."""
        if text is None:
            return None
        try:
            return IdentityArn.parse(text)
        except ArnError as error:
            self.problems.append(f"identity_arn: {error}")
            return None


def _moment(text: str) -> datetime | None:
    instant = read_instant(text)
    try:
        return None if instant is None else _ZERO + timedelta(seconds=instant // _NANO)
    except OverflowError:
        return None
