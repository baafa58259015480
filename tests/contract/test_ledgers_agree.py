"""All ledgers, several at once on each backend, against the limits read a second time.

Crashes are reservations that nobody settles, and ledgers that are opened again; other processes
are further ledgers on the same backend; the clock goes forward, stands still, and is set back.
"""

import asyncio
import tempfile
from collections.abc import Coroutine, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.core.limits import Charge, LimitExceededError, LimitStatus, Reservation, Subject
from smtpgate.ports import Ledger
from tests.oracle.naive_limits import NaiveLimits, NaiveLimitStatus, NaivePassed, NaiveRefusal
from tests.support.daemons import Lab
from tests.support.ledgers import (
    LEASE_S,
    LedgerBackend,
    MemoryBackend,
    RedisBackend,
    SqliteBackend,
    redis_server,
    used_24h,
)
from tests.support.world import DELEGATE

T = TypeVar("T")
START: Final = datetime(2026, 11, 23, 10, 0, 0, 250_000, tzinfo=UTC)
WORKERS: Final = 2
SUBJECTS: Final = (
    Subject(DELEGATE),
    Subject(DELEGATE, "user", "mailer"),
    Subject(DELEGATE, "identity", "arn:aws:ses:us-east-1:8:identity/example.com"),
)
OTHER: Final = Subject("777777777777")

# Rates whose tokens are whole millionths at whole milliseconds, so that fractions agree.
rates = st.sampled_from([UNLIMITED, UNLIMITED, 0.5, 1.0, 14.0, 50.0, 0.0])
quotas = st.sampled_from([UNLIMITED, 10, 20, 20, 20, 33, 0])
limits = st.builds(SendingLimits, quotas, rates)
charge_lists = st.one_of(
    st.lists(limits, min_size=1, max_size=3).map(
        lambda found: [Charge(*pair) for pair in zip(SUBJECTS, found, strict=False)]
    ),
    limits.map(lambda one: [Charge(OTHER, one)]),
)
steps = st.one_of(
    st.integers(0, 5_000).map(lambda ms: timedelta(milliseconds=ms)),
    st.integers(0, 200).map(lambda s: timedelta(seconds=s)),
    st.integers(0, 26 * 60).map(lambda minutes: timedelta(minutes=minutes)),
)


class Made(NamedTuple):
    """One reservation, in the model and on each backend, and the process that made it."""

    number: int
    worker: int
    recipients: int
    on_places: tuple[Reservation, ...]


async def outcome(work: Coroutine[Any, Any, T]) -> T | LimitExceededError:
    """Its result, or the refusal that it raises."""
    try:
        return await work
    except LimitExceededError as refusal:
        return refusal


def status_by(refusal: LimitExceededError) -> NaiveRefusal:
    return NaiveRefusal(
        refusal.charge.subject, refusal.limit, refusal.left, refusal.retry_after
    )


def naive_status(one: LimitStatus) -> NaiveLimitStatus:
    return NaiveLimitStatus(
        one.used_24h, one.left, one.quota_free_in, one.rate_left, one.rate_free_in
    )


class LedgersAgree(RuleBasedStateMachine):
    """Every backend gives the model's answers; these are those that need no server."""

    reservations = Bundle("reservations")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.at = self.backends(Path(self.folder.name))
        self.ledgers = [[backend.open() for _ in range(WORKERS)] for backend in self.at]
        self.model = NaiveLimits(timedelta(seconds=LEASE_S))
        self.now = self.latest = START

    def backends(self, folder: Path) -> list[LedgerBackend]:
        return [MemoryBackend(), SqliteBackend(folder / "ledger.sqlite")]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        # Not by the runner: it would set a handler of signals each time, and take it away.
        return self.runner.get_loop().run_until_complete(work)

    def teardown(self) -> None:
        for ledgers in self.ledgers:
            for ledger in ledgers:
                self.run(ledger.close())
        self.runner.close()
        self.folder.cleanup()

    def workers(self, worker: int) -> Iterator[Ledger]:
        return (ledgers[worker] for ledgers in self.ledgers)

    @initialize(ms=st.integers(0, 86_400_000))
    def begins_at(self, ms: int) -> None:
        self.now += timedelta(milliseconds=ms)
        self.latest = self.now

    @rule(
        target=reservations,
        worker=st.integers(0, WORKERS - 1),
        charges=charge_lists,
        recipients=st.integers(1, 12),
    )
    def reserve(self, worker: int, charges: list[Charge], recipients: int) -> Made | None:
        wanted = self.model.reserve(charges, recipients, self.now)
        outcomes = [
            self.run(outcome(ledger.reserve(charges, recipients, self.now)))
            for ledger in self.workers(worker)
        ]
        if isinstance(wanted, NaiveRefusal):
            for refusal in outcomes:
                assert isinstance(refusal, LimitExceededError)
                assert refusal.recipients == recipients
                assert status_by(refusal) == wanted
            return None
        made = [one for one in outcomes if isinstance(one, Reservation)]
        assert len(made) == len(outcomes)
        for one in made:
            used = tuple(entry.used_24h for entry in one.counted)
            assert (used, one.may_cross) == wanted[1:]
        return Made(wanted.number, worker, recipients, tuple(made))

    @rule(made=reservations, part=st.sampled_from([0.0, 0.5, 1.0]))
    def settle(self, made: Made | None, part: float) -> None:
        """Also again, also by a process that was started since, also after the lease."""
        if made is None:
            return
        accepted = int(made.recipients * part)
        wanted = self.model.settle(made.number, accepted, self.now)
        for ledger, reservation in zip(self.workers(made.worker), made.on_places, strict=True):
            if accepted:
                crossings = self.run(ledger.commit(reservation, accepted, self.now))
                reported = [
                    (one.charge.subject, one.percent, one.used_24h) for one in crossings
                ]
                assert reported == wanted
            else:
                self.run(ledger.refund(reservation, self.now))

    @rule(recipients=st.integers(1, 6), quota=st.integers(0, 60))
    def many_at_once(self, recipients: int, quota: int) -> None:
        """In any order: as many pass as there is room for."""
        charges = [Charge(OTHER, SendingLimits(quota, UNLIMITED))]
        outcomes = [self.model.reserve(charges, recipients, self.now) for _ in range(6)]
        wanted = sum(isinstance(outcome, NaivePassed) for outcome in outcomes)

        async def at_once(ledgers: Sequence[Ledger]) -> int:
            tries = [
                ledgers[n % WORKERS].reserve(charges, recipients, self.now) for n in range(6)
            ]
            found = await asyncio.gather(*tries, return_exceptions=True)
            return sum(isinstance(one, Reservation) for one in found)

        for ledgers in self.ledgers:
            assert self.run(at_once(ledgers)) == wanted

    @rule(step=steps)
    def time_passes(self, step: timedelta) -> None:
        self.now += step
        self.latest = max(self.latest, self.now)

    @rule(step=steps)
    def the_clock_is_set_back(self, step: timedelta) -> None:
        # By less than a day: what was counted is kept for as long.
        self.now = max(self.now - step, self.latest - timedelta(hours=20))

    @rule(worker=st.integers(0, WORKERS - 1))
    def a_process_ends_and_another_begins(self, worker: int) -> None:
        for backend, ledgers in zip(self.at, self.ledgers, strict=True):
            self.run(ledgers[worker].close())
            ledgers[worker] = backend.open()

    @rule(worker=st.integers(0, WORKERS - 1), quota=quotas)
    def a_full_subject_is_refused_while_it_is_full(self, worker: int, quota: int) -> None:
        charge = Charge(OTHER, SendingLimits(quota, 1.0))
        is_full = UNLIMITED != quota <= self.model.used(OTHER, self.now)
        for ledger in self.workers(worker):
            refusal = self.run(outcome(ledger.check([charge], self.now)))
            if refusal is not None:
                assert is_full
                assert status_by(refusal)[1:3] == ("max-24h-send", 0)

    @rule(worker=st.integers(0, WORKERS - 1), charges=charge_lists)
    def how_they_stand_is_reported_and_changes_nothing(
        self, worker: int, charges: list[Charge]
    ) -> None:
        wanted = [self.model.limit_status(charge, self.now) for charge in charges]
        for ledger in self.workers(worker):
            found = self.run(ledger.limit_statuses(charges, self.now))
            assert [one.charge for one in found] == charges
            assert [naive_status(one) for one in found] == wanted

    @invariant()
    def the_sums_are_the_models(self) -> None:
        subjects = (*SUBJECTS, OTHER)

        async def sums(ledger: Ledger) -> list[int]:
            return [await used_24h(ledger, subject, self.now) for subject in subjects]

        wanted = [self.model.used(subject, self.now) for subject in subjects]
        for ledger in self.workers(0):
            assert self.run(sums(ledger)) == wanted


# Each example is fifty steps on every backend: more of them take minutes.
BOUNDED: Final = settings(max_examples=min(settings.default.max_examples // 2, 200))  # type: ignore[union-attr]
TestMemoryAndSqliteAgree = pytest.mark.slow(LedgersAgree.TestCase)
TestMemoryAndSqliteAgree.settings = BOUNDED


@pytest.mark.integration
def test_memory_sqlite_and_redis_agree() -> None:
    with Lab() as lab:
        url = redis_server(lab).url

        class AllAgree(LedgersAgree):
            def backends(self, folder: Path) -> list[LedgerBackend]:
                return [*super().backends(folder), RedisBackend(url)]

        run_state_machine_as_test(AllAgree, settings=BOUNDED)
