"""Events as the metrics count them: small, and without the message.

A worker process adds these up and sends the sums to its parent, which counts them beside its
own: to send and count each submission would cost the parent as much as its share of the store.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, get_args

from msgspec import Struct

from smtpgate.core.account import UNLIMITED
from smtpgate.core.events import (
    ApiCalled,
    Authenticated,
    AuthFailed,
    BudgetExhausted,
    ClientBanned,
    CommandRefused,
    Event,
    EventsRecorded,
    FeedbackTaken,
    HandshakeFailed,
    IdentityStateChanged,
    KeyUseDiffers,
    MailRefused,
    MessageCutOff,
    PostedOutcome,
    PostRefused,
    RecordsPosted,
    ReputationChanged,
    SessionsEnded,
    Stage,
    SubmissionDone,
)
from smtpgate.core.history.event_counts import sums_of
from smtpgate.core.moments import seconds_between
from smtpgate.core.outbox.event import SendingEvent
from smtpgate.metrics.bounded import UNKNOWN
from smtpgate.metrics.catalogue import CATALOGUE
from smtpgate.metrics.histogram import Observed


class Count(NamedTuple):
    """A counter of the catalogue, the values of its labels, and by how much it increases."""

    metric: str
    labels: tuple[str, ...]
    by: int = 1


class VerdictSum(Struct, frozen=True, gc=False, array_like=True):
    """The submissions of one sender that had the same end."""

    outcome: str
    reason: str
    identity: str
    account: str
    messages: int
    recipients: int


class SubmissionSums(Struct, frozen=True, gc=False, array_like=True):
    """The submissions of a while, added up; of each account the latest quota ratio."""

    verdicts: list[VerdictSum]
    quota_ratios: dict[str, float]
    observed: list[Observed]


_COUNTED: Final[Mapping[type[Event], tuple[str, Callable[[Any], tuple[str, ...]]]]] = {
    FeedbackTaken: (
        "smtpgate_feedback_total",
        lambda event: (event.kind, event.outcome),
    ),
    PostRefused: ("smtpgate_feedback_posts_refused_total", lambda event: (event.reason,)),
    ApiCalled: (
        "smtpgate_api_calls_total",
        lambda event: (event.operation or UNKNOWN, event.fault or "none"),
    ),
    MailRefused: ("smtpgate_mail_refused_total", lambda event: (event.reason,)),
    BudgetExhausted: (
        "smtpgate_budget_exhausted_total",
        lambda event: (event.client.listener, event.budget),
    ),
    CommandRefused: (
        "smtpgate_commands_refused_total",
        lambda event: (event.client.listener, event.verb, str(event.reply.code)),
    ),
    MessageCutOff: (
        "smtpgate_messages_cut_off_total",
        lambda event: (event.client.listener, event.by),
    ),
    HandshakeFailed: (
        "smtpgate_handshakes_failed_total",
        lambda event: (event.client.listener, event.problem),
    ),
    ClientBanned: ("smtpgate_clients_banned_total", lambda event: (event.client.listener,)),
    Authenticated: ("smtpgate_auth_successes_total", lambda event: (event.client.listener,)),
    AuthFailed: (
        "smtpgate_auth_failures_total",
        lambda event: (event.client.listener, event.reason),
    ),
    IdentityStateChanged: (
        "smtpgate_identity_state_changes_total",
        lambda event: (event.state,),
    ),
    ReputationChanged: (
        "smtpgate_reputation_changes_total",
        lambda event: (event.after.sender.kind, event.after.status),
    ),
    SessionsEnded: ("smtpgate_sessions_ended_total", lambda event: (event.reason,)),
}

# Kinds of events by the sum that has them.
COUNTED_KINDS: Final[Mapping[str, str]] = {
    "hard_bounces": "hard-bounce",
    "soft_bounces": "soft-bounce",
    "complaints": "complaint",
    "deliveries": "delivery",
    "delays": "delay",
    "rejects": "reject",
    "uncounted": "uncounted",
}
_STAGES: Final = CATALOGUE["smtpgate_stage_seconds"]
_DURATION: Final = CATALOGUE["smtpgate_submission_seconds"]
_OCTETS: Final = CATALOGUE["smtpgate_message_octets"]
_QUOTA_REACHED: Final = "smtpgate_quota_reached_total"
_UNCOUNTED: Final = "smtpgate_uncounted_total"
_LONG_LINES: Final = "smtpgate_long_lines_total"
_EVENTS: Final = "smtpgate_events_total"
_RECORDS: Final = "smtpgate_feedback_records_total"
_FINDINGS: Final = "smtpgate_key_findings_total"
_TRIED: Final = "smtpgate_upstream_failures_total"
COUNTERS: Final = frozenset(
    (
        *(name for name, _ in _COUNTED.values()),
        _QUOTA_REACHED,
        _UNCOUNTED,
        _LONG_LINES,
        _EVENTS,
        _RECORDS,
        _FINDINGS,
        _TRIED,
    )
)
"""The counters that events increase."""


def counts_of(event: Event) -> Iterable[Count]:
    """The counters that an event increases; for most submissions, and for others, none."""
    if isinstance(event, SubmissionDone):
        return _counts_of_odd(event)
    if isinstance(event, EventsRecorded):
        return [Count(_EVENTS, (kind,), by) for kind, by in _kinds_of(event.events)]
    if isinstance(event, RecordsPosted):
        outcomes = get_args(PostedOutcome)
        return [Count(_RECORDS, (one,), getattr(event, one)) for one in outcomes]
    if isinstance(event, KeyUseDiffers):
        return [Count(_FINDINGS, (one.signal, event.level)) for one in event.findings]
    counted = _COUNTED.get(type(event))
    if counted is None:
        return ()
    name, labels_of = counted
    by = event.sessions if isinstance(event, SessionsEnded) else 1
    return (Count(name, labels_of(event), by),)


def _counts_of_odd(done: SubmissionDone) -> Iterator[Count]:
    """The counters that few submissions increase."""
    for one in done.crossings:
        yield Count(_QUOTA_REACHED, (one.charge.subject.kind, str(one.percent)))
    if done.events:
        for kind, by in _kinds_of(done.events):
            yield Count(_EVENTS, (kind,), by)
    for failed in done.tried:
        yield Count(_TRIED, (failed.upstream, failed.cause))
    if done.uncounted:
        yield Count(_UNCOUNTED, ())
    if done.long_line is not None and done.outcome == "accepted":
        yield Count(_LONG_LINES, ())


def _kinds_of(events: Iterable[SendingEvent]) -> tuple[tuple[str, int], ...]:
    """The kinds of events, each with its number of recipients."""
    sums = sums_of(events)
    found = ((kind, getattr(sums, name)) for name, kind in COUNTED_KINDS.items())
    return tuple((kind, by) for kind, by in found if by)


class SubmissionTally:
    """Submissions that are noted one by one, and added up together.

    To sort the values of many submissions takes less than to find a bucket for each.
    """

    def __init__(self) -> None:
        self._recipients: dict[tuple[str, str, str, str], list[int]] = {}  # by verdict
        self._quota_ratios: dict[str, float] = {}
        self._stage_s: list[Mapping[Stage, float]] = []
        self._seconds: list[float] = []
        self._octets: list[int] = []

    def __len__(self) -> int:
        return len(self._octets)

    def add(self, done: SubmissionDone) -> None:
        """Note a submission, without its message."""
        submission = done.submission
        account_id = submission.principal.account.id
        verdict = (done.outcome, done.reason, done.from_identity or UNKNOWN, account_id)
        recipients = len(submission.envelope.recipients)
        alike = self._recipients.get(verdict)
        if alike is None:
            self._recipients[verdict] = [recipients]
        else:
            alike.append(recipients)
        if (used := done.used_24h) is not None:
            limit = done.charges[0].limits.max_24h_send
            if limit != UNLIMITED:
                self._quota_ratios[account_id] = used / limit if limit else 1.0
        if done.done_at is not None:
            self._seconds.append(seconds_between(submission.received_at, done.done_at))
        self._stage_s.append(done.stage_s)
        self._octets.append(len(submission.message))

    def sums(self) -> SubmissionSums | None:
        """The sums of all; ``None`` if there are none."""
        if not self._octets:
            return None
        return SubmissionSums(
            [VerdictSum(*key, len(each), sum(each)) for key, each in self._recipients.items()],
            self._quota_ratios,
            list(self._observed()),
        )

    def _observed(self) -> Iterator[Observed]:
        for stage, taken_s in _by_stage(self._stage_s).items():
            yield Observed.of(_STAGES, stage, taken_s)
        if self._seconds:
            # The wall clock may be set back.
            yield Observed.of(_DURATION, "", [max(one, 0.0) for one in self._seconds])
        yield Observed.of(_OCTETS, "", self._octets)


def _by_stage(every: Iterable[Mapping[Stage, float]]) -> Mapping[Stage, list[float]]:
    """The times of each stage; most submissions have the same stages."""
    alike: dict[tuple[Stage, ...], list[Iterable[float]]] = {}
    for stage_s in every:
        alike.setdefault(tuple(stage_s), []).append(stage_s.values())
    found: dict[Stage, list[float]] = {}
    for stages, rows in alike.items():
        for stage, taken_s in zip(stages, zip(*rows, strict=True), strict=True):
            found.setdefault(stage, []).extend(taken_s)
    return found
