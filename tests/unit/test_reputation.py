"""Rates of bounces and complaints, the states that follow from them, and the pause."""

from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec import structs

from smtpgate.core.reputation.judgement import (
    Reputation,
    SendingPause,
    fresh_start,
    judged,
    resumed,
)
from smtpgate.core.reputation.sender import RatedSender
from smtpgate.core.reputation.states import State, Status, next_state
from smtpgate.core.reputation.thresholds import Measure, RatingRules, Thresholds
from smtpgate.core.reputation.volume import Day, Volume, representative, wanted_recipients
from tests.support.rows import rows
from tests.support.world import DELEGATE, OWNER

NOW: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
TODAY: Final = NOW.replace(hour=0)
ACCOUNT: Final = RatedSender.account(DELEGATE)
RULES: Final = RatingRules()
PAUSING: Final = RatingRules(auto_pause=True)


def days(*sent: int, bounces: int = 0) -> list[Day]:
    """Days back from today with so many recipients, and bounces each."""
    return [Day(TODAY - timedelta(days=ago), of, bounces) for ago, of in enumerate(sent)]


@rows(
    "sent, wanted",
    [
        ((), 10_000),
        ((100,) * 30, 10_000),
        ((5_000,) * 30, 35_000),
        # A day without mail is no day of sending, and one large day is not a usual one.
        ((0, 5_000, 0, 0, 5_000, 90_000), 35_000),
        ((10_000_000,) * 3, 1_000_000),
    ],
)
def test_the_volume_is_a_week_of_the_sender_between_two_bounds(
    sent: tuple[int, ...], wanted: int
) -> None:
    assert wanted_recipients(days(*sent)) == wanted


@rows(
    "sent, days_ago, volume",
    [
        ((5_000,) * 30, 6, 35_000),  # a week
        ((100,) * 60, 29, 3_000),  # no more than 30 days, today among them
        ((3_000_000,) * 9, 1, 6_000_000),  # no less than yesterday and today
        ((0,) * 20 + (50_000,) * 9, 26, 350_000),  # nothing was sent lately
    ],
)
def test_days_are_added_up_from_today_back(
    sent: tuple[int, ...], days_ago: int, volume: int
) -> None:
    found = representative(days(*sent), NOW)
    assert (found.since, found.sent) == (TODAY - timedelta(days=days_ago), volume)


def test_a_sender_without_mail_has_no_volume() -> None:
    assert representative([], NOW) == Volume()
    assert representative(days(5, bounces=1), NOW - timedelta(days=1)) == Volume()
    assert Volume().rate("bounce") == 0
    assert Volume(sent=0, bounces=3).rate("bounce") == 1
    assert Volume(sent=2, bounces=3).rate("bounce") == 1


@rows(
    "measure, before, bad, sent, state",
    [
        ("bounce", "healthy", 499, 10_000, "healthy"),
        ("bounce", "healthy", 500, 10_000, "under-review"),
        ("bounce", "under-review", 499, 10_000, "almost-healed"),
        ("bounce", "almost-healed", 401, 10_000, "almost-healed"),
        ("bounce", "almost-healed", 399, 10_000, "healthy"),
        ("bounce", "almost-healed", 500, 10_000, "under-review"),
        ("bounce", "healthy", 1_000, 10_000, "pause"),
        ("bounce", "pause", 801, 10_000, "pause"),
        ("bounce", "under-review", 800, 10_000, "under-review"),
        ("bounce", "pause", 799, 10_000, "under-review"),
        ("bounce", "pause", 0, 10_000, "healthy"),
        ("complaint", "healthy", 9, 10_000, "healthy"),
        ("complaint", "healthy", 10, 10_000, "under-review"),
        ("complaint", "healthy", 50, 10_000, "pause"),
        # Too few to judge by: neither better nor worse.
        ("bounce", "healthy", 999, 999, "healthy"),
        ("bounce", "pause", 0, 999, "pause"),
        # Two complaints are chance.
        ("complaint", "healthy", 2, 1_000, "healthy"),
        ("complaint", "healthy", 3, 1_000, "under-review"),
    ],
)
def test_the_state_follows_from_the_rate_and_the_state_before(
    measure: Measure, before: State, bad: int, sent: int, state: State
) -> None:
    volume = Volume(TODAY, sent, bad, bad)
    assert next_state(measure, before, volume, RULES) == state


def test_nobody_is_judged_twice_by_the_same() -> None:
    volume = Volume(TODAY, 10_000, 700, 0)
    reputation = judged(Reputation(sender=ACCOUNT), volume, RULES, NOW)
    assert (reputation.bounce, reputation.complaint) == ("under-review", "healthy")
    assert (reputation.volume, reputation.changed_at) == (volume, NOW)
    later = NOW + timedelta(minutes=1)
    assert judged(reputation, Volume(TODAY, 10_000, 710, 0), RULES, later) is reputation


def test_a_pause_says_why_and_stays_until_it_is_lifted() -> None:
    volume = Volume(TODAY, 10_000, 1_234, 60)
    before = Reputation(sender=ACCOUNT)
    assert judged(before, volume, RULES, NOW).pause is None
    paused = judged(before, volume, PAUSING, NOW)
    assert paused.pause == SendingPause(
        "gate",
        "its bounce rate is 12.34 %, and sending is paused from 10.00 % on; "
        "its complaint rate is 0.60 %, and sending is paused from 0.50 % on",
        NOW,
    )
    better = judged(paused, Volume(TODAY, 10_000, 0, 0), PAUSING, NOW)
    assert (better.bounce, better.pause, better.status) == ("healthy", paused.pause, "SHUTDOWN")


def test_a_pause_comes_also_when_it_is_turned_on_later() -> None:
    volume = Volume(TODAY, 10_000, 1_234, 0)
    before = judged(Reputation(sender=ACCOUNT), volume, RULES, NOW)
    assert (before.status, before.words("bounce")) == ("PROBATION", "Pending sending pause")
    after = judged(before, volume, PAUSING, NOW)
    assert (after.status, after.words("bounce")) == ("SHUTDOWN", "Sending pause")


def test_a_resumed_sender_makes_a_fresh_start_under_review() -> None:
    paused = judged(Reputation(sender=ACCOUNT), Volume(TODAY, 10_000, 2_000), PAUSING, NOW)
    after = resumed(paused, NOW + timedelta(hours=1))
    assert (after.bounce, after.pause, after.status) == ("under-review", None, "PROBATION")
    assert after.fresh_start_at == NOW + timedelta(hours=1)
    assert judged(after, Volume(TODAY, 999, 900), PAUSING, NOW) is after
    assert judged(after, Volume(TODAY, 1_000, 0), PAUSING, NOW).status == "HEALTHY"


def test_the_owner_s_pause_has_nothing_to_do_with_rates() -> None:
    sender = RatedSender.delegate(DELEGATE, OWNER, "ses-example.com")
    pause = SendingPause("owner", "contract over", NOW)
    paused = Reputation(sender=sender, bounce="pause", pause=pause)
    assert (paused.status, paused.words("bounce")) == ("SHUTDOWN", "Pending sending pause")
    after = resumed(paused, NOW)
    assert (after.bounce, after.fresh_start_at, after.pause) == ("pause", None, None)


def test_a_fresh_start_forgets_the_states_and_no_pause() -> None:
    pause = SendingPause("gate", "rates", NOW)
    before = Reputation(sender=ACCOUNT, bounce="pause", complaint="under-review", pause=pause)
    after = fresh_start(before, NOW)
    assert (after.bounce, after.complaint, after.pause) == ("healthy", "healthy", pause)
    assert (after.fresh_start_at, after.volume) == (NOW, Volume())


@rows(
    "bounce, complaint, status",
    [
        ("healthy", "healthy", "HEALTHY"),
        ("almost-healed", "healthy", "PROBATION"),
        ("healthy", "pause", "PROBATION"),
    ],
)
def test_the_status_is_the_one_of_ses(bounce: State, complaint: State, status: Status) -> None:
    made = Reputation(sender=ACCOUNT, bounce=bounce, complaint=complaint)
    assert made.status == status
    paused = structs.replace(made, pause=SendingPause("gate", "x", NOW))
    assert paused.status == "SHUTDOWN"


def test_thresholds_may_be_others_than_those_of_ses() -> None:
    strict = RatingRules(bounce=Thresholds(0.01, 0.02), min_recipients=100)
    assert next_state("bounce", "healthy", Volume(TODAY, 500, 5), strict) == "under-review"
    assert next_state("bounce", "healthy", Volume(TODAY, 500, 10), strict) == "pause"


@rows(
    "sender, text",
    [
        (ACCOUNT, f"account {DELEGATE}"),
        (RatedSender.with_set(DELEGATE, "spring"), f"configuration set {DELEGATE}/spring"),
        (
            RatedSender.delegate(DELEGATE, OWNER, "ses-example.com"),
            f"account {DELEGATE} by identity {OWNER}/ses-example.com",
        ),
    ],
)
def test_a_sender_has_a_name(sender: RatedSender, text: str) -> None:
    assert str(sender) == text
