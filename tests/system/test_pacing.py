"""Messages over a rate wait for their turn: in order, in time, and no more than can pass."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.core.limits import Charge, LimitExceededError, Reservation, Subject
from smtpgate.core.reply import Reject
from smtpgate.ledger.memory import MemoryLedger
from smtpgate.pacing import Pacer
from smtpgate.ports import LedgerUnavailableError
from tests.support.clock import (
    MovableClock,
    VirtualLoop,
    move_loop,
    on_standing_loop,
    settle,
)
from tests.support.world import DELEGATE

ACCOUNT = Subject(DELEGATE)
USER = Subject(DELEGATE, "user", "mailer")
OTHER = Subject(DELEGATE, "user", "intern")
Outcome = Reservation | BaseException


def at(rate: float, subject: Subject = ACCOUNT, quota: int = UNLIMITED) -> Charge:
    return Charge(subject, SendingLimits(quota, rate))


def assert_about(refusal: LimitExceededError, wait_s: float) -> None:
    assert refusal.retry_after is not None
    assert abs(refusal.retry_after.total_seconds() - wait_s) < 0.1


class Counting(MemoryLedger):
    """Counts how often it is asked; fails while ``is_away``."""

    asked = 0
    is_away = False

    async def reserve(
        self, charges: Sequence[Charge], recipients: int, now: datetime
    ) -> Reservation:
        self.asked += 1
        if self.is_away:
            raise LedgerUnavailableError("gone")
        return await super().reserve(charges, recipients, now)


class Scene:
    """A pacer whose time is moved, and messages given to it."""

    def __init__(self, max_wait_s: float = 5) -> None:
        self.clock = MovableClock()
        self.ledger = Counting()
        self.pacer = Pacer(max_wait_s=max_wait_s)
        self.tasks: list[asyncio.Task[tuple[Reservation, float]]] = []
        self.order: list[int] = []

    @property
    def paced(self) -> float:
        """The number of messages that have begun to wait."""
        values = {one.metric: one.value for one in self.pacer.readings()}
        return values["smtpgate_paced_total"]

    async def reserve(
        self,
        charges: Sequence[Charge],
        recipients: int = 1,
        client_gone: asyncio.Future[None] | None = None,
    ) -> tuple[Reservation, float]:
        """Reserve in turn; the reservation, and how long it has waited."""

        async def ask(waited_s: float) -> tuple[Reservation, float]:
            now = self.clock.now()
            return await self.ledger.reserve(charges, recipients, now), waited_s

        return await self.pacer.pace(charges, recipients, ask, client_gone)

    async def send(
        self,
        *charges: Charge,
        recipients: int = 1,
        client_gone: asyncio.Future[None] | None = None,
    ) -> int:
        """Begin to send; which message it is."""
        number = len(self.tasks)
        work = self.reserve(charges, recipients, client_gone)
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda done: self._note(number, done))
        self.tasks.append(task)
        await settle()
        return number

    def _note(self, number: int, done: asyncio.Task[Any]) -> None:
        if not done.cancelled() and done.exception() is None:
            self.order.append(number)

    async def wait(self, seconds: float, step_s: float = 0.05) -> None:
        """Let time pass."""
        for _ in range(round(seconds / step_s)):
            self.clock.move(step_s)
            await move_loop(step_s)

    def refusal(self, number: int) -> LimitExceededError:
        error = self.tasks[number].exception()
        assert isinstance(error, LimitExceededError)
        return error

    def passed(self) -> int:
        return len(self.order)


def paced(
    test: Callable[[Scene], Coroutine[Any, Any, None]],
) -> Callable[[], None]:
    async def run() -> None:
        scene = Scene()
        await test(scene)
        for task in scene.tasks:
            task.cancel()
        await asyncio.gather(*scene.tasks, return_exceptions=True)
        assert scene.pacer.waiting == 0
        assert not scene.pacer._lines, "nothing is left behind"

    return on_standing_loop(run)


def test_an_account_at_its_rate_is_paced_and_passes_in_order() -> None:
    async def test(scene: Scene) -> None:
        for _ in range(20):
            await scene.send(at(5))
        assert scene.passed() == 5, "the bucket's depth"
        for second in range(1, 4):
            await scene.wait(1)
            assert scene.passed() == 5 + 5 * second
        assert scene.order == list(range(20))
        assert scene.paced == 15
        waits = [task.result()[1] for task in scene.tasks]
        assert waits[:5] == [0.0] * 5
        assert waits[5:] == sorted(waits[5:])

    paced(test)()


def test_a_client_with_twenty_connections_is_never_refused_and_drains_in_nominal_time() -> None:
    async def test(scene: Scene) -> None:
        done: list[datetime] = []

        async def connection() -> None:
            for _ in range(5):
                await scene.reserve([at(5)])
                done.append(scene.clock.now())

        started = scene.clock.now()
        connections = [asyncio.ensure_future(connection()) for _ in range(20)]
        await scene.wait(19.2)
        await asyncio.gather(*connections)
        assert len(done) == 100
        assert timedelta(seconds=18.9) <= done[-1] - started <= timedelta(seconds=19.3)

    paced(test)()


def test_what_cannot_pass_in_time_is_refused_at_once_and_reported_its_wait() -> None:
    async def test(scene: Scene) -> None:
        for _ in range(32):
            await scene.send(at(5))
        current = scene.pacer.waiting
        assert current in {25, 26}, "as many as pass in five seconds"
        refusal = scene.refusal(31)
        assert (refusal.limit, refusal.charge, refusal.left) == ("max-send-rate", at(5), 0)
        assert_about(refusal, current / 5)
        await scene.wait(5.1)
        assert scene.passed() in {30, 31}

    paced(test)()


def test_a_message_to_many_holds_up_those_behind_it_for_what_it_took() -> None:
    async def test(scene: Scene) -> None:
        await scene.send(at(1))
        large = await scene.send(at(1), recipients=3)
        small = await scene.send(at(1))
        late = await scene.send(at(1), recipients=50)
        too_late = await scene.send(at(1))
        assert scene.pacer.waiting == 3
        assert_about(scene.refusal(too_late), 54)
        await scene.wait(0.1)
        assert scene.order == [0, large], "it may go into debt"
        await scene.wait(2.8)
        assert scene.order == [0, large]
        await scene.wait(0.4)
        assert scene.order == [0, large, small]
        await scene.wait(1)
        assert scene.order == [0, large, small, late]

    paced(test)()


@pytest.mark.parametrize(
    ("charge", "recipients", "limit"),
    [
        (at(0), 1, "max-send-rate"),
        (at(0.1), 1, "max-send-rate"),
        (at(5, quota=3), 4, "max-24h-send"),
    ],
    ids=["a rate of 0", "a wait of ten seconds", "a quota"],
)
def test_nobody_waits_without_result(charge: Charge, recipients: int, limit: str) -> None:
    async def test(scene: Scene) -> None:
        if limit == "max-send-rate" and charge.limits.max_send_rate_per_s:
            await scene.send(charge, recipients=2)
        number = await scene.send(charge, recipients=recipients)
        assert scene.refusal(number).limit == limit
        assert scene.pacer.waiting == 0

    paced(test)()


def test_with_no_wait_configured_the_refusal_is_the_ledgers() -> None:
    async def test() -> None:
        scene = Scene(max_wait_s=0)
        await scene.send(at(1))
        assert_about(scene.refusal(await scene.send(at(1))), 0)
        assert scene.paced == 0

    on_standing_loop(test)()


def test_a_user_with_a_lower_rate_does_not_hold_up_the_others_of_its_account() -> None:
    async def test(scene: Scene) -> None:
        for _ in range(3):
            await scene.send(at(100), at(1, USER))
        other = await scene.send(at(100), at(50, OTHER))
        assert scene.order == [0, other]
        await scene.wait(2.1)
        assert scene.order == [0, other, 1, 2]

    paced(test)()


def test_who_waited_for_the_user_then_waits_for_the_account_in_order_of_arrival() -> None:
    async def test(scene: Scene) -> None:
        await scene.send(at(2), at(1, USER))
        first = await scene.send(at(2), at(1, USER))  # waits for the user, for a second
        await scene.send(at(2), at(50, OTHER), recipients=4)  # and the account owes by then
        second = await scene.send(at(2), at(50, OTHER))
        await scene.wait(1.05)
        assert scene.passed() == 2
        await scene.wait(3)
        assert scene.order == [0, 2, first, second]

    paced(test)()


def test_whose_client_has_left_is_dropped_and_not_counted() -> None:
    async def test(scene: Scene) -> None:
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await scene.send(at(1))
        left = await scene.send(at(1), client_gone=gone)
        stays = await scene.send(at(1))
        gone.set_result(None)
        await settle()
        error = scene.tasks[left].exception()
        assert isinstance(error, Reject)
        assert error.reason == "client-gone"
        await scene.wait(1.1)
        assert scene.order == [0, stays], "it took nobody's turn"

    paced(test)()


def test_who_is_cancelled_gives_its_place_up() -> None:
    async def test(scene: Scene) -> None:
        await scene.send(at(1))
        first, second = [await scene.send(at(1)) for _ in range(2)]
        scene.tasks[first].cancel()
        await scene.wait(1.1)
        assert scene.order == [0, second]

    paced(test)()


def test_a_gate_that_drains_holds_nobody() -> None:
    async def test(scene: Scene) -> None:
        numbers = [await scene.send(at(1)) for _ in range(4)][1:]
        scene.pacer.release()
        await settle()
        for number in numbers:
            assert_about(scene.refusal(number), 0)
        assert_about(scene.refusal(await scene.send(at(1))), 0)

    paced(test)()


def test_a_ledger_that_is_away_is_reported_to_the_first_in_line() -> None:
    async def test(scene: Scene) -> None:
        await scene.send(at(1))
        first, second = [await scene.send(at(1)) for _ in range(2)]
        scene.ledger.is_away = True
        await scene.wait(1.1)
        for number in (first, second):
            assert isinstance(scene.tasks[number].exception(), LedgerUnavailableError)

    paced(test)()


def test_those_who_wait_do_not_ask_the_ledger_again_and_again() -> None:
    async def test(scene: Scene) -> None:
        for _ in range(25):
            await scene.send(at(5))
        await scene.wait(4.5)
        assert scene.passed() == 25
        assert scene.ledger.asked < 2 * scene.passed()

    paced(test)()


def test_the_number_of_those_who_wait_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtpgate.pacing._MAX_WAITING", 3)

    async def test(scene: Scene) -> None:
        numbers = [await scene.send(at(2)) for _ in range(6)]
        assert scene.pacer.waiting == 3
        assert scene.refusal(numbers[-1]).limit == "max-send-rate"

    paced(test)()


def test_who_loses_its_turn_to_another_host_is_refused_when_its_time_is_over() -> None:
    async def test(scene: Scene) -> None:
        async def other_host(charges: Sequence[Charge]) -> None:
            try:
                await scene.ledger.reserve(charges, 1, scene.clock.now())
            except LimitExceededError:
                return

        await scene.send(at(1))
        number = await scene.send(at(1))
        for _ in range(520):
            scene.clock.move(0.01)
            await other_host([at(1)])
            await move_loop(0.01)
        refusal = scene.refusal(number)
        assert refusal.retry_after is not None
        assert refusal.retry_after <= timedelta(seconds=1)

    paced(test)()


class Way(MemoryLedger):
    """One host's way to a ledger that hosts share: its questions arrive a little later."""

    def __init__(self, shared: MemoryLedger, takes_s: float) -> None:
        super().__init__()
        self._shared = shared
        self._takes_s = takes_s

    async def reserve(
        self, charges: Sequence[Charge], recipients: int, now: datetime
    ) -> Reservation:
        await asyncio.sleep(self._takes_s)
        # The store's clock counts.
        now = MovableClock().now() + timedelta(seconds=asyncio.get_running_loop().time())
        return await self._shared.reserve(charges, recipients, now)


def test_hosts_that_share_a_rate_take_turns_though_one_is_nearer_to_the_store() -> None:
    passed, shared = {0.0: 0, 0.001: 0}, MemoryLedger()

    async def client(pacer: Pacer, takes_s: float) -> None:
        way = Way(shared, takes_s)

        def ask(_: float) -> Coroutine[Any, Any, Reservation]:
            return way.reserve([at(20)], 1, MovableClock().now())

        while True:
            await pacer.pace([at(20)], 1, ask)
            passed[takes_s] += 1

    async def test() -> None:
        hosts = {takes_s: Pacer(max_wait_s=30) for takes_s in passed}
        clients = [
            asyncio.ensure_future(client(pacer, takes_s))
            for takes_s, pacer in hosts.items()
            for _ in range(4)
        ]
        await asyncio.sleep(20)
        for one in clients:
            one.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(test())
    assert sum(passed.values()) >= 20 * 20 * 0.8
    assert min(passed.values()) > sum(passed.values()) / 3, passed


arrivals = st.lists(
    st.tuples(
        st.floats(0, 0.6),  # how long after the last one
        st.sampled_from([None, USER, OTHER]),
        st.integers(1, 6),
        st.sampled_from(["stays", "stays", "stays", "leaves", "is cancelled"]),
    ),
    min_size=1,
    max_size=25,
)


@pytest.mark.slow
@settings(max_examples=60)
@given(tried=arrivals, rate=st.sampled_from([1, 4, 10]))
def test_whatever_comes_each_has_an_answer_in_time_and_the_rate_holds(
    tried: list[tuple[float, Subject | None, int, str]], rate: int
) -> None:
    async def test(scene: Scene) -> None:
        started = scene.clock.now()
        for after_s, user, recipients, fate in tried:
            await scene.wait(after_s)
            charges = [at(rate), *([at(rate / 2, user)] if user else [])]
            client_gone = asyncio.get_running_loop().create_future()
            number = await scene.send(*charges, recipients=recipients, client_gone=client_gone)
            if fate == "leaves":
                client_gone.set_result(None)
            elif fate == "is cancelled":
                scene.tasks[number].cancel()
            await settle()
        await scene.wait(5.2)
        assert all(task.done() for task in scene.tasks), "nobody waits longer than configured"
        took_s = (scene.clock.now() - started).total_seconds()
        sent = [tried[number][2] for number in scene.order]
        # The last one may go into debt by all of its recipients but one.
        assert sum(sent[:-1]) < rate * (took_s + 1) + 1
        whole_account = [n for n in scene.order if tried[n][1] is None]
        current = [n for n in whole_account if scene.tasks[n].result()[1] > 0]
        assert current == sorted(current), "in order of arrival"

    paced(test)()
