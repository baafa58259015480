"""What holds of sending limits for every account, every rhythm, and clocks that misbehave."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from hypothesis import assume, given
from hypothesis import strategies as st

from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.core.limits import (
    BUCKET,
    WINDOW,
    LimitExceededError,
    Reservation,
    Usage,
    refund,
    reserve,
    seen_at,
    used_24h,
)

START: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
SECOND: Final = timedelta(seconds=1)


class Attempt(NamedTuple):
    """A message tried so long after the one before."""

    wait: timedelta
    recipients: int


def attempts(longest_wait: timedelta) -> st.SearchStrategy[list[Attempt]]:
    wait = st.timedeltas(timedelta(0), longest_wait)
    near = st.sampled_from([timedelta(0), SECOND, BUCKET, BUCKET - SECOND, WINDOW - SECOND])
    return st.lists(
        st.builds(Attempt, wait | near.filter(lambda w: w <= longest_wait), st.integers(1, 9)),
        max_size=40,
    )


quotas = st.integers(0, 30)
rates = st.sampled_from([0.1, 0.5, 1.0, 1.7, 3.0, 14.0]) | st.floats(0.01, 100)


def passed(
    tried: list[Attempt], limits: SendingLimits
) -> Iterator[tuple[datetime, int, Usage]]:
    """The messages that were let through: when, how many recipients, what follows."""
    usage, now = None, START
    for attempt in tried:
        now += attempt.wait
        try:
            usage = reserve(usage, limits, attempt.recipients, now)
        except LimitExceededError:
            continue
        yield now, attempt.recipients, usage


def after(tried: list[Attempt], limits: SendingLimits) -> Usage:
    usage = Usage(START)
    for _, _, following in passed(tried, limits):
        usage = following
    return usage


def is_let_through(usage: Usage, limits: SendingLimits, recipients: int, now: datetime) -> bool:
    try:
        reserve(usage, limits, recipients, now)
    except LimitExceededError:
        return False
    return True


def wait_told(usage: Usage, limits: SendingLimits, recipients: int, now: datetime) -> timedelta:
    try:
        reserve(usage, limits, recipients, now)
    except LimitExceededError as error:
        return error.retry_after
    return timedelta(0)


@given(attempts(timedelta(hours=13)), quotas)
def test_no_24_hours_hold_more_than_the_quota(tried: list[Attempt], quota: int) -> None:
    sent = [(at, n) for at, n, _ in passed(tried, SendingLimits(quota, UNLIMITED))]
    for last, _ in sent:
        assert sum(n for at, n in sent if last - WINDOW < at <= last) <= quota


@given(attempts(timedelta(hours=13)), quotas)
def test_what_the_last_24_hours_and_a_minute_leave_room_for_is_let_through(
    tried: list[Attempt], quota: int
) -> None:
    limits = SendingLimits(quota, UNLIMITED)
    sent: list[tuple[datetime, int]] = []
    usage, now = Usage(START), START
    for attempt in tried:
        now += attempt.wait
        counted = sum(n for at, n in sent if now - at < WINDOW + BUCKET)
        has_room = counted + attempt.recipients <= quota
        if is_let_through(usage, limits, attempt.recipients, now):
            usage = reserve(usage, limits, attempt.recipients, now)
            sent.append((now, attempt.recipients))
        else:
            assert not has_room


@given(attempts(timedelta(seconds=5)), rates)
def test_never_more_than_burst_plus_rate_and_one_message(
    tried: list[Attempt], rate: float
) -> None:
    sent = [(at, n) for at, n, _ in passed(tried, SendingLimits(UNLIMITED, rate))]
    for i, (first, _) in enumerate(sent):
        for j in range(i, len(sent)):
            last, borrowed = sent[j]
            earlier = sum(n for _, n in sent[i:j])
            earned = rate * (last - first).total_seconds()
            # The last one passed because something was left; what it took beyond is owed.
            assert earlier <= max(rate, 1) + earned + 1e-6, borrowed


@given(
    attempts(timedelta(seconds=5)),
    rates,
    st.lists(st.timedeltas(timedelta(0), 10 * SECOND), min_size=40, max_size=40),
)
def test_messages_counted_out_of_order_earn_nothing_twice(
    tried: list[Attempt], rate: float, lateness: list[timedelta]
) -> None:
    limits, usage, now = SendingLimits(UNLIMITED, rate), Usage(START), START
    total = borrowed = 0
    for attempt, late in zip(tried, lateness, strict=False):
        now += attempt.wait
        if is_let_through(usage, limits, attempt.recipients, now - late):
            usage = reserve(usage, limits, attempt.recipients, now - late)
            total, borrowed = total + attempt.recipients, attempt.recipients
    elapsed_s = (now - START).total_seconds()
    assert total - borrowed <= max(rate, 1) + rate * (elapsed_s + 10) + 1e-6


@given(attempts(timedelta(hours=5)), quotas, rates, st.integers(1, 9))
def test_reserve_then_refund_changes_nothing(
    tried: list[Attempt], quota: int, rate: float, recipients: int
) -> None:
    limits = SendingLimits(quota, rate)
    usage = after(tried, limits)
    now = usage.as_of + 7 * SECOND
    assume(is_let_through(usage, limits, recipients, now))
    reserved = reserve(usage, limits, recipients, now)
    refunded = refund(reserved, Reservation(1, "a", recipients, reserved.as_of))
    assert refunded == seen_at(usage, limits, now)


@given(
    attempts(timedelta(minutes=5)),
    st.integers(10, 60),
    st.integers(1, 9),
    attempts(timedelta(minutes=5)),
)
def test_a_late_refund_is_as_if_the_message_had_never_been(
    before: list[Attempt], quota: int, recipients: int, then: list[Attempt]
) -> None:
    limits = SendingLimits(quota, UNLIMITED)
    usage = after(before, limits)
    assume(is_let_through(usage, limits, recipients, usage.as_of))
    with_it = reserve(usage, limits, recipients, usage.as_of)
    reservation = Reservation(1, "a", recipients, with_it.as_of)
    without, now = usage, usage.as_of
    for attempt in then:
        now += attempt.wait
        if is_let_through(with_it, limits, attempt.recipients, now):
            with_it = reserve(with_it, limits, attempt.recipients, now)
            without = reserve(without, limits, attempt.recipients, now)
    assert refund(with_it, reservation) == without


@given(attempts(timedelta(hours=5)), quotas, rates, st.integers(1, 9))
def test_fewer_recipients_are_never_refused_where_more_pass(
    tried: list[Attempt], quota: int, rate: float, recipients: int
) -> None:
    limits = SendingLimits(quota, rate)
    usage = after(tried, limits)
    if is_let_through(usage, limits, recipients + 1, usage.as_of):
        assert is_let_through(usage, limits, recipients, usage.as_of)


@given(
    attempts(timedelta(hours=5)),
    quotas,
    rates,
    st.integers(1, 9),
    st.integers(0, 50),
    st.floats(1, 10),
)
def test_higher_limits_never_refuse_what_lower_ones_let_through(
    tried: list[Attempt], quota: int, rate: float, recipients: int, more: int, factor: float
) -> None:
    limits = SendingLimits(quota, rate)
    usage = after(tried, limits)
    now = usage.as_of + SECOND
    if is_let_through(usage, limits, recipients, now):
        higher = SendingLimits(quota + more, rate * factor)
        assert is_let_through(usage, higher, recipients, now)


@given(
    attempts(timedelta(hours=5)), quotas, rates, st.integers(1, 9), st.timedeltas(0 * SECOND)
)
def test_waiting_never_does_harm(
    tried: list[Attempt], quota: int, rate: float, recipients: int, wait: timedelta
) -> None:
    limits = SendingLimits(quota, rate)
    usage = after(tried, limits)
    wait = min(wait, 1000 * WINDOW)
    if is_let_through(usage, limits, recipients, usage.as_of):
        assert is_let_through(usage, limits, recipients, usage.as_of + wait)


@given(attempts(timedelta(hours=5)), st.integers(1, 30), rates, st.integers(1, 9))
def test_what_was_refused_passes_after_the_wait_that_was_told(
    tried: list[Attempt], quota: int, rate: float, recipients: int
) -> None:
    limits = SendingLimits(quota, rate)
    usage = after(tried, limits)
    now = usage.as_of + timedelta(microseconds=123457)
    for _ in range(2):  # the quota's wait first, then perhaps the rate's
        now += wait_told(usage, limits, recipients, now)
    assert recipients > quota or is_let_through(usage, limits, recipients, now)


@given(
    attempts(timedelta(hours=5)),
    quotas,
    rates,
    st.timedeltas(timedelta(seconds=11), timedelta(days=5000)),
)
def test_a_clock_set_back_forgets_nothing_and_blocks_for_no_longer_than_a_day(
    tried: list[Attempt], quota: int, rate: float, back: timedelta
) -> None:
    limits = SendingLimits(quota, rate)
    usage = after(tried, limits)
    now = usage.as_of - back
    seen = seen_at(usage, limits, now)
    assert used_24h(usage, now) == seen.used == used_24h(usage, usage.as_of)
    owed_s = max(0.0, -(seen.tokens or 0) / 1_000_000 / rate)
    later = now + max(WINDOW + BUCKET, timedelta(seconds=owed_s + 1))
    assert is_let_through(seen, limits, max(quota, 1), later) is (quota > 0)
