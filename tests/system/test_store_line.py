"""The line of a worker to the store's thread: what it decides, and what the event loop gets."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from smtpgate.core.account import SendingLimits
from smtpgate.core.events import SubmissionDone
from smtpgate.core.limits import (
    Charge,
    Counted,
    Crossing,
    LimitExceededError,
    Reservation,
    Subject,
)
from smtpgate.gate.frames import (
    AskBegin,
    AskComplete,
    AskFinish,
    BeginDone,
    NoFrameError,
    StoreAnswer,
    StoreRequest,
    decode_for_parent,
    decode_for_worker,
    encode,
    encode_packet,
)
from smtpgate.gate.store_answers import answer_of, answer_without_trouble
from smtpgate.gate.store_desk import StoreDesk
from smtpgate.gate.store_line import StoreLine
from smtpgate.gate.store_link import StoreLink
from smtpgate.ledger.transactions import Look, Settle
from smtpgate.ports import Begun, LedgerUnavailableError
from smtpgate.store.host import HostStore
from smtpgate.store.owner import WRITTEN_WITHIN_S, StoreOwner
from smtpgate.store.requests import Begin, BeginAnswer, Finish, FinishAnswer
from smtpgate.store.work import StoreWork
from smtpgate.workers.line import PacketLine
from tests.support.clock import MovableClock, move_loop, settle
from tests.support.journal import Breakable, all_rows, must_add_up, submission
from tests.support.ledgers import soon, used_24h
from tests.support.rows import rows
from tests.support.stores import OpenedStore, open_host_store


class Linked:
    """A worker's store over a line, with its desk, and what the channel carries."""

    def __init__(self, store: OpenedStore) -> None:
        ours, self.theirs = map(PacketLine, PacketLine.new_pair())
        self.sent: list[StoreAnswer] = []
        self.asked: list[StoreRequest] = []
        self.has_ended = asyncio.Event()
        owner = store._owner
        assert isinstance(owner, StoreOwner)
        self.owner, on_error = owner, store.received.errors.append
        self.desk = StoreDesk(owner, self._send, store.ledger, on_error)
        self.desk.serve(ours)
        self.line = StoreLine(self.theirs, self._ask, self.has_ended.set)
        self.link = StoreLink(5, self.line.send, self._ask)
        self.line.answers.take = self.link.take
        self.store = HostStore(self.link, store.ledger, store.journal)

    def _send(self, answer: StoreAnswer) -> None:
        self.sent.append(answer)
        received = decode_for_worker(encode(answer))
        self.link.take(cast("StoreAnswer", received))

    def _ask(self, request: StoreRequest) -> None:
        self.asked.append(request)
        self.desk.take([cast("StoreRequest", decode_for_parent(encode(request)))])

    async def begin(self, event: SubmissionDone) -> Begun:
        return await self.store.begin(event, event.charges, event.submission.received_at)

    async def finish(self, event: SubmissionDone, begun: Begun | None) -> bool:
        reservation = None if begun is None else begun.reservation
        now = event.submission.received_at
        return (await self.store.finish(event, reservation, now)).is_recorded


@pytest.fixture
async def store(tmp_path: Path, clock: MovableClock) -> AsyncIterator[OpenedStore]:
    async with open_host_store(tmp_path, clock=clock, busy_s=0.05) as opened:
        yield opened


@pytest.fixture
async def linked(store: OpenedStore) -> AsyncIterator[Linked]:
    made = Linked(store)
    yield made
    made.line.close()
    await made.desk.close()


async def used(store: OpenedStore, event: SubmissionDone) -> int:
    return await used_24h(store.ledger, event.charges[0].subject, event.submission.received_at)


async def outcomes(store: OpenedStore) -> list[str]:
    return [row.outcome for row in await all_rows(store.journal.store)]


async def test_messages_are_begun_and_finished_without_the_channel(
    store: OpenedStore, linked: Linked, clock: MovableClock
) -> None:
    events = [submission(clock, recipients=2) for _ in range(4)]
    begun = await asyncio.gather(*map(linked.begin, events))
    assert linked.desk.begun.ids == {event.submission.message_id for event in events}
    ours = [reservation for _, reservation in linked.desk.begun._begun.values()]
    assert ours == [one.reservation for one in begun]
    assert None not in ours
    assert linked.owner.thread.load == 4
    assert await used(store, events[0]) == 8
    for event in events:
        event.counted = 2
    events[0].counted = 1
    assert all(await asyncio.gather(*map(linked.finish, events, begun)))
    assert await outcomes(store) == ["accepted"] * 4
    assert await used(store, events[0]) == 7
    assert (linked.sent, linked.asked, linked.desk.begun.ids) == ([], [], set())
    assert linked.owner.thread.load == 0
    await must_add_up(store.journal.store, clock.now())


async def test_a_message_over_a_limit_is_refused_and_leaves_nothing(
    store: OpenedStore, linked: Linked, clock: MovableClock
) -> None:
    event = submission(clock, recipients=3, max_24h_send=2)
    with pytest.raises(LimitExceededError):
        await linked.begin(event)
    assert (await used(store, event), await outcomes(store)) == (0, [])
    assert (linked.owner.thread.load, linked.desk.begun.ids, linked.sent) == (0, set(), [])


async def test_what_a_dead_worker_got_no_answer_to_is_given_back(
    store: OpenedStore, linked: Linked, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = submission(clock, recipients=3)
    begin = asyncio.create_task(linked.begin(event))
    run, is_running, has_ended = StoreWork.run, threading.Event(), threading.Event()

    def wait_for_the_end(work: StoreWork, *words: Any) -> list[Any]:  # noqa: ANN401 - any request's
        is_running.set()
        assert has_ended.wait(10)
        return run(work, *words)

    monkeypatch.setattr(StoreWork, "run", wait_for_the_end)
    await asyncio.to_thread(is_running.wait, 10)
    begin.cancel()
    linked.line.close()
    has_ended.set()
    await linked.desk.close()
    await soon(lambda: used(store, event), 0)
    assert await outcomes(store) == ["in-doubt"]
    assert linked.owner.thread.load == 0


async def test_what_a_worker_had_begun_when_it_died_stays_counted_and_in_doubt(
    store: OpenedStore, linked: Linked, clock: MovableClock
) -> None:
    event = submission(clock, recipients=3)
    await linked.begin(event)
    linked.line.close()
    await linked.desk.close()
    assert (await used(store, event), await outcomes(store)) == (3, ["in-doubt"])
    assert linked.desk.begun.ids == set()


async def test_a_journal_in_trouble_is_the_event_loops_and_the_verdict_is_owed(
    store: OpenedStore, linked: Linked, clock: MovableClock, tmp_path: Path
) -> None:
    file, event = Breakable(tmp_path / "journal.sqlite"), submission(clock)
    file.break_()
    for _ in range(2):  # the first is an answer that is no good, the second is not tried
        begun = await linked.begin(event)
        assert "cannot be opened" in str(begun.problem)
        event.counted = 0
        assert not await linked.finish(event, begun)
    assert await used(store, event) == 0
    assert store.journal.owed == 1
    assert linked.sent
    file.mend()
    await store.journal.writer.retry()
    assert await outcomes(store) == ["accepted"]
    linked.sent.clear()
    assert (await linked.begin(submission(clock))).problem is None
    assert linked.sent == [], "the line is used again"


async def test_a_verdict_of_a_message_without_a_row_makes_the_row(
    store: OpenedStore,
    linked: Linked,
    clock: MovableClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file, event = Breakable(tmp_path / "journal.sqlite"), submission(clock, recipients=3)
    file.break_()
    begun = await linked.begin(event)
    assert begun.problem is not None
    file.mend()
    await store.journal.writer.retry()
    event.counted = 2
    monkeypatch.setattr(PacketLine, "send", lambda _line, _packet: False)  # to see it
    assert await linked.finish(event, begun)
    assert [type(request) for request in linked.asked] == [AskFinish]
    assert (await used(store, event), await outcomes(store)) == (2, ["accepted"])
    assert (linked.desk.begun.ids, store.received.errors) == (set(), [])
    await must_add_up(store.journal.store, clock.now())


async def test_a_defect_of_a_batch_is_an_error_for_its_callers(
    store: OpenedStore, linked: Linked, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    event = submission(clock)
    begun = await linked.begin(event)
    event.counted = 0
    with monkeypatch.context() as patch:
        patch.setattr(StoreWork, "_together", fail)
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            await linked.begin(submission(clock))
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            await linked.finish(event, begun)
    await soon(lambda: used(store, event), 0)
    assert linked.owner.thread.load == 0


async def test_a_request_and_an_answer_without_room_go_over_the_channel(
    store: OpenedStore, linked: Linked, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, event = PacketLine.send, submission(clock)

    with monkeypatch.context() as patch:
        patch.setattr(PacketLine, "send", lambda _line, _packet: False)
        begun = await linked.begin(event)
        assert len(linked.asked) == 1
    with monkeypatch.context() as patch:

        def send_requests_only(line: PacketLine, packet: bytes) -> bool:
            return line is linked.theirs and send(line, packet)

        patch.setattr(PacketLine, "send", send_requests_only)
        linked.sent.clear()
        other = submission(clock)
        assert (await linked.begin(other)).reservation is not None
        assert [type(answer) for answer in linked.sent] == [BeginDone]
    assert await linked.finish(event, begun)
    assert sorted(await outcomes(store)) == ["accepted", "relaying"]


async def test_a_request_that_cannot_be_sent_fails_alone(
    store: OpenedStore, linked: Linked, clock: MovableClock
) -> None:
    events = [submission(clock) for _ in range(4)]
    charge = events[2].charges[0]
    spoilt = replace(charge, subject=replace(charge.subject, account_id="\ud800"))
    events[2].charges = (spoilt,)
    begun = await asyncio.gather(*map(linked.begin, events), return_exceptions=True)
    assert [type(one) for one in begun] == [Begun, Begun, RuntimeError, Begun]
    assert "UnicodeEncodeError" in str(begun[2])
    assert linked.desk.begun.ids == {events[at].submission.message_id for at in (0, 1, 3)}
    with pytest.raises(RuntimeError, match="UnicodeEncodeError"):
        await linked.begin(events[2])
    assert (linked.owner.thread.load, linked.asked) == (3, [])


@pytest.mark.parametrize("has_room", [True, False])
async def test_a_verdict_brings_only_what_its_beginning_had_not(
    store: OpenedStore,
    linked: Linked,
    clock: MovableClock,
    monkeypatch: pytest.MonkeyPatch,
    has_room: bool,
) -> None:
    event = submission(clock, "refused", "recipients-refused", recipients=3)
    monkeypatch.setattr(PacketLine, "send", lambda _line, _packet: False)
    begun = await linked.begin(event)
    if has_room:
        monkeypatch.undo()
    assert linked.desk.begun.ids == {event.submission.message_id}
    ((_, reservation),) = linked.desk.begun._begun.values()
    assert reservation == begun.reservation is not None
    assert await linked.finish(event, begun)
    assert (await used(store, event), linked.desk.begun.ids) == (0, set())
    asked = [AskBegin] if has_room else [AskBegin, AskComplete]
    assert [type(request) for request in linked.asked] == asked
    (row,) = await all_rows(store.journal.store)
    whole = store.journal.entries.ending(event)
    assert whole is not None
    assert row == whole.row
    await must_add_up(store.journal.store, clock.now())


@pytest.mark.parametrize("has_room", [True, False])
async def test_a_verdict_whose_beginning_is_not_known_is_asked_for_as_a_whole(
    store: OpenedStore,
    linked: Linked,
    clock: MovableClock,
    monkeypatch: pytest.MonkeyPatch,
    has_room: bool,
) -> None:
    event = submission(clock, recipients=3)
    begun = await linked.begin(event)
    linked.desk.begun.forget(linked.desk.begun.ids)
    event.counted = 1
    if not has_room:
        monkeypatch.setattr(PacketLine, "send", lambda _line, _packet: False)
    assert await linked.finish(event, begun)
    assert (await used(store, event), await outcomes(store)) == (1, ["accepted"])
    asked = [] if has_room else [AskComplete, AskFinish]
    assert [type(request) for request in linked.asked] == asked
    assert linked.owner.thread.load == 0
    await must_add_up(store.journal.store, clock.now())


async def test_a_verdict_that_comes_in_an_outage_is_owed_as_a_whole(
    store: OpenedStore, linked: Linked, clock: MovableClock, tmp_path: Path
) -> None:
    file, events = Breakable(tmp_path / "journal.sqlite"), [submission(clock) for _ in range(2)]
    begun = [await linked.begin(event) for event in events]
    file.break_()
    for event, of_it in zip(events, begun, strict=True):
        event.counted = 0
        assert not await linked.finish(event, of_it)
    assert (store.journal.owed, linked.desk.begun.ids) == (2, set())
    file.mend()
    await store.journal.writer.retry()
    assert await outcomes(store) == ["accepted"] * 2
    assert await used(store, events[0]) == 0
    await must_add_up(store.journal.store, clock.now())


async def test_what_was_counted_too_late_is_given_back_once(
    store: OpenedStore, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smtpgate.gate.store_link._MAX_LATE", 2)
    asked: list[StoreRequest] = []
    link = StoreLink(-WRITTEN_WITHIN_S - 3, asked.append, asked.append)  # no answer is in time
    late = HostStore(link, store.ledger, store.journal)
    for event in [submission(clock, recipients=3) for _ in range(3)]:
        with pytest.raises(LedgerUnavailableError, match="no answer within"):
            await late.begin(event, event.charges, clock.now())
    counted, begun = (Counted(5, 6),), [one for one in asked if isinstance(one, AskBegin)]
    asked.clear()
    for number in (0, 1, 2, 2):
        link.take(BeginDone(number, counted, True, None))
    settled = [one.request.settle for one in asked if isinstance(one, AskFinish)]
    reserves = [one.request.reserve for one in begun]
    assert settled == [
        Settle(one.counted(counted, may_cross=True), 0, clock.now())
        for one in reserves[1:]
        if one is not None
    ]
    assert len(settled) == 2, "the first was late before as many others as are remembered"


async def test_what_was_counted_for_a_caller_that_gave_up_is_given_back(
    store: OpenedStore, clock: MovableClock
) -> None:
    asked: list[StoreRequest] = []
    link = StoreLink(5, asked.append, asked.append)
    event, worker = (
        submission(clock, recipients=3),
        HostStore(link, store.ledger, store.journal),
    )
    begin = asyncio.create_task(worker.begin(event, event.charges, clock.now()))
    await asyncio.sleep(0)
    begin.cancel()
    await asyncio.wait([begin])
    (ask,) = asked
    assert isinstance(ask, AskBegin)
    assert ask.request.reserve is not None
    counted = (Counted(5, 6),)
    link.take(BeginDone(ask.number, counted, True, None))
    given_back = Settle(ask.request.reserve.counted(counted, may_cross=True), 0, clock.now())
    assert [one.request.settle for one in asked if isinstance(one, AskFinish)] == [given_back]


async def test_a_short_wait_ends_before_a_long_one_that_began_earlier(
    clock: MovableClock,
) -> None:
    asked: list[StoreRequest] = []
    link = StoreLink(5, asked.append, asked.append)
    message = asyncio.create_task(link.begin(Begin()))
    await settle()
    look = link.look(Look((), clock.now()), 1)
    await move_loop(1)
    with pytest.raises(LedgerUnavailableError, match="no answer within"):
        await look
    assert not message.done()
    await move_loop(60)
    assert (await message).problem is not None


async def test_octets_that_are_no_requests_end_the_line(
    store: OpenedStore, linked: Linked
) -> None:
    assert linked.theirs.send(b"GET / HTTP/1.1\r\n")
    await asyncio.wait_for(linked.has_ended.wait(), 10)
    await asyncio.wait_for(linked.desk.close(), 10)
    (error,) = store.received.errors
    assert isinstance(error, NoFrameError)


class Turns:
    """A worker's end of a line that has two packets of answers, and the turn of each answer."""

    def __init__(self, count: int) -> None:
        self.theirs, ours = map(PacketLine, PacketLine.new_pair())
        self.taken: list[tuple[int, int]] = []  # turn and number
        self.ended: int | None = None
        self._now = 0
        self.line = StoreLine(ours, lambda _: None, self._end)
        self.line.answers.take = lambda answer: self.taken.append((self._now, answer.number))
        answers = [BeginDone(number, (), False, None) for number in range(count)]
        assert self.theirs.send(encode_packet(answers[:-2]))
        assert self.theirs.send(encode_packet(answers[-2:]))

    def _end(self) -> None:
        self.ended = self._now

    async def pass_(self, turns: int) -> None:
        """Have the loop turn so often."""
        for _ in range(turns):
            await asyncio.sleep(0)
            self._now += 1

    def must_have(self, count: int) -> None:
        """So many answers were passed on in order, some eight a turn."""
        assert [number for _, number in self.taken] == list(range(count))
        a_turn = Counter(turn for turn, _ in self.taken)
        assert max(a_turn.values()) == 8


CHARGE = Charge(Subject("999999999999"), SendingLimits(200, 5))
REFUSAL = LimitExceededError(CHARGE, "max-24h-send", recipients=2, left=1, retry_after=None)


@rows(
    "request_, answer",
    [
        (Begin(), BeginAnswer()),
        (Begin(), BeginAnswer(Reservation(1, 2, MovableClock().now(), (), ()))),
        (Begin(), BeginAnswer(REFUSAL)),
        (Finish(), FinishAnswer()),
        (Finish(), FinishAnswer((Crossing(CHARGE, 80, 160),))),
    ],
)
async def test_the_thread_and_the_event_loop_give_the_same_answer(
    store: OpenedStore, request_: Begin | Finish, answer: BeginAnswer | FinishAnswer
) -> None:
    owner = store._owner
    assert isinstance(owner, StoreOwner)
    [result] = owner.settled([(request_, answer)])
    assert answer_without_trouble(7, answer) == answer_of(7, result)


@rows(
    "answer",
    [
        BeginAnswer(LedgerUnavailableError("gone")),
        BeginAnswer(None, OSError("full")),
        FinishAnswer((), LedgerUnavailableError("gone")),
        FinishAnswer((), None, OSError("full")),
        ValueError("a defect"),
    ],
)
def test_an_answer_after_trouble_is_left_to_the_event_loop(answer: object) -> None:
    assert answer_without_trouble(7, answer) is None


async def test_many_answers_at_once_are_passed_on_in_several_turns() -> None:
    turns = Turns(20)
    await turns.pass_(10)
    turns.must_have(20)
    turns.line.close()
    turns.theirs.close()


async def test_answers_that_came_are_passed_on_before_the_end_of_the_line() -> None:
    turns = Turns(20)
    turns.theirs.close()
    await turns.pass_(10)
    turns.must_have(20)
    last, _ = turns.taken[-1]
    assert turns.ended is not None
    assert turns.ended > last


async def test_answers_that_were_read_are_passed_on_when_the_line_is_closed() -> None:
    turns = Turns(22)
    while not turns.taken:
        await turns.pass_(1)
    turns.line.close()
    await turns.pass_(10)
    turns.must_have(20)  # the others were not read
    turns.theirs.close()


async def test_a_worker_that_waits_learns_that_the_ledger_is_gone(
    tmp_path: Path, clock: MovableClock
) -> None:
    folder = tmp_path / "\udcff"
    folder.mkdir()
    async with open_host_store(tmp_path, clock=clock, ledger_folder=folder) as store:
        linked = Linked(store)
        folder.rename(tmp_path / "moved")
        with pytest.raises(LedgerUnavailableError, match="udcff"):
            await linked.begin(submission(clock))
        assert store.problems
        linked.line.close()
        await linked.desk.close()
