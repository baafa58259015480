"""The sender: it leases tasks, has them carried to their destinations, and settles them.

Each destination has a lane of its own: a queue of leased tasks, of which a few are carried at
once. A slow destination fills its lane, and no other. Results are written together. If the
journal cannot be written they wait in memory. If the gate is killed then, leases end and the
tasks are carried again. A task has the same id each time, so receivers can tell.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import product
from typing import Final, get_args

from smtpgate.config.sections import OutboxConfig
from smtpgate.core.events import TaskGivenUp
from smtpgate.core.outbox.event import EVENT_KINDS
from smtpgate.core.outbox.retries import Settled, settled
from smtpgate.core.outbox.task import MAIL_LANE, DestinationKind, LeasedTask, Result, TryAgain
from smtpgate.outbox.queue import Backlog, TaskQueue
from smtpgate.ports import Carrier, Clock, EventSink, JournalUnavailableError, Reading
from smtpgate.tasks import TaskOwner

_POLL_S: Final = 5.0
_AFTER_FAILURE_S: Final = 5.0
_LOOK_S: Final = 30.0
_TIDY_S: Final = 600.0
_MAX_LEASED: Final = 2000
_MAX_RUNNING: Final = 200
_STOP_S: Final = 5.0
_BESIDE_LEASE_S: Final = 30.0
# An attempt's outcome in the metrics, by the state that it leaves the task in.
_OUTCOMES: Final[Mapping[str, str]] = {"sent": "sent", "waiting": "failed", "dead": "given-up"}


class Lane:
    """The leased tasks of one destination: those that wait here, and how many are carried."""

    __slots__ = ("running", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[LeasedTask] = deque()
        self.running = 0


class OutboxSender:
    """Sends what is in the queue, from the start of the gate to its end.

    ``mail_timeout_s`` is the time that an attempt by mail may take. The upstream ends it first,
    since one that is cut off after its final dot is sent twice. ``random`` is a number from 0
    to 1 for the waits. ``on_error`` is called with an error of a carrier that nobody expects;
    the task is tried again.
    """

    def __init__(
        self,
        queue: TaskQueue,
        carriers: Mapping[DestinationKind, Carrier],
        settings: OutboxConfig,
        *,
        mail_timeout_s: float,
        clock: Clock,
        events: EventSink,
        random: Callable[[], float],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self.queue = queue
        self._carriers = carriers
        self._settings = settings
        self._mail_timeout_s = mail_timeout_s
        self._clock = clock
        self._events = events
        self._random = random
        self._on_error = on_error
        self._lanes: dict[str, Lane] = {}
        self._leased = 0
        self._running = 0
        self._settled: list[Settled] = []
        self._tasks = TaskOwner()
        self._woken = asyncio.Event()
        self._is_over = False
        self._backlog: Sequence[Backlog] = ()
        self._looked_s = self._tidied_s = float("-inf")
        every = product(_OUTCOMES.values(), EVENT_KINDS, get_args(DestinationKind))
        self._results: Counter[tuple[str, str, str]] = Counter(dict.fromkeys(every, 0))

    def use_mail_timeout(self, seconds: float) -> None:
        """Let further attempts by mail take so long."""
        self._mail_timeout_s = seconds

    def wake(self) -> None:
        """There may be new tasks, or room for some."""
        self._woken.set()

    # -- life ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Send until :meth:`stop`."""
        while not self._is_over:
            self._woken.clear()
            try:
                wait_s = await self._round()
            except JournalUnavailableError:
                wait_s = _AFTER_FAILURE_S  # the journal's own notes say what is wrong
            except Exception as error:  # noqa: BLE001 - the sender must not end
                self._on_error(error)
                wait_s = _AFTER_FAILURE_S
            if not self._is_over:
                await self._wait(wait_s)

    async def _wait(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def stop(self) -> None:
        """Let attempts under way end, within a few seconds, and give the other leases back."""
        self._is_over = True
        self._woken.set()
        left = [one for lane in self._lanes.values() for one in lane.waiting]
        for lane in self._lanes.values():
            lane.waiting.clear()
        _ = await self._tasks.drain(min(self._settings.timeout_s, _STOP_S))
        try:
            await self.queue.release(left, self._clock.now())
            await self._settle()
        except JournalUnavailableError:
            pass  # the leases end by themselves

    # -- rounds --------------------------------------------------------------------------------

    async def _round(self) -> float:
        """Write results, lease what is due, look after the table; the wait until the next."""
        await self._settle()
        await self._look_after()
        now = self._clock.now()
        due_at = {
            lane: at for lane, at in (await self.queue.lanes()).items() if self._has_room(lane)
        }
        due = [lane for lane, at in due_at.items() if at <= now]
        await self._lease(
            [lane for lane in due if lane != MAIL_LANE], self._settings.batch, now
        )
        # An attempt by mail may take long, so only those are leased that can begin soon.
        await self._lease([MAIL_LANE] * (MAIL_LANE in due), self._settings.concurrency, now)
        later = [at for at in due_at.values() if at > now]
        until = min(later, default=now + timedelta(seconds=_POLL_S))
        return min(max((until - now).total_seconds(), 0.0), _POLL_S)

    async def _lease(self, lanes: Sequence[str], batch: int, now: datetime) -> None:
        """Lease so many tasks of each lane, for as long as their attempts may take."""
        if not lanes:
            return
        # Some of a lane may be waiting or carried already.
        turns = -(-batch // self._settings.concurrency) + 2
        lease_s = turns * self._timeout_s(lanes[0]) + _BESIDE_LEASE_S
        self._begin(await self.queue.lease(dict.fromkeys(lanes, batch), now, lease_s))

    def _timeout_s(self, lane: str) -> float:
        return self._mail_timeout_s if lane == MAIL_LANE else self._settings.timeout_s

    def _has_room(self, lane: str) -> bool:
        known = self._lanes.get(lane)
        is_short = known is None or len(known.waiting) < self._settings.concurrency
        return is_short and self._leased < _MAX_LEASED

    async def _settle(self) -> None:
        results, self._settled = self._settled, []
        try:
            await self.queue.settle(results)
        except BaseException:
            self._settled = results + self._settled
            raise

    async def _look_after(self) -> None:
        now_s = self._clock.monotonic()
        if now_s - self._tidied_s >= _TIDY_S:
            is_first, self._tidied_s = self._tidied_s < 0, now_s
            if is_first or self.queue.is_shared:
                await self.queue.release_orphans()
            keep_s = self._settings.keep_days * 86_400.0
            while await self.queue.tidy(self._clock.now(), keep_s):
                pass  # each step is a transaction of its own, between those of messages
        if now_s - self._looked_s >= _LOOK_S:
            self._looked_s = now_s
            self._backlog = await self.queue.backlog()

    # -- tasks ---------------------------------------------------------------------------------

    def _begin(self, leased: Sequence[LeasedTask]) -> None:
        self._leased += len(leased)
        for one in leased:
            self._lane(one).waiting.append(one)
        for lane in {one.task.destination.lane for one in leased}:
            self._pump(self._lanes[lane])

    def _lane(self, leased: LeasedTask) -> Lane:
        return self._lanes.setdefault(leased.task.destination.lane, Lane())

    def _pump(self, lane: Lane) -> None:
        while (
            lane.waiting
            and lane.running < self._settings.concurrency
            and self._running < _MAX_RUNNING
            and not self._is_over
        ):
            leased = lane.waiting.popleft()
            lane.running += 1
            self._running += 1
            _ = self._tasks.start(self._carry_out(lane, leased), name="outbox")

    async def _carry_out(self, lane: Lane, leased: LeasedTask) -> None:
        try:
            result = await self._carry(leased)
            self._note(leased, result)
        finally:
            was_full = self._running >= _MAX_RUNNING
            lane.running -= 1
            self._running -= 1
            self._leased -= 1
            for one in tuple(self._lanes.values()) if was_full else (lane,):
                self._pump(one)
            if not lane.waiting and not lane.running:
                self._lanes.pop(leased.task.destination.lane, None)
            if len(lane.waiting) < self._settings.concurrency:
                self._woken.set()

    async def _carry(self, leased: LeasedTask) -> Result:
        carrier = self._carriers.get(leased.task.destination.kind)
        if carrier is None:
            return TryAgain("the gate has no means for such a destination")
        timeout_s = self._timeout_s(leased.task.destination.lane)
        try:
            async with asyncio.timeout(timeout_s):
                return await carrier.carry(leased)
        except TimeoutError:
            return TryAgain(f"no answer within {timeout_s:g} s")
        except OSError as error:
            return TryAgain(str(error) or type(error).__name__)
        except Exception as error:  # noqa: BLE001 - a defect of ours must not lose the task
            self._on_error(error)
            return TryAgain(f"internal error: {type(error).__name__}")

    def _note(self, leased: LeasedTask, result: Result) -> None:
        now = self._clock.now()
        after_s = self._settings.give_up_after_s
        one = settled(leased, result, now, after_s, self._random())
        self._settled.append(one)
        event, destination = leased.task.event, leased.task.destination
        self._results[_OUTCOMES[one.state], event.kind, destination.kind] += 1
        if one.state == "dead":
            self._events.publish(
                TaskGivenUp(
                    one.task_id, event.kind, event.mail.message_id, destination, one.number,
                    one.answer, now,
                )
            )  # fmt: skip

    # -- metrics -------------------------------------------------------------------------------

    def readings(self) -> Iterator[Reading]:
        """The state of the outbox, for a scrape: the numbers of the last half minute."""
        numbers: Counter[str] = Counter()
        oldest: datetime | None = None
        for one in self._backlog:
            numbers[one.state] += one.number
            if one.state == "waiting":
                oldest = min(one.oldest_at, oldest or one.oldest_at)
        age_s = 0.0 if oldest is None else (self._clock.now() - oldest).total_seconds()
        for state in ("waiting", "dead"):
            yield Reading("smtpgate_outbox_tasks", numbers[state], (state,))
        yield Reading("smtpgate_outbox_oldest_seconds", max(age_s, 0.0))
        for (outcome, kind, destination), number in self._results.items():
            labels = (outcome, kind, destination)
            yield Reading("smtpgate_outbox_attempts_total", number, labels)
