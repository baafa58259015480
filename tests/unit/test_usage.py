"""Usage as arithmetic: what counts, in which unit, and how it is shown."""

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from smtpgate.core.history.event_counts import EventCounts
from smtpgate.core.history.record import Record, login_record
from smtpgate.core.history.search import is_user
from smtpgate.core.history.usage import (
    Counts,
    Grain,
    UsageKey,
    UsageRow,
    series,
    sparkline,
    start_of,
    summaries,
    unit_of,
    usage_of,
    with_events,
)
from tests.support.events import AT, auth_failed, done
from tests.support.records import submission_record
from tests.support.world import DELEGATE, IDENTITY, OWNER

KEY: Final = UsageKey(DELEGATE, f"arn:aws:iam::{DELEGATE}:user/mailer", IDENTITY, "accepted")
NUMBERS: Final = st.integers(0, 10**6)
COUNTS: Final = st.builds(Counts, *[NUMBERS] * 4)


def record(outcome: str = "accepted", reason: str = "accepted") -> Record:
    event = done(outcome, reason, recipients=3)  # type: ignore[arg-type]
    return submission_record(event, keep_recipients=True, keep_subject=False)


def test_an_accepted_message_counts_with_its_recipients_and_octets() -> None:
    assert usage_of(record()) == (KEY, Counts(1, 1, 3, len(done().submission.message)))


@pytest.mark.parametrize("outcome", ["refused", "deferred", "in-doubt"])
def test_what_was_not_accepted_is_an_attempt_and_no_more(outcome: str) -> None:
    assert usage_of(record(outcome, "some-reason")) == (
        structs.replace(KEY, reason="some-reason"),
        Counts(attempts=1),
    )


def test_what_has_no_verdict_and_what_is_no_message_count_nothing() -> None:
    assert usage_of(structs.replace(record(), outcome="relaying")) is None
    assert usage_of(login_record(auth_failed(), "0100")) is None


def test_the_owner_is_the_account_of_the_identity() -> None:
    assert KEY.owner_id == OWNER
    assert structs.replace(KEY, identity="").owner_id == ""


@given(COUNTS, COUNTS)
def test_what_is_added_and_taken_away_again_changes_nothing(one: Counts, other: Counts) -> None:
    assert one + other - other == one
    assert one + other == other + one
    assert one + Counts() == one


@given(st.integers(0, 4 * 10**9).map(lambda s: datetime.fromtimestamp(s, UTC)))
def test_a_moment_is_in_the_unit_that_begins_before_it(moment: datetime) -> None:
    for grain in Grain:
        start = start_of(grain, unit_of(grain, moment))
        assert start <= moment < start + grain.length


def test_units_begin_at_round_times() -> None:
    assert start_of(Grain.POINT, unit_of(Grain.POINT, AT)) == AT.replace(microsecond=0)
    late = AT.replace(minute=44, second=59)
    assert start_of(Grain.POINT, unit_of(Grain.POINT, late)).minute == 30
    assert start_of(Grain.DAY, unit_of(Grain.DAY, late)) == datetime(2026, 11, 23, tzinfo=UTC)


def row(minutes: int, reason: str = "accepted", user: str = "mailer") -> UsageRow:
    key = UsageKey(DELEGATE, f"arn:aws:iam::{DELEGATE}:user/{user}", IDENTITY, reason)
    is_accepted = reason == "accepted"
    counts = Counts(2, 2, 4, 100) if is_accepted else Counts(attempts=1)
    start = start_of(Grain.POINT, unit_of(Grain.POINT, AT) + minutes // 15)
    return UsageRow(start, key, counts)


def test_summaries_add_up_each_sender_with_most_attempts_first() -> None:
    rows = [row(0), row(30), row(30, "explicit-deny"), row(15, user="robot"), row(999)]
    first = unit_of(Grain.POINT, AT)
    mailer, robot = summaries(rows, Grain.POINT, first, 3)
    assert mailer.user_arn.endswith("/mailer")
    assert mailer.counts == Counts(7, 6, 12, 300)
    assert mailer.rejects == {"explicit-deny": 1}
    assert mailer.attempts == (2, 0, 3)
    assert (robot.counts.attempts, robot.rejects, robot.attempts) == (2, {}, (0, 2, 0))


def test_a_series_adds_up_each_time_in_its_order() -> None:
    rows = [row(30), row(0), row(0, user="robot"), row(0, "implicit-deny"), row(0, "in-doubt")]
    first, second = series(rows)
    assert second.start - first.start == timedelta(minutes=30)
    assert first.counts == Counts(6, 4, 8, 200)
    assert first.rejects == {"implicit-deny": 1, "in-doubt": 1}
    assert second.rejects == {}


def test_events_are_beside_accepted_messages_also_in_a_period_without_any() -> None:
    rows = [row(0), row(0, "explicit-deny"), row(15, user="robot")]
    later = row(45)
    events = {
        (rows[0].start, rows[0].key): EventCounts(hard_bounces=2, soft_bounces=1),
        (later.start, later.key): EventCounts(complaints=1),
    }
    found = with_events(rows, events)
    assert sum((one.counts for one in found), Counts()) == Counts(5, 4, 8, 200)
    assert [one.events.bounces for one in found if one.key.reason == "accepted"] == [3, 0, 0]
    assert found[-1] == UsageRow(later.start, later.key, Counts(), EventCounts(complaints=1))
    mailer, _ = summaries(found, Grain.POINT, unit_of(Grain.POINT, AT), 4)
    assert mailer.events == EventCounts(2, 1, 1)
    assert [one.events.bounces for one in series(found)] == [3, 0, 0]


@pytest.mark.parametrize(
    ("values", "bars"),
    [
        ((), ""),
        ((0, 0), "  "),
        ((1,), "█"),
        ((0, 1, 8), " ▁█"),
        ((1, 1000), "▁█"),
        ((1, 2, 3, 4, 5, 6, 7, 8), "▁▂▃▄▅▆▇█"),
        ((0,) * 32 + (1,) * 32, " " * 16 + "█" * 16),
    ],
)
def test_a_sparkline_shows_all_that_is_not_nothing(values: tuple[int, ...], bars: str) -> None:
    assert sparkline(values, 32) == bars


@given(st.lists(NUMBERS, max_size=300), st.integers(1, 40))
def test_a_sparkline_fits_and_is_blank_only_where_there_is_nothing(
    values: list[int], width: int
) -> None:
    bars = sparkline(values, width)
    assert len(bars) == min(len(values), width)
    assert bars.isspace() or not bars or any(values)
    if any(values):
        assert "█" in bars


@pytest.mark.parametrize(
    ("user", "arn", "fits"),
    [
        ("1/mailer", "arn:aws:iam::1:user/mailer", True),
        ("1/Mailer", "arn:aws:iam::1:user/team/mailer", True),
        ("1/mailer", "arn:aws:iam::2:user/mailer", False),
        ("1/ailer", "arn:aws:iam::1:user/mailer", False),
        ("1/root", "arn:aws:iam::1:root", False),
        ("1/mailer", "", False),
    ],
)
def test_a_user_is_known_by_its_arn(user: str, arn: str, fits: bool) -> None:
    assert is_user(user, arn) is fits
