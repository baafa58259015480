"""One store for ledger and journal: what a message is promised, whatever file fails."""

import asyncio
import errno
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from smtpgate.core.events import SubmissionDone
from smtpgate.core.limits import LimitExceededError, Reservation
from smtpgate.gate.frames import (
    AskBegin,
    BeginDone,
    BeginRefused,
    NotDone,
    StoreAnswer,
    StoreRequest,
    decode_for_parent,
    decode_for_worker,
    encode,
)
from smtpgate.gate.store_desk import StoreDesk
from smtpgate.gate.store_link import StoreLink
from smtpgate.journal.file import Do, JournalFile, JournalWork, Write
from smtpgate.journal.rows import row_of
from smtpgate.journal.statements import Entry
from smtpgate.ledger.sqlite import SqliteLedger
from smtpgate.ledger.transactions import LedgerTransactions, Look, Reserve, Settle
from smtpgate.ports import Begun, LedgerUnavailableError
from smtpgate.sql import thread
from smtpgate.sql.batches import UnfitRowsError
from smtpgate.sql.few_a_turn import FewATurn
from smtpgate.store.host import HostStore
from smtpgate.store.owner import StoreOwner
from smtpgate.store.requests import Begin, BeginAnswer, Finish, FinishAnswer
from smtpgate.store.work import StoreWork
from tests.support.clock import MovableClock
from tests.support.journal import (
    Breakable,
    all_rows,
    journal_in,
    must_add_up,
    open_store,
    submission,
)
from tests.support.ledgers import soon, used_24h
from tests.support.records import submission_record
from tests.support.stores import OpenedStore, open_host_store


@pytest.fixture
async def store(tmp_path: Path, clock: MovableClock) -> AsyncIterator[OpenedStore]:
    async with open_host_store(tmp_path, clock=clock, busy_s=0.05) as opened:
        yield opened


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process that writes and does not end."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def begin(store: OpenedStore, event: SubmissionDone) -> Begun:
    return await store.begin(event, event.charges, event.submission.received_at)


async def finish(store: OpenedStore, event: SubmissionDone, begun: Begun | None) -> bool:
    reservation = None if begun is None else begun.reservation
    now = event.submission.received_at
    return (await store.finish(event, reservation, now)).is_recorded


async def used(store: OpenedStore, event: SubmissionDone) -> int:
    return await used_24h(store.ledger, event.charges[0].subject, event.submission.received_at)


async def outcomes(store: OpenedStore) -> list[str]:
    return [row.outcome for row in await all_rows(store.journal.store)]


async def test_a_message_is_counted_and_begun_at_once_and_its_verdict_settles_both(
    store: OpenedStore, clock: MovableClock
) -> None:
    event = submission(clock, recipients=3)
    begun = await begin(store, event)
    assert isinstance(begun.reservation, Reservation)
    assert (await used(store, event), await outcomes(store)) == (3, ["relaying"])
    event.counted = 2
    assert await finish(store, event, begun)
    assert (await used(store, event), await outcomes(store)) == (2, ["accepted"])
    await must_add_up(store.journal.store, clock.now())


async def test_a_message_over_a_limit_leaves_no_row(
    store: OpenedStore, clock: MovableClock
) -> None:
    event = submission(clock, recipients=3, max_24h_send=2)
    with pytest.raises(LimitExceededError):
        await begin(store, event)
    assert (await used(store, event), await outcomes(store)) == (0, [])
    event.outcome, event.reason = "deferred", "max-24h-send"
    assert await finish(store, event, None)
    assert await outcomes(store) == ["deferred"]


async def test_many_at_once_are_counted_and_written_each(
    store: OpenedStore, clock: MovableClock
) -> None:
    async def carry(number: int) -> None:
        event = submission(clock, recipients=2, max_24h_send=30)
        try:
            begun = await begin(store, event)
        except LimitExceededError:
            event.outcome, event.reason = "deferred", "max-24h-send"
            await finish(store, event, None)
            return
        event.counted = number % 3
        if event.counted == 0:
            event.outcome, event.reason = "refused", "upstream-refused"
        await finish(store, event, begun)

    await asyncio.gather(*(carry(number) for number in range(40)))
    rows = await all_rows(store.journal.store)
    assert len(rows) == 40
    assert "relaying" not in {row.outcome for row in rows}
    await must_add_up(store.journal.store, clock.now())
    assert store.received.errors == []


async def test_a_ledger_that_is_locked_is_unavailable_and_leaves_no_row(
    store: OpenedStore, clock: MovableClock, tmp_path: Path
) -> None:
    event = submission(clock)
    await store.ledger.probe()
    with locked(tmp_path / "ledger.sqlite"):
        with pytest.raises(LedgerUnavailableError, match="locked"):
            await begin(store, event)
        assert len(store.problems) == 1
        # Without charges it is written all the same: nobody waits for the ledger.
        begun = await store.begin(event, (), clock.now())
        assert begun == Begun()
        assert await outcomes(store) == ["relaying"]
        assert await finish(store, event, None)
    assert await outcomes(store) == ["accepted"]
    await soon(lambda: used(store, event), 0)


async def test_recipients_are_given_back_later_when_the_ledger_is_locked_meanwhile(
    store: OpenedStore, clock: MovableClock, tmp_path: Path
) -> None:
    event = submission(clock)
    begun = await begin(store, event)
    event.outcome, event.reason, event.counted = "refused", "upstream-refused", 0
    with locked(tmp_path / "ledger.sqlite"):
        assert await finish(store, event, begun), "its verdict needs no ledger"
        assert await outcomes(store) == ["refused"]
    await soon(lambda: used(store, event), 0)


async def test_a_journal_that_fails_leaves_the_reservation_to_the_caller(
    store: OpenedStore, clock: MovableClock, tmp_path: Path
) -> None:
    file, event = Breakable(tmp_path / "journal.sqlite"), submission(clock)
    file.break_()
    for _ in range(2):
        begun = await begin(store, event)
        assert isinstance(begun.reservation, Reservation)
        assert "cannot be opened" in str(begun.problem)
        event.counted = 0
        assert not await finish(store, event, begun)
    assert await used(store, event) == 0
    assert store.journal.owed == 1
    file.mend()
    await store.journal.writer.retry()
    assert await outcomes(store) == ["accepted"]
    await must_add_up(store.journal.store, clock.now())


async def test_a_verdict_whose_caller_gave_up_is_written_or_owed(
    store: OpenedStore, clock: MovableClock, tmp_path: Path
) -> None:
    file = Breakable(tmp_path / "journal.sqlite")
    for is_broken in (False, True):
        event = submission(clock)
        begun = await begin(store, event)
        if is_broken:
            file.break_()
        task = asyncio.ensure_future(finish(store, event, begun))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if is_broken:
            await soon(_owed(store), 1)
            file.mend()
            await store.journal.writer.retry()
        await soon(lambda: outcomes(store), ["accepted"] * (1 + is_broken))
    await must_add_up(store.journal.store, clock.now())


def _owed(store: OpenedStore) -> Any:  # noqa: ANN401 - a question for ``soon``
    async def owed() -> int:
        return store.journal.owed

    return owed


async def test_a_beginning_whose_caller_gave_up_is_not_counted(
    store: OpenedStore, clock: MovableClock
) -> None:
    event = submission(clock, recipients=3)
    task = asyncio.ensure_future(begin(store, event))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await soon(lambda: used(store, event), 0)
    event.outcome, event.reason = "deferred", "gate-stopped"
    assert await finish(store, event, None)
    assert await outcomes(store) == ["deferred"]
    await must_add_up(store.journal.store, clock.now())


async def test_a_row_that_no_database_takes_gives_its_recipients_back(
    store: OpenedStore, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    event, entries = submission(clock, recipients=2), store.journal.entries
    made = entries.beginning

    def unfit(done: SubmissionDone) -> Entry:
        entry = made(done)
        return replace(entry, row=replace(entry.row, facts="\ud800"))

    monkeypatch.setattr(entries, "beginning", unfit)
    with pytest.raises(UnfitRowsError):
        await begin(store, event)
    assert await used(store, event) == 0
    assert not await finish(store, event, None)
    assert store.journal.tally.lost == 1
    assert {type(error) for error in store.received.errors} == {UnfitRowsError}
    assert store.journal.problem is None


async def test_a_closed_store_counts_and_writes_no_more(
    tmp_path: Path, clock: MovableClock
) -> None:
    async with open_host_store(tmp_path, clock=clock) as store:
        event = submission(clock)
        begun = await begin(store, event)
    with pytest.raises(LedgerUnavailableError, match="closed"):
        await begin(store, submission(clock))
    assert not await finish(store, event, begun)


async def test_an_error_that_nobody_expects_ends_a_batch_and_not_the_store(
    store: OpenedStore, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    event = submission(clock)
    with monkeypatch.context() as patch:
        patch.setattr(StoreWork, "_together", fail)
        with pytest.raises(ZeroDivisionError):
            await begin(store, event)
        with pytest.raises(ZeroDivisionError):
            await finish(store, event, None)
    assert store.journal.tally.lost == 1
    assert (await begin(store, submission(clock))).reservation is not None


async def test_many_messages_at_once_are_few_transactions(
    store: OpenedStore, clock: MovableClock
) -> None:
    before = store.journal.tally.commits
    events = [submission(clock, max_24h_send=1000) for _ in range(9)]
    begun = await asyncio.gather(*(begin(store, event) for event in events))
    assert store.journal.tally.commits - before < len(events)
    for event, one in zip(events, begun, strict=True):
        event.counted = 1
        assert await finish(store, event, one)
    assert await outcomes(store) == ["accepted"] * 9


async def test_two_verdicts_of_one_message_in_one_transaction_count_once(
    store: OpenedStore, clock: MovableClock
) -> None:
    # A verdict whose caller gave up still waits in the thread when what is owed comes after it.
    event, entries = submission(clock), store.journal.entries
    first = entries.ending(event)
    assert first is not None
    owed = replace(first, may_be_there=True)
    groups = store.journal.writer._groups
    for pair in ([first, owed], [owed, owed], [owed, replace(owed, is_final=False)]):
        assert await groups.write(pair, 5) == [None, None]
        assert await outcomes(store) == ["accepted"]
        await must_add_up(store.journal.store, clock.now())


async def test_one_row_that_no_database_takes_costs_the_others_few_transactions(
    store: OpenedStore, clock: MovableClock
) -> None:
    events = [submission(clock) for _ in range(64)]
    entries = [store.journal.entries.beginning(event) for event in events]
    entries[40] = replace(entries[40], row=replace(entries[40].row, facts="\ud800"))
    before = store.journal.tally.commits
    errors = await store.journal.writer._groups.write(entries, 5)
    assert [at for at, error in enumerate(errors) if error is not None] == [40]
    assert store.journal.tally.commits - before == 6
    assert len(await outcomes(store)) == 63


async def test_a_row_that_is_a_defect_is_alone_with_it(
    store: OpenedStore, clock: MovableClock
) -> None:
    entries = [store.journal.entries.ending(submission(clock)) for _ in range(3)]
    good, bad, other = [entry for entry in entries if entry is not None]
    bad = replace(bad, early_terms=None)
    errors = await store.journal.writer._groups.write([good, bad, other], 5)
    assert [type(error) for error in errors] == [type(None), TypeError, type(None)]
    for entry in (good, bad):
        store.journal.writer.owe(entry)
    await store.journal.writer.retry()
    assert (store.journal.owed, store.journal.tally.lost) == (0, 1)
    assert await outcomes(store) == ["accepted"] * 2
    await must_add_up(store.journal.store, clock.now())


async def test_a_verdict_of_which_it_is_not_known_whether_it_is_written_counts_once(
    store: OpenedStore, clock: MovableClock
) -> None:
    event = submission(clock)
    assert await finish(store, event, None)
    event.outcome, event.reason = "deferred", "journal-unavailable"
    event.may_be_recorded = True
    assert await finish(store, event, None)
    assert await outcomes(store) == ["deferred"]
    await must_add_up(store.journal.store, clock.now())


async def test_an_error_after_one_request_keeps_no_other_from_its_answer(
    store: OpenedStore, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, strays = StoreWork.answered, list[object]()

    def fail_for_one(work: StoreWork, request: Any, *words: Any, **named: Any) -> None:  # noqa: ANN401 - any request's
        if getattr(request, "message_id", "") == bad.submission.message_id:
            raise ZeroDivisionError
        answered(work, request, *words, **named)

    bad, good = submission(clock), submission(clock)
    monkeypatch.setattr(StoreWork, "answered", fail_for_one)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: strays.append(context))
    begun = await asyncio.wait_for(asyncio.gather(begin(store, bad), begin(store, good)), 5)
    assert all(isinstance(one.reservation, Reservation) for one in begun)
    assert len(strays) == 1


async def test_a_file_that_was_put_back_gets_the_statements_again(
    store: OpenedStore, clock: MovableClock, tmp_path: Path
) -> None:
    path, backup = tmp_path / "journal.sqlite", tmp_path / "backup.sqlite"
    with closing(sqlite3.connect(path)) as live, closing(sqlite3.connect(backup)) as copy:
        live.backup(copy)
    assert await finish(store, submission(clock), None)
    for name in ("journal.sqlite-wal", "journal.sqlite-shm"):
        (tmp_path / name).unlink()
    backup.rename(path)
    assert await finish(store, submission(clock), None)
    with closing(sqlite3.connect(path)) as live:
        (records,) = live.execute("SELECT count(*) FROM journal_records").fetchone()
        (texts,) = live.execute("SELECT count(*) FROM journal_statements").fetchone()
    assert (records, bool(texts)) == (1, True)


@pytest.mark.parametrize("kind", ["one store", "ledger alone", "link of a worker"])
async def test_an_answer_that_comes_with_the_end_of_its_caller_is_given_back(
    store: OpenedStore,
    clock: MovableClock,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: str,
) -> None:
    # The future has its result, and the task is cancelled before it is woken.
    event, tasks = submission(clock, recipients=3), list[asyncio.Future[Any]]()
    ledger, path = store.ledger, tmp_path / "ledger.sqlite"
    reserving: Coroutine[Any, Any, object] = begin(store, event)
    if kind == "ledger alone":
        reserving.close()
        path = tmp_path / "alone.sqlite"
        ledger = SqliteLedger(path)
        reserving = ledger.reserve(event.charges, 3, clock.now())
    elif kind == "link of a worker":
        reserving.close()
        link = _link_to(store)
        reserving = HostStore(link, ledger, store.journal).begin(
            event, event.charges, clock.now()
        )

    add = FewATurn.add
    take = StoreLink.take

    def add_and_cancel(way: Any, answers: Any) -> None:  # noqa: ANN401 - any thread's
        add(way, answers)
        is_asked = any(isinstance(job.requests[0], Begin | Reserve) for job, _ in answers)
        if is_asked and kind != "link of a worker":
            tasks[0].cancel()

    def take_and_cancel(link: StoreLink, answer: StoreAnswer) -> None:
        take(link, answer)
        tasks[0].cancel()

    monkeypatch.setattr("smtpgate.ledger.transactions._RETRY_S", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(FewATurn, "add", add_and_cancel)
        patch.setattr(StoreLink, "take", take_and_cancel)
        tasks.append(asyncio.ensure_future(reserving))
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
    subject, now = event.charges[0].subject, clock.now()
    other = SqliteLedger(path)  # of another process: nothing else is asked of the first one
    await soon(lambda: used_24h(other, subject, now), 0)
    await other.close()
    if kind == "ledger alone":
        await ledger.close()


def _link_to(store: OpenedStore) -> StoreLink:
    """The link of a worker to the store, without a channel."""
    loop = asyncio.get_running_loop()

    def answer(done: StoreAnswer) -> None:
        loop.call_soon(lambda: link.take(done))

    owner = store._owner
    assert isinstance(owner, StoreOwner)
    desk = StoreDesk(owner, answer, store.ledger, store.received.errors.append)

    def ask(request: StoreRequest) -> None:
        desk.take([decoded(request)])

    link = StoreLink(5, ask, ask)
    return link


def decoded(request: StoreRequest) -> StoreRequest:
    """The request as it comes out of its frame."""
    received = decode_for_parent(encode(request))
    assert isinstance(received, StoreRequest)
    return received


def _desk_of(store: OpenedStore, sent: list[StoreAnswer]) -> StoreDesk:
    """The desk of a worker, and what it sends, as it comes out of its frame."""
    owner = store._owner
    assert isinstance(owner, StoreOwner)

    def send(answer: StoreAnswer) -> None:
        received = decode_for_worker(encode(answer))
        assert isinstance(received, StoreAnswer)
        sent.append(received)

    return StoreDesk(owner, send, store.ledger, store.received.errors.append)


def _ask_begin(store: OpenedStore, event: SubmissionDone, number: int) -> AskBegin:
    recipients, now = len(event.submission.envelope.recipients), event.submission.received_at
    reserve = store.ledger.request(event.charges, recipients, now)
    entry = store.journal.entries.beginning(event)
    asked = decoded(AskBegin(number, Begin(reserve, entry, event.submission.message_id)))
    assert isinstance(asked, AskBegin)
    return asked


async def test_requests_of_a_worker_that_come_together_are_answered_each_in_order(
    store: OpenedStore, clock: MovableClock
) -> None:
    sent: list[StoreAnswer] = []
    desk = _desk_of(store, sent)
    events = [submission(clock, recipients=3, max_24h_send=most) for most in (10, 2, 10)]
    before = store.journal.tally.commits
    desk.take([_ask_begin(store, event, at) for at, event in enumerate(events)])
    await soon(_number_of(sent), 3)
    assert [(type(one), one.number) for one in sent] == [
        (BeginDone, 0),
        (BeginRefused, 1),
        (BeginDone, 2),
    ]
    assert store.journal.tally.commits - before == 1
    assert await used(store, events[0]) == 6


def _number_of(sent: list[StoreAnswer]) -> Any:  # noqa: ANN401 - a question for ``soon``
    async def number() -> int:
        return len(sent)

    return number


async def test_what_a_worker_asked_before_its_end_is_given_back_if_it_got_no_answer(
    store: OpenedStore, clock: MovableClock
) -> None:
    sent: list[StoreAnswer] = []
    desk, event = _desk_of(store, sent), submission(clock, recipients=3)
    desk.take([_ask_begin(store, event, 1)])
    await desk.close()
    await soon(lambda: used(store, event), 0)
    assert await outcomes(store) == ["in-doubt"]


async def test_an_error_with_octets_that_are_no_text_comes_to_the_worker(
    tmp_path: Path, clock: MovableClock
) -> None:
    folder = tmp_path / "\udcff"
    folder.mkdir()
    async with open_host_store(tmp_path, clock=clock, ledger_folder=folder) as store:
        sent: list[StoreAnswer] = []
        folder.rename(tmp_path / "moved")
        _desk_of(store, sent).take([_ask_begin(store, submission(clock), 1)])
        await soon(_number_of(sent), 1)
    (answer,) = sent
    assert isinstance(answer, NotDone)
    assert "\\udcff" in answer.problem


async def test_recipients_are_given_back_also_when_there_is_no_entry_of_the_verdict(
    store: OpenedStore, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    event = submission(clock)
    begun = await begin(store, event)
    event.counted = 0
    monkeypatch.setattr(store.journal.entries, "ending", fail)
    with pytest.raises(ZeroDivisionError):
        await finish(store, event, begun)
    assert await used(store, event) == 0


async def test_recipients_are_given_back_after_an_error_that_nobody_expects(
    store: OpenedStore, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    event = submission(clock)
    begun = await begin(store, event)
    event.counted = 0
    with monkeypatch.context() as patch:
        patch.setattr(StoreWork, "_together", fail)
        with pytest.raises(ZeroDivisionError):
            await finish(store, event, begun)
    assert await used(store, event) == 0


async def test_a_message_without_charges_has_a_problem_of_the_journal_only(
    tmp_path: Path, clock: MovableClock
) -> None:
    async with open_host_store(tmp_path, clock=clock) as store:
        pass
    begun = await store.begin(submission(clock), (), clock.now())
    assert begun.reservation is None
    assert "closed" in str(begun.problem)
    assert store.problems == []


# -- the disk ----------------------------------------------------------------------------------


def _two_are_one_group(patch: pytest.MonkeyPatch) -> None:
    """While two messages are on their way, a group waits for the requests of both."""
    patch.setattr(thread, "_LOADED", 2)
    patch.setattr(thread, "_LINGER_A_MESSAGE_S", 60)
    patch.setattr(thread, "_LONGEST_LINGER_S", 60)


async def test_a_beginning_does_not_wait_for_the_disk_and_a_verdict_does(
    store: OpenedStore, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_syncing, may_end = threading.Event(), threading.Event()

    def sync(_: int) -> None:
        is_syncing.set()
        assert may_end.wait(10)

    first, second = submission(clock), submission(clock)
    begun = await begin(store, first)
    monkeypatch.setattr(os, "fdatasync", sync)
    _two_are_one_group(monkeypatch)
    async with asyncio.TaskGroup() as tasks:
        beginning = tasks.create_task(begin(store, second))
        verdict = tasks.create_task(finish(store, first, begun))
        other = await beginning
        assert other.problem is None
        assert await asyncio.to_thread(is_syncing.wait, 10)
        assert not verdict.done()
        may_end.set()
    assert verdict.result()
    assert await finish(store, second, other)
    await must_add_up(store.journal.store, clock.now())


async def test_a_verdict_that_may_not_be_on_the_disk_is_owed_and_a_beginning_is_not(
    store: OpenedStore, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    first, second = submission(clock), submission(clock)
    begun = await begin(store, first)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        _two_are_one_group(patch)
        other, verdict = await asyncio.gather(begin(store, second), finish(store, first, begun))
    assert not verdict, "it is recorded once the disk has it"
    assert other.problem is None
    await store.journal.writer.retry()
    assert await finish(store, second, other)
    await soon(lambda: outcomes(store), ["accepted"] * 2)
    await must_add_up(store.journal.store, clock.now())


# -- the synchronous core ----------------------------------------------------------------------


async def test_a_list_of_requests_has_a_list_of_answers_in_order(
    tmp_path: Path, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    inodes = list[int]()
    monkeypatch.setattr("os.fdatasync", lambda file: inodes.append(os.fstat(file).st_ino))
    async with open_store(journal_in(tmp_path), tmp_path) as files:
        ledger = LedgerTransactions(tmp_path / "ledger.sqlite", busy_timeout_s=1, lease_s=900)
        journal, synced = JournalFile(files.database, clock), list[list[int]]()
        work, now = StoreWork(ledger, journal), clock.now()
        charges = submission(clock).charges
        one, other = _entry(clock), _entry(clock)

        def run(*requests: Any) -> list[Any]:  # noqa: ANN401 - of any kind
            answers = work.run(requests, lambda _: False)
            if any(work.promises(requests)):
                work.sync()
            synced.append([*inodes])
            return answers

        first, second, (status,) = run(
            Begin(Reserve(1, charges, 1, now), one),
            Begin(None, other),
            Look(charges, now),
        )
        assert isinstance(first, BeginAnswer)
        assert isinstance(first.counted, Reservation)
        assert second == BeginAnswer()
        assert status.used_24h == 1
        done = replace(
            one, is_final=True, is_begun=True, row=replace(one.row, outcome="accepted")
        )
        assert run(Finish(Settle(first.counted, 0, now), done)) == [FinishAnswer()]
        assert run(Look(charges, now))[0][0].used_24h == 0
        log = Path(f"{files.database.url.database}-wal").stat().st_ino
        assert synced == [[], [log], [log]], "only a verdict is promised"
        assert {row.outcome for row in await all_rows(files)} == {"accepted", "relaying"}
        work.close()


async def test_only_requests_with_a_verdict_are_promised(
    tmp_path: Path, clock: MovableClock
) -> None:
    async with open_store(journal_in(tmp_path), tmp_path) as files:
        ledger = LedgerTransactions(tmp_path / "ledger.sqlite", busy_timeout_s=1, lease_s=900)
        journal = JournalFile(files.database, clock)
        begun = _entry(clock)
        done = replace(begun, is_final=True)
        of_journal: list[Write | Do] = [Write([begun]), Write([begun, done]), Do(str)]
        assert JournalWork(journal).promises(of_journal) == [False, True, False]
        work = StoreWork(ledger, journal)
        assert work.promises(of_journal) == [False, True, False]
        assert work.promises([Begin(None, begun), Finish(None, done), Finish()]) == [
            False,
            True,
            False,
        ]
        work.close()


async def test_a_verdict_is_written_though_the_ledger_cannot_settle(
    tmp_path: Path, clock: MovableClock
) -> None:
    async with open_store(journal_in(tmp_path), tmp_path) as files:
        absent = tmp_path / "absent" / "ledger.sqlite"
        ledger = LedgerTransactions(absent, busy_timeout_s=1, lease_s=900)
        work = StoreWork(ledger, JournalFile(files.database, clock))
        settle = Settle(Reservation(1, 1, clock.now(), (), ()), 0, clock.now())
        done = replace(_entry(clock), is_final=True)
        (answer,) = work.run([Finish(settle, done)], lambda _: False)
        assert (answer.crossings, answer.not_written) == ((), None)
        assert isinstance(answer.not_counted, LedgerUnavailableError)
        assert len(await all_rows(files)) == 1
        work.close()


def _entry(clock: MovableClock) -> Entry:
    record = submission_record(submission(clock), keep_recipients=True, keep_subject=False)
    row, texts = row_of(record)
    return Entry(row=row, texts=texts, early_terms=b"t", is_final=False)


async def test_each_request_of_a_list_has_the_error_of_its_own_row(
    tmp_path: Path, clock: MovableClock
) -> None:
    async with open_store(journal_in(tmp_path), tmp_path) as files:
        ledger = LedgerTransactions(tmp_path / "ledger.sqlite", busy_timeout_s=1, lease_s=900)
        work = StoreWork(ledger, JournalFile(files.database, clock))
        entries = [_entry(clock) for _ in range(4)]
        entries[2] = replace(entries[2], row=replace(entries[2].row, facts="\ud800"))
        answers = work.run([Begin(None, entry) for entry in entries], lambda _: False)
        errors = [type(one.not_written) for one in answers]
        nothing = type(None)
        assert errors == [nothing, nothing, UnfitRowsError, nothing]
        work.close()
