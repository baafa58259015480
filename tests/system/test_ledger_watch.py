"""A ledger that goes away and comes back, and whose clock is another."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from smtpgate.config.sections import MetricsConfig
from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.core.events import Event, LedgerChanged, LedgerClockChanged
from smtpgate.core.limits import Charge, Reservation, Subject
from smtpgate.ledger.memory import MemoryLedger
from smtpgate.ledger.watch import LedgerWatch
from smtpgate.log.lines import ledger_clock_line, ledger_line
from smtpgate.metrics import Metrics
from smtpgate.ports import LedgerUnavailableError, LedgerUnfitError
from tests.support.clock import MovableClock
from tests.support.world import DELEGATE

CHARGES = [Charge(Subject(DELEGATE), SendingLimits(UNLIMITED, UNLIMITED))]


class Scripted(MemoryLedger):
    """Fails while there is an ``error``; its clock is ``ahead``, and a look takes time."""

    def __init__(self, clock: MovableClock) -> None:
        super().__init__()
        self.clock = clock
        self.error: Exception | None = None
        self.ahead: timedelta | None = None
        self.takes_s = 0.0

    async def probe(self) -> datetime | None:
        self.clock.move(self.takes_s)
        if self.error is not None:
            raise self.error
        return None if self.ahead is None else self.clock.now() + self.ahead

    async def reserve(
        self, charges: Sequence[Charge], recipients: int, now: datetime
    ) -> Reservation:
        if self.error is not None:
            raise self.error
        return await super().reserve(charges, recipients, now)


class Kept:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def publish(self, event: Event) -> None:
        self.events.append(event)


class Scene:
    def __init__(self) -> None:
        self.clock = MovableClock()
        self.ledger = Scripted(self.clock)
        self.kept = Kept()
        self.errors: list[BaseException] = []
        self.watch = LedgerWatch(
            self.ledger, clock=self.clock, events=self.kept, on_error=self.errors.append
        )
        self.metrics = Metrics(MetricsConfig(max_identities=1, idle_s=1), clock=self.clock)
        self.metrics.watch(self.watch.readings)

    def metric(self, name: str) -> float:
        lines = self.metrics.render().decode().splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_one_outage_is_two_lines_however_many_messages_meet_it(scene: Scene) -> None:
    await scene.watch.look()
    assert (scene.watch.state(), scene.metric("smtpgate_ledger_up")) == ((True, "open"), 1)
    scene.ledger.error = LedgerUnavailableError("connection refused")
    for _ in range(3):
        with pytest.raises(LedgerUnavailableError):
            await scene.watch.reserve(CHARGES, 1, scene.clock.now())
    assert scene.watch.state() == (False, "connection refused")
    assert scene.metric("smtpgate_ledger_up") == 0
    await scene.watch.look()
    scene.clock.move(7.5)
    scene.ledger.error = None
    await scene.watch.reserve(CHARGES, 1, scene.clock.now())
    assert scene.watch.problem, "a look says that it is well, and not one message"
    await scene.watch.look()
    assert scene.watch.state() == (True, "open")
    failed, again = scene.kept.events
    assert isinstance(failed, LedgerChanged)
    assert isinstance(again, LedgerChanged)
    assert b'"level":"error","event":"ledger-failed","problem":"conn' in ledger_line(failed)
    assert b'"info","event":"ledger-counts-again","lasted_s":7.5}' in ledger_line(again)


async def test_what_nobody_expected_is_not_known_and_goes_to_the_log(scene: Scene) -> None:
    assert scene.watch.state() == (False, "not asked yet")
    scene.ledger.error = ArithmeticError("one")
    await scene.watch.look()
    assert scene.watch.state() == (False, "not known")
    assert [str(error) for error in scene.errors] == ["one"]


async def test_a_store_of_an_unfit_kind_is_known(scene: Scene) -> None:
    scene.ledger.error = LedgerUnfitError("it is a node of a cluster")
    await scene.watch.look()
    assert scene.watch.is_unfit
    scene.ledger.error = LedgerUnavailableError("connection refused")
    await scene.watch.look()
    assert not scene.watch.is_unfit


@pytest.mark.parametrize(
    ("ahead_s", "takes_s", "skew_s", "words"),
    [
        (0.0, 0.0, 0.0, "open"),
        (1.9, 0.0, 1.9, "open"),
        (90.0, 0.0, 90.0, "open; its clock is 90.0 s ahead of this host's"),
        (-90.0, 0.0, -90.0, "open; its clock is 90.0 s behind this host's"),
        # The store read its clock some time between question and answer.
        (3.0, 2.0, 3.0, "open; its clock is 3.0 s ahead of this host's"),
        (-1.0, 2.0, 0.0, "open"),
        (-5.0, 2.0, -3.0, "open; its clock is 3.0 s behind this host's"),
    ],
)
async def test_a_clock_that_differs_is_measured_and_reported(
    scene: Scene, ahead_s: float, takes_s: float, skew_s: float, words: str
) -> None:
    scene.ledger.ahead, scene.ledger.takes_s = timedelta(seconds=ahead_s), takes_s
    await scene.watch.look()
    assert scene.watch.state() == (True, words)
    assert scene.metric("smtpgate_ledger_clock_skew_seconds") == skew_s
    assert len(scene.kept.events) == (words != "open")


async def test_a_skew_is_reported_once_and_when_it_is_over(scene: Scene) -> None:
    for ahead_s in (0.1, 2.5, 1.5, 2.5, -40, 0.5, 0.1):
        scene.ledger.ahead = timedelta(seconds=ahead_s)
        await scene.watch.look()
    lines = [
        ledger_clock_line(one)
        for one in scene.kept.events
        if isinstance(one, LedgerClockChanged)
    ]
    assert len(lines) == 2
    assert b'"level":"warning","event":"ledger-clock","skew_s":2.5,"problem":"its' in lines[0]
    assert b'"level":"info","event":"ledger-clock","skew_s":0.5}' in lines[1]
