"""The journal's writer through outages at every await: nothing is owed when it says so.

The database is a real one in memory. Around each of its transactions there are three waits of a
millisecond: before it begins, before it commits, after it has committed and before that is
known. At any of them it may go away or come back, and mail may come. Time is the loop's own,
and leaps.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from msgspec.structs import replace
from sqlalchemy import Connection, create_engine, select
from sqlalchemy.pool import StaticPool

from smtpgate.core.history.usage import Grain
from smtpgate.journal.groups import ServerGroups
from smtpgate.journal.rows import row_of
from smtpgate.journal.schema import metadata, records, usage
from smtpgate.journal.statements import Entry
from smtpgate.journal.writer import RecordWriter
from smtpgate.ports import JournalUnavailableError
from smtpgate.sql.batches import UnfitRowsError, Work
from tests.support.clock import MovableClock, VirtualLoop
from tests.support.journal import submission
from tests.support.records import submission_record

T = TypeVar("T")
State = Literal["up", "away", "frozen", "full"]

Plan = State | Literal["refusal", "login"]

STEP_S: Final = 0.001
ROOM: Final = 9  # how many changes fit into a full one at once: a record, with all about it
# Around the half second after which is tried again, and the ten that a transaction may take.
WAITS_S: Final = (0.0, 0.001, 0.002, 0.003, 0.004, 0.007, 0.1, 0.497, 0.5, 0.501, 2.0, 11.0)
NUMBERS: Final = st.integers(0, 8)
PLANS: Final = st.sampled_from(("up", "away", "frozen", "full", "refusal", "refusal", "login"))
CLOCK: Final = MovableClock()
ROW, TEXTS = row_of(
    submission_record(submission(CLOCK), keep_recipients=True, keep_subject=False)
)
CODES: Final = ("accepted", "refused", "deferred", "in-doubt")


class Server:
    """Implements Batches over a database in memory that goes away and comes back."""

    def __init__(self) -> None:
        self.engine = create_engine("sqlite://", poolclass=StaticPool)
        metadata.create_all(self.engine)
        self.state: State = "up"
        self._changed = asyncio.Event()
        self._waits = 0
        self._planned: dict[int, Callable[[], None]] = {}

    def at_wait(self, number: int, do: Callable[[], None]) -> None:
        """Do that when so many more waits have come; of two at the same one, the later."""
        self._planned[self._waits + number] = do

    def become(self, state: State) -> None:
        self.state = state
        self._changed.set()
        self._changed = asyncio.Event()

    def plan_nothing(self) -> None:
        self._planned.clear()

    async def run(self, work: Work[T]) -> T:
        await self.wait()
        await self.wait()
        try:
            done = self._transact(work)
        except UnicodeEncodeError as error:
            raise UnfitRowsError(str(error)) from error
        await self.wait()
        return done

    async def wait(self) -> None:
        do = self._planned.pop(self._waits, None)
        self._waits += 1
        if do is not None:
            do()
        await asyncio.sleep(STEP_S)
        while self.state == "frozen":
            await self._changed.wait()
        if self.state == "away":
            raise JournalUnavailableError("away")

    def _transact(self, work: Work[T]) -> T:
        with self.engine.connect() as connection, connection.begin():
            before = _changes(connection)
            done = work(connection)
            if self.state == "full" and _changes(connection) - before > ROOM:
                raise JournalUnavailableError("full")
            return done

    async def close(self) -> None:
        self.engine.dispose()

    def outcomes(self) -> dict[str, str]:
        with self.engine.connect() as connection:
            found = connection.execute(select(records.c.id, records.c.outcome))
            return {row.id: row.outcome for row in found}

    def counted(self) -> Counter[str]:
        """The counts of usage, by reason."""
        with self.engine.connect() as connection:
            query = select(usage.c.reason, usage.c.attempts)
            found = connection.execute(query.where(usage.c.grain == int(Grain.DAY)))
            return +Counter({row.reason: row.attempts for row in found})


def _changes(connection: Connection) -> int:
    driver: Any = connection.connection.driver_connection
    changes: int = driver.total_changes
    return changes


@dataclass
class Message:
    """A submission as the pipeline has it: what was to be written of it last."""

    id: str
    is_begun: bool = False
    is_fit: bool = True
    last: str = ""  # the outcome that was last given to the writer
    written: str = ""  # the one that the writer said is there to stay
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def entry(self, outcome: str) -> Entry:
        self.last = outcome
        facts = ROW.facts if self.is_fit else "\ud800"
        row = replace(ROW, id=self.id, outcome=outcome, reason=outcome, facts=facts)
        return Entry(row=row, texts=TEXTS, early_terms=b"t", is_begun=self.is_begun)


class OutagesAtEveryAwait(RuleBasedStateMachine):
    """Mail, and a database that comes and goes; the model is what was to be written last."""

    open_messages = Bundle("open_messages")

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.messages: list[Message] = []
        self.said: list[str | None] = [None]
        self.lost = self.late = 0
        self.errors: list[BaseException] = []
        self.loop.run_until_complete(self._open())

    async def _open(self) -> None:
        self.server = Server()
        self.writer = RecordWriter(
            ServerGroups(self.server, "memory", CLOCK),
            open_again=self.server.wait,
            clock=CLOCK,
            on_change=self._receive,
            on_lost=self._lose,
            on_error=self.errors.append,
        )
        self.mending = asyncio.ensure_future(self.writer.mend())

    def _receive(self, problem: str | None, written: int) -> None:
        assert (problem is None) != (self.said[-1] is None), "each is said once"
        self.said.append(problem)
        if problem is None:
            assert (self.writer.owed, self.writer.problem) == (0, None)
            self.late += written

    def _lose(self, count: int, _why: str) -> None:
        self.lost += count

    def _start(self, message: Message, work: Coroutine[Any, Any, None]) -> None:
        message.tasks.append(self.loop.create_task(work))

    def _new(self, *, is_fit: bool = True) -> Message:
        message = Message(f"0100{len(self.messages):08x}", is_fit=is_fit)
        self.messages.append(message)
        return message

    # -- mail ----------------------------------------------------------------------------------

    @rule(target=open_messages)
    def begin(self) -> Message:
        message = self._new()

        async def work() -> None:
            entry = Entry(
                row=replace(ROW, id=message.id),
                texts=TEXTS,
                early_terms=b"",
                is_final=False,
            )
            try:
                await self.writer.put(entry)
                message.is_begun = True
            except JournalUnavailableError:
                pass  # it is relayed all the same where that is allowed

        self._start(message, work())
        return message

    async def _finish(self, message: Message, outcome: str, then: str) -> None:
        try:
            await self.writer.put(message.entry(outcome))
            message.written = outcome
        except JournalUnavailableError:
            # A record that cannot be written becomes a refusal, and that is written.
            await self._finish_again(message, then)
        except UnfitRowsError:
            pass

    async def _finish_again(self, message: Message, outcome: str) -> None:
        try:
            await self.writer.put(message.entry(outcome))
            message.written = outcome
        except JournalUnavailableError:
            pass

    @rule(
        message=consumes(open_messages),
        outcome=st.sampled_from(CODES),
        then=st.sampled_from(CODES),
    )
    def finish(self, message: Message, outcome: str, then: str) -> None:
        if all(task.done() for task in message.tasks):
            self._start(message, self._finish(message, outcome, then))

    @rule(
        outcome=st.sampled_from(CODES),
        is_cancelled=st.booleans(),
        is_fit=st.sampled_from((True, True, True, False)),
    )
    def refuse(self, outcome: str, *, is_cancelled: bool, is_fit: bool = True) -> None:
        message = self._new(is_fit=is_fit)
        self._start(message, self._finish(message, outcome, "deferred"))
        if is_cancelled:
            self.loop.pass_time(0)
            message.tasks[0].cancel()

    def note_a_login(self) -> None:
        message = self._new()

        async def work() -> None:
            self.writer.add(message.entry("refused"))

        self._start(message, work())

    @rule()
    def forget_old_records(self) -> None:
        def nothing(_: Connection) -> None:
            pass

        async def work() -> None:
            with suppress(JournalUnavailableError):
                await self.writer.run(nothing)

        self._start(Message(""), work())

    # -- the database and the time -------------------------------------------------------------

    @rule(state=st.sampled_from(("up", "up", "away", "frozen", "full")))
    def become(self, state: State) -> None:
        self.server.become(state)

    @rule(
        state=st.sampled_from(("away", "frozen", "full")),
        seconds=st.sampled_from((*WAITS_S, 0.499)),
        plans=st.lists(st.tuples(NUMBERS, PLANS), max_size=3),
    )
    def outage(self, state: State, seconds: float, plans: list[tuple[int, Plan]]) -> None:
        """An outage under mail; what is planned comes while the writer mends it."""
        self.server.become(state)
        self.refuse("refused", is_cancelled=False)
        self.loop.pass_time(seconds)
        self.server.become("up")
        for number, what in plans:
            self.plan(number, what)
        self.loop.pass_time(0.6)

    @rule(number=NUMBERS, what=PLANS)
    def plan(self, number: int, what: Plan) -> None:
        """Have it happen while the writer waits for the database."""

        def do() -> None:
            if what == "refusal":
                message = self._new()
                self._start(message, self._finish(message, "refused", "deferred"))
            elif what == "login":
                self.note_a_login()
            else:
                self.server.become(what)

        self.server.at_wait(number, do)

    @rule(seconds=st.sampled_from(WAITS_S))
    def wait(self, seconds: float) -> None:
        self.loop.pass_time(seconds)

    # -- what holds ----------------------------------------------------------------------------

    @invariant()
    def what_was_said_to_be_written_is_there(self) -> None:
        there = self.server.outcomes()
        for message in self.messages:
            if message.written:
                assert there.get(message.id) == message.written

    @invariant()
    def what_is_owed_is_not_forgotten(self) -> None:
        """It is retried by itself, and the sums are those of the records at every moment."""
        if self.writer.owed or self.writer.problem is not None:
            assert self.said[-1] is not None or self.server.state != "up" or self._is_retrying()
        there = self.server.outcomes()
        assert self.server.counted() == Counter(
            outcome for outcome in there.values() if outcome != "relaying"
        )

    def _is_retrying(self) -> bool:
        return not self.mending.done() and self.writer.owed > 0

    def teardown(self) -> None:
        try:
            self.server.plan_nothing()
            # One that takes a record at a time is enough to write all of them.
            self.server.become("full" if len(self.messages) % 2 else "up")
            self.loop.pass_time(30)
            self.must_be_at_rest()
        finally:
            self.loop.run_until_complete(self._close())
            self.loop.close()
        assert self.errors == [] or {type(one) for one in self.errors} == {UnfitRowsError}

    def must_be_at_rest(self) -> None:
        assert (self.writer.owed, self.writer.problem, self.said[-1]) == (0, None, None)
        unfit = sum(not one.is_fit for one in self.messages)
        assert self.lost == unfit == self.writer.tally.lost
        wanted = {one.id: one.last for one in self.messages if one.last and one.is_fit}
        there = self.server.outcomes()
        assert {name: there.get(name) for name in wanted} == wanted
        self.what_is_owed_is_not_forgotten()

    async def _close(self) -> None:
        self.mending.cancel()
        await asyncio.gather(self.mending, return_exceptions=True)
        await self.writer.close()


# To shrink an example of 40 steps takes minutes, which only a search that is meant to be long
# spends. A failure prints the example as it was found; SMTPGATE_HYPOTHESIS=fuzz shrinks it.
_IS_LONG: Final = settings().max_examples > 1000
OutagesAtEveryAwait.TestCase.settings = settings(
    max_examples=min(settings().max_examples // 2, 5000),
    stateful_step_count=40,
    phases=[phase for phase in Phase if _IS_LONG or phase is not Phase.shrink],
)
TestWriter = OutagesAtEveryAwait.TestCase
