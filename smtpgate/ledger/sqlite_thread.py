"""The thread that owns the ledger's SQLite file: jobs that arrive together are one transaction.

A transaction costs as much as the work of several reservations, so grouping makes sixteen of
them at once several times cheaper each than one by one; a lone one does not wait for others.

An error of the file ends the group with LedgerUnavailableError, and the next group opens the
file again. So a file that is full, locked, damaged or gone is in use again as soon as it can
be.
"""

import queue
import sqlite3
import threading
from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from smtpgate.ledger.sqlite_file import LedgerFile, LedgerFileError
from smtpgate.ports import LedgerUnavailableError

Work = Callable[[LedgerFile], Any]
"""A function that runs in a transaction."""

_MAX_GROUP: Final = 256
_MAX_OWED: Final = 100_000
_MAX_OWED_AT_ONCE: Final = 1024
_RETRY_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Job:
    """Work for the next transaction, and the future of its caller.

    ``undo`` makes, from the result, the work that undoes it when the caller has given up.
    ``owed`` is the work to do instead when the caller has given up, or the file cannot be used;
    it is tried until it is done, so it must be harmless to do twice. ``only_reads`` is for work
    that changes nothing.
    """

    work: Work
    loop: AbstractEventLoop
    future: "Future[Any]"
    undo: Callable[[Any], Work] | None = None
    owed: Work | None = None
    only_reads: bool = False


Answer = tuple[Job, Any]


class LedgerThread:
    """Owns the file, in a thread of its own. ``put`` and ``owe`` are for any thread."""

    def __init__(
        self, path: Path, *, busy_timeout_s: float, on_begin: Callable[[LedgerFile, int], None]
    ) -> None:
        """``on_begin`` is called first in each that may write, with the number of its jobs."""
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._on_begin = on_begin
        self._file: LedgerFile | None = None
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._owed: deque[Work] = deque(maxlen=_MAX_OWED)
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self.is_closed = False

    def put(self, job: Job) -> None:
        """Do the job soon; its future gets the result in its own event loop."""
        self._start()
        self._jobs.put(job)

    def owe(self, work: Work) -> None:
        """Do the work with the next transaction; if too much is owed, the oldest is lost."""
        self._owed.append(work)

    def nudge(self) -> None:
        """Do the owed work now."""
        self._start()
        self._jobs.put(None)

    def stop(self, timeout_s: float) -> None:
        """Do all jobs and owed work, and end the thread. Blocks."""
        self.is_closed = True
        self.nudge()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="smtpgate-ledger", daemon=True
                )
                self._thread.start()

    # -- in the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            jobs = self._next_jobs()
            # Checked before the owed work is taken: no more can be owed after that.
            is_last = self.is_closed and self._jobs.empty()
            owed = self._take_owed(len(self._owed) if is_last else _MAX_OWED_AT_ONCE)
            if jobs or owed:
                self._carry_out(jobs, owed)
            if is_last:
                break
        self._disconnect()

    def _next_jobs(self) -> list[Job]:
        """The next jobs; waits for them, but only for a while when work is owed."""
        jobs: list[Job] = []
        try:
            job = self._jobs.get(timeout=_RETRY_S if self._owed else None)
            while True:
                if job is not None:
                    jobs.append(job)
                if len(jobs) == _MAX_GROUP:
                    return jobs
                job = self._jobs.get_nowait()
        except queue.Empty:
            return jobs

    def _take_owed(self, most: int) -> list[Work]:
        return [self._owed.popleft() for _ in range(min(len(self._owed), most))]

    def _carry_out(self, jobs: list[Job], owed: list[Work]) -> None:
        try:
            answers = self._transact(jobs, owed)
        except Exception as error:  # noqa: BLE001 - for the callers; the thread goes on
            self._disconnect()
            self._owed.extendleft(reversed(owed))
            self._owed.extend(job.owed for job in jobs if job.owed is not None)
            answers = [(job, self._for_callers(error)) for job in jobs]
        self._answer(answers)

    def _for_callers(self, error: Exception) -> Exception:
        """The error for the callers; an unexpected one stays as it is."""
        if isinstance(error, sqlite3.Error | LedgerFileError | OSError):
            return LedgerUnavailableError(f"{self._path}: {error}")
        return error

    def _transact(self, jobs: list[Job], owed: list[Work]) -> list[Answer]:
        file = self._opened()
        if owed or not all(job.only_reads for job in jobs):
            file.begin()
            self._on_begin(file, len(jobs))
        else:
            file.begin_to_read()
        for work in owed:
            _outcome(work, file)
        answers: list[Answer] = []
        for job in jobs:
            if not job.future.done():
                answers.append((job, _outcome(job.work, file)))
            elif job.owed is not None:  # the caller gave up while the file was busy
                _outcome(job.owed, file)
        file.commit()
        return answers

    def _opened(self) -> LedgerFile:
        if self._file is not None and not self._file.is_current:
            self._disconnect()
        if self._file is None:
            self._file = LedgerFile(self._path, busy_timeout_s=self._busy_timeout_s)
        return self._file

    def _disconnect(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except sqlite3.Error:
                return  # it is not used any more in any case

    def _answer(self, answers: Iterable[Answer]) -> None:
        by_loop: dict[AbstractEventLoop, list[Answer]] = {}
        for job, result in answers:
            by_loop.setdefault(job.loop, []).append((job, result))
        for loop, of_loop in by_loop.items():
            try:
                loop.call_soon_threadsafe(self._deliver, of_loop)
            except RuntimeError:  # the loop was closed: no caller waits
                self._undo(of_loop)

    # -- in the event loop ---------------------------------------------------------------------

    def _deliver(self, answers: Iterable[Answer]) -> None:
        given_up = []
        for job, result in answers:
            if job.future.done():
                given_up.append((job, result))
            elif isinstance(result, BaseException):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)
        self._undo(given_up)

    def _undo(self, answers: Iterable[Answer]) -> None:
        for job, result in answers:
            if job.undo is not None and not isinstance(result, BaseException):
                self.owe(job.undo(result))


def _outcome(work: Work, file: LedgerFile) -> Any:  # noqa: ANN401 - whatever the work returns
    """The result or exception of the work; an error of the file is the whole group's."""
    try:
        return work(file)
    except (sqlite3.Error, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - for its caller
        return error
