"""What every ledger must do, whatever it keeps its counts in."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.core.limits import BUCKET, WINDOW, LimitExceededError, Reservation
from smtpgate.ledger.memory import MemoryLedger
from smtpgate.ports import Ledger
from tests.support.cases import load_cases

START: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
MINUTE: Final = timedelta(minutes=1)
LEDGERS: Final[dict[str, Callable[[], Ledger]]] = {"memory": MemoryLedger}
CASES: Final = [*load_cases("limits/10-quota.toml"), *load_cases("limits/20-rate.toml")]
T = TypeVar("T")


@pytest.fixture(params=list(LEDGERS))
def ledger(request: pytest.FixtureRequest) -> Ledger:
    return LEDGERS[request.param]()


def moment(text: str) -> datetime:
    hours, minutes, seconds = map(int, text.split(":"))
    return START + timedelta(hours=hours, minutes=minutes, seconds=seconds)


@pytest.mark.parametrize("case", CASES, ids=[case["note"] for case in CASES])
async def test_counts_as_the_table_says(ledger: Ledger, case: dict[str, Any]) -> None:
    limits = SendingLimits(**case["limits"])
    for step in case["steps"]:
        now = moment(step["at"])
        if "refused" not in step:
            await ledger.reserve("a", limits, step["recipients"], now)
            assert await ledger.used_24h("a", now) == step["used"], step
            continue
        with pytest.raises(LimitExceededError) as refusal:
            await ledger.reserve("a", limits, step["recipients"], now)
        found = refusal.value
        seen = (found.limit, found.retry_after.total_seconds(), found.left)
        assert seen == (step["refused"], step["retry_s"], step["left"]), step


async def test_accounts_do_not_share_limits(ledger: Ledger) -> None:
    limits = SendingLimits(1, 1)
    await ledger.reserve("a", limits, 1, START)
    await ledger.reserve("b", limits, 1, START)
    assert await ledger.used_24h("a", START) == 1


async def test_an_account_that_never_sent_has_used_nothing(ledger: Ledger) -> None:
    assert await ledger.used_24h("a", START) == 0


async def test_what_is_refunded_can_be_sent_again(ledger: Ledger) -> None:
    limits = SendingLimits(5, 1)
    reservation = await ledger.reserve("a", limits, 5, START)
    await ledger.refund(reservation)
    assert await ledger.used_24h("a", START) == 0
    await ledger.reserve("a", limits, 5, START)


async def test_what_is_committed_stays_counted(ledger: Ledger) -> None:
    reservation = await ledger.reserve("a", SendingLimits(5, 5), 5, START)
    await ledger.commit(reservation)
    assert await ledger.used_24h("a", START) == 5


@pytest.mark.parametrize("first", ["commit", "refund"])
async def test_a_reservation_is_settled_once(ledger: Ledger, first: str) -> None:
    limits = SendingLimits(10, 10)
    await ledger.reserve("a", limits, 3, START)
    reservation = await ledger.reserve("a", limits, 4, START)
    await (ledger.commit if first == "commit" else ledger.refund)(reservation)
    before = await ledger.used_24h("a", START)
    await ledger.refund(reservation)
    await ledger.commit(reservation)
    assert await ledger.used_24h("a", START) == before


async def test_a_refund_after_midnight_gives_back_to_the_minute_it_was_taken_from(
    ledger: Ledger,
) -> None:
    limits = SendingLimits(10, UNLIMITED)
    reservation = await ledger.reserve("a", limits, 6, START)
    await ledger.reserve("a", limits, 4, START + 3 * MINUTE)
    await ledger.refund(reservation)
    assert await ledger.used_24h("a", START + 3 * MINUTE) == 4
    assert await ledger.used_24h("a", START + WINDOW + 3 * MINUTE) == 4
    assert await ledger.used_24h("a", START + WINDOW + 4 * MINUTE) == 0


async def test_a_refund_of_what_no_longer_counts_changes_nothing(ledger: Ledger) -> None:
    limits = SendingLimits(10, UNLIMITED)
    reservation = await ledger.reserve("a", limits, 6, START)
    later = START + WINDOW + MINUTE
    await ledger.reserve("a", limits, 10, later)
    await ledger.refund(reservation)
    assert await ledger.used_24h("a", later) == 10


async def test_a_refund_after_the_clock_was_set_back_is_found(ledger: Ledger) -> None:
    limits = SendingLimits(10, UNLIMITED)
    reservation = await ledger.reserve("a", limits, 6, START)
    earlier = START - timedelta(hours=3)
    await ledger.reserve("a", limits, 1, earlier)
    await ledger.refund(reservation)
    assert await ledger.used_24h("a", earlier) == 1


async def test_a_refusal_after_the_clock_was_set_back_does_not_start_the_wait_anew(
    ledger: Ledger,
) -> None:
    limits = SendingLimits(5, UNLIMITED)
    for other in ("b", "c", "d"):  # they owe for longer than the clock is wrong
        await ledger.reserve(other, SendingLimits(UNLIMITED, 1e-7), 9, START)
    await ledger.reserve("a", limits, 5, START + 400 * WINDOW)
    waits = []
    for hours in (0, 6):
        with pytest.raises(LimitExceededError) as refusal:
            await ledger.reserve("a", limits, 1, START + timedelta(hours=hours))
        waits.append(refusal.value.retry_after)
    assert waits == [WINDOW + BUCKET, WINDOW + BUCKET - timedelta(hours=6)]


async def test_new_limits_hold_at_once_for_what_was_sent_before(ledger: Ledger) -> None:
    await ledger.reserve("a", SendingLimits(100, UNLIMITED), 8, START)
    with pytest.raises(LimitExceededError) as refusal:
        await ledger.reserve("a", SendingLimits(10, UNLIMITED), 3, START)
    assert refusal.value.left == 2
    await ledger.reserve("a", SendingLimits(11, UNLIMITED), 3, START)


@pytest.mark.parametrize("recipients", [0, -1])
async def test_a_message_without_recipients_is_an_error(
    ledger: Ledger, recipients: int
) -> None:
    with pytest.raises(ValueError, match="at least one recipient"):
        await ledger.reserve("a", SendingLimits(10, 10), recipients, START)


async def test_many_at_once_do_not_pass_the_quota(ledger: Ledger) -> None:
    limits = SendingLimits(10, UNLIMITED)
    results = await asyncio.gather(
        *(ledger.reserve("a", limits, 3, START) for _ in range(20)), return_exceptions=True
    )
    passed = [result for result in results if isinstance(result, Reservation)]
    assert len(passed) == 3
    assert len({reservation.id for reservation in passed}) == 3
    assert await ledger.used_24h("a", START) == 9


class NaiveWindow:
    """The rolling 24 hours as a list of what was sent: no buckets, no sums, no forgetting."""

    def __init__(self) -> None:
        self.sent: list[tuple[datetime, int]] = []

    def within(self, span: timedelta, now: datetime) -> int:
        return sum(count for at, count in self.sent if now - at < span)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Ledgers of one process wait for nothing: one step is all of it."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("it waits")


class LedgerAgainstList(RuleBasedStateMachine):
    """A ledger agrees with a list, but for the one bucket that it may count longer."""

    reservations = Bundle("reservations")
    limits = SendingLimits(20, UNLIMITED)

    def __init__(self) -> None:
        super().__init__()
        self.ledger: Ledger = MemoryLedger()
        self.model: dict[str, NaiveWindow] = {"a": NaiveWindow(), "b": NaiveWindow()}
        self.now = START

    @rule(
        target=reservations,
        account=st.sampled_from("ab"),
        recipients=st.integers(1, 22),
    )
    def reserve(self, account: str, recipients: int) -> Reservation | None:
        model, quota = self.model[account], self.limits.max_24h_send
        refusal: LimitExceededError | None = None
        reservation: Reservation | None = None
        try:
            reservation = run(self.ledger.reserve(account, self.limits, recipients, self.now))
        except LimitExceededError as error:
            refusal = error
        if refusal is not None or reservation is None:
            # Never refused without a cause ...
            assert model.within(WINDOW + BUCKET, self.now) + recipients > quota
            assert refusal is not None
            assert refusal.left < recipients
            assert run(self.ledger.used_24h(account, self.now)) + refusal.left == quota
            return None
        # ... and never let through what is too much.
        model.sent.append((self.now, recipients))
        assert model.within(WINDOW, self.now) <= quota
        assert reservation.account_id == account
        return reservation

    @rule(reservation=consumes(reservations))
    def commit(self, reservation: Reservation | None) -> None:
        if reservation is not None:
            run(self.ledger.commit(reservation))

    @rule(reservation=consumes(reservations))
    def refund(self, reservation: Reservation | None) -> None:
        if reservation is not None:
            run(self.ledger.refund(reservation))
            sent = self.model[reservation.account_id].sent
            sent.remove((reservation.at, reservation.recipients))

    @rule(
        step=st.one_of(
            st.integers(0, 120).map(lambda seconds: timedelta(seconds=seconds)),
            st.integers(0, 26 * 60).map(lambda minutes: timedelta(minutes=minutes)),
        )
    )
    def time_passes(self, step: timedelta) -> None:
        self.now += step

    @precondition(lambda self: isinstance(self.ledger, MemoryLedger))
    @rule()
    def long_after_nothing_is_remembered(self) -> None:
        ledger = self.ledger
        assert isinstance(ledger, MemoryLedger)
        self.now += 2 * (WINDOW + BUCKET)
        for _ in range(20):
            run(ledger.reserve("c", SendingLimits(UNLIMITED, UNLIMITED), 1, self.now))
        assert len(ledger) == 1
        assert ledger.open_reservations <= 40

    @invariant()
    def used_is_what_the_list_says(self) -> None:
        for account, model in self.model.items():
            used = run(self.ledger.used_24h(account, self.now))
            at_least, at_most = (
                model.within(span, self.now) for span in (WINDOW, WINDOW + BUCKET)
            )
            assert at_least <= used <= at_most


TestMemoryLedgerAgainstList = LedgerAgainstList.TestCase


async def test_memory_ends_with_the_day_of_the_last_sender() -> None:
    ledger = MemoryLedger()
    limits = SendingLimits(10, 1)
    for number in range(500):
        await ledger.reserve(f"account {number}", limits, 1, START)
    later = START + WINDOW + MINUTE
    for _ in range(300):
        await ledger.commit(await ledger.reserve("z", SendingLimits(-1, -1), 1, later))
    assert len(ledger) == 1
    assert ledger.open_reservations == 0


async def test_memory_keeps_an_account_that_owes_tokens() -> None:
    ledger = MemoryLedger()
    slow = SendingLimits(UNLIMITED, 0.0001)
    await ledger.reserve("debtor", slow, 50, START)
    later = START + 2 * WINDOW
    await ledger.reserve("z", slow, 1, later)
    with pytest.raises(LimitExceededError):
        await ledger.reserve("debtor", slow, 1, later)


async def test_memory_does_not_grow_for_ever_when_the_clock_was_once_ahead() -> None:
    ledger = MemoryLedger()
    limits = SendingLimits(10, 10)
    await ledger.reserve("ahead", limits, 1, START + 400 * WINDOW)
    for number in range(50):
        await ledger.reserve(f"account {number}", limits, 1, START)
    later = START + WINDOW + MINUTE
    for _ in range(40):
        await ledger.reserve("z", SendingLimits(-1, -1), 1, later)
    assert len(ledger) == 1
    assert ledger.open_reservations <= 41  # the one of the wrong time, and those of now
