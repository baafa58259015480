"""The catalogue of metrics; its reference and the alert rules are checked against it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

# How the values of several workers become the value of the gate.
Together = Literal["sum", "least", "most"]


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric: its name as scraped, its kind, its labels, and its meaning."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()
    together: Together = "sum"


_SHORT_S: Final = (0.0002, 0.0005, 0.001, 0.0025, 0.01, 0.05, 0.25, 1, 5, 30, 120)
_LONG_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 240)
_PAUSES_S: Final = (0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
_OCTETS: Final = tuple(float(1024 * 4**power) for power in range(9))

_ROWS: Final = (
    MetricRow(
        "smtpgate_submissions_total",
        "counter",
        ("outcome", "reason"),
        "Messages that were received completely, by outcome (accepted, refused, deferred, "
        "in-doubt) and reason code.",
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
        "Share of the 24-hour quota that was used after the account's last message; absent for "
        "accounts without a quota, and for idle ones.",
    ),
    MetricRow(
        "smtpgate_quota_reached_total",
        "counter",
        ("subject", "percent"),
        "Times that 80, 90 or 100 percent of a 24-hour quota were reached, by the kind of "
        "its owner (account, user, access-key, identity); the log has the name.",
    ),
    MetricRow(
        "smtpgate_mail_refused_total",
        "counter",
        ("reason",),
        "MAIL commands refused because a quota was used up already.",
    ),
    MetricRow(
        "smtpgate_reputation_bounce_ratio",
        "gauge",
        ("account",),
        "Share of the recipients of an account's representative volume that bounced for good; "
        "of accounts with any lately.",
        together="most",
    ),
    MetricRow(
        "smtpgate_reputation_complaint_ratio",
        "gauge",
        ("account",),
        "Share of the recipients of an account's representative volume that complained; of "
        "accounts with any lately.",
        together="most",
    ),
    MetricRow(
        "smtpgate_reputation_senders",
        "gauge",
        ("kind", "status"),
        "Senders of a kind (account, set, delegate) that are under review (PROBATION) or "
        "paused (SHUTDOWN).",
        together="most",
    ),
    MetricRow(
        "smtpgate_reputation_changes_total",
        "counter",
        ("kind", "status"),
        "Times that the gate changed the state of a sender's rates, by the kind of the sender "
        "and its status afterwards.",
    ),
    MetricRow(
        "smtpgate_uncounted_total",
        "counter",
        (),
        "Messages accepted without being counted, because the ledger was not available.",
    ),
    MetricRow(
        "smtpgate_long_lines_total",
        "counter",
        (),
        'Messages accepted with a line over 998 octets (`message.long_lines = "pass"`).',
    ),
    MetricRow(
        "smtpgate_paced_waiting",
        "gauge",
        (),
        "Messages over a sending rate that are waiting now (`limits.max_wait_s`).",
    ),
    MetricRow(
        "smtpgate_paced_total",
        "counter",
        (),
        "Messages that waited for their rate, whether they passed or not.",
    ),
    MetricRow("smtpgate_paced_seconds_total", "counter", (), "Total time that they waited."),
    MetricRow(
        "smtpgate_ledger_up",
        "gauge",
        (),
        "1 if the ledger could count at the last check, else 0.",
        together="least",
    ),
    MetricRow(
        "smtpgate_ledger_clock_skew_seconds",
        "gauge",
        (),
        "How much the clock of the ledger's server is ahead of this host's, at least; "
        "negative when it is behind, 0 for a ledger that uses this host's clock.",
        together="most",
    ),
    MetricRow(
        "smtpgate_stage_seconds",
        "histogram",
        ("stage",),
        "Time of messages in a stage (message, authorization, limits, signing, relay).",
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
        "Size of messages as received, accepted or not.",
        _OCTETS,
    ),
    MetricRow("smtpgate_sessions", "gauge", ("listener",), "Open sessions."),
    MetricRow(
        "smtpgate_budget_exhausted_total",
        "counter",
        ("listener", "budget"),
        "Times that a client reached a bound, by the name of the budget.",
    ),
    MetricRow(
        "smtpgate_commands_refused_total",
        "counter",
        ("listener", "verb", "code"),
        "Commands refused, by verb (or other) and reply code; without failed logins and MAIL "
        "without quota, which have their own counters.",
    ),
    MetricRow(
        "smtpgate_messages_cut_off_total",
        "counter",
        ("listener", "by"),
        "Messages that ended before their final dot: by a `client` that disconnected, or by "
        "the `gate`, which stopped.",
    ),
    MetricRow(
        "smtpgate_handshakes_failed_total",
        "counter",
        ("listener", "reason"),
        "Connections that failed in the TLS handshake, or that had no PROXY header.",
    ),
    MetricRow(
        "smtpgate_clients_banned_total",
        "counter",
        ("listener",),
        "Bans that began, of clients that failed too often.",
    ),
    MetricRow(
        "smtpgate_sessions_ended_total",
        "counter",
        ("reason",),
        "Sessions ended with 421 because their access key can no longer be used.",
    ),
    MetricRow("smtpgate_auth_successes_total", "counter", ("listener",), "Logins."),
    MetricRow(
        "smtpgate_auth_failures_total",
        "counter",
        ("listener", "reason"),
        "Failed logins.",
    ),
    MetricRow(
        "smtpgate_certificate_not_after_timestamp_seconds",
        "gauge",
        ("listener", "name"),
        "When a listener's TLS certificate expires, in seconds since 1970, by its first name.",
        together="least",
    ),
    MetricRow(
        "smtpgate_configuration_refused",
        "gauge",
        (),
        "1 if the last reload found errors in the configuration, and changed nothing.",
    ),
    MetricRow(
        "smtpgate_configuration_restart_keys",
        "gauge",
        (),
        "Keys whose values in the configuration are not in use, because they need a restart.",
    ),
    MetricRow(
        "smtpgate_certificate_not_loaded",
        "gauge",
        ("listener",),
        "Certificates of a listener whose newest files cannot be used: old ones are in use.",
    ),
    MetricRow(
        "smtpgate_upstream_connections",
        "gauge",
        ("upstream", "state"),
        "Open connections to the upstream, by state (busy, idle).",
    ),
    MetricRow(
        "smtpgate_upstream_waiting",
        "gauge",
        ("upstream",),
        "Messages that are waiting for a connection to the upstream.",
    ),
    MetricRow(
        "smtpgate_upstream_connection_limit",
        "gauge",
        ("upstream",),
        "Connections that the gate opens at most: max_connections, or fewer while the "
        "upstream refuses more.",
    ),
    MetricRow(
        "smtpgate_upstream_certificate_not_loaded",
        "gauge",
        ("upstream",),
        "1 if the newest certificate files of an upstream cannot be used: old ones are in use.",
        together="most",
    ),
    MetricRow(
        "smtpgate_upstream_certificate_not_after_timestamp_seconds",
        "gauge",
        ("upstream",),
        "When the gate's own certificate for an upstream expires, in seconds since 1970.",
        together="least",
    ),
    MetricRow(
        "smtpgate_upstream_token_up",
        "gauge",
        ("upstream",),
        "1 if the last access token was fetched, 0 if that failed (`[upstream.NAME.oauth]`).",
        together="least",
    ),
    MetricRow(
        "smtpgate_upstream_token_left_seconds",
        "gauge",
        ("upstream",),
        "The time that the upstream's access token lasts; 0 without one.",
        together="least",
    ),
    MetricRow(
        "smtpgate_upstream_up",
        "gauge",
        ("upstream",),
        "1 if the upstream is of use as far as is known: the last probe did not fail, and the "
        "circuit breaker is not open; else 0.",
        together="least",
    ),
    MetricRow(
        "smtpgate_route_up",
        "gauge",
        ("route",),
        "1 if an upstream of the route is of use as far as is known, in its group or its "
        "fallback; 0 if none is: its messages get 451. Without `[[route]]` the only route is "
        "`default`.",
        together="least",
    ),
    MetricRow(
        "smtpgate_upstream_breaker",
        "gauge",
        ("upstream",),
        "Circuit breaker of the upstream: 0 closed, 1 half-open (one message at a time), 2 "
        "open.",
        together="most",
    ),
    MetricRow(
        "smtpgate_upstream_failures_total",
        "counter",
        ("upstream", "cause"),
        "Times that an upstream was not used for a message, which went on to the next one or "
        "got 451, by cause.",
    ),
    MetricRow(
        "smtpgate_directory_up",
        "gauge",
        (),
        "1 if the directory's database answered at the last check, else 0.",
        together="least",
    ),
    MetricRow(
        "smtpgate_directory_age_seconds",
        "gauge",
        (),
        "Time since the directory's database was last asked for changes successfully.",
        together="most",
    ),
    MetricRow(
        "smtpgate_directory_drift",
        "gauge",
        (),
        "Differences between documents and directory at the last start or reload.",
    ),
    MetricRow(
        "smtpgate_directory_cache_entries",
        "gauge",
        (),
        "Answers of the directory in the cache.",
    ),
    MetricRow(
        "smtpgate_directory_cache_octets",
        "gauge",
        (),
        "Approximate memory of the cache.",
    ),
    MetricRow(
        "smtpgate_directory_answers_total",
        "counter",
        ("from",),
        "Answers of the directory, by source (cache, database).",
    ),
    MetricRow(
        "smtpgate_key_findings_total",
        "counter",
        ("signal", "level"),
        "Reports about access keys whose use differs from before, by signal; `alarm` is worse "
        "than `notice`.",
    ),
    MetricRow(
        "smtpgate_identity_state_changes_total",
        "counter",
        ("state",),
        "Changes of the verification of identities, by the new state.",
    ),
    MetricRow(
        "smtpgate_identities_missing",
        "gauge",
        (),
        "Verified identities whose DNS record is missing; each fails after 72 hours.",
    ),
    MetricRow(
        "smtpgate_dkim_alarms",
        "gauge",
        (),
        "Active DKIM keys whose published record is missing or differs.",
    ),
    MetricRow(
        "smtpgate_spooled_messages",
        "gauge",
        (),
        "Large messages in flight that are kept in files.",
    ),
    MetricRow("smtpgate_spooled_octets", "gauge", (), "Octets in these files."),
    MetricRow(
        "smtpgate_journal_up",
        "gauge",
        (),
        "1 if the journal could be written at the last attempt, else 0.",
        together="least",
    ),
    MetricRow(
        "smtpgate_journal_retention_up",
        "gauge",
        (),
        "1 if old records could be deleted at the last attempt, else 0.",
        together="least",
    ),
    MetricRow(
        "smtpgate_journal_records",
        "gauge",
        (),
        "Approximate number of records in the journal.",
        together="most",
    ),
    MetricRow(
        "smtpgate_journal_octets",
        "gauge",
        (),
        "Approximate size of these records.",
        together="most",
    ),
    MetricRow(
        "smtpgate_journal_owed",
        "gauge",
        (),
        "Records that wait in memory until the journal can be written.",
    ),
    MetricRow(
        "smtpgate_journal_written_total",
        "counter",
        (),
        "Records that were written or completed.",
    ),
    MetricRow(
        "smtpgate_journal_commits_total",
        "counter",
        (),
        "Transactions for them; under load one has many records.",
    ),
    MetricRow(
        "smtpgate_journal_commit_seconds_total",
        "counter",
        (),
        "Total time of these transactions.",
    ),
    MetricRow(
        "smtpgate_journal_failures_total",
        "counter",
        (),
        "Failed writes of the journal.",
    ),
    MetricRow(
        "smtpgate_journal_lost_total",
        "counter",
        (),
        "Records that are lost, because the gate ended before they could be written.",
    ),
    MetricRow(
        "smtpgate_journal_left_out_total",
        "counter",
        (),
        "Refused logins, and refused MAIL commands and messages of one account, that have no "
        "record because there were too many; the log has them.",
    ),
    MetricRow(
        "smtpgate_journal_in_doubt_total",
        "counter",
        (),
        "Records without an outcome that this gate found after another one was killed.",
    ),
    MetricRow(
        "smtpgate_outbox_tasks",
        "gauge",
        ("state",),
        "Events and reports in the outbox that wait for delivery, or are given up (dead).",
    ),
    MetricRow(
        "smtpgate_outbox_oldest_seconds",
        "gauge",
        (),
        "Age of the oldest event or report that waits for delivery.",
    ),
    MetricRow(
        "smtpgate_outbox_attempts_total",
        "counter",
        ("outcome", "kind", "destination"),
        "Attempts to deliver an event, by outcome (sent, failed, given-up), kind of event, and "
        "kind of destination (webhook, mail, list).",
    ),
    MetricRow(
        "smtpgate_api_calls_total",
        "counter",
        ("operation", "fault"),
        "Calls of the API with a right signature, by operation and the code of their error "
        "(none, or as in AWS's API).",
    ),
    MetricRow(
        "smtpgate_feedback_total",
        "counter",
        ("kind", "outcome"),
        "Messages that came back, by kind (bounce, complaint, delivery, delay, answer, none) "
        "and outcome (published, forwarded, dropped, unknown, refused).",
    ),
    MetricRow(
        "smtpgate_events_total",
        "counter",
        ("kind",),
        "Recipients with an event of their message, by kind: hard-bounce, soft-bounce, "
        "complaint, delivery, delay, reject. Those of the mailbox simulator, of addresses on "
        "the account's suppression list, and of templates that could not be rendered, are "
        "uncounted.",
    ),
    MetricRow(
        "smtpgate_feedback_records_total",
        "counter",
        ("outcome",),
        "Records that mail servers posted, by outcome: accepted, ignored because they report "
        "nothing of a recipient, unknown because they are about other mail, and unread.",
    ),
    MetricRow(
        "smtpgate_feedback_posts_refused_total",
        "counter",
        ("reason",),
        "Posts of records that were refused as a whole, by reason: no-credential, too-slow, "
        "too-large, encoded, too-many, unavailable, unread.",
    ),
    MetricRow(
        "smtpgate_log_lines_lost_total",
        "counter",
        (),
        "Lines of the log that could not be written, because the disk is full, the pipe is "
        "closed, or the reader is too slow.",
    ),
    MetricRow(
        "smtpgate_loop_delay_seconds",
        "histogram",
        (),
        "Delay of the event loop, sampled every 10 ms, and every 100 ms while there are no "
        "clients: how late a reply is because the gate was busy with something else.",
        _PAUSES_S,
    ),
    MetricRow(
        "smtpgate_loop_delay_longest_seconds",
        "gauge",
        (),
        "Longest of these delays in the last one to two minutes.",
        together="most",
    ),
    MetricRow(
        "smtpgate_collector_pause_seconds",
        "histogram",
        ("generation",),
        "Time for which Python's garbage collector stopped the gate, by generation (0, 1, 2).",
        _PAUSES_S,
    ),
    MetricRow(
        "smtpgate_workers", "gauge", (), "Processes that take mail now (`gate.workers`)."
    ),
    MetricRow(
        "smtpgate_worker_restarts_total",
        "counter",
        ("reason",),
        "Workers that ended by themselves and were replaced, by reason: `exited`, `killed` "
        "by a signal, or `hung`: without an answer for `gate.worker_timeout_s`.",
    ),
    MetricRow(
        "smtpgate_build_info",
        "gauge",
        ("version", "python"),
        "Always 1; the labels have the running versions.",
    ),
)
CATALOGUE: Final[Mapping[str, MetricRow]] = {row.name: row for row in _ROWS}
"""Every metric of the gate, by its name."""
