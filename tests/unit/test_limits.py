from datetime import UTC, datetime, timedelta

import pytest

from smtpgate.core.account import SendingLimits
from smtpgate.core.limits import (
    Charge,
    LimitExceededError,
    LimitName,
    LimitStatus,
    Subject,
    Usage,
    Window,
    attempt,
    idle_at_us,
    limit_statuses,
    must_have_room,
    must_make_sense,
    refund,
    seen_at,
)
from smtpgate.core.moments import microseconds
from tests.support.rows import rows
from tests.support.world import DELEGATE, OWNER

START = datetime(2026, 11, 23, 10, 0, 30, tzinfo=UTC)
ACCOUNT = Subject(DELEGATE)
UNLIMITED = SendingLimits(-1, -1)
MINUTE = microseconds(START) // 60_000_000


def reserve(
    usage: Usage | None, limits: SendingLimits, recipients: int, now: datetime
) -> Usage:
    tried = attempt([usage], [Charge(ACCOUNT, limits)], recipients, now)
    if tried.refusal is not None:
        raise tried.refusal
    assert tried.usages[0] is not None
    return tried.usages[0]


@pytest.mark.parametrize(
    ("subject", "limit", "left", "wait", "text"),
    [
        (
            ACCOUNT,
            "max-24h-send",
            4,
            timedelta(minutes=3, seconds=11.2),
            "account 999999999999: 4 of 200 recipients left, retry after 00:03:12",
        ),
        (
            Subject(DELEGATE, "user", "mailer"),
            "max-24h-send",
            0,
            timedelta(days=1, minutes=1),
            "user mailer: 0 of 200 recipients left, retry after 24:01:00",
        ),
        (
            Subject(DELEGATE, "access-key", "AKIAIOSFODNN7EXAMPLE"),
            "max-send-rate",
            0,
            timedelta(microseconds=2),
            "access key AKIAIOSFODNN7EXAMPLE: 0 recipients left at 0.5 a second, "
            "retry after 00:00:01",
        ),
        (
            Subject(DELEGATE, "identity", "arn:aws:ses:us-east-1:8:identity/example.com"),
            "max-24h-send",
            200,
            None,
            "account 999999999999 by identity arn:aws:ses:us-east-1:8:identity/example.com: "
            "200 of 200 recipients left, 201 never fit",
        ),
    ],
)
def test_a_refusal_says_whose_limit_what_is_left_and_how_long_to_wait(
    subject: Subject, limit: LimitName, left: int, wait: timedelta | None, text: str
) -> None:
    charge = Charge(subject, SendingLimits(200, 0.5))
    error = LimitExceededError(charge, limit, recipients=201, left=left, retry_after=wait)
    assert str(error) == text


def test_the_state_of_an_account_stays_small() -> None:
    usage: Usage | None = None
    for minute in range(3000):
        now = START + timedelta(minutes=minute)
        usage = reserve(usage, UNLIMITED, 1, now)
    assert usage is not None
    assert len(usage.window.counts) == 1441
    assert usage.window.used == sum(usage.window.counts) == 1441


def test_a_year_of_silence_costs_nothing() -> None:
    usage = reserve(None, SendingLimits(-1, 5), 1, START)
    usage = reserve(usage, SendingLimits(-1, 5), 1, START + timedelta(days=365))
    assert usage.window.counts == (1,)


def test_what_was_counted_later_than_now_is_as_if_it_were_sent_now() -> None:
    window = Window(MINUTE, (1, 2), 6)
    assert window.seen_at(MINUTE - 1) == Window(MINUTE - 1, (1,), 6)
    assert window.seen_at(MINUTE - 2) == Window(MINUTE - 2, (), 6)
    assert window.seen_at(MINUTE - 500) == Window(MINUTE - 500, (), 6)


def test_a_message_that_is_a_few_seconds_late_is_counted_with_the_last_one() -> None:
    usage = reserve(None, UNLIMITED, 1, START)
    last = START + timedelta(seconds=92)
    usage = reserve(usage, UNLIMITED, 2, last)
    usage = reserve(usage, UNLIMITED, 3, last - timedelta(seconds=5))
    assert usage.window.counts == (1, 0, 5)
    usage = reserve(usage, UNLIMITED, 4, last - timedelta(seconds=6))
    assert usage.window == Window(MINUTE + 1, (1,), 10)


@rows("step_s", [-86_000, -90, -30, -6, -5, -1, 1, 5, 30, 90, 86_000])
def test_a_step_of_the_clock_neither_stops_a_sender_nor_lets_it_run(step_s: float) -> None:
    limits, usage, passed = SendingLimits(-1, 5), None, 0
    for tenth in range(600):
        step = timedelta(seconds=step_s if tenth >= 300 else 0)
        now = START + timedelta(seconds=tenth / 10) + step
        tried = attempt([usage], [Charge(ACCOUNT, limits)], 1, now)
        usage = tried.usages[0]
        passed += tried.refusal is None
    nominal = 5 * 60
    assert nominal - 5 * 5 <= passed <= nominal + 2 * 5, "five seconds less, or a burst more"


@rows(
    "counts, minute, recipients, left",
    [
        ((2, 0, 3), MINUTE - 2, 2, (3,)),
        ((2, 0, 3), MINUTE, 3, (2, 0, 0)),
        ((2, 0, 3), MINUTE - 2, 1, (1, 0, 3)),
        # The clock was set back since: they were moved, and the oldest give way.
        ((2, 0, 3), MINUTE + 9, 4, (1, 0, 0)),
        ((2, 0, 3), MINUTE - 1, 1, (1, 0, 3)),
        ((2, 0, 3), MINUTE - 900, 1, (1, 0, 3)),
        # No more than is there, and nothing for what counts no longer.
        ((2, 0, 3), MINUTE, 9, (0,)),
        ((2, 0, 3), MINUTE - 1441, 2, (2, 0, 3)),
    ],
)
def test_a_refund_takes_from_its_own_minute_and_then_from_the_oldest(
    counts: tuple[int, ...], minute: int, recipients: int, left: tuple[int, ...]
) -> None:
    usage = Usage(microseconds(START), Window(MINUTE, counts[:-1], sum(counts)))
    refunded = refund(usage, minute, recipients).window
    assert refunded == Window(MINUTE, left[:-1], sum(left))


def test_limits_that_were_unlimited_begin_with_a_full_bucket() -> None:
    usage = reserve(None, UNLIMITED, 50, START)
    usage = reserve(usage, SendingLimits(-1, 3), 3, START)
    with pytest.raises(LimitExceededError):
        reserve(usage, SendingLimits(-1, 3), 1, START)


def test_a_rate_too_small_to_wait_for_gives_a_wait_that_can_be_said() -> None:
    slow = SendingLimits(-1, 1e-12)
    usage = reserve(None, slow, 1000, START)
    with pytest.raises(LimitExceededError) as refusal:
        reserve(usage, slow, 1, START)
    assert refusal.value.retry_after == timedelta(days=366)
    assert idle_at_us(usage, slow) - microseconds(START) == 367 * 86_400_000_000


def test_a_usage_may_be_forgotten_a_day_after_it_counts() -> None:
    usage = reserve(None, SendingLimits(10, 5), 5, START)
    two_days = START.replace(second=0) + timedelta(days=2, minutes=1)
    assert idle_at_us(usage, SendingLimits(10, 5)) == microseconds(two_days)


def test_what_was_reported_in_a_time_that_was_wrong_can_be_reported_a_day_later() -> None:
    usage = Usage(
        microseconds(START + timedelta(days=400)),
        Window(MINUTE + 400 * 1440, (), 9),
        None,
        (10, MINUTE + 400 * 1440, -1, -1),
    )
    seen = seen_at(usage, UNLIMITED, microseconds(START))
    assert seen.reported == (10, MINUTE, -1, -1)


@rows(
    "tokens, rate, rate_left, rate_free_in",
    [
        (None, -1, None, None),
        (None, 14, 14, None),
        (None, 2.5, 3, None),
        (1, 2, 1, None),
        (1_000_000, 2, 1, None),
        (1_000_001, 2, 2, None),
        (0, 2, 0, timedelta(microseconds=1)),
        (-3_000_000, 2, 0, timedelta(seconds=1.5, microseconds=1)),
        (5_000_000, 0, 0, None),
    ],
)
def test_what_a_rate_has_left_is_in_messages_to_one(
    tokens: int | None, rate: float, rate_left: int | None, rate_free_in: timedelta | None
) -> None:
    usage = Usage(microseconds(START), Window(MINUTE), tokens)
    charge = Charge(ACCOUNT, SendingLimits(-1, rate))
    assert limit_statuses([usage], [charge], START) == (
        LimitStatus(charge, 0, None, rate_left, rate_free_in),
    )


def test_waits_are_reported_from_now_also_by_a_clock_that_is_a_little_behind() -> None:
    limits = SendingLimits(4, 2)
    usage = reserve(None, limits, 4, START)
    behind = timedelta(seconds=4)
    (limit_status,) = limit_statuses([usage], [Charge(ACCOUNT, limits)], START - behind)
    day = START.replace(second=0) + timedelta(days=1, minutes=1) - START
    assert limit_status.quota_free_in == day + behind
    assert limit_status.rate_free_in == timedelta(seconds=1, microseconds=1) + behind


def test_of_several_quotas_that_are_used_up_the_longest_wait_is_reported() -> None:
    charges = [
        Charge(Subject(DELEGATE, "user", name), SendingLimits(quota, -1))
        for name, quota in (("roomy", 9), ("hour", 1), ("day", 1), ("same", 1), ("free", -1))
    ]
    hours = (0, 1, 24, 24, 0)
    found = [
        LimitStatus(charge, 1, timedelta(hours=wait) if wait else None, None, None)
        for charge, wait in zip(charges, hours, strict=True)
    ]
    with pytest.raises(LimitExceededError) as refusal:
        must_have_room(found)
    assert (refusal.value.charge, refusal.value.retry_after) == (
        charges[2],
        timedelta(hours=24),
    )
    never = LimitStatus(Charge(ACCOUNT, SendingLimits(0, -1)), 0, None, None, None)
    with pytest.raises(LimitExceededError) as refusal:
        must_have_room([*found, never])
    assert refusal.value.retry_after is None
    must_have_room([found[0], found[4]])


@rows("at", [0, 1, 2])
def test_a_message_passes_only_if_it_is_within_the_limits_of_each_charge(at: int) -> None:
    subjects = [ACCOUNT, Subject(DELEGATE, "user", "a"), Subject(DELEGATE, "user", "b")]
    charges = [Charge(one, SendingLimits(9, -1)) for one in subjects]
    charges[at] = Charge(subjects[at], SendingLimits(1, -1))
    tried = attempt([None] * 3, charges, 2, START)
    assert tried.refusal is not None
    assert (tried.refusal.charge, tried.usages) == (charges[at], (None,) * 3)
    assert attempt([None] * 3, charges, 1, START).refusal is None


def test_a_message_has_recipients_and_is_charged_once_to_each_subject_of_one_account() -> None:
    user, stranger = Subject(DELEGATE, "user", "mailer"), Subject(OWNER)
    must_make_sense([Charge(ACCOUNT, UNLIMITED), Charge(user, UNLIMITED)], 1)
    for subjects, recipients, says in (
        ([ACCOUNT], 0, "at least one recipient, not 0"),
        ([ACCOUNT, stranger], 1, "subjects of one account"),
        ([ACCOUNT, user, user], 1, "once to a subject"),
    ):
        with pytest.raises(ValueError, match=says):
            must_make_sense([Charge(one, UNLIMITED) for one in subjects], recipients)


@pytest.mark.parametrize("usages", [0, 2])
def test_each_charge_has_one_usage(usages: int) -> None:
    with pytest.raises(ValueError, match=f"1 charges have {usages} usages"):
        attempt([None] * usages, [Charge(ACCOUNT, UNLIMITED)], 1, START)


def test_a_recipient_more_copies_no_count_of_earlier_minutes() -> None:
    window = Window(MINUTE, tuple(range(1, 1441)), 1_037_521)  # 1 in the last one
    assert window.counts[-1] == 1
    more = window.plus(4)
    assert more.earlier is window.earlier
    assert (more.counts[-1], more.used) == (5, 1_037_525)


def test_of_refusals_with_the_same_wait_the_first_charge_is_named_and_its_quota_first() -> None:
    user = Subject(DELEGATE, "user", "mailer")
    nothing, no_rate = SendingLimits(0, 0), SendingLimits(-1, 0)
    for limits, expected in (
        ((nothing, nothing), (ACCOUNT, "max-24h-send")),
        ((no_rate, nothing), (ACCOUNT, "max-send-rate")),
        ((UNLIMITED, nothing), (user, "max-24h-send")),
    ):
        charges = [Charge(ACCOUNT, limits[0]), Charge(user, limits[1])]
        refusal = attempt([None, None], charges, 1, START).refusal
        assert refusal is not None
        assert (refusal.charge.subject, refusal.limit) == expected
        assert refusal.retry_after is None
