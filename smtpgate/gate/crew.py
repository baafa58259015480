"""The workers of a gate, as its parent sees them: forked, watched, replaced, drained.

Each place has a task that fills it: it has a worker forked, waits for its end, and unless the
gate drains has another one forked, later each time that workers end soon. All workers are
pinged every second; one that gives no answer for too long is killed, and so replaced.
"""

import asyncio
import signal
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from typing import Final, Literal, get_args

from smtpgate.config import Config
from smtpgate.control import ControlRequest, FromWorker
from smtpgate.gate.errors import OpenError
from smtpgate.gate.frames import (
    AskToken,
    Drain,
    Noted,
    OfAnswer,
    PassedOn,
    Ping,
    Pong,
    Report,
    Serving,
    Setup,
    Stopped,
    StoreRequest,
    TasksWritten,
    ToWorker,
    WorkerState,
    decode_for_parent,
    encode,
)
from smtpgate.gate.host import Host
from smtpgate.gate.questions import Questions
from smtpgate.gate.store_desk import StoreDesk
from smtpgate.http.readiness import passes_in_all, passes_in_one
from smtpgate.metrics.catalogue import CATALOGUE
from smtpgate.metrics.histogram import HistogramState
from smtpgate.ports import Reading
from smtpgate.relay.routed import UP
from smtpgate.tasks import Rhythm, TaskOwner
from smtpgate.workers.channel import Channel
from smtpgate.workers.fork_server import ForkServer, ForkServerError
from smtpgate.workers.line import PacketLine
from smtpgate.workers.shared_sums import SharedSums
from smtpgate.workers.watch import Heartbeat, Restarts

_PING_S: Final = 1.0
_REFRESH_S: Final = 1.0
# Beyond what a worker may take by itself until it has drained.
_PATIENCE_S: Final = 20.0
_NO_STATE: Final = WorkerState([], [], {})

Reason = Literal["exited", "killed", "hung"]


def no_restarts() -> Iterator[Reading]:
    """The restarts of a gate without workers, for a scrape."""
    return _restarts(Counter())


def _restarts(counted: Counter[Reason]) -> Iterator[Reading]:
    for reason in get_args(Reason):
        yield Reading("smtpgate_worker_restarts_total", counted[reason], (reason,))


class Member:
    """One worker process."""

    def __init__(
        self,
        number: int,
        since_s: float,
        most_unanswered: int,
        on_frames: Callable[["Member", Sequence[bytes]], None],
    ) -> None:
        """It is sent frames from now on; it has them once it is forked."""
        self.number = number
        self.since_s = since_s
        self.pid = 0
        self.closed = asyncio.Event()
        self.channel = Channel(lambda frames: on_frames(self, frames), self.closed.set)
        self.desk: StoreDesk | None = None
        self.heartbeat = Heartbeat(most_unanswered)
        self.is_serving = False
        self.is_hung = False
        self.state = _NO_STATE
        self.answered = 0
        self.cut_off = 0
        self.status = asyncio.get_running_loop().create_future()

    def send(self, frame: ToWorker) -> None:
        """Send it a frame."""
        self.channel.send(encode(frame))

    async def end(self) -> int:
        """Its exit status, once all that it has sent was taken."""
        status: int = await self.status
        await self.closed.wait()
        return status

    def reason(self, status: int) -> Reason:
        """The reason of its end."""
        if self.is_hung:
            return "hung"
        return "killed" if status < 0 else "exited"


class Crew:
    """All workers of a gate."""

    def __init__(
        self,
        config: Config,
        workers: int,
        fork_server: ForkServer,
        sums: Iterable[SharedSums],
        host: Host,
        new_setup: Callable[[], Setup],
        on_lost: Callable[[], None],
    ) -> None:
        """Each new worker gets a setup first.

        ``on_lost`` is called when no worker can be replaced any more.
        """
        self._new_setup = new_setup
        self._workers = workers
        self._fork_server = fork_server
        self._sums = tuple(sums)
        self._host = host
        self._clock, self._log = host.clock, host.log
        self._on_lost = on_lost
        self._most_unanswered = max(1, round(config.gate.worker_timeout_s / _PING_S))
        self._members: dict[int, Member] = {}
        self._turn = asyncio.Lock()
        self._pinged = 0
        self._is_answered = asyncio.Event()
        self._has_begun = asyncio.Event()
        self._ready: set[int] = set()  # places whose first worker serves, or has ended
        self._restarts: Counter[Reason] = Counter()
        self._counters: dict[tuple[str, tuple[str, ...]], float] = {}
        self._histograms: dict[tuple[str, str], HistogramState] = {}
        self._rhythms = [Rhythm() for _ in range(workers)]
        self._pings = Rhythm()
        self._questions = Questions()
        self._tasks = TaskOwner()
        self._cut_off = 0
        self.is_draining = False

    # -- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Have every worker forked, and wait until they serve. Raises OpenError."""
        self._fork_server.listen(self._note_status, self._lose_fork_server)
        for number in range(self._workers):
            _ = self._tasks.start(self._fill(number), name=f"worker {number}")
        _ = self._tasks.start(self._ping(), name="pings")
        await self._has_begun.wait()
        if not self.serving:
            raise OpenError("no worker could start; the log has the reason")

    async def drain(self, drain_s: float, finish_s: float) -> int:
        """Drain all workers, and wait for their ends; how many transactions were cut short."""
        self.is_draining = True
        self._fork_server.release()
        for rhythm in self._rhythms:
            rhythm.end()
        async with self._turn:
            pass  # a worker that was being forked is there now
        for member in self._all():
            member.send(Drain(drain_s, finish_s))
        places = [one.end() for one in self._all()]
        if places:
            _, late = await asyncio.wait(
                [self._tasks.start(one) for one in places],
                timeout=drain_s + finish_s + _PATIENCE_S,
            )
            for member in self._all() if late else ():
                self._log.note("error", "worker killed", worker=member.number, pid=member.pid)
                self._fork_server.kill(member.pid)
        self._pings.end()
        _ = await self._tasks.drain(_PATIENCE_S)
        await self._fork_server.close()
        return self._cut_off

    def ask(self, request: ControlRequest) -> AsyncGenerator[FromWorker]:
        """Ask all workers, as :class:`Peers` do; those that start answer when they serve."""
        return self._questions.ask(self._all(), request)

    def replace(self, number: int, drain: Drain) -> None:
        """Drain the worker in that place; another one takes it."""
        if (member := self._members.get(number)) is not None:
            member.send(drain)

    # -- what the parent shows -----------------------------------------------------------------

    @property
    def members(self) -> tuple[Member, ...]:
        """The workers that there are now."""
        return self._all()

    @property
    def serving(self) -> int:
        """The number of workers that take connections, and answer."""
        return sum(
            one.is_serving and one.heartbeat.is_answering and not self.is_draining
            for one in self._all()
        )

    @property
    def is_answering(self) -> bool:
        """True if a worker answers."""
        return any(one.heartbeat.is_answering for one in self._all())

    async def refresh(self) -> None:
        """Get the state of all workers that answer soon."""
        self._pinged += 1
        asked = self._pinged
        for member in self._all():
            member.send(Ping(asked))
        try:
            async with asyncio.timeout(_REFRESH_S):
                while any(one.answered < asked for one in self._all()):
                    self._is_answered.clear()
                    await self._is_answered.wait()
        except TimeoutError:
            pass  # the state that it had is shown

    def readings(self) -> Iterator[Reading]:
        """The readings of all workers, also of those that have ended, for a scrape."""
        yield Reading("smtpgate_workers", self.serving)
        yield from _restarts(self._restarts)
        for (metric, labels), value in tuple(self._counters.items()):
            yield Reading(metric, value, labels)
        for member in self._all():
            yield from member.state.readings

    def histograms(self) -> Iterator[HistogramState]:
        """The histograms of all workers, also of those that have ended, for a scrape."""
        yield from tuple(self._histograms.values())
        for member in self._all():
            yield from member.state.histograms

    def check_workers(self) -> tuple[bool, str]:
        """Ready while a worker serves."""
        serving = self.serving
        return serving > 0, f"{serving} of {self._workers} workers serve"

    def check(self, name: str) -> tuple[bool, str]:
        """The state of a part that each worker has: ready if it is so in all of them."""
        if self.is_draining:
            return False, "draining"
        return passes_in_all(self._states(name))

    def check_of_relay(self, name: str) -> tuple[bool, str]:
        """The state of an upstream or a route: ready if it is so in one worker.

        The others' clients get 451 and try again; without this host they could try nowhere.
        """
        if self.is_draining:
            return False, "draining"
        return passes_in_one(self._states(name), UP)

    def _states(self, name: str) -> list[tuple[bool, str]]:
        """The check of that name in all workers that have it."""
        return [one.state.checks[name] for one in self._all() if name in one.state.checks]

    def _all(self) -> tuple[Member, ...]:
        return tuple(self._members.values())

    # -- places --------------------------------------------------------------------------------

    async def _fill(self, number: int) -> None:
        """Keep a worker in a place until the gate drains."""
        restarts = Restarts()
        while not self.is_draining:
            try:
                member = await self._fork(number)
            except ForkServerError as error:
                if not self.is_draining:
                    problem = str(error)
                    self._log.note(
                        "error", "worker not started", worker=number, problem=problem
                    )
                self._note_begun(number)
                wait_s = restarts.wait_s(0)
            else:
                status = await member.end()
                if member.desk is not None:  # beside the next worker: the store may be slow
                    _ = self._tasks.start(member.desk.close(), name="desk")
                wait_s = restarts.wait_s(self._clock.monotonic() - member.since_s)
                self._bury(member, status, wait_s)
            if not await self._rhythms[number].goes_on(wait_s):
                return

    async def _fork(self, number: int) -> Member:
        async with self._turn:
            if self.is_draining:
                raise ForkServerError("the gate drains")
            member = Member(number, self._clock.monotonic(), self._most_unanswered, self._take)
            member.pid, channel, line = await self._fork_server.fork(number)
            self._members[number] = member
            member.send(self._new_setup())
            await member.channel.attach(channel)
            self._open_desk(member, line)
            member.channel.listen()
            return member

    def _open_desk(self, member: Member, line: socket.socket) -> None:
        """Have the worker use the store of this process, if it is one that needs an owner."""
        stores = self._host.stores
        if stores.owner is None:
            line.close()
            return
        desk = StoreDesk(stores.owner, member.send, stores.ledger_watch, self._log.error)
        member.desk = desk
        desk.serve(PacketLine(line))
        member.send(desk.key)

    def _bury(self, member: Member, status: int, wait_s: float) -> None:
        """Note the end of a worker; what it counted stays counted."""
        del self._members[member.number]
        self._questions.lose(member)
        for sums in self._sums:
            sums.clear(member.number)
        self._keep_counts(member.state)
        self._cut_off += member.cut_off
        self._note_begun(member.number)
        if self.is_draining and status == 0:
            return
        reason = member.reason(status)
        self._restarts[reason] += 1
        signal_name = signal.Signals(-status).name if status < 0 else None
        self._log.note(
            "info" if status == 0 else "error",
            "worker ended",
            worker=member.number,
            pid=member.pid,
            reason=reason,
            status=signal_name or status,
            replaced_in_s=None if self.is_draining else round(wait_s, 1),
        )

    def _keep_counts(self, state: WorkerState) -> None:
        for reading in state.readings:
            if CATALOGUE[reading.metric].kind == "counter":
                series = (reading.metric, reading.labels)
                self._counters[series] = self._counters.get(series, 0) + reading.value
        for one in state.histograms:
            key = (one.metric, one.value)
            before = self._histograms.get(key)
            self._histograms[key] = one if before is None else before.plus(one)

    def _note_begun(self, number: int) -> None:
        """The first worker of a place serves, or has ended."""
        self._ready.add(number)
        if len(self._ready) == self._workers:
            self._has_begun.set()

    def _note_status(self, pid: int, status: int) -> None:
        for member in self._all():
            if member.pid == pid and not member.status.done():
                member.status.set_result(status)

    def _lose_fork_server(self) -> None:
        self._log.note("error", "fork server ended", pid=self._fork_server.pid)
        for member in self._all():
            if not member.status.done():
                member.status.set_result(0)  # its end is seen by its channel only
        self._on_lost()

    # -- pings and frames ----------------------------------------------------------------------

    async def _ping(self) -> None:
        while await self._pings.goes_on(_PING_S):
            self._pinged += 1
            for member in self._all():
                if member.pid and member.heartbeat.is_hung_at_ping():
                    self._kill(member)
                member.send(Ping(self._pinged))

    def _kill(self, member: Member) -> None:
        """Kill a worker that hangs; once more at the next ping, if that could not be sent."""
        if not member.is_hung:
            member.is_hung = True
            self._log.note("error", "worker hung", worker=member.number, pid=member.pid)
        self._fork_server.kill(member.pid)

    def _take(self, member: Member, frames: Sequence[bytes]) -> None:
        requests: list[StoreRequest] = []
        for frame in frames:
            received = decode_for_parent(frame)
            if isinstance(received, StoreRequest):
                requests.append(received)
            elif isinstance(received, TasksWritten):
                self._host.wake_outbox()
            elif isinstance(received, AskToken):
                self._host.tokens.answer(received, member.send)
            elif isinstance(received, OfAnswer):
                self._questions.take(member, received)
            else:
                self._note(member, received)
        if requests and member.desk is not None:
            member.desk.take(requests)

    def _pass_on(self, member: Member, noted: Noted) -> None:
        self._host.note(noted.note)
        for other in self._all():
            if other is not member:
                other.send(noted)
        if noted.number:
            member.send(PassedOn(noted.number))

    def _note(
        self, member: Member, received: Serving | Pong | Report | Noted | Stopped
    ) -> None:
        match received:
            case Report() as report:
                self._host.take(report)
            case Noted() as noted:
                self._pass_on(member, noted)
            case Pong(number, state):
                member.heartbeat.answered()
                member.answered, member.state = number, state
                self._is_answered.set()
            case Serving():
                member.is_serving = True
                if self._has_begun.is_set():
                    self._log.note(
                        "info", "worker started", worker=member.number, pid=member.pid
                    )
                self._note_begun(member.number)
            case Stopped(cut_off, state):
                member.cut_off, member.state = cut_off, state
                member.is_serving = False
