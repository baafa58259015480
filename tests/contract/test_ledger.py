"""The contract of every ledger, with counts in any store."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec.structs import replace

from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.core.limits import (
    BUCKET,
    TOLERANCE,
    WINDOW,
    Charge,
    LimitExceededError,
    LimitStatus,
    Reservation,
    Subject,
)
from smtpgate.ledger.memory import MemoryLedger
from smtpgate.ports import Ledger
from tests.support.cases import load_cases
from tests.support.daemons import Lab
from tests.support.ledgers import (
    LEASE_S,
    LedgerBackend,
    MemoryBackend,
    RedisBackend,
    RedisServer,
    SqliteBackend,
    redis_server,
    soon,
    used_24h,
)
from tests.support.world import DELEGATE

START: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
MINUTE: Final = timedelta(minutes=1)
LEASE: Final = timedelta(seconds=LEASE_S)
CASES: Final = [*load_cases("limits/10-quota.toml"), *load_cases("limits/20-rate.toml")]
A: Final = Subject(DELEGATE)
USER: Final = Subject(DELEGATE, "user", "mailer")
KEY: Final = Subject(DELEGATE, "access-key", "AKIAIOSFODNN7EXAMPLE")
B: Final = Subject("777777777777")
ANY: Final = SendingLimits(UNLIMITED, UNLIMITED)
NONE: Final = SendingLimits(0, 0)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with Lab() as lab:
        yield redis_server(lab)


@pytest.fixture(
    params=["memory", "sqlite", pytest.param("redis", marks=pytest.mark.integration)]
)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> LedgerBackend:
    if request.param == "memory":
        return MemoryBackend()
    if request.param == "sqlite":
        return SqliteBackend(tmp_path / "ledger.sqlite")
    server: RedisServer = request.getfixturevalue("redis")
    return RedisBackend(server.url)


@pytest.fixture
async def ledger(backend: LedgerBackend) -> AsyncIterator[Ledger]:
    opened = backend.open()
    yield opened
    await opened.close()


def charge(limits: SendingLimits, subject: Subject = A) -> list[Charge]:
    return [Charge(subject, limits)]


def moment(text: str) -> datetime:
    hours, minutes, seconds = map(int, text.split(":"))
    return START + timedelta(hours=hours, minutes=minutes, seconds=seconds)


@pytest.mark.parametrize("case", CASES, ids=[case["note"] for case in CASES])
async def test_counts_as_the_table_says(ledger: Ledger, case: dict[str, Any]) -> None:
    limits = charge(SendingLimits(**case["limits"]))
    for step in case["steps"]:
        now = moment(step["at"])
        if "refused" not in step:
            reservation = await ledger.reserve(limits, step["recipients"], now)
            assert reservation.used == (step["used"],), step
            assert await used_24h(ledger, A, now) == step["used"], step
            continue
        with pytest.raises(LimitExceededError) as refusal:
            await ledger.reserve(limits, step["recipients"], now)
        found = refusal.value
        wait = found.retry_after
        retry_s = "never" if wait is None else ceil(wait.total_seconds())
        assert (found.limit, retry_s, found.left) == (
            step["refused"],
            step["retry_s"],
            step["left"],
        ), step


async def test_accounts_do_not_share_limits(ledger: Ledger) -> None:
    limits = SendingLimits(1, 1)
    await ledger.reserve(charge(limits), 1, START)
    await ledger.reserve(charge(limits, B), 1, START)
    assert await used_24h(ledger, A, START) == 1


async def test_an_account_that_never_sent_has_used_nothing(ledger: Ledger) -> None:
    assert await used_24h(ledger, A, START) == 0


# -- several subjects at once ------------------------------------------------------------------


async def test_all_that_are_charged_are_counted(ledger: Ledger) -> None:
    charges = [Charge(A, SendingLimits(10, 10)), Charge(USER, ANY), Charge(KEY, ANY)]
    reservation = await ledger.reserve(charges, 3, START)
    assert reservation.used == (3, 3, 3)
    await ledger.commit(reservation, 2, START)
    assert [await used_24h(ledger, one, START) for one in (A, USER, KEY)] == [2, 2, 2]


@pytest.mark.parametrize("tight", [0, 1, 2])
async def test_one_that_is_full_means_that_nothing_is_counted(
    ledger: Ledger, tight: int
) -> None:
    charges = [Charge(subject, ANY) for subject in (A, USER, KEY)]
    charges[tight] = Charge(charges[tight].subject, SendingLimits(4, UNLIMITED))
    await ledger.reserve(charges, 3, START)
    with pytest.raises(LimitExceededError) as refusal:
        await ledger.reserve(charges, 2, START + MINUTE)
    found = refusal.value
    assert (found.charge, found.limit, found.left) == (charges[tight], "max-24h-send", 1)
    assert found.retry_after == WINDOW
    assert [await used_24h(ledger, one, START) for one in (A, USER, KEY)] == [3, 3, 3]


async def test_of_several_refusals_the_longest_wait_is_reported(ledger: Ledger) -> None:
    charges = [Charge(A, SendingLimits(100, 1)), Charge(USER, SendingLimits(5, UNLIMITED))]
    await ledger.reserve(charges, 5, START)
    with pytest.raises(LimitExceededError) as refusal:
        await ledger.reserve(charges, 1, START)
    assert refusal.value.charge.subject == USER
    with pytest.raises(LimitExceededError) as refusal:
        await ledger.reserve(charges, 6, START)
    assert refusal.value.retry_after is None, "never is the longest"
    only = charges[:1]
    with pytest.raises(LimitExceededError) as refusal:
        await ledger.reserve(only, 1, START)
    assert (refusal.value.limit, refusal.value.charge) == ("max-send-rate", charges[0])


@pytest.mark.parametrize(
    ("charges", "problem"),
    [
        ([], "of one account"),
        ([Charge(A, ANY), Charge(B, ANY)], "of one account"),
        ([Charge(A, ANY), Charge(A, SendingLimits(1, 1))], "once to a subject"),
    ],
)
async def test_charges_that_make_no_sense_are_an_error(
    ledger: Ledger, charges: list[Charge], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        await ledger.reserve(charges, 1, START)


# -- commit and refund -------------------------------------------------------------------------


async def test_what_is_refunded_can_be_sent_again(ledger: Ledger) -> None:
    limits = charge(SendingLimits(5, 1))
    reservation = await ledger.reserve(limits, 5, START)
    await ledger.refund(reservation, START)
    assert await used_24h(ledger, A, START) == 0
    await ledger.reserve(limits, 5, START)


@pytest.mark.parametrize("accepted", [5, 3, 0])
async def test_what_was_accepted_stays_counted(ledger: Ledger, accepted: int) -> None:
    reservation = await ledger.reserve(charge(SendingLimits(5, 5)), 5, START)
    await ledger.commit(reservation, accepted, START + MINUTE)
    assert await used_24h(ledger, A, START) == accepted


@pytest.mark.parametrize(("accepted", "only_rate"), [(0, 5), (2, 3)])
async def test_recipients_may_stay_counted_for_the_rate_alone(
    ledger: Ledger, accepted: int, only_rate: int
) -> None:
    limits = charge(SendingLimits(5, 1))
    reservation = await ledger.reserve(limits, 5, START)
    await ledger.commit(replace(reservation, only_rate=only_rate), accepted, START)
    assert await used_24h(ledger, A, START) == accepted
    with pytest.raises(LimitExceededError) as refused:
        await ledger.reserve(limits, 1, START)
    assert refused.value.limit == "max-send-rate"
    await ledger.reserve(limits, 1, START + MINUTE)


@pytest.mark.parametrize("first", [4, 1, 0])
async def test_a_reservation_is_settled_once(ledger: Ledger, first: int) -> None:
    limits = charge(SendingLimits(10, 10))
    await ledger.reserve(limits, 3, START)
    reservation = await ledger.reserve(limits, 4, START)
    await ledger.commit(reservation, first, START)
    before = await used_24h(ledger, A, START)
    await ledger.refund(reservation, START)
    await ledger.commit(reservation, 1, START)
    assert await used_24h(ledger, A, START) == before


async def test_what_nobody_settles_within_its_lease_stays_counted(ledger: Ledger) -> None:
    limits = charge(SendingLimits(10, UNLIMITED))
    late, in_time = [await ledger.reserve(limits, 4, START) for _ in range(2)]
    await ledger.refund(in_time, START + LEASE)
    await ledger.refund(late, START + LEASE + timedelta(seconds=1))
    assert await used_24h(ledger, A, START + LEASE) == 4


async def test_another_ledger_on_the_same_place_goes_on_where_the_first_ended(
    backend: LedgerBackend,
) -> None:
    limits = charge(SendingLimits(10, UNLIMITED))
    first = backend.open()
    open_one = await first.reserve(limits, 3, START)
    await first.commit(await first.reserve(limits, 4, START), 4, START)
    await first.close()
    second = backend.open()
    assert await used_24h(second, A, START) == 7
    await second.refund(open_one, START)
    assert await used_24h(second, A, START) == 4
    await second.close()


async def test_a_refund_after_midnight_gives_back_to_the_minute_it_was_taken_from(
    ledger: Ledger,
) -> None:
    limits = charge(SendingLimits(10, UNLIMITED))
    reservation = await ledger.reserve(limits, 6, START)
    await ledger.reserve(limits, 4, START + 3 * MINUTE)
    await ledger.refund(reservation, START + 3 * MINUTE)
    assert await used_24h(ledger, A, START + 3 * MINUTE) == 4
    assert await used_24h(ledger, A, START + WINDOW + 3 * MINUTE) == 4
    assert await used_24h(ledger, A, START + WINDOW + 4 * MINUTE) == 0


async def test_a_refund_of_what_no_longer_counts_changes_nothing(ledger: Ledger) -> None:
    limits = charge(SendingLimits(10, UNLIMITED))
    reservation = await ledger.reserve(limits, 6, START)
    later = START + WINDOW + MINUTE
    await ledger.reserve(limits, 10, later)
    await ledger.refund(reservation, START)
    assert await used_24h(ledger, A, later) == 10


async def test_a_refund_after_the_clock_was_set_back_is_found(ledger: Ledger) -> None:
    limits = charge(SendingLimits(10, UNLIMITED))
    reservation = await ledger.reserve(limits, 6, START)
    earlier = START - timedelta(hours=3)
    await ledger.reserve(limits, 1, earlier)
    await ledger.refund(reservation, earlier)
    assert await used_24h(ledger, A, earlier) == 1


async def test_a_refusal_after_the_clock_was_set_back_does_not_start_the_wait_again(
    ledger: Ledger,
) -> None:
    limits = charge(SendingLimits(5, UNLIMITED))
    await ledger.reserve(limits, 5, START + 400 * WINDOW)
    waits = []
    for hours in (0, 6):
        with pytest.raises(LimitExceededError) as refusal:
            await ledger.reserve(limits, 1, START + timedelta(hours=hours))
        waits.append(refusal.value.retry_after)
    assert waits == [WINDOW + BUCKET, WINDOW + BUCKET - timedelta(hours=6)]


async def test_hosts_whose_clocks_differ_a_little_earn_nothing_by_taking_turns(
    ledger: Ledger,
) -> None:
    limits = charge(SendingLimits(UNLIMITED, 1))
    passed = 0
    for second in range(30):
        for skew in (timedelta(0), TOLERANCE):
            try:
                await ledger.reserve(limits, 1, START + timedelta(seconds=second) + skew)
            except LimitExceededError:
                continue
            passed += 1
    assert passed <= 60 + 30 + 2, "the span of both clocks at one a second, and the depth"


async def test_new_limits_hold_at_once_for_what_was_sent_before(ledger: Ledger) -> None:
    await ledger.reserve(charge(SendingLimits(100, UNLIMITED)), 8, START)
    with pytest.raises(LimitExceededError) as refusal:
        await ledger.reserve(charge(SendingLimits(10, UNLIMITED)), 3, START)
    assert refusal.value.left == 2
    await ledger.reserve(charge(SendingLimits(11, UNLIMITED)), 3, START)


@pytest.mark.parametrize("recipients", [0, -1])
async def test_a_message_without_recipients_is_an_error(
    ledger: Ledger, recipients: int
) -> None:
    with pytest.raises(ValueError, match="at least one recipient"):
        await ledger.reserve(charge(SendingLimits(10, 10)), recipients, START)


async def test_many_at_once_do_not_pass_the_quota(ledger: Ledger) -> None:
    limits = charge(SendingLimits(10, UNLIMITED))
    results = await asyncio.gather(
        *(ledger.reserve(limits, 3, START) for _ in range(300)), return_exceptions=True
    )
    passed = [result for result in results if isinstance(result, Reservation)]
    assert len(passed) == 3
    assert len({reservation.id for reservation in passed}) == 3
    assert all(isinstance(one, Reservation | LimitExceededError) for one in results)
    assert await used_24h(ledger, A, START) == 9


async def test_who_gives_up_waiting_is_not_counted(ledger: Ledger) -> None:
    limits = charge(ANY)
    tries = [asyncio.ensure_future(ledger.reserve(limits, 1, START)) for _ in range(50)]
    await asyncio.sleep(0)
    for one in tries[::2]:
        one.cancel()
    found = await asyncio.gather(*tries, return_exceptions=True)
    passed = sum(isinstance(one, Reservation) for one in found)
    # A reservation that came too late to be stopped is given back within a moment.
    await soon(lambda: used_24h(ledger, A, START), passed)


# -- thresholds --------------------------------------------------------------------------------


async def send(
    ledger: Ledger, charges: list[Charge], recipients: int, now: datetime
) -> list[tuple[Subject, int, int]]:
    reservation = await ledger.reserve(charges, recipients, now)
    crossings = await ledger.commit(reservation, recipients, now)
    return [(one.charge.subject, one.percent, one.used_24h) for one in crossings]


async def test_80_90_and_100_per_cent_are_reported_once_in_24_hours(ledger: Ledger) -> None:
    limits = charge(SendingLimits(100, UNLIMITED))
    assert await send(ledger, limits, 79, START) == []
    assert await send(ledger, limits, 1, START) == [(A, 80, 80)]
    assert await send(ledger, limits, 9, START) == []
    assert await send(ledger, limits, 11, START) == [(A, 90, 100), (A, 100, 100)]
    tomorrow = START + WINDOW + MINUTE
    assert await send(ledger, limits, 85, tomorrow) == [(A, 80, 85)]


async def test_a_message_that_was_not_accepted_tells_nothing(ledger: Ledger) -> None:
    limits = charge(SendingLimits(10, UNLIMITED))
    refused = await ledger.reserve(limits, 9, START)
    await ledger.refund(refused, START)
    partly = await ledger.reserve(limits, 9, START)
    assert await ledger.commit(partly, 7, START) == ()
    assert await send(ledger, limits, 1, START) == [(A, 80, 8)]


async def test_of_messages_in_flight_at_once_one_reports(ledger: Ledger) -> None:
    limits = charge(SendingLimits(10, UNLIMITED))
    await ledger.reserve(limits, 7, START)
    reserved = [await ledger.reserve(limits, 1, START) for _ in range(2)]
    reported = [await ledger.commit(one, 1, START) for one in reserved]
    assert [[one.percent for one in crossings] for crossings in reported] == [[80, 90], []]


async def test_another_quota_is_reported_again(ledger: Ledger) -> None:
    assert await send(ledger, charge(SendingLimits(10, UNLIMITED)), 8, START) == [(A, 80, 8)]
    raised = charge(SendingLimits(100, UNLIMITED))
    assert await send(ledger, raised, 1, START) == []
    assert await send(ledger, raised, 71, START) == [(A, 80, 80)]


async def test_each_subject_has_thresholds_of_its_own(ledger: Ledger) -> None:
    charges = [
        Charge(A, SendingLimits(100, UNLIMITED)),
        Charge(USER, SendingLimits(10, UNLIMITED)),
        Charge(KEY, ANY),
    ]
    assert await send(ledger, charges, 8, START) == [(USER, 80, 8)]


# -- the early look ----------------------------------------------------------------------------


async def test_a_sender_over_its_quota_is_refused_before_the_message(ledger: Ledger) -> None:
    limits = charge(SendingLimits(5, 1))
    await ledger.check(limits, START)
    await ledger.reserve(limits, 4, START)
    await ledger.check(limits, START)  # one is left, and a rate is no matter here
    await ledger.reserve(limits, 1, START + 5 * MINUTE)
    with pytest.raises(LimitExceededError) as refusal:
        await ledger.check(limits, START + 5 * MINUTE)
    found = refusal.value
    assert (found.limit, found.left, found.retry_after) == (
        "max-24h-send",
        0,
        WINDOW - 4 * MINUTE,
    )
    assert await used_24h(ledger, A, START + 5 * MINUTE) == 5, "looking counts nothing"


async def test_a_refusal_is_remembered_until_there_is_room_again(ledger: Ledger) -> None:
    limits = charge(SendingLimits(5, UNLIMITED))
    reservation = await ledger.reserve(limits, 5, START)
    with pytest.raises(LimitExceededError):
        await ledger.reserve(limits, 1, START)
    with pytest.raises(LimitExceededError):
        await ledger.check(limits, START)
    await ledger.check(charge(SendingLimits(6, UNLIMITED)), START)
    with pytest.raises(LimitExceededError):
        await ledger.reserve(limits, 1, START)
    await ledger.refund(reservation, START)
    await ledger.check(limits, START)


# -- how limits stand --------------------------------------------------------------------------


async def test_who_never_sent_has_all_of_its_limits_left(ledger: Ledger) -> None:
    charges = [Charge(A, SendingLimits(5, 14)), Charge(USER, ANY), Charge(KEY, NONE)]
    account, user, key = await ledger.limit_statuses(charges, START)
    assert account == LimitStatus(charges[0], 0, None, 14, None)
    assert account.left == 5
    assert user == LimitStatus(charges[1], 0, None, None, None)
    assert user.left is None
    assert key == LimitStatus(charges[2], 0, None, 0, None)
    assert key.left == 0


async def test_what_is_used_up_tells_when_there_is_room_again(ledger: Ledger) -> None:
    charges = [Charge(A, SendingLimits(5, 2)), Charge(USER, SendingLimits(6, UNLIMITED))]
    await ledger.reserve(charges, 1, START)
    later = START + 5 * MINUTE
    await ledger.reserve(charges, 4, later)
    account, user = await ledger.limit_statuses(charges, later)
    rate_free_in = timedelta(seconds=1, microseconds=1)
    assert account == LimitStatus(charges[0], 5, WINDOW - 4 * MINUTE, 0, rate_free_in)
    assert account.left == 0
    assert user == LimitStatus(charges[1], 5, None, None, None)
    assert user.left == 1


async def test_limits_that_were_lowered_leave_nothing(ledger: Ledger) -> None:
    await ledger.reserve(charge(ANY), 8, START)
    lower = charge(SendingLimits(5, UNLIMITED))
    (limit_status,) = await ledger.limit_statuses(lower, START)
    assert (limit_status.used_24h, limit_status.left) == (8, 0)
    assert limit_status.quota_free_in == WINDOW + BUCKET


async def test_asking_how_limits_stand_changes_nothing(ledger: Ledger) -> None:
    limits = charge(SendingLimits(10, 2))
    reservation = await ledger.reserve(limits, 4, START)
    before = await ledger.limit_statuses(limits, START)
    # Neither a time that comes nor one that was is kept, nor another limit.
    for now in (START + 3 * WINDOW, START - WINDOW, START):
        for other in (limits, charge(ANY), charge(NONE)):
            await ledger.limit_statuses(other, now)
    assert await ledger.limit_statuses(limits, START) == before
    await ledger.refund(reservation, START)
    (limit_status,) = await ledger.limit_statuses(limits, START)
    assert limit_status == LimitStatus(limits[0], 0, None, 2, None)


@pytest.mark.parametrize("charges", [[], [Charge(A, ANY), Charge(B, ANY)]])
async def test_how_several_accounts_stand_is_not_one_question(
    ledger: Ledger, charges: list[Charge]
) -> None:
    with pytest.raises(ValueError, match="of one account"):
        await ledger.limit_statuses(charges, START)


# -- memory alone ------------------------------------------------------------------------------


async def test_memory_ends_with_the_day_after_the_last_sender() -> None:
    ledger = MemoryLedger()
    for number in range(500):
        subject = Subject(f"{number:012}")
        await ledger.reserve(charge(SendingLimits(10, 1), subject), 1, START)
    later = START + 2 * WINDOW + MINUTE
    for _ in range(600):
        await ledger.commit(await ledger.reserve(charge(ANY, B), 1, later), 1, later)
    assert len(ledger) == 1


async def test_memory_keeps_an_account_that_owes_tokens() -> None:
    ledger = MemoryLedger()
    slow = SendingLimits(UNLIMITED, 0.0001)
    await ledger.reserve(charge(slow), 50, START)
    later = START + 4 * WINDOW
    for _ in range(4):
        await ledger.reserve(charge(ANY, B), 1, later)
    with pytest.raises(LimitExceededError):
        await ledger.reserve(charge(slow), 1, later)


async def test_memory_does_not_grow_for_ever_when_the_clock_was_once_ahead() -> None:
    ledger = MemoryLedger()
    limits = SendingLimits(10, 10)
    await ledger.reserve(charge(limits), 1, START + 400 * WINDOW)
    for number in range(50):
        await ledger.reserve(charge(limits, Subject(f"{number:012}")), 1, START)
    later = START + 3 * WINDOW
    for _ in range(100):
        await ledger.commit(await ledger.reserve(charge(ANY, B), 1, later), 1, later)
    assert len(ledger) == 3, "two subjects and a reservation"


async def test_a_probe_counts_nothing(ledger: Ledger) -> None:
    limits = charge(SendingLimits(5, 1))
    await ledger.probe()
    await ledger.reserve(limits, 1, START)
    await ledger.probe()
    assert await used_24h(ledger, A, START) == 1
