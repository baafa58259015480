"""The synchronous core of the store: a list of requests in, a list of answers out.

The ledger's transaction comes first: a row is begun only of what was counted, and a killed
process leaves a count without a row, never a row that was not counted. Neither file is locked
while the other is written.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from smtpgate.core.limits import Reservation
from smtpgate.journal.file import Do, JournalFile, Write, in_order, unkept_write
from smtpgate.journal.statements import Entry
from smtpgate.ledger.transactions import LedgerTransactions
from smtpgate.ledger.transactions import Request as LedgerRequest
from smtpgate.sql.thread import IsAbandoned
from smtpgate.store.requests import Begin, BeginAnswer, Finish, FinishAnswer, OfMessage

Request = OfMessage | Write | Do | LedgerRequest
NotWritten = Callable[[Entry, Exception], None]

_DONE: Final = FinishAnswer()  # most of them


def _ignore(_: Entry, __: Exception) -> None:
    """Nobody takes entries back."""


class StoreWork:
    """Carries out requests to both files; for one thread or process.

    ``not_written`` is called with each entry of a message that could not be written, in the
    event loop of its caller, also when the caller gave up.
    """

    def __init__(self, ledger: LedgerTransactions, journal: JournalFile) -> None:
        self.journal = journal
        self.not_written: NotWritten = _ignore
        self._ledger = ledger

    @property
    def wait_s(self) -> float | None:
        """The time after which it is to be run again for owed work."""
        return self._ledger.wait_s

    def run(self, requests: Sequence[Request], is_abandoned: IsAbandoned) -> list[Any]:
        """Carry out the requests, in two transactions unless other work comes between them."""

        def together(some: Sequence[Any], first: int) -> list[Any]:
            if not first:
                return self._together(some, is_abandoned)
            return self._together(some, lambda at: is_abandoned(first + at))

        return in_order(requests, self.journal, together)

    def promises(self, requests: Sequence[Request]) -> list[bool]:
        """True for each that has a verdict."""
        return [
            one.entry is not None
            if type(one) is Finish
            else type(one) is Write and one.has_verdict
            for one in requests
        ]

    def sync(self) -> None:
        """Have the verdicts survive a power cut. Raises the error if one may not."""
        self.journal.sync()

    def unkept(self, request: Request, answer: Any, error: Exception) -> Any:  # noqa: ANN401 - any request's
        """The answer to a request whose verdict may not survive a power cut."""
        if isinstance(request, Write):
            return unkept_write(answer, error)
        if isinstance(answer, FinishAnswer) and answer.not_written is None:
            return answer._replace(not_written=error)
        return answer

    def answered(self, request: Request, answer: Any, *, is_abandoned: bool) -> None:  # noqa: ANN401 - any request's
        """Give back what has no owner, and pass on what was not written."""
        if isinstance(request, OfMessage):
            if isinstance(answer, Exception):
                self._note(request.entry, answer)
                if isinstance(request, Finish) and request.settle is not None:
                    self._ledger.owe(request.settle.silent)
                return
            if is_abandoned and isinstance(request, Begin) and request.reserve is not None:
                self._ledger.answered(request.reserve, answer.counted, is_abandoned=True)
            if answer.not_written is not None:
                self._note(request.entry, answer.not_written)
        elif not isinstance(request, Write | Do):
            self._ledger.answered(request, answer, is_abandoned=is_abandoned)

    def tidy(self) -> None:
        """Do what no caller waits for."""
        self.journal.tidy()

    def close(self) -> None:
        """Close both files, after one attempt at all that is owed."""
        self._ledger.close()
        self.journal.close()

    def _note(self, entry: Entry | None, error: Exception) -> None:
        if entry is not None:
            self.not_written(entry, error)

    # -- both transactions ---------------------------------------------------------------------

    def _together(self, requests: Sequence[Any], is_abandoned: IsAbandoned) -> list[Any]:
        counted = self._ledger.run(_to_count(requests), is_abandoned)
        entries, ends = _to_write(requests, counted)
        errors = self.journal.write(entries) if entries else []
        return _answers(requests, counted, errors, ends)


def _to_count(requests: Sequence[Any]) -> list[LedgerRequest | None]:
    """The part of each request that the ledger carries out; ``None`` if it has none."""
    found: list[LedgerRequest | None] = []
    for request in requests:
        kind = type(request)
        if kind is Begin:
            found.append(request.reserve)
        elif kind is Finish:
            found.append(request.settle)
        else:
            found.append(None if kind is Write else request)
    return found


def _to_write(requests: Sequence[Any], counted: Sequence[Any]) -> tuple[list[Entry], list[int]]:
    """The entries to write, and how many there are up to each request.

    There is none of a message that should be counted first, and was not.
    """
    entries: list[Entry] = []
    ends: list[int] = []
    for at, request in enumerate(requests):
        kind = type(request)
        if kind is Write:
            entries += request.entries
        elif kind is Finish or kind is Begin:
            is_open = kind is Finish or request.reserve is None
            if request.entry is not None and (is_open or type(counted[at]) is Reservation):
                entries.append(request.entry)
        ends.append(len(entries))
    return entries, ends


def _answers(
    requests: Sequence[Any],
    counted: Sequence[Any],
    errors: Sequence[Exception | None],
    ends: Sequence[int],
) -> list[Any]:
    """The answers, with the error of each entry, or ``None``."""
    answers: list[Any] = []
    begin = 0
    for at, request in enumerate(requests):
        kind, answer, end = type(request), counted[at], ends[at]
        not_written = errors[begin] if begin < end else None
        if kind is Begin:
            answers.append(BeginAnswer(answer, not_written))
        elif kind is Finish:
            answers.append(_finished(answer, not_written))
        else:
            answers.append(errors[begin:end] if kind is Write else answer)
        begin = end
    return answers


def _finished(counted: Any, not_written: Exception | None) -> FinishAnswer:  # noqa: ANN401 - the ledger's answer
    if isinstance(counted, Exception):
        return FinishAnswer((), counted, not_written)
    if not counted and not_written is None:
        return _DONE
    return FinishAnswer(counted or (), None, not_written)
