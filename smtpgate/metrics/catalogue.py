"""The catalogue of metrics; its reference and the alert rules are checked against it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric: its name as scraped, its kind, its labels, and what it counts."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()


_SHORT_S: Final = (0.0002, 0.0005, 0.001, 0.0025, 0.01, 0.05, 0.25, 1, 5, 30, 120)
_LONG_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 240)
_OCTETS: Final = tuple(float(1024 * 4**power) for power in range(9))

_ROWS: Final = (
    MetricRow(
        "smtpgate_submissions_total",
        "counter",
        ("outcome", "reason"),
        "Messages that came in whole, by outcome (accepted, refused, deferred, in-doubt) and "
        "reason code.",
    ),
    MetricRow(
        "smtpgate_identity_messages_total",
        "counter",
        ("identity", "account", "outcome"),
        "Messages by the ARN of the identity that served From, and the account that sent them.",
    ),
    MetricRow(
        "smtpgate_identity_recipients_total",
        "counter",
        ("identity", "account", "outcome"),
        "Recipients of those messages.",
    ),
    MetricRow(
        "smtpgate_account_quota_used_ratio",
        "gauge",
        ("account",),
        "Share of the 24-hour quota that was used after the account's latest message; absent "
        "for accounts without a limit, and for idle ones.",
    ),
    MetricRow(
        "smtpgate_quota_reached_total",
        "counter",
        ("subject", "percent"),
        "Times that 80, 90 or 100 per cent of a 24-hour quota were reached, by whose quota it "
        "was (account, user, access-key, identity); the log says whose by name.",
    ),
    MetricRow(
        "smtpgate_mail_refused_total",
        "counter",
        ("reason",),
        "MAIL commands refused because the quota was used up already, so that no message came.",
    ),
    MetricRow(
        "smtpgate_uncounted_total",
        "counter",
        (),
        "Messages let through uncounted, because the ledger was not available.",
    ),
    MetricRow(
        "smtpgate_long_lines_total",
        "counter",
        (),
        'Messages let through with a line over 998 octets (`message.long_lines = "pass"`).',
    ),
    MetricRow(
        "smtpgate_paced_waiting",
        "gauge",
        (),
        "Messages over a sending rate that wait for their turn now (`limits.max_wait_s`).",
    ),
    MetricRow(
        "smtpgate_paced_total",
        "counter",
        (),
        "Messages that waited, whether they passed or not.",
    ),
    MetricRow(
        "smtpgate_paced_seconds_total", "counter", (), "Time that they waited, all together."
    ),
    MetricRow(
        "smtpgate_ledger_up",
        "gauge",
        (),
        "1 when the ledger could count when last asked, 0 when it could not.",
    ),
    MetricRow(
        "smtpgate_ledger_clock_skew_seconds",
        "gauge",
        (),
        "By how much the clock of the ledger's server is ahead of this host's, at least; "
        "negative when it is behind, 0 for a ledger that goes by this host's clock.",
    ),
    MetricRow(
        "smtpgate_stage_seconds",
        "histogram",
        ("stage",),
        "Time that messages took in a stage (message, authorization, limits, signing, relay).",
        _SHORT_S,
    ),
    MetricRow(
        "smtpgate_submission_seconds",
        "histogram",
        (),
        "Time from the final dot to the reply.",
        _LONG_S,
    ),
    MetricRow(
        "smtpgate_message_octets",
        "histogram",
        (),
        "Size of messages as they came in, accepted or not.",
        _OCTETS,
    ),
    MetricRow("smtpgate_sessions", "gauge", ("listener",), "Sessions that are open now."),
    MetricRow(
        "smtpgate_budget_exhausted_total",
        "counter",
        ("listener", "budget"),
        "Times that a client used up a budget, by the budget's name.",
    ),
    MetricRow(
        "smtpgate_commands_refused_total",
        "counter",
        ("listener", "verb", "code"),
        "Commands refused in the dialogue, by verb (or other) and reply code; without failed "
        "logins and MAIL without quota, which have counters of their own.",
    ),
    MetricRow(
        "smtpgate_messages_cut_off_total",
        "counter",
        ("listener", "by"),
        "Messages that ended before their final dot: by a `client` that left, or by the "
        "`gate`, which stopped.",
    ),
    MetricRow(
        "smtpgate_handshakes_failed_total",
        "counter",
        ("listener", "reason"),
        "Connections that failed in the TLS handshake, or for want of a PROXY header.",
    ),
    MetricRow(
        "smtpgate_sessions_ended_total",
        "counter",
        ("reason",),
        "Sessions that were ended with 421 because their access key may not be used any more.",
    ),
    MetricRow("smtpgate_auth_successes_total", "counter", ("listener",), "Logins."),
    MetricRow(
        "smtpgate_auth_failures_total",
        "counter",
        ("listener", "reason"),
        "Logins that failed.",
    ),
    MetricRow(
        "smtpgate_certificate_not_after_timestamp_seconds",
        "gauge",
        ("listener",),
        "When the TLS certificate of a listener expires, in seconds since 1970.",
    ),
    MetricRow(
        "smtpgate_upstream_connections",
        "gauge",
        ("upstream", "state"),
        "Connections to the upstream now, by state (busy, idle).",
    ),
    MetricRow(
        "smtpgate_upstream_waiting",
        "gauge",
        ("upstream",),
        "Messages that wait for a connection to the upstream now.",
    ),
    MetricRow(
        "smtpgate_upstream_connection_limit",
        "gauge",
        ("upstream",),
        "Connections that the upstream takes now: max_connections, or fewer while it refuses.",
    ),
    MetricRow(
        "smtpgate_directory_up",
        "gauge",
        (),
        "1 when the directory's database answered when last asked, 0 when it did not.",
    ),
    MetricRow(
        "smtpgate_directory_age_seconds",
        "gauge",
        (),
        "How long ago the directory's database last told what changed.",
    ),
    MetricRow(
        "smtpgate_directory_drift",
        "gauge",
        (),
        "Differences of documents and directory that were kept at the last start or reload.",
    ),
    MetricRow(
        "smtpgate_directory_cache_entries",
        "gauge",
        (),
        "Answers of the directory that are kept at hand now.",
    ),
    MetricRow(
        "smtpgate_directory_cache_octets",
        "gauge",
        (),
        "About how much memory they take.",
    ),
    MetricRow(
        "smtpgate_directory_answers_total",
        "counter",
        ("from",),
        "Answers of the directory, by where they came from (cache, database).",
    ),
    MetricRow(
        "smtpgate_identity_state_changes_total",
        "counter",
        ("state",),
        "Identities whose verification changed, by the state that they are in now.",
    ),
    MetricRow(
        "smtpgate_identities_missing",
        "gauge",
        (),
        "Verified identities whose record has gone from the DNS; each fails after 72 hours.",
    ),
    MetricRow(
        "smtpgate_dkim_alarms",
        "gauge",
        (),
        "DKIM keys that sign, and whose published record is gone or differs.",
    ),
    MetricRow(
        "smtpgate_journal_up",
        "gauge",
        (),
        "1 when the journal was written when last tried, 0 when it was not.",
    ),
    MetricRow(
        "smtpgate_journal_retention_up",
        "gauge",
        (),
        "1 when old records could be forgotten when last tried, 0 when they could not.",
    ),
    MetricRow("smtpgate_journal_records", "gauge", (), "About how many records it has."),
    MetricRow("smtpgate_journal_octets", "gauge", (), "About how many octets they take."),
    MetricRow(
        "smtpgate_journal_owed",
        "gauge",
        (),
        "Records that wait for the journal to be writable again.",
    ),
    MetricRow(
        "smtpgate_journal_written_total", "counter", (), "Records written, or completed."
    ),
    MetricRow(
        "smtpgate_journal_commits_total",
        "counter",
        (),
        "Transactions that wrote them; under load one has many records.",
    ),
    MetricRow(
        "smtpgate_journal_commit_seconds_total",
        "counter",
        (),
        "Time that these transactions took.",
    ),
    MetricRow(
        "smtpgate_journal_failures_total",
        "counter",
        (),
        "Times that the journal could not be written.",
    ),
    MetricRow(
        "smtpgate_journal_lost_total",
        "counter",
        (),
        "Records that were never written, such as verdicts when the gate ended meanwhile.",
    ),
    MetricRow(
        "smtpgate_journal_left_out_total",
        "counter",
        (),
        "Refused logins, MAIL commands and messages without a record, because there were too "
        "many (of messages and MAIL commands, of one account); the log has them.",
    ),
    MetricRow(
        "smtpgate_journal_in_doubt_total",
        "counter",
        (),
        "Records that a gate which was killed left without a verdict, and that this one found.",
    ),
    MetricRow(
        "smtpgate_log_lines_lost_total",
        "counter",
        (),
        "Lines of the log that could not be written: its disk is full, its pipe is closed, or "
        "its reader is too slow.",
    ),
    MetricRow(
        "smtpgate_build_info",
        "gauge",
        ("version", "python"),
        "Always 1; the labels say what runs.",
    ),
)
CATALOGUE: Final[Mapping[str, MetricRow]] = {row.name: row for row in _ROWS}
"""Every metric of the gate, by its name."""
