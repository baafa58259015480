"""A thread that owns files: requests that arrive together are carried out together.

A transaction costs as much as the work of several requests, so grouping makes sixteen of them
at once several times cheaper each than one by one. The event loop is woken once for a group,
and once more for the answers that promise something, which wait until that is synced.
A lone request does not wait for others. Under load a group waits a moment for more, but not
once all messages on their way wait for it.

Requests come from event loops, or from inlets: sockets that the thread reads itself.
"""

import asyncio
import threading
import time
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar

from smtpgate.sql.few_a_turn import FewATurn
from smtpgate.sql.inlets import Inlet, Inlets, TimeLeft
from smtpgate.sql.jobs import Answer, Answered, Handout, Handouts, Job, Visit

R_contra = TypeVar("R_contra", contravariant=True)
R = TypeVar("R")

MAX_GROUP: Final = 500
# With so many messages on their way a group waits for others, longer when there are more, until
# it has all of them.
_LOADED: Final = 4
_LINGER_A_MESSAGE_S: Final = 0.0005
_LONGEST_LINGER_S: Final = 0.006
# Requests at inlets come from other processes, which soon have nothing else to do. A group
# waits for them as long as the one before it took: not for long where the machine is fast.
_LINGER_A_GROUP: Final = 1.0

IsAbandoned = Callable[[int], bool]


class Work(Protocol[R_contra]):
    """Carries out requests; used by one thread at a time."""

    def run(self, requests: Sequence[R_contra], is_abandoned: IsAbandoned) -> list[Answer]:
        """Carry them out, in order; with none, only what is owed.

        ``is_abandoned`` says of the place of a request whether its caller gave up.
        """

    def promises(self, requests: Sequence[R_contra]) -> list[bool]:
        """True for each whose answer is not to be given before ``sync``."""

    def sync(self) -> None:
        """Have what was promised survive a power cut. Raises the error if it may not."""

    def unkept(self, request: R_contra, answer: Answer, error: Exception) -> Answer:
        """The answer in place of one that was promised, after an error of ``sync``."""

    @property
    def wait_s(self) -> float | None:
        """The time after which it is to be run again without a request, or ``None``."""

    def answered(self, request: R_contra, answer: Answer, *, is_abandoned: bool) -> None:
        """Note an answer, also one whose caller gave up.

        It is called in the caller's event loop before the caller goes on; in the thread if that
        loop was closed.
        """

    def tidy(self) -> None:
        """Do what no caller waits for, after each group. Raises nothing."""

    def close(self) -> None:
        """Close the files, after one attempt at all that is owed."""


class PromisesNothing:
    """A part of work all of whose answers hold at once."""

    def promises(self, requests: Sequence[Any]) -> list[bool]:
        """No answer waits."""
        return [False] * len(requests)

    def sync(self) -> None:
        """Nothing was promised."""

    def unkept(self, _: Any, answer: Answer, error: Exception) -> Answer:  # noqa: ANN401 - any request's
        """The answer holds."""
        return answer


class _Mailbox(Generic[R]):
    """The jobs that wait for the thread, which is woken once when there are enough of them.

    A queue would wake it for each. The thread waits at a lock, and at the inlets once there are
    some: a lock costs less.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of everything here
        self._jobs: list[Job[R] | Visit[R]] = []
        self._requests = 0
        self._is_nudged = False
        self._is_closed = False
        self._wanted = 0  # the requests to be woken for; 0 while the thread does not wait
        self._wake = threading.Lock()
        self._wake.acquire()
        self._inlets: Inlets[R] | None = None

    def put(self, job: Job[R]) -> None:
        """Add a job."""
        with self._lock:
            self._jobs.append(job)
            self._requests += len(job.requests)
            if 0 < self._wanted <= self._requests:
                self._wake_up()

    def nudge(self) -> None:
        """Have the thread look at once at what else it has to do."""
        with self._lock:
            self._is_nudged = True
            if self._wanted:
                self._wake_up()

    def add_inlet(self, inlet: Inlet[R]) -> None:
        """Have the thread read that inlet too."""
        with self._lock:
            if self._inlets is None:
                if self._wanted:
                    self._wake_up()  # to wait for inlets from now on
                self._is_nudged = True
                self._inlets = Inlets()
            self._inlets.add(inlet)

    def close(self) -> None:
        """Let the thread wait no more."""
        self._is_closed = True
        self.nudge()

    @property
    def has_inlets(self) -> bool:
        """True if there are, or were, inlets."""
        return self._inlets is not None

    def close_inlets(self) -> None:
        """Close all inlets; the thread has ended."""
        if self._inlets is not None:
            self._inlets.close()

    def _wake_up(self) -> None:
        self._wanted = 0
        if self._inlets is None:
            self._wake.release()
        else:
            self._inlets.ring()

    def wait(self, requests: int, timeout_s: float | None) -> bool:
        """Wait until there are so many requests, or a nudge; false after the timeout."""
        if self._inlets is not None:
            return self._wait_and_read(self._inlets, requests, timeout_s)
        with self._lock:
            if self._is_nudged or self._requests >= requests:
                return True
            self._wanted = requests
        if self._wake.acquire(timeout=-1 if timeout_s is None else timeout_s):
            return True
        with self._lock:
            if not self._wanted:  # it was woken after the timeout
                return self._wake.acquire()
            self._wanted = 0
            return False

    def _wait_and_read(self, inlets: Inlets[R], requests: int, timeout_s: float | None) -> bool:
        left = TimeLeft(timeout_s)
        while True:
            with self._lock:
                if self._is_nudged or self._requests >= requests:
                    return True
                self._wanted = requests
            found = inlets.wait(left.seconds)
            with self._lock:
                self._wanted = 0
                for inlet, asked in found or ():
                    self._jobs.append(Visit(inlet, asked))
                    self._requests += len(asked)
            if found is None:
                return False

    def take(self) -> list[Job[R] | Visit[R]]:
        """The jobs that wait, up to a group."""
        with self._lock:
            self._is_nudged = self._is_closed
            taken, at = 0, 0
            while at < len(self._jobs) and taken < MAX_GROUP:
                taken += len(self._jobs[at].requests)
                at += 1
            jobs, self._jobs = self._jobs[:at], self._jobs[at:]
            self._requests -= taken
            return jobs

    @property
    def is_empty(self) -> bool:
        """True if no job waits."""
        return not self._jobs


class Closed(Exception):  # noqa: N818 - a state, and no fault
    """The thread takes no more requests."""


def lost_answer(future: "Future[Answer]") -> Answer | None:
    """The result of a future whose waiter was cancelled before it was woken with it."""
    if not future.done() or future.cancelled() or future.exception() is not None:
        return None
    return future.result()


class BatchThread(Generic[R]):
    """Runs the work in a thread, which is started by the first request.

    ``load`` is the number of messages on their way; it belongs to the caller.
    """

    def __init__(self, work: Work[R], name: str) -> None:
        self.work = work
        self.load = 0
        self.is_closed = False
        self._name = name
        self._mailbox = _Mailbox[R]()
        self._waiting: set[Job[R]] = set()
        self._way: FewATurn[Answered[R]] | None = None  # to the loop that asked last
        self._timer: asyncio.TimerHandle | None = None
        self._timer_loop: AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._took_s = 0.0  # the last group

    def ask(self, request: R, timeout_s: float) -> "Future[Answer]":
        """Carry out the request soon; the future has the answer, or TimeoutError.

        Raises Closed.
        """
        return self._ask((request,), timeout_s, is_alone=True)

    def ask_all(self, requests: Sequence[R], timeout_s: float) -> "Future[list[Answer]]":
        """Carry out the requests soon, together; the future has their answers, or TimeoutError.

        An answer that is an exception is one of the answers. Raises Closed.
        """
        return self._ask(requests, timeout_s, is_alone=False)

    def _ask(
        self, requests: Sequence[R], timeout_s: float, *, is_alone: bool
    ) -> "Future[Answer]":
        if self.is_closed:
            raise Closed
        loop = asyncio.get_running_loop()
        way = self._way
        if way is None or way.loop is not loop:
            self._way = way = FewATurn(loop, self._deliver)
        until_s = loop.time() + timeout_s
        job = Job(requests, is_alone, way, loop.create_future(), until_s)
        self._waiting.add(job)
        timer = self._timer
        if timer is None or until_s < timer.when() or self._timer_loop is not loop:
            self._watch(loop, until_s)
        if self._thread is None:
            self._start()
        self._mailbox.put(job)
        return job.future

    def add_inlet(self, inlet: Inlet[R]) -> None:
        """Carry out what comes there, too, until it ends.

        Its answers are given to the inlet only, in the thread.
        """
        if self._thread is None:
            self._start()
        self._mailbox.add_inlet(inlet)

    def abandon(self, request: R, answer: Answer) -> None:
        """Note an answer whose caller gave up, and have done soon what is owed for it."""
        self.work.answered(request, answer, is_abandoned=True)
        self._mailbox.nudge()

    def stop(self, timeout_s: float) -> None:
        """Carry out all requests, and end the thread. Blocks."""
        self.is_closed = True
        if self._thread is not None:
            self._mailbox.close()
            self._thread.join(timeout_s)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    # -- in the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            jobs = self._next_jobs()
            is_last = self.is_closed and not jobs and self._mailbox.is_empty
            if is_last:
                break
            begun_s = time.monotonic()
            self._carry_out(jobs)
            self._took_s = time.monotonic() - begun_s
            self.work.tidy()
        self._mailbox.close_inlets()
        self.work.close()

    def _next_jobs(self) -> list[Job[R] | Visit[R]]:
        """The next jobs; waits for them, but only for a while when work is owed."""
        mailbox = self._mailbox
        if not mailbox.wait(1, self.work.wait_s):
            return []
        load = self.load
        if load >= _LOADED:
            of_group_s = self._took_s * _LINGER_A_GROUP
            linger_s = of_group_s if mailbox.has_inlets else load * _LINGER_A_MESSAGE_S
            mailbox.wait(load, min(linger_s, _LONGEST_LINGER_S))
        return mailbox.take()

    def _carry_out(self, jobs: Sequence[Job[R] | Visit[R]]) -> None:
        requests: list[R] = []
        job_of: list[Job[R] | Visit[R]] = []
        for job in jobs:
            requests += job.requests
            job_of += [job] * len(job.requests)
        try:
            answers = self.work.run(requests, lambda at: job_of[at].is_abandoned)
        except Exception as error:  # noqa: BLE001 - for the callers; the thread goes on
            answers = [error] * len(requests)
        promises = self.work.promises(requests)
        handouts: Handouts[R] = Handouts()
        begin = 0
        for job in jobs:
            end = begin + len(job.requests)
            job.divide(answers[begin:end], promises[begin:end], handouts)
            begin = end
        # Their callers go on while the disk is busy.
        self._hand_out(handouts.certain)
        promised = handouts.promised
        if not promised.is_empty:
            try:
                self.work.sync()
            except Exception as error:  # noqa: BLE001 - for the callers; the thread goes on
                promised.change(partial(self.work.unkept, error=error))
            self._hand_out(promised)

    def _hand_out(self, handout: Handout[R]) -> None:
        for inlet, of_inlet in handout.of_inlets.items():
            inlet.answer(of_inlet)
        for way, of_loop in handout.of_loops.items():
            self._hand_over(way, of_loop)

    def _hand_over(self, way: FewATurn[Answered[R]], answered: Sequence[Answered[R]]) -> None:
        try:
            way.loop.call_soon_threadsafe(way.add, answered)
        except RuntimeError:  # the loop was closed: no caller waits
            for job, answers in answered:
                self._note(job, answers, is_abandoned=True)

    def _note(self, job: Job[R], answers: Sequence[Answer], *, is_abandoned: bool) -> None:
        for request, answer in zip(job.requests, answers, strict=True):
            try:
                self.work.answered(request, answer, is_abandoned=is_abandoned)
            except Exception as error:  # noqa: BLE001 - the others get their answers
                context = {"message": "an answer was not noted", "exception": error}
                job.way.loop.call_exception_handler(context)

    # -- in the event loop ---------------------------------------------------------------------

    def _deliver(self, answered: Answered[R]) -> None:
        job, answers = answered
        self._waiting.discard(job)
        is_abandoned = job.future.done()
        self._note(job, answers, is_abandoned=is_abandoned)
        if is_abandoned:
            self._mailbox.nudge()  # what is owed now
        elif not job.is_alone:
            job.future.set_result(answers)
        elif isinstance(answers[0], BaseException):
            job.future.set_exception(answers[0])
        else:
            job.future.set_result(answers[0])

    def _watch(self, loop: AbstractEventLoop, until_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_loop = loop.call_at(until_s, self._give_up, loop), loop

    def _give_up(self, loop: AbstractEventLoop) -> None:
        """End the waits that took too long; one timer is enough for all of them."""
        self._timer = None
        now_s = loop.time()
        for job in [job for job in self._waiting if job.until_s <= now_s]:
            self._waiting.discard(job)
            if not job.future.done():
                job.future.set_exception(TimeoutError())
        if self._waiting:
            self._watch(loop, min(job.until_s for job in self._waiting))
