"""Properties of verification for every sequence of answers, and clocks that misbehave."""

from datetime import UTC, datetime, timedelta
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from smtpgate.core.proof.observation import Absent, Found, Observation, Unanswered, combined
from smtpgate.core.proof.recheck import LONGEST_WAIT, is_due
from smtpgate.core.proof.verification import (
    GRACE,
    NOT_STARTED,
    PATIENCE,
    Verification,
    begin,
    begin_by_mail,
    confirmed_by_mail,
    observed,
    status_of,
    trusted,
)

START: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
ABSENT: Final = Absent("nothing")
SILENT: Final = Unanswered("SERVFAIL")

jitters = st.floats(0, 1, exclude_max=True)
answers: st.SearchStrategy[Observation] = st.sampled_from(
    [Found("txt"), Found("dkim"), ABSENT, SILENT]
)
waits = st.timedeltas(timedelta(0), timedelta(hours=80)) | st.sampled_from(
    [timedelta(minutes=1), timedelta(hours=1), PATIENCE, GRACE - timedelta(seconds=1)]
)
jumps = waits | st.timedeltas(timedelta(days=-400), timedelta(0))


@st.composite
def histories(
    draw: st.DrawFn, steps: st.SearchStrategy[timedelta]
) -> tuple[Verification, datetime]:
    """Any verification that can come about, and the moment at which it is so."""
    now = START
    current = draw(st.sampled_from([NOT_STARTED, begin(NOT_STARTED, now), trusted(now)]))
    for wait, answer, jitter in draw(st.lists(st.tuples(steps, answers, jitters), max_size=12)):
        now += wait
        match draw(st.sampled_from(["ask", "ask", "ask", "begin", "mail", "confirm"])):
            case "begin":
                current = begin(current, now)
            case "mail":
                current = begin_by_mail(current, now)
            case "confirm":
                current = confirmed_by_mail(current, now)
            case _:
                current = observed(current, answer, now, jitter)
    return current, now


@given(histories(jumps), jumps, jitters)
def test_a_question_without_an_answer_changes_no_state(
    history: tuple[Verification, datetime], wait: timedelta, jitter: float
) -> None:
    current, now = history
    after = observed(current, SILENT, now + wait, jitter)
    assert (after.state, after.method, after.verified_at) == (
        current.state,
        current.method,
        current.verified_at,
    )


@given(histories(jumps))
def test_every_verification_is_of_one_piece(history: tuple[Verification, datetime]) -> None:
    current, now = history
    assert (
        current.is_verified == (current.method is not None) == (current.verified_at is not None)
    )
    assert current.missing_since is None or current.is_verified
    assert (current.started_at is None) == (current.state == "not-started")
    assert current.next_check_at is None or current.state in ("pending", "success")
    if current.method in ("txt", "dkim"):
        assert current.next_check_at is not None
    if current.method in ("mail", "trust"):
        assert current.next_check_at is None
    assert status_of(current, now) in (current.state, "temporary-failure")


@given(st.lists(st.tuples(waits, answers, jitters), max_size=20))
def test_a_success_is_never_lost_before_72_hours_of_absence(
    steps: list[tuple[timedelta, Observation, float]],
) -> None:
    now, current = START, observed(begin(NOT_STARTED, START), Found("txt"), START, 0)
    gone_since = None
    for wait, answer, jitter in steps:
        now += wait
        current = observed(current, answer, now, jitter)
        match answer:
            case Found():
                gone_since = None
            case Absent():
                gone_since = gone_since or now
        if gone_since is None or now - gone_since < GRACE:
            assert current.is_verified
        if not current.is_verified:
            return


@given(st.lists(st.tuples(waits, st.sampled_from([ABSENT, SILENT]), jitters), max_size=20))
def test_nothing_pending_fails_before_72_hours_or_later_than_the_first_answer_after(
    steps: list[tuple[timedelta, Observation, float]],
) -> None:
    now, current = START, begin(NOT_STARTED, START)
    for wait, answer, jitter in steps:
        now += wait
        current = observed(current, answer, now, jitter)
        is_over = now - START >= PATIENCE and answer == ABSENT
        assert current.state == ("failed" if is_over else "pending")
        if is_over:
            return


@given(
    histories(jumps),
    st.timedeltas(timedelta(days=-4000), timedelta(0)),
    answers,
    jitters,
)
def test_time_going_backwards_fails_nothing(
    history: tuple[Verification, datetime], back: timedelta, answer: Observation, jitter: float
) -> None:
    current, now = history
    begun = current.missing_since or current.started_at or now
    after = observed(current, answer, min(now, begun) + back, jitter)
    assert after.state == current.state or after.is_verified


@given(histories(waits), st.timedeltas(timedelta(0), timedelta(days=4000)), jitters)
def test_after_a_clock_was_set_back_a_failure_needs_72_hours_again(
    history: tuple[Verification, datetime], back: timedelta, jitter: float
) -> None:
    current, now = history
    if current.next_check_at is None:
        return
    earlier = min(now, current.missing_since or now, current.started_at or now) - back
    after = observed(current, ABSENT, earlier, jitter)
    nearly = observed(after, ABSENT, earlier + PATIENCE - timedelta(seconds=1), jitter)
    assert nearly.state == current.state
    assert observed(nearly, ABSENT, earlier + PATIENCE, jitter).state == "failed"


@given(histories(jumps), jumps, answers, jitters)
def test_the_next_check_is_never_far_away(
    history: tuple[Verification, datetime], wait: timedelta, answer: Observation, jitter: float
) -> None:
    current, now = history
    now += wait
    after = observed(current, answer, now, jitter)
    planned = after.next_check_at
    assert planned is None or timedelta(0) < planned - now <= LONGEST_WAIT
    begun = begin(current, now)
    assert begun.next_check_at is None or begun.next_check_at - now <= timedelta(minutes=1)
    assert begun.next_check_at is not None or begun.is_verified
    if current.next_check_at is not None:
        assert is_due(current.next_check_at, max(current.next_check_at, now))
        long_before = current.next_check_at - LONGEST_WAIT - timedelta(microseconds=1)
        assert is_due(current.next_check_at, long_before)


@given(histories(jumps), jumps)
def test_to_begin_twice_is_to_begin_once(
    history: tuple[Verification, datetime], wait: timedelta
) -> None:
    current, now = history
    begun = begin(current, now)
    again = begin(begun, now + abs(wait))
    assert (again.state, again.started_at) == (begun.state, begun.started_at)
    if current.state in ("pending", "success") and current.next_check_at is not None:
        assert begun.started_at == current.started_at


@given(histories(waits), st.lists(answers, max_size=5))
def test_no_answer_moves_what_the_dns_was_not_asked_about(
    history: tuple[Verification, datetime], seen: list[Observation]
) -> None:
    current, now = history
    if current.next_check_at is not None:
        return
    for answer in seen:
        assert observed(current, answer, now, 0) == current


@given(st.lists(answers, min_size=1, max_size=6))
def test_the_order_in_which_places_are_looked_at_does_not_matter(
    seen: list[Observation],
) -> None:
    together = combined(seen)
    assert type(combined(reversed(seen))) is type(together)
    assert isinstance(together, Found) == any(isinstance(one, Found) for one in seen)
    assert isinstance(together, Absent) == all(isinstance(one, Absent) for one in seen)
