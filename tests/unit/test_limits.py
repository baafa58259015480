from datetime import UTC, datetime, timedelta

import pytest

from smtpgate.core.account import SendingLimits
from smtpgate.core.limits import LimitExceededError, Reservation, Usage, refund, reserve

START = datetime(2026, 11, 23, 10, 0, 30, tzinfo=UTC)


def test_a_refusal_says_what_is_left_and_how_long_to_wait() -> None:
    error = LimitExceededError("max-24h-send", timedelta(seconds=90), 4)
    assert str(error) == "4 recipients left now, try again in 90 s"


def test_the_state_of_an_account_stays_small() -> None:
    usage: Usage | None = None
    for minute in range(3000):
        now = START + timedelta(minutes=minute)
        usage = reserve(usage, SendingLimits(-1, -1), 1, now)
    assert usage is not None
    assert len(usage.counts) == 1441
    assert usage.used == sum(usage.counts) == 1441


def test_a_year_of_silence_costs_nothing() -> None:
    usage = reserve(None, SendingLimits(-1, 5), 1, START)
    usage = reserve(usage, SendingLimits(-1, 5), 1, START + timedelta(days=365))
    assert usage.counts == (1,)


def test_a_longer_list_of_minutes_survives_a_small_step_back() -> None:
    usage = reserve(None, SendingLimits(-1, -1), 1, START)
    usage = reserve(usage, SendingLimits(-1, -1), 2, START + timedelta(minutes=1))
    usage = reserve(usage, SendingLimits(-1, -1), 3, START + timedelta(seconds=55))
    assert usage.counts == (1, 5)
    usage = reserve(usage, SendingLimits(-1, -1), 4, START)
    assert usage.counts == (10,)


def test_a_refund_takes_no_more_than_is_there() -> None:
    usage = reserve(None, SendingLimits(-1, -1), 2, START)
    refunded = refund(usage, Reservation(1, "a", 5, START))
    assert refunded.counts == (0,)
    assert refunded.used == 0


def test_a_refund_of_what_counts_no_longer_gives_back_nothing() -> None:
    usage = reserve(None, SendingLimits(-1, -1), 3, START + timedelta(days=2))
    assert refund(usage, Reservation(1, "a", 2, START)) == usage


def test_a_refund_leaves_no_trace_of_minutes_in_which_nothing_else_was_sent() -> None:
    first = reserve(None, SendingLimits(-1, -1), 2, START)
    usage = reserve(first, SendingLimits(-1, -1), 3, START + timedelta(minutes=2))
    assert usage.counts == (2, 0, 3)
    assert refund(usage, Reservation(1, "a", 2, START)).counts == (3,)


def test_limits_that_were_unlimited_begin_with_a_full_bucket() -> None:
    usage = reserve(None, SendingLimits(-1, -1), 50, START)
    usage = reserve(usage, SendingLimits(-1, 3), 3, START)
    with pytest.raises(LimitExceededError):
        reserve(usage, SendingLimits(-1, 3), 1, START)


def test_a_rate_too_small_to_wait_for_gives_a_wait_that_can_be_said() -> None:
    slow = SendingLimits(-1, 1e-12)
    usage = reserve(None, slow, 1000, START)
    with pytest.raises(LimitExceededError) as refusal:
        reserve(usage, slow, 1, START)
    assert refusal.value.retry_after == timedelta(days=366)
