"""A thread that carries out requests in groups: the size of a group, and its wait for more."""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from smtpgate.sql import thread as module
from smtpgate.sql.thread import BatchThread, IsAbandoned, PromisesNothing


class Doubling(PromisesNothing):
    """Work that doubles numbers, and remembers its groups; it runs only while it may."""

    wait_s: float | None = None

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.may_run = threading.Event()
        self.may_run.set()
        self.is_running = threading.Event()

    def run(self, requests: Sequence[int], _: IsAbandoned) -> list[Any]:
        self.is_running.set()
        assert self.may_run.wait(10)
        self.groups.append(list(requests))
        return [2 * request for request in requests]

    def answered(self, request: int, answer: object, *, is_abandoned: bool) -> None:
        """Nothing has to be undone."""

    def tidy(self) -> None:
        """There is nothing to do after the answers."""

    def close(self) -> None:
        """Nothing is open."""


class Promising(Doubling):
    """Doubles numbers, and promises the doubles of odd ones; it syncs only while it may."""

    def __init__(self) -> None:
        super().__init__()
        self.syncs = 0
        self.problem: Exception | None = None
        self.may_sync = threading.Event()
        self.may_sync.set()

    def promises(self, requests: Sequence[int]) -> list[bool]:
        return [request % 2 == 1 for request in requests]

    def sync(self) -> None:
        assert self.may_sync.wait(10)
        self.syncs += 1
        if self.problem is not None:
            raise self.problem

    def unkept(self, request: int, answer: object, error: Exception) -> object:
        return (request, answer, error)


@pytest.fixture
async def thread() -> AsyncIterator[BatchThread[int]]:
    made = BatchThread(Doubling(), "test")
    yield made
    await asyncio.to_thread(made.stop, 10)


def work_of(thread: BatchThread[int]) -> Doubling:
    assert isinstance(thread.work, Doubling)
    return thread.work


async def answers(*futures: "asyncio.Future[Any]") -> list[Any]:
    return await asyncio.wait_for(asyncio.gather(*futures), 10)


async def test_requests_that_come_while_a_group_is_carried_out_are_the_next_group(
    thread: BatchThread[int],
) -> None:
    work = work_of(thread)
    work.may_run.clear()
    first = thread.ask(1, 10)
    await asyncio.to_thread(work.is_running.wait, 10)
    others = [thread.ask(number, 10) for number in (2, 3)]
    together = thread.ask_all([4, 5], 10)
    work.may_run.set()
    assert await answers(first, *others, together) == [2, 4, 6, [8, 10]]
    assert work.groups == [[1], [2, 3, 4, 5]]


async def test_under_load_a_group_waits_until_it_has_all_messages_on_their_way(
    thread: BatchThread[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing but the number of requests ends the wait.
    monkeypatch.setattr(module, "_LINGER_A_MESSAGE_S", 60)
    monkeypatch.setattr(module, "_LONGEST_LINGER_S", 60)
    thread.load = 6
    found = [thread.ask(1, 30), thread.ask_all([2, 3, 4], 30)]
    await asyncio.sleep(0)
    assert work_of(thread).groups == []
    found += [thread.ask(5, 30), thread.ask(6, 30)]
    assert await answers(*found) == [2, [4, 6, 8], 10, 12]
    assert work_of(thread).groups == [[1, 2, 3, 4, 5, 6]]


async def test_under_load_a_group_that_gets_no_more_requests_waits_only_for_a_moment(
    thread: BatchThread[int],
) -> None:
    thread.load = 1000
    assert await answers(thread.ask(1, 10)) == [2]


async def test_the_end_does_not_wait_for_more_requests(
    thread: BatchThread[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LINGER_A_MESSAGE_S", 60)
    monkeypatch.setattr(module, "_LONGEST_LINGER_S", 60)
    thread.load = 6
    asked = thread.ask(1, 30)
    await asyncio.to_thread(thread.stop, 10)
    assert await answers(asked) == [2]


async def test_a_group_has_a_bound_and_the_rest_comes_after_it(
    thread: BatchThread[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_GROUP", 3)
    work = work_of(thread)
    work.may_run.clear()
    found = [thread.ask(0, 10)]
    await asyncio.to_thread(work.is_running.wait, 10)
    found += [thread.ask(number, 10) for number in range(1, 8)]
    work.may_run.set()
    assert await answers(*found) == [2 * number for number in range(8)]
    assert work.groups == [[0], [1, 2, 3], [4, 5, 6], [7]]


def test_requests_of_several_event_loops_come_to_the_thread_and_back() -> None:
    made: BatchThread[int] = BatchThread(Doubling(), "test")
    made.load = 4
    found: list[list[int]] = []

    async def ask_many(first: int) -> None:
        numbers = range(first, first + 200)
        for at in range(0, 200, 4):
            some = [made.ask(number, 10) for number in numbers[at : at + 4]]
            found.append(await answers(*some))

    loops = [threading.Thread(target=asyncio.run, args=[ask_many(n * 1000)]) for n in range(3)]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join(20)
    made.stop(10)
    expected = {2 * (n * 1000 + at) for n in range(3) for at in range(200)}
    assert {number for some in found for number in some} == expected


async def test_an_answer_that_cannot_be_noted_for_a_closed_loop_does_not_end_the_thread(
    thread: BatchThread[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def note(request: int, _: object, *, is_abandoned: bool) -> None:
        if is_abandoned:
            raise ZeroDivisionError(request)

    async def ask_and_leave() -> None:
        _ = thread.ask(1, 10)

    work, problems = work_of(thread), list[str]()
    monkeypatch.setattr(work, "answered", note)
    closed = asyncio.new_event_loop()
    closed.set_exception_handler(lambda _, context: problems.append(repr(context["exception"])))
    work.may_run.clear()
    await asyncio.to_thread(closed.run_until_complete, ask_and_leave())
    closed.close()
    work.may_run.set()
    assert await answers(thread.ask(2, 10)) == [4]
    assert problems == ["ZeroDivisionError(1)"]


async def test_many_answers_at_once_are_passed_on_in_order_in_several_turns(
    thread: BatchThread[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    work, turn, taken = work_of(thread), 0, list[tuple[int, int]]()

    def note(request: int, _: object, *, is_abandoned: bool) -> None:
        taken.append((turn, request))

    monkeypatch.setattr(work, "answered", note)
    with one_group(work):
        asked = [thread.ask(number, 10) for number in range(20)]
        asked.append(thread.ask_all([20, 21], 10))
    while not asked[-1].done():
        await asyncio.sleep(0)
        turn += 1
    assert [number for _, number in taken] == list(range(22))
    a_turn = Counter(turn for turn, number in taken if number < 20)
    assert max(a_turn.values()) == 8


# -- promises ----------------------------------------------------------------------------------


@pytest.fixture
async def promising() -> AsyncIterator[BatchThread[int]]:
    made: BatchThread[int] = BatchThread(Promising(), "test")
    yield made
    await asyncio.to_thread(made.stop, 10)


def promises_of(thread: BatchThread[int]) -> Promising:
    assert isinstance(thread.work, Promising)
    return thread.work


@contextmanager
def one_group(work: Doubling) -> Iterator[None]:
    """Requests made here are one group; a first one keeps the thread busy until then."""
    work.may_run.clear()
    yield
    work.may_run.set()


async def test_only_an_answer_that_promises_something_waits_for_the_sync(
    promising: BatchThread[int],
) -> None:
    work = promises_of(promising)
    work.may_sync.clear()
    with one_group(work):
        first = promising.ask(0, 10)
        await asyncio.to_thread(work.is_running.wait, 10)
        promised, certain = promising.ask(1, 10), promising.ask(2, 10)
        together = promising.ask_all([4, 5], 10)
    assert await answers(first, certain) == [0, 4]
    assert not promised.done()
    assert not together.done()
    work.may_sync.set()
    assert await answers(promised, together) == [2, [8, 10]]
    assert work.groups == [[0], [1, 2, 4, 5]]
    assert work.syncs == 1


async def test_a_group_that_promises_nothing_is_not_synced(promising: BatchThread[int]) -> None:
    assert await answers(promising.ask_all([2, 4], 10)) == [[4, 8]]
    assert promises_of(promising).syncs == 0


async def test_a_promise_that_cannot_be_kept_has_another_answer(
    promising: BatchThread[int],
) -> None:
    work = promises_of(promising)
    work.problem = error = OSError("no space")
    inlet = Numbers()
    promising.add_inlet(inlet)
    with one_group(work):
        first = promising.ask(0, 10)
        await asyncio.to_thread(work.is_running.wait, 10)
        found = [promising.ask(number, 10) for number in (1, 2)]
        found.append(promising.ask_all([3, 4], 10))
        inlet.theirs.send(bytes([5, 6]))
    assert await answers(first, *found) == [
        0,
        (1, 2, error),
        4,
        [(3, 6, error), (4, 8, error)],
    ]
    assert await asyncio.to_thread(inlet.await_answers, 2) == [12, (5, 10, error)]


async def test_after_a_defect_of_a_sync_the_thread_goes_on(promising: BatchThread[int]) -> None:
    work = promises_of(promising)
    work.problem = defect = ZeroDivisionError()
    assert await answers(promising.ask(1, 10)) == [(1, 2, defect)]
    work.problem = None
    assert await answers(promising.ask(3, 10)) == [6]


async def test_an_inlet_gets_what_promises_nothing_before_the_sync(
    promising: BatchThread[int],
) -> None:
    work, inlet = promises_of(promising), Numbers()
    work.may_sync.clear()
    promising.add_inlet(inlet)
    inlet.theirs.send(bytes([1, 2, 3, 4]))
    assert await asyncio.to_thread(inlet.await_answers, 2) == [4, 8]
    work.may_sync.set()
    assert await asyncio.to_thread(inlet.await_answers, 4) == [4, 8, 2, 6]


# -- inlets ------------------------------------------------------------------------------------


class Number(NamedTuple):
    """A request as it comes to an inlet."""

    request: int


class Numbers:
    """An inlet of octets, each of which is a request; it remembers the answers."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self._ours = ours
        ours.setblocking(False)
        self.fileno = ours.fileno
        self.answers: list[Any] = []
        self.is_closed = threading.Event()
        self.has = threading.Condition()

    def read(self) -> Sequence[Number] | None:
        return [Number(octet) for octet in self._ours.recv(100)] or None

    def answer(self, answered: Sequence[tuple[Number, Any]]) -> None:
        with self.has:
            self.answers += [answer for _, answer in answered]
            self.has.notify_all()

    def close(self) -> None:
        self._ours.close()
        self.theirs.close()
        self.is_closed.set()

    def await_answers(self, number: int) -> list[Any]:
        with self.has:
            assert self.has.wait_for(lambda: len(self.answers) >= number, 10)
            return list(self.answers)


async def test_requests_at_inlets_and_of_the_event_loop_are_one_group(
    thread: BatchThread[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing but the number of requests ends the wait.
    monkeypatch.setattr(module, "_LINGER_A_GROUP", 1e9)
    monkeypatch.setattr(module, "_LONGEST_LINGER_S", 60)
    work, one, other = work_of(thread), Numbers(), Numbers()
    assert await answers(thread.ask(100, 10)) == [200], "the thread waits for the loop alone"
    for inlet in (one, other):
        thread.add_inlet(inlet)
    assert await answers(thread.ask(101, 10)) == [202], "it waits for inlets too"
    thread.load = 5
    one.theirs.send(bytes([1, 2, 3]))
    asked = thread.ask(5, 10)
    await asyncio.sleep(0)
    assert not asked.done()
    other.theirs.send(bytes([4]))
    assert await answers(asked) == [10]
    assert await asyncio.to_thread(one.await_answers, 3) == [2, 4, 6]
    assert await asyncio.to_thread(other.await_answers, 1) == [8]
    groups = [sorted(group) for group in work.groups if group]
    assert groups == [[100], [101], [1, 2, 3, 4, 5]]


async def test_a_group_with_requests_at_inlets_waits_no_longer_than_the_one_before_it_took(
    thread: BatchThread[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LINGER_A_GROUP", 0)  # and no group takes longer than that
    monkeypatch.setattr(module, "_LONGEST_LINGER_S", 60)
    inlet = Numbers()
    thread.add_inlet(inlet)
    thread.load = 100
    for number in range(1, 4):
        inlet.theirs.send(bytes([number]))
        assert len(await asyncio.to_thread(inlet.await_answers, number)) == number


async def test_an_inlet_that_has_ended_is_closed_and_the_others_go_on(
    thread: BatchThread[int],
) -> None:
    one, other = Numbers(), Numbers()
    for inlet in (one, other):
        thread.add_inlet(inlet)
    one.theirs.send(bytes([1]))
    one.theirs.close()
    assert await asyncio.to_thread(one.is_closed.wait, 10)
    other.theirs.send(bytes([2]))
    assert await asyncio.to_thread(other.await_answers, 1) == [4]
    assert one.await_answers(1) == [2]
    assert await answers(thread.ask(3, 10)) == [6]


async def test_a_defect_is_the_answer_to_the_requests_at_an_inlet(
    thread: BatchThread[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> list[Any]:
        raise ZeroDivisionError

    inlet = Numbers()
    thread.add_inlet(inlet)
    with monkeypatch.context() as patch:
        patch.setattr(thread.work, "run", fail)
        inlet.theirs.send(bytes([1, 2]))
        found = await asyncio.to_thread(inlet.await_answers, 2)
    assert {type(error) for error in found} == {ZeroDivisionError}
    inlet.theirs.send(bytes([3]))
    assert (await asyncio.to_thread(inlet.await_answers, 3))[2:] == [6]


async def test_the_end_closes_inlets_whose_other_end_is_open() -> None:
    made, inlet = BatchThread(Doubling(), "test"), Numbers()
    made.add_inlet(inlet)
    assert await answers(made.ask(1, 10)) == [2]
    await asyncio.to_thread(made.stop, 10)
    assert inlet.is_closed.is_set()
