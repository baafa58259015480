"""The label sets that are known at the start: their counters begin at 0.

A counter that first appears with the value 1 has not increased, as far as Prometheus can see
(https://prometheus.io/docs/practices/instrumentation/#avoid-missing-metrics). An alert on
``increase(…) > 0`` would miss the first event, and often the only one.
"""

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Final, get_args

from smtpgate.core.account import KeyRefusal
from smtpgate.core.events import (
    HANDSHAKE_PROBLEMS,
    CutOffBy,
    FeedbackOutcome,
    PostedOutcome,
    PostRefusal,
    SubmissionOutcome,
)
from smtpgate.core.feedback.report import ReportKind
from smtpgate.core.limits import THRESHOLDS
from smtpgate.core.limits.budget import BUDGETS
from smtpgate.core.limits.charge import SubjectKind
from smtpgate.core.proof.verification import VerificationState
from smtpgate.core.reason import LOGIN_REASONS, REASONS
from smtpgate.core.reputation.sender import RatedKind
from smtpgate.core.reputation.states import STATUSES, UNHEALTHY
from smtpgate.core.routing.failed_try import CAUSES
from smtpgate.core.watch.signals import SignalName
from smtpgate.metrics.bounded import OTHER
from smtpgate.metrics.observed import COUNTED_KINDS

_PAUSED: Final = ("account-paused", "account-shutdown", "account-sending-off")
_REFUSALS_AT_MAIL: Final = ("max-24h-send",)


def _verdicts() -> Iterable[tuple[str, str]]:
    yield "accepted", "accepted"
    for reason in REASONS:
        outcomes = ("in-doubt",) if reason == "in-doubt" else ("refused", "deferred")
        yield from product(outcomes, (reason,))


def known_series(
    listeners: Iterable[str], upstreams: Iterable[str] = ()
) -> Mapping[str, Iterable[tuple[str, ...]]]:
    """The label values of each metric's series that are known, in the catalogue's order."""
    listeners = tuple(listeners)
    others = [(OTHER, OTHER, outcome) for outcome in get_args(SubmissionOutcome)]
    return {
        "smtpgate_submissions_total": tuple(_verdicts()),
        "smtpgate_identity_messages_total": others,
        "smtpgate_identity_recipients_total": others,
        "smtpgate_quota_reached_total": product(get_args(SubjectKind), map(str, THRESHOLDS)),
        "smtpgate_mail_refused_total": product(_REFUSALS_AT_MAIL),
        "smtpgate_feedback_total": product(get_args(ReportKind), get_args(FeedbackOutcome)),
        "smtpgate_events_total": product(COUNTED_KINDS.values()),
        "smtpgate_feedback_records_total": product(get_args(PostedOutcome)),
        "smtpgate_feedback_posts_refused_total": product(get_args(PostRefusal)),
        "smtpgate_upstream_failures_total": product(upstreams, CAUSES),
        "smtpgate_sessions": product(listeners),
        "smtpgate_budget_exhausted_total": product(listeners, BUDGETS),
        "smtpgate_api_calls_total": (),
        "smtpgate_commands_refused_total": (),
        "smtpgate_messages_cut_off_total": product(listeners, get_args(CutOffBy)),
        "smtpgate_handshakes_failed_total": product(listeners, HANDSHAKE_PROBLEMS),
        "smtpgate_sessions_ended_total": product((*get_args(KeyRefusal), *_PAUSED)),
        "smtpgate_reputation_changes_total": product(get_args(RatedKind), STATUSES),
        "smtpgate_reputation_senders": product(get_args(RatedKind), UNHEALTHY),
        "smtpgate_auth_successes_total": product(listeners),
        "smtpgate_clients_banned_total": product(listeners),
        "smtpgate_auth_failures_total": product(listeners, LOGIN_REASONS),
        "smtpgate_key_findings_total": product(get_args(SignalName), ("notice", "alarm")),
        "smtpgate_identity_state_changes_total": product(get_args(VerificationState)),
    }
