import os
from typing import get_args

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest

from smtpgate.config.sections import MetricsConfig
from smtpgate.core.events import (
    ApiCalled,
    ClientBanned,
    CommandRefused,
    DirectoryChanged,
    Event,
    EventsRecorded,
    FeedbackTaken,
    HandshakeFailed,
    JournalChanged,
    KeyUseDiffers,
    LedgerChanged,
    LedgerClockChanged,
    MessageCutOff,
    PostRefused,
    RecordsInDoubt,
    RecordsLost,
    RecordsPosted,
    ReputationsJudged,
    RetentionChanged,
    SessionClosed,
    SessionOpened,
    SessionsEnded,
    SubmissionDone,
    TaskGivenUp,
)
from smtpgate.core.limits import Crossing
from smtpgate.core.outbox.event import ComplaintDetail
from smtpgate.core.outbox.task import Destination
from smtpgate.core.reason import REASONS
from smtpgate.core.reply import CATALOGUE as CATALOGUE_OF_REPLIES
from smtpgate.core.reply import Reply
from smtpgate.core.routing.failed_try import FailedTry
from smtpgate.core.watch.signals import KeyFinding
from smtpgate.metrics import CATALOGUE, OTHER, UNKNOWN, Metrics, VerdictTally, WorkerMetrics
from smtpgate.metrics.histogram import HistogramState
from smtpgate.metrics.known import known_series
from smtpgate.metrics.processes import Processes
from smtpgate.ports import Reading
from tests.support.clock import MovableClock
from tests.support.events import (
    AT,
    CLIENT,
    IDENTITY_EVENTS,
    REPUTATION_EVENTS,
    auth_failed,
    authenticated,
    budget_exhausted,
    done,
    mail_refused,
    sessions_ended,
)
from tests.support.outbox import BOUNCE, event_about
from tests.support.world import DELEGATE, IDENTITY

GIVEN_UP = TaskGivenUp(
    "0" * 32, "Bounce", "an id", Destination("mail", "a@example.com"), 9, "no answer", AT
)
KEY_ALARM = KeyUseDiffers(
    key_id="AKIAIOSFODNN7EXAMPLE",
    account_id=DELEGATE,
    user_name="mailer",
    level="alarm",
    score=4,
    findings=(KeyFinding("network", 2, 1, 0.0, "a new network"),),
    action="reported",
    at=AT,
)
EVENTS = (
    FeedbackTaken(kind="bounce", outcome="published", reply=Reply(250, "2.0.0", "Ok"), at=AT),
    RecordsPosted(3, 2, 1, 0, AT),
    EventsRecorded((event_about(done()),)),
    PostRefused(CLIENT, AT, "no-credential", "none"),
    ApiCalled(CLIENT, AT, "an id", "ses", "SendEmail", 200, "", 0.01),
    done(),
    authenticated(),
    auth_failed(),
    mail_refused(),
    sessions_ended(1),
    SessionOpened("submission"),
    SessionClosed("submission"),
    budget_exhausted("errors"),
    CommandRefused(CLIENT, AT, "MAIL", CATALOGUE_OF_REPLIES["auth-first"]),
    MessageCutOff(CLIENT, AT, "client", 7),
    HandshakeFailed(CLIENT, AT, "no-tls"),
    ClientBanned(CLIENT, AT, "192.0.2.7", AT, 1),
    *IDENTITY_EVENTS,
    *REPUTATION_EVENTS,
    JournalChanged("disk full", 2, AT),
    DirectoryChanged("connection refused", 0.0, AT),
    LedgerChanged("connection refused", 0.0, AT),
    LedgerClockChanged("its clock is 90.0 s behind this host's", -90.0, AT),
    RetentionChanged("disk full", AT),
    RecordsInDoubt(1, AT),
    RecordsLost(1, "disk full", AT),
    GIVEN_UP,
    KEY_ALARM,
)
ELSEWHERE = "arn:aws:ses:us-east-1:777777777777:identity/example.com"


@pytest.fixture
def metrics(clock: MovableClock) -> Metrics:
    return Metrics(
        MetricsConfig(max_identities=2, idle_s=60), clock=clock, listeners=["submission"]
    )


def samples(metrics: Metrics) -> dict[str, float]:
    lines = metrics.render().decode().splitlines()
    cut = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in cut}


def messages(identity: str, account: str = DELEGATE, outcome: str = "accepted") -> str:
    labels = f'account="{account}",identity="{identity}",outcome="{outcome}"'
    return f"smtpgate_identity_messages_total{{{labels}}}"


def recipients(identity: str, account: str = DELEGATE, outcome: str = "accepted") -> str:
    return messages(identity, account, outcome).replace("messages", "recipients")


def test_a_submission_counts_once_for_its_verdict_and_once_for_its_identity(
    metrics: Metrics,
) -> None:
    metrics.publish(done(recipients=3))
    metrics.publish(done(recipients=2))
    metrics.publish(done("refused", "explicit-deny", recipients=5))
    seen = samples(metrics)
    assert seen['smtpgate_submissions_total{outcome="accepted",reason="accepted"}'] == 2
    assert seen['smtpgate_submissions_total{outcome="refused",reason="explicit-deny"}'] == 1
    assert seen[messages(IDENTITY)] == 2
    assert seen[recipients(IDENTITY)] == 5
    assert seen[messages(IDENTITY, outcome="refused")] == 1
    assert seen[recipients(IDENTITY, outcome="refused")] == 5


def test_events_count_their_recipients_once_each_by_kind(metrics: Metrics) -> None:
    event = done()
    bounced = event_about(event, BOUNCE, "a@example.net", "b@example.net")
    simulated = event_about(event, BOUNCE, "bounce@simulator.amazonses.com")
    complained = event_about(event, ComplaintDetail())
    metrics.publish(EventsRecorded((bounced, simulated, complained)))
    refused = done("refused", "upstream-reply")
    refused.events = (event_about(refused, BOUNCE, "c@example.net"),)
    metrics.publish(refused)
    seen = samples(metrics)
    kinds = {"hard-bounce": 3, "complaint": 1, "uncounted": 1, "soft-bounce": 0, "delivery": 0}
    for kind, number in kinds.items():
        assert seen[f'smtpgate_events_total{{kind="{kind}"}}'] == number, kind


def test_what_was_refused_before_its_identity_was_known_counts_for_the_account(
    metrics: Metrics,
) -> None:
    metrics.publish(done("refused", "malformed-message", identity=None))
    assert samples(metrics)[messages(UNKNOWN, outcome="refused")] == 1


def test_times_and_sizes_are_measured_without_identity_labels(metrics: Metrics) -> None:
    metrics.publish(done())
    seen = samples(metrics)
    assert seen['smtpgate_stage_seconds_count{stage="relay"}'] == 1
    assert seen['smtpgate_stage_seconds_sum{stage="relay"}'] == pytest.approx(0.010)
    assert seen["smtpgate_submission_seconds_sum"] == pytest.approx(0.012)
    assert seen['smtpgate_message_octets_bucket{le="1024.0"}'] == 1
    histograms = [name for name, row in CATALOGUE.items() if row.kind == "histogram"]
    assert histograms
    assert not any({"identity", "account"} & set(CATALOGUE[name].labels) for name in histograms)


def test_a_wall_clock_that_was_set_back_takes_no_time_away(metrics: Metrics) -> None:
    event = done()
    event.done_at = event.submission.received_at.replace(year=2020)
    metrics.publish(event)
    assert samples(metrics)["smtpgate_submission_seconds_sum"] == 0


def test_new_pairs_count_as_other_while_every_place_is_in_use(
    metrics: Metrics, clock: MovableClock
) -> None:
    metrics.publish(done(account="1"))
    clock.move(30)
    metrics.publish(done(account="2"))
    clock.move(29)
    metrics.publish(done(account="3", recipients=7))
    seen = samples(metrics)
    assert seen[messages(OTHER, OTHER)] == 1
    assert seen[recipients(OTHER, OTHER)] == 7
    assert messages(IDENTITY, "3") not in seen
    assert seen[messages(IDENTITY, "1")] == 1


def test_the_pair_that_was_idle_longest_gives_its_place_to_a_new_one(
    metrics: Metrics, clock: MovableClock
) -> None:
    metrics.publish(done(account="1"))
    metrics.publish(done("refused", "explicit-deny", account="1"))
    metrics.publish(done(account="2"))
    clock.move(59)
    metrics.publish(done(account="1"))
    clock.move(1)
    metrics.publish(done(account="3"))
    seen = samples(metrics)
    assert seen[messages(IDENTITY, "3")] == 1
    assert seen[messages(IDENTITY, "1")] == 2, "it was used a second ago"
    assert messages(IDENTITY, "2") not in seen
    assert seen[messages(OTHER, OTHER)] == 0


def test_a_pair_that_lost_its_place_starts_again_from_nothing(
    metrics: Metrics, clock: MovableClock
) -> None:
    for account in ("1", "1", "2", "3", "1"):
        clock.move(61)
        metrics.publish(done(account=account))
    assert samples(metrics)[messages(IDENTITY, "1")] == 1


def test_the_number_of_series_does_not_grow_with_the_number_of_senders(
    metrics: Metrics, clock: MovableClock
) -> None:
    for number in range(200):
        clock.move(1)
        metrics.publish(done(account=str(number), used_24h=1, max_24h_send=10))
    names = list(samples(metrics))
    places = [name for name in names if "identity=" in name and 'identity="other"' not in name]
    assert len(places) == 2 * 2
    assert len([name for name in names if "_quota_used_ratio" in name]) == 2


def test_with_no_places_at_all_everybody_counts_as_other(clock: MovableClock) -> None:
    metrics = Metrics(MetricsConfig(max_identities=0, idle_s=60), clock=clock)
    metrics.publish(done(used_24h=1, max_24h_send=2))
    assert samples(metrics)[messages(OTHER, OTHER)] == 1
    assert "account_quota_used_ratio{" not in metrics.render().decode()


@pytest.mark.parametrize(
    ("used", "limit", "ratio"),
    [(50, 200, 0.25), (200, 200, 1.0), (0, 0, 1.0), (5, -1, None), (None, 200, None)],
)
def test_the_quota_ratio_is_the_share_that_is_used(
    metrics: Metrics, used: int | None, limit: int, ratio: float | None
) -> None:
    metrics.publish(done(used_24h=used, max_24h_send=limit))
    name = f'smtpgate_account_quota_used_ratio{{account="{DELEGATE}"}}'
    assert samples(metrics).get(name) == ratio


def test_the_quota_ratio_of_an_idle_account_is_no_longer_reported(
    metrics: Metrics, clock: MovableClock
) -> None:
    metrics.publish(done(used_24h=1, max_24h_send=2))
    clock.move(59)
    assert "account_quota_used_ratio{" in metrics.render().decode()
    clock.move(1)
    assert "account_quota_used_ratio{" not in metrics.render().decode()


def test_every_counter_exists_before_its_first_event(metrics: Metrics) -> None:
    """Prometheus cannot see an increase from nothing to 1."""
    before = samples(metrics)
    metrics.publish(done("in-doubt", "in-doubt"))
    for reason in REASONS.keys() - {"in-doubt"}:
        metrics.publish(done("refused", reason))
        metrics.publish(done("deferred", reason))
    for event in EVENTS:
        metrics.publish(event)
    new = {name.partition("{")[0] for name in samples(metrics).keys() - before.keys()}
    assert new == {  # their labels have too many values to begin with
        "smtpgate_api_calls_total",
        "smtpgate_commands_refused_total",
        "smtpgate_identity_messages_total",
        "smtpgate_identity_recipients_total",
    }


def test_every_counter_with_labels_says_which_are_known() -> None:
    counters = {row.name for row in CATALOGUE.values() if row.kind == "counter" and row.labels}
    # Their sources always offer all of them.
    asked = {
        "smtpgate_directory_answers_total",
        "smtpgate_issuer_keys_failures_total",
        "smtpgate_outbox_attempts_total",
        "smtpgate_worker_restarts_total",
    }
    assert counters - asked <= set(known_series(["submission"]))


def test_sessions_are_counted_up_and_down_and_refused_ones_apart(metrics: Metrics) -> None:
    for _ in range(3):
        metrics.publish(SessionOpened("submission"))
    metrics.publish(SessionClosed("submission"))
    metrics.publish(budget_exhausted("connections"))
    seen = samples(metrics)
    assert seen['smtpgate_sessions{listener="submission"}'] == 2
    labels = '{budget="connections",listener="submission"}'
    assert seen[f"smtpgate_budget_exhausted_total{labels}"] == 1


def test_failed_logins_are_counted_without_the_name_that_was_tried(metrics: Metrics) -> None:
    metrics.publish(auth_failed("surely-not-a-label"))
    seen = samples(metrics)
    labels = '{listener="submission",reason="invalid-credentials"}'
    assert seen[f"smtpgate_auth_failures_total{labels}"] == 1
    assert not any("surely-not-a-label" in name for name in seen)


def test_logins_are_counted_by_listener_and_not_by_key(metrics: Metrics) -> None:
    metrics.publish(authenticated())
    metrics.publish(authenticated())
    seen = samples(metrics)
    assert seen['smtpgate_auth_successes_total{listener="submission"}'] == 2
    assert not any("AKIA" in name for name in seen)


def test_sessions_that_ended_with_their_key_are_counted_by_reason(metrics: Metrics) -> None:
    metrics.publish(sessions_ended(3))
    metrics.publish(SessionsEnded("AKIA", DELEGATE, "account-paused", 1, AT))
    seen = samples(metrics)
    assert seen['smtpgate_sessions_ended_total{reason="access-key-expired"}'] == 3
    assert seen['smtpgate_sessions_ended_total{reason="account-paused"}'] == 1


def test_a_source_is_asked_for_its_readings_at_each_scrape(metrics: Metrics) -> None:
    state = [3.0]
    name = "smtpgate_upstream_waiting"
    metrics.watch(lambda: [Reading(name, state[0], ("first",))])
    metrics.watch(lambda: [Reading(name, 1.0, ("second",)), Reading("smtpgate_ledger_up", 1)])
    seen = samples(metrics)
    assert seen['smtpgate_upstream_waiting{upstream="first"}'] == 3
    assert seen['smtpgate_upstream_waiting{upstream="second"}'] == 1
    state[0] = 4.0
    assert samples(metrics)['smtpgate_upstream_waiting{upstream="first"}'] == 4
    text = metrics.render().decode()
    assert text.count("# TYPE smtpgate_upstream_waiting gauge") == 1
    assert "smtpgate_ledger_up 1.0" in text.splitlines()


def test_every_event_has_a_reader(metrics: Metrics) -> None:
    assert {type(event) for event in EVENTS} == set(get_args(Event))
    for event in EVENTS:
        metrics.publish(event)


def test_troubles_with_identities_are_reported(metrics: Metrics) -> None:
    for event in IDENTITY_EVENTS:
        metrics.publish(event)
    lines = metrics.render().decode().splitlines()
    assert 'smtpgate_identity_state_changes_total{state="success"} 1.0' in lines
    assert "smtpgate_identities_missing 2.0" in lines
    assert "smtpgate_dkim_alarms 3.0" in lines


def test_reports_about_keys_count_by_signal_and_level(metrics: Metrics) -> None:
    labels = '{level="alarm",signal="network"}'
    assert samples(metrics)[f"smtpgate_key_findings_total{labels}"] == 0
    metrics.publish(KEY_ALARM)
    assert samples(metrics)[f"smtpgate_key_findings_total{labels}"] == 1


def test_reputations_are_counted_by_kind_and_status(metrics: Metrics) -> None:
    first = samples(metrics)
    assert first['smtpgate_reputation_senders{kind="account",status="SHUTDOWN"}'] == 0
    assert first['smtpgate_reputation_changes_total{kind="set",status="HEALTHY"}'] == 0
    for event in REPUTATION_EVENTS:
        metrics.publish(event)
    seen = samples(metrics)
    assert seen['smtpgate_reputation_senders{kind="account",status="SHUTDOWN"}'] == 2
    assert seen['smtpgate_reputation_senders{kind="account",status="PROBATION"}'] == 0
    assert seen['smtpgate_reputation_changes_total{kind="account",status="SHUTDOWN"}'] == 1
    metrics.publish(ReputationsJudged({}))
    assert (
        samples(metrics)['smtpgate_reputation_senders{kind="account",status="SHUTDOWN"}'] == 0
    )


NAMES = ("plain", 'quote"', "back\\slash", "line\nend", "ünïcode", "")


@pytest.mark.parametrize("name", NAMES)
def test_series_by_identity_are_written_as_the_library_writes_them(
    clock: MovableClock, name: str
) -> None:
    metrics = Metrics(MetricsConfig(max_identities=9, idle_s=9), clock=clock)
    metrics.publish(done(identity=name))
    ours = [line for line in metrics.render().decode().split("\n") if "_identity_mess" in line]
    registry = CollectorRegistry()
    row = CATALOGUE["smtpgate_identity_messages_total"]
    theirs = Counter(row.name, row.meaning, row.labels, registry=registry)
    theirs.labels(name or UNKNOWN, DELEGATE, "accepted").inc()
    for outcome in ("accepted", "refused", "deferred", "in-doubt"):
        theirs.labels(OTHER, OTHER, outcome)
    written = generate_latest(registry).decode().split("\n")
    wanted = [line for line in written if "_identity_mess" in line and "_created" not in line]
    assert sorted(ours) == sorted(wanted)


def test_two_gates_in_one_process_count_apart(clock: MovableClock) -> None:
    first, second = (
        Metrics(MetricsConfig(max_identities=9, idle_s=9), clock=clock) for _ in range(2)
    )
    first.publish(done(identity=ELSEWHERE))
    assert messages(ELSEWHERE) in samples(first)
    assert messages(ELSEWHERE) not in samples(second)


def test_readings_of_several_workers_become_one_as_their_row_says(metrics: Metrics) -> None:
    for sessions, up, age_s in ((3, 1, 0.5), (4, 0, 7.0), (5, 1, 0.1)):
        readings = (
            Reading("smtpgate_sessions", sessions, ("submission",)),
            Reading("smtpgate_directory_up", up),
            Reading("smtpgate_directory_age_seconds", age_s),
        )
        metrics.watch(lambda readings=readings: readings)  # type: ignore[misc]
    seen = samples(metrics)
    assert seen['smtpgate_sessions{listener="submission"}'] == 12
    assert seen["smtpgate_directory_up"] == 0
    assert seen["smtpgate_directory_age_seconds"] == 7.0


def test_every_gauge_of_a_part_that_workers_have_is_least_most_or_sum() -> None:
    assert {row.together for row in CATALOGUE.values()} == {"sum", "least", "most"}
    assert {row.together for row in CATALOGUE.values() if row.kind != "gauge"} == {"sum"}
    ups = [row for name, row in CATALOGUE.items() if name.endswith("_up")]
    assert {row.together for row in ups} == {"least"}


def test_workers_add_to_histograms_and_counters(metrics: Metrics, clock: MovableClock) -> None:
    workers = [WorkerMetrics(clock=clock, listeners=["submission"]) for _ in range(2)]
    bounds = len(CATALOGUE["smtpgate_loop_delay_seconds"].buckets) + 1
    for worker in workers:
        counts = (1, *(0 for _ in range(bounds - 1)))
        state = HistogramState("smtpgate_loop_delay_seconds", "", counts, 0.0001)
        metrics.watch_histograms(lambda state=state: [state])  # type: ignore[misc]
        worker.publish(done())
        worker.publish(authenticated())
        taken_counts, submissions = worker.take()
        for count in taken_counts:
            metrics.count(count)
        assert submissions is not None
        metrics.count_submissions(submissions)
        assert worker.take() == ([], None)
    seen = samples(metrics)
    assert seen["smtpgate_loop_delay_seconds_count"] == 2
    assert seen["smtpgate_message_octets_count"] == 2
    assert seen[messages(IDENTITY)] == 2


def varied_submissions() -> list[SubmissionDone]:
    """Submissions of two accounts that differ in all that metrics show."""
    plain = done(used_24h=40, max_24h_send=100)
    later = done(used_24h=80, max_24h_send=100, recipients=3)
    later.crossings = (Crossing(later.charges[0], 80, 80),)
    later.tried = (FailedTry("first", "timeout"),)
    other = done(account="222233334444", identity=None)
    other.uncounted, other.long_line = "disk full", 7
    refused = done("refused", "malformed-message", identity=None)
    refused.done_at, refused.stage_s, refused.long_line = None, {"message": 7.5}, 9
    last = done(used_24h=90, max_24h_send=100)
    return [plain, refused, later, other, done("refused", "implicit-deny"), last]


def test_a_gate_counts_the_sums_of_a_worker_as_it_counts_submissions_of_its_own(
    clock: MovableClock,
) -> None:
    settings = MetricsConfig(max_identities=9, idle_s=9)
    own, of_worker = (Metrics(settings, clock=clock) for _ in range(2))
    tallies = VerdictTally(), VerdictTally()
    own.tallies.append(tallies[0])
    of_worker.tallies.append(tallies[1])
    worker = WorkerMetrics(clock=clock, listeners=[])
    for event in varied_submissions():
        own.publish(event)
        worker.publish(event)
    counts, submissions = worker.take()
    assert submissions is not None
    of_worker.count_submissions(submissions)
    for count in counts:
        of_worker.count(count)
    ours, theirs = (
        {name: value for name, value in samples(one).items() if "process" not in name}
        for one in (own, of_worker)
    )
    assert theirs == pytest.approx(ours)
    assert theirs["smtpgate_uncounted_total"] == theirs["smtpgate_long_lines_total"] == 1
    assert dict(tallies[0].take()) == dict(tallies[1].take())


def test_submissions_are_counted_together_after_a_second_or_when_they_are_many(
    metrics: Metrics, clock: MovableClock
) -> None:
    def counted() -> float:
        return sum(metrics.values()["smtpgate_submissions_total"].values())

    for _ in range(32):
        metrics.publish(done())
    assert counted() == 0
    metrics.publish(done())
    assert counted() == 32
    clock.move(1)
    metrics.publish(done())
    assert counted() == 33
    metrics.count_waiting()
    assert counted() == 34
    metrics.count_waiting()
    assert counted() == 34


def test_what_is_watched_is_counted_at_once_and_never_by_a_scrape(metrics: Metrics) -> None:
    metrics.publish(done())
    metrics.count_waiting()
    tally = VerdictTally()
    metrics.tallies.append(tally)
    for _ in range(2):
        metrics.publish(done())
    assert [number for _, number in tally.take()] == [2]
    metrics.render()
    assert tally.take() == []


def test_submissions_that_waited_count_as_of_the_last_one(
    metrics: Metrics, clock: MovableClock
) -> None:
    metrics.publish(done(used_24h=1, max_24h_send=2))
    clock.move(0.5)
    metrics.publish(done(account="222233334444", used_24h=1, max_24h_send=2))
    clock.move(59.5)
    assert len(metrics.quotas()) == 2
    clock.move(0.5)
    assert metrics.quotas() == []


def test_the_cpu_time_of_a_process_that_ended_stays_though_its_id_comes_again() -> None:
    processes, pids = Processes(), [os.getpid()]
    processes.add(lambda: pids)

    def cpu_s() -> float:
        found = {metric.name: metric for metric in processes.collect()}
        return found["process_cpu_seconds"].samples[0].value

    twice = cpu_s()
    pids.clear()
    assert cpu_s() >= twice
    pids.append(os.getpid())
    assert cpu_s() >= twice * 1.5
