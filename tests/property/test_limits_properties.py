"""Properties of sending limits for every account, every rhythm, and clocks that misbehave."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from hypothesis import assume, given
from hypothesis import strategies as st

from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.core.limits import (
    BUCKET,
    TOLERANCE,
    WINDOW,
    Charge,
    LimitExceededError,
    LimitStatus,
    Subject,
    Usage,
    attempt,
    limit_statuses,
    refund,
    seen_at,
)
from smtpgate.core.limits.window import minute_of
from smtpgate.core.moments import microseconds
from tests.support.world import DELEGATE

START: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
SECOND: Final = timedelta(seconds=1)
ACCOUNT: Final = Subject(DELEGATE)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def reserve(
    usage: Usage | None, limits: SendingLimits, recipients: int, now: datetime
) -> Usage:
    """The usage with the recipients. Raises LimitExceededError."""
    tried = attempt([usage], [Charge(ACCOUNT, limits)], recipients, now)
    if tried.refusal is not None:
        raise tried.refusal
    assert tried.usages[0] is not None
    return tried.usages[0]


def nothing() -> Usage:
    return Usage.nothing(microseconds(START))


def as_of(usage: Usage) -> datetime:
    return EPOCH + timedelta(microseconds=usage.as_of_us)


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
    for each in tried:
        now += each.wait
        try:
            usage = reserve(usage, limits, each.recipients, now)
        except LimitExceededError:
            continue
        yield now, each.recipients, usage


def after(tried: list[Attempt], limits: SendingLimits) -> Usage:
    usage = nothing()
    for _, _, following in passed(tried, limits):
        usage = following
    return usage


def is_let_through(usage: Usage, limits: SendingLimits, recipients: int, now: datetime) -> bool:
    try:
        reserve(usage, limits, recipients, now)
    except LimitExceededError:
        return False
    return True


def wait_reported(
    usage: Usage, limits: SendingLimits, recipients: int, now: datetime
) -> timedelta | None:
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
    usage, now = nothing(), START
    for each in tried:
        now += each.wait
        counted = sum(n for at, n in sent if now - at < WINDOW + BUCKET)
        has_room = counted + each.recipients <= quota
        if is_let_through(usage, limits, each.recipients, now):
            usage = reserve(usage, limits, each.recipients, now)
            sent.append((now, each.recipients))
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
    limits, usage, now = SendingLimits(UNLIMITED, rate), nothing(), START
    total = borrowed = 0
    for each, late in zip(tried, lateness, strict=False):
        now += each.wait
        if is_let_through(usage, limits, each.recipients, now - late):
            usage = reserve(usage, limits, each.recipients, now - late)
            total, borrowed = total + each.recipients, each.recipients
    elapsed_s = (now - START).total_seconds()
    assert total - borrowed <= max(rate, 1) + rate * (elapsed_s + 10) + 1e-6


@given(attempts(timedelta(hours=5)), quotas, rates, st.integers(1, 9))
def test_reserve_then_refund_changes_nothing(
    tried: list[Attempt], quota: int, rate: float, recipients: int
) -> None:
    limits = SendingLimits(quota, rate)
    usage = after(tried, limits)
    now = as_of(usage) + 7 * SECOND
    assume(is_let_through(usage, limits, recipients, now))
    reserved = reserve(usage, limits, recipients, now)
    refunded = refund(reserved, reserved.window.minute, recipients)
    assert refunded == seen_at(usage, limits, microseconds(now))


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
    assume(is_let_through(usage, limits, recipients, as_of(usage)))
    with_it = reserve(usage, limits, recipients, as_of(usage))
    minute = with_it.window.minute
    without, now = usage, as_of(usage)
    for each in then:
        now += each.wait
        if is_let_through(with_it, limits, each.recipients, now):
            with_it = reserve(with_it, limits, each.recipients, now)
            without = reserve(without, limits, each.recipients, now)
    assert refund(with_it, minute, recipients) == without


@given(attempts(timedelta(hours=5)), quotas, rates, st.integers(1, 9))
def test_fewer_recipients_are_never_refused_where_more_pass(
    tried: list[Attempt], quota: int, rate: float, recipients: int
) -> None:
    limits = SendingLimits(quota, rate)
    usage = after(tried, limits)
    if is_let_through(usage, limits, recipients + 1, as_of(usage)):
        assert is_let_through(usage, limits, recipients, as_of(usage))


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
    now = as_of(usage) + SECOND
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
    if is_let_through(usage, limits, recipients, as_of(usage)):
        assert is_let_through(usage, limits, recipients, as_of(usage) + wait)


@given(attempts(timedelta(hours=5)), st.integers(1, 30), rates, st.integers(1, 9))
def test_what_was_refused_passes_after_the_wait_that_was_reported_and_never_earlier(
    tried: list[Attempt], quota: int, rate: float, recipients: int
) -> None:
    limits = SendingLimits(quota, rate)
    usage = after(tried, limits)
    now = as_of(usage) + timedelta(microseconds=123457)
    wait = wait_reported(usage, limits, recipients, now)
    assert (wait is None) is (recipients > quota)
    if wait:
        assert is_let_through(usage, limits, recipients, now + wait)
        # Two millionths of a token may be earned before they are reported.
        earlier = now + wait - timedelta(microseconds=2 + 3 / rate)
        assert earlier < now or not is_let_through(usage, limits, recipients, earlier)


def limit_status(usage: Usage, limits: SendingLimits, now: datetime) -> LimitStatus:
    return limit_statuses([usage], [Charge(ACCOUNT, limits)], now)[0]


@given(attempts(timedelta(hours=5)), quotas, st.timedeltas(timedelta(0), WINDOW))
def test_as_many_as_a_quota_has_left_pass_and_no_more(
    tried: list[Attempt], quota: int, wait: timedelta
) -> None:
    limits = SendingLimits(quota, UNLIMITED)
    usage = after(tried, limits)
    now = as_of(usage) + wait
    found = limit_status(usage, limits, now)
    assert found.left is not None
    assert not is_let_through(usage, limits, found.left + 1, now)
    assert found.left == 0 or is_let_through(usage, limits, found.left, now)
    assert (found.quota_free_in is None) is (found.left > 0 or quota == 0)
    if found.quota_free_in is not None:
        assert is_let_through(usage, limits, 1, now + found.quota_free_in)
        earlier = now + found.quota_free_in - timedelta(microseconds=1)
        assert not is_let_through(usage, limits, 1, earlier)


@given(attempts(timedelta(seconds=5)), rates | st.just(0.0), st.timedeltas(0 * SECOND, SECOND))
def test_as_many_messages_to_one_as_a_rate_has_left_pass_and_no_more(
    tried: list[Attempt], rate: float, wait: timedelta
) -> None:
    limits = SendingLimits(UNLIMITED, rate)
    usage = after(tried, limits)
    now = as_of(usage) + wait
    found = limit_status(usage, limits, now)
    assert found.rate_left is not None
    for _ in range(found.rate_left):
        usage = reserve(usage, limits, 1, now)
    assert not is_let_through(usage, limits, 1, now)
    assert (found.rate_free_in is None) is (found.rate_left > 0 or rate == 0)


@given(attempts(timedelta(hours=5)), quotas, rates, st.timedeltas(0 * SECOND, 9 * SECOND))
def test_who_has_nothing_left_waits_as_long_as_a_refusal_says(
    tried: list[Attempt], quota: int, rate: float, wait: timedelta
) -> None:
    limits = SendingLimits(quota, rate)
    usage = after(tried, limits)
    now = as_of(usage) + wait
    found = limit_status(usage, limits, now)
    longest = max(found.quota_free_in or timedelta(0), found.rate_free_in or timedelta(0))
    assert wait_reported(usage, limits, 1, now) == (longest if quota else None)


@given(
    attempts(timedelta(hours=5)),
    quotas,
    rates,
    st.timedeltas(TOLERANCE + SECOND, timedelta(days=5000)),
)
def test_a_clock_set_back_forgets_nothing_and_blocks_for_no_longer_than_a_day(
    tried: list[Attempt], quota: int, rate: float, back: timedelta
) -> None:
    limits = SendingLimits(quota, rate)
    usage = after(tried, limits)
    now = as_of(usage) - back
    now_us = microseconds(now)
    seen = seen_at(usage, limits, now_us)
    assert seen.window.used == seen_at(usage, limits, usage.as_of_us).window.used
    owed_s = max(0.0, -(seen.tokens or 0) / 1_000_000 / rate)
    later = now + max(WINDOW + BUCKET, timedelta(seconds=owed_s + 1))
    assert is_let_through(seen, limits, max(quota, 1), later) is (quota > 0)


@given(
    st.lists(st.tuples(quotas, rates), min_size=1, max_size=4),
    st.lists(st.tuples(st.timedeltas(timedelta(0), timedelta(hours=7)), st.integers(1, 9))),
)
def test_several_subjects_are_let_through_when_each_of_them_alone_would_be(
    limits: list[tuple[int, float]], tried: list[tuple[timedelta, int]]
) -> None:
    charges = [
        Charge(Subject(DELEGATE, "user", f"{number}"), SendingLimits(*pair))
        for number, pair in enumerate(limits)
    ]
    usages: tuple[Usage | None, ...] = (None,) * len(charges)
    now = START
    for wait, recipients in tried:
        now += wait
        together = attempt(usages, charges, recipients, now)
        alone = [
            attempt([usage], [charge], recipients, now)
            for usage, charge in zip(usages, charges, strict=True)
        ]
        refusals = [one.refusal for one in alone if one.refusal is not None]
        if together.refusal is None:
            assert not refusals
            assert together.usages == tuple(one.usages[0] for one in alone)
        else:
            assert together.usages == usages
            waits = [one.retry_after or timedelta.max for one in refusals]
            assert (together.refusal.retry_after or timedelta.max) == max(waits)
        usages = together.usages


@given(st.integers(0, 2**53))
def test_a_moment_is_in_its_minute(moment_us: int) -> None:
    assert minute_of(moment_us) * 60_000_000 <= moment_us < (minute_of(moment_us) + 1) * 6e7
