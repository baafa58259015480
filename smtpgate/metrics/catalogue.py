"""The catalogue of metrics; its reference and the alert rules are checked against it."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import starmap
from typing import Final, Literal, get_args

Kind = Literal["counter", "gauge", "histogram"]
# How the values of several workers become the value of the gate.
Together = Literal["sum", "least", "most"]


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric: its name as scraped, its kind, its labels, and its meaning."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()
    together: Together = "sum"


_SHORT_S: Final = (0.0002, 0.0005, 0.001, 0.0025, 0.01, 0.05, 0.25, 1, 5, 30, 120)
_LONG_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 240)
_PAUSES_S: Final = (0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
_OCTETS: Final = tuple(float(1024 * 4**power) for power in range(9))

_BUCKETS: Final[Mapping[str, tuple[float, ...]]] = {
    "smtpgate_stage_seconds": _SHORT_S,
    "smtpgate_submission_seconds": _LONG_S,
    "smtpgate_message_octets": _OCTETS,
    "smtpgate_loop_delay_seconds": _PAUSES_S,
    "smtpgate_collector_pause_seconds": _PAUSES_S,
}

# The meaning of each metric, by kind, name and labels. Behind the kind of a gauge stands how
# the values of workers become one; without it they are added.
_MEANINGS: Final[Mapping[str, str]] = {
    "counter smtpgate_submissions_total{outcome,reason}": (
        "Messages that were received completely, by outcome (accepted, refused, deferred, "
        "in-doubt) and reason code."
    ),
    "counter smtpgate_identity_messages_total{identity,account,outcome}": (
        "Messages by the ARN of the identity that served From, and the account that sent them."
    ),
    "counter smtpgate_identity_recipients_total{identity,account,outcome}": (
        "Recipients of those messages."
    ),
    "gauge smtpgate_account_quota_used_ratio{account}": (
        "Share of the 24-hour quota that was used after the account's last message; absent for "
        "accounts without a quota, and for idle ones."
    ),
    "counter smtpgate_quota_reached_total{subject,percent}": (
        "Times that 80, 90 or 100 percent of a 24-hour quota were reached, by the kind of "
        "its owner (account, user, access-key, identity); the log has the name."
    ),
    "counter smtpgate_mail_refused_total{reason}": (
        "MAIL commands refused because a quota was used up already."
    ),
    "gauge.most smtpgate_reputation_bounce_ratio{account}": (
        "Share of the recipients of an account's representative volume that bounced for good; "
        "of accounts with any lately."
    ),
    "gauge.most smtpgate_reputation_complaint_ratio{account}": (
        "Share of the recipients of an account's representative volume that complained; of "
        "accounts with any lately."
    ),
    "gauge.most smtpgate_reputation_senders{kind,status}": (
        "Senders of a kind (account, set, delegate) that are under review (PROBATION) or "
        "paused (SHUTDOWN)."
    ),
    "counter smtpgate_reputation_changes_total{kind,status}": (
        "Times that the gate changed the state of a sender's rates, by the kind of the sender "
        "and its status afterwards."
    ),
    "counter smtpgate_uncounted_total": (
        "Messages accepted without being counted, because the ledger was not available."
    ),
    "counter smtpgate_long_lines_total": (
        'Messages accepted with a line over 998 octets (`message.long_lines = "pass"`).'
    ),
    "gauge smtpgate_paced_waiting": (
        "Messages over a sending rate that are waiting now (`limits.max_wait_s`)."
    ),
    "counter smtpgate_paced_total": (
        "Messages that waited for their rate, whether they passed or not."
    ),
    "counter smtpgate_paced_seconds_total": "Total time that they waited.",
    "gauge.least smtpgate_ledger_up": (
        "1 if the ledger could count at the last check, else 0."
    ),
    "gauge.most smtpgate_ledger_clock_skew_seconds": (
        "How much the clock of the ledger's server is ahead of this host's, at least; "
        "negative when it is behind, 0 for a ledger that uses this host's clock."
    ),
    "histogram smtpgate_stage_seconds{stage}": (
        "Time of messages in a stage (message, authorization, limits, signing, relay). "
        "Most are signed during limits, and signing is only the time after that."
    ),
    "histogram smtpgate_submission_seconds": "Time from the final dot to the reply.",
    "histogram smtpgate_message_octets": "Size of messages as received, accepted or not.",
    "gauge smtpgate_sessions{listener}": "Open sessions.",
    "counter smtpgate_budget_exhausted_total{listener,budget}": (
        "Times that a client reached a bound, by the name of the budget."
    ),
    "counter smtpgate_commands_refused_total{listener,verb,code}": (
        "Commands refused, by verb (or other) and reply code; without failed logins and MAIL "
        "without quota, which have their own counters."
    ),
    "counter smtpgate_messages_cut_off_total{listener,by}": (
        "Messages that ended before their final dot: by a `client` that disconnected, or by "
        "the `gate`, which stopped."
    ),
    "counter smtpgate_handshakes_failed_total{listener,reason}": (
        "Connections that failed in the TLS handshake, or that had no PROXY header."
    ),
    "counter smtpgate_clients_banned_total{listener}": (
        "Bans that began, of clients that failed too often."
    ),
    "counter smtpgate_sessions_ended_total{reason}": (
        "Sessions ended with 421 because their access key can no longer be used."
    ),
    "counter smtpgate_auth_successes_total{listener}": "Logins.",
    "counter smtpgate_auth_failures_total{listener,reason}": "Failed logins.",
    "gauge.least smtpgate_certificate_not_after_timestamp_seconds{listener,name}": (
        "When a listener's TLS certificate expires, in seconds since 1970, by its first name."
    ),
    "gauge smtpgate_configuration_refused": (
        "1 if the last reload found errors in the configuration, and changed nothing."
    ),
    "gauge smtpgate_configuration_restart_keys": (
        "Keys whose values in the configuration are not in use, because they need a restart."
    ),
    "gauge smtpgate_certificate_not_loaded{listener}": (
        "Certificates of a listener whose newest files cannot be used: old ones are in use."
    ),
    "gauge smtpgate_upstream_connections{upstream,state}": (
        "Open connections to the upstream, by state (busy, idle)."
    ),
    "gauge smtpgate_upstream_waiting{upstream}": (
        "Messages that are waiting for a connection to the upstream."
    ),
    "gauge smtpgate_upstream_connection_limit{upstream}": (
        "Connections that the gate opens at most: max_connections, or fewer while the "
        "upstream refuses more."
    ),
    "gauge.most smtpgate_upstream_certificate_not_loaded{upstream}": (
        "1 if the newest certificate files of an upstream cannot be used: old ones are in use."
    ),
    "gauge.least smtpgate_upstream_certificate_not_after_timestamp_seconds{upstream}": (
        "When the gate's own certificate for an upstream expires, in seconds since 1970."
    ),
    "gauge.least smtpgate_upstream_token_up{upstream}": (
        "1 if the last access token was fetched, 0 if that failed (`[upstream.NAME.oauth]`)."
    ),
    "gauge.least smtpgate_upstream_token_left_seconds{upstream}": (
        "The time that the upstream's access token lasts; 0 without one."
    ),
    "gauge.least smtpgate_issuer_keys{issuer}": (
        "Keys of an issuer of tokens (`[issuer.NAME]`) that the gate has; without any, logins "
        "by its tokens get 454."
    ),
    "gauge.least smtpgate_issuer_keys_up{issuer}": (
        "1 if the issuer's keys could be read at the last attempt, else 0."
    ),
    "gauge.most smtpgate_issuer_keys_age_seconds{issuer}": (
        "Time since the issuer's keys were last read; absent until they were."
    ),
    "counter smtpgate_issuer_keys_failures_total{issuer}": (
        "Attempts to read the issuer's keys that failed."
    ),
    "gauge.least smtpgate_upstream_up{upstream}": (
        "1 if the upstream can be used as far as is known: the last probe did not fail, and "
        "the circuit breaker is not open; else 0."
    ),
    "gauge.least smtpgate_route_up{route}": (
        "1 if an upstream of the route can be used as far as is known, in its group or its "
        "fallback; 0 if none is: its messages get 451. Without `[[route]]` the only route is "
        "`default`."
    ),
    "gauge.most smtpgate_upstream_breaker{upstream}": (
        "Circuit breaker of the upstream: 0 closed, 1 half-open (one message at a time), 2 "
        "open."
    ),
    "counter smtpgate_upstream_failures_total{upstream,cause}": (
        "Times that an upstream was not used for a message, which went on to the next one or "
        "got 451, by cause."
    ),
    "gauge.least smtpgate_directory_up": (
        "1 if the directory's database answered at the last check, else 0."
    ),
    "gauge.most smtpgate_directory_age_seconds": (
        "Time since the directory's database was last asked for changes successfully."
    ),
    "gauge smtpgate_directory_drift": (
        "Differences between documents and directory at the last start or reload."
    ),
    "gauge smtpgate_directory_cache_entries": "Answers of the directory in the cache.",
    "gauge smtpgate_directory_cache_octets": "Approximate memory of the cache.",
    "counter smtpgate_directory_answers_total{from}": (
        "Answers of the directory, by source (cache, database)."
    ),
    "counter smtpgate_key_findings_total{signal,level}": (
        "Reports about access keys whose use differs from before, by signal; `alarm` is worse "
        "than `notice`."
    ),
    "counter smtpgate_identity_state_changes_total{state}": (
        "Changes of the verification of identities, by the new state."
    ),
    "gauge smtpgate_identities_missing": (
        "Verified identities whose DNS record is missing; each fails after 72 hours."
    ),
    "gauge smtpgate_dkim_alarms": (
        "Active DKIM keys whose published record is missing or differs."
    ),
    "gauge smtpgate_spooled_messages": "Large messages in flight that are kept in files.",
    "gauge smtpgate_spooled_octets": "Octets in these files.",
    "gauge.least smtpgate_journal_up": (
        "1 if the journal could be written at the last attempt, else 0."
    ),
    "gauge.least smtpgate_journal_retention_up": (
        "1 if old records could be deleted at the last attempt, else 0."
    ),
    "gauge.most smtpgate_journal_records": "Approximate number of records in the journal.",
    "gauge.most smtpgate_journal_octets": "Approximate size of these records.",
    "gauge smtpgate_journal_owed": (
        "Records that wait in memory until the journal can be written."
    ),
    "counter smtpgate_journal_written_total": "Records that were written or completed.",
    "counter smtpgate_journal_commits_total": (
        "Transactions for them; under load one has many records."
    ),
    "counter smtpgate_journal_commit_seconds_total": "Total time of these transactions.",
    "counter smtpgate_journal_failures_total": "Failed writes of the journal.",
    "counter smtpgate_journal_lost_total": (
        "Records that are lost, because the gate ended before they could be written."
    ),
    "counter smtpgate_journal_left_out_total": (
        "Refused logins, and refused MAIL commands and messages of one account, that have no "
        "record because there were too many; the log has them."
    ),
    "counter smtpgate_journal_in_doubt_total": (
        "Records without an outcome that this gate found after another one was killed."
    ),
    "gauge smtpgate_outbox_tasks{state}": (
        "Events and reports in the outbox that wait for delivery, or are given up (dead)."
    ),
    "gauge smtpgate_outbox_oldest_seconds": (
        "Age of the oldest event or report that waits for delivery."
    ),
    "counter smtpgate_outbox_attempts_total{outcome,kind,destination}": (
        "Attempts to deliver an event, by outcome (sent, failed, given-up), kind of event, and "
        "kind of destination (webhook, mail, list)."
    ),
    "counter smtpgate_api_calls_total{operation,fault}": (
        "Calls of the API with a right signature, by operation and the code of their error "
        "(none, or as in AWS's API)."
    ),
    "counter smtpgate_feedback_total{kind,outcome}": (
        "Messages that came back, by kind (bounce, complaint, delivery, delay, answer, none) "
        "and outcome (published, forwarded, dropped, unknown, refused)."
    ),
    "counter smtpgate_events_total{kind}": (
        "Recipients with an event of their message, by kind: hard-bounce, soft-bounce, "
        "complaint, delivery, delay, reject. Those of the mailbox simulator, of addresses on "
        "the account's suppression list, and of templates that could not be rendered, are "
        "uncounted."
    ),
    "counter smtpgate_feedback_records_total{outcome}": (
        "Records that mail servers posted, by outcome: accepted, ignored because they report "
        "nothing of a recipient, unknown because they are about other mail, and unread."
    ),
    "counter smtpgate_feedback_posts_refused_total{reason}": (
        "Posts of records that were refused as a whole, by reason: no-credential, too-slow, "
        "too-large, encoded, too-many, unavailable, unread."
    ),
    "counter smtpgate_log_lines_lost_total": (
        "Lines of the log that could not be written, because the disk is full, the pipe is "
        "closed, or the reader is too slow."
    ),
    "histogram smtpgate_loop_delay_seconds": (
        "Delay of the event loop, sampled every 10 ms, and every 100 ms while there are no "
        "clients: how late a reply is because the gate was busy with something else."
    ),
    "gauge.most smtpgate_loop_delay_longest_seconds": (
        "Longest of these delays in the last one to two minutes."
    ),
    "histogram smtpgate_collector_pause_seconds{generation}": (
        "Time for which Python's garbage collector stopped the gate, by generation (0, 1, 2)."
    ),
    "gauge smtpgate_workers": "Processes that take mail now (`gate.workers`).",
    "counter smtpgate_worker_restarts_total{reason}": (
        "Workers that ended by themselves and were replaced, by reason: `exited`, `killed` "
        "by a signal, or `hung`: without an answer for `gate.worker_timeout_s`."
    ),
    "gauge smtpgate_build_info{version,python}": (
        "Always 1; the labels have the running versions."
    ),
}


_KINDS: Final[Mapping[str, Kind]] = {one: one for one in get_args(Kind)}
_TOGETHER: Final[Mapping[str, Together]] = {one: one for one in get_args(Together)}


def _row(text: str, meaning: str) -> MetricRow:
    kind, _, name = text.partition(" ")
    name, _, labels = name.partition("{")
    kind, _, together = kind.partition(".")
    return MetricRow(
        name=name,
        kind=_KINDS[kind],
        labels=tuple(labels.rstrip("}").split(",")) if labels else (),
        meaning=meaning,
        buckets=_BUCKETS.get(name, ()),
        together=_TOGETHER[together or "sum"],
    )


CATALOGUE: Final[Mapping[str, MetricRow]] = {
    row.name: row for row in starmap(_row, _MEANINGS.items())
}
"""Every metric of the gate, by its name."""
