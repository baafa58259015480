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

    def is_promise(self, request: Request) -> bool:
        """True if it has a verdict."""
        if isinstance(request, Finish):
            return request.entry is not None
        return isinstance(request, Write) and request.has_verdict

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
        counted = self._ledger.run([_to_count(one) for one in requests], is_abandoned)
        entries: list[Entry] = []
        ends: list[int] = []
        for at, request in enumerate(requests):
            entries += _to_write(request, counted[at])
            ends.append(len(entries))
        errors = self.journal.write(entries) if entries else []
        answers, begin = [], 0
        for at, request in enumerate(requests):
            end = ends[at]
            answers.append(_answer(request, counted[at], errors[begin:end]))
            begin = end
        return answers


def _to_count(request: Any) -> LedgerRequest | None:  # noqa: ANN401 - any request's
    """The part of a request that the ledger carries out; ``None`` if it has none."""
    kind = type(request)
    part: LedgerRequest | None
    if kind is Begin:
        part = request.reserve
    elif kind is Finish:
        part = request.settle
    else:
        part = None if kind is Write else request
    return part


def _to_write(request: Any, counted: Any) -> Sequence[Entry]:  # noqa: ANN401 - any request's
    """The entries to write; none of a message that should be counted first, and was not."""
    kind = type(request)
    if kind is Begin:
        if request.reserve is not None and type(counted) is not Reservation:
            return ()
    elif kind is not Finish:
        return request.entries if kind is Write else ()
    return () if request.entry is None else (request.entry,)


def _answer(request: Any, counted: Any, errors: list[Exception | None]) -> Any:  # noqa: ANN401 - any request's
    """The answer, with the error of each entry, or ``None``."""
    kind = type(request)
    if kind is Begin:
        return BeginAnswer(counted, errors[0] if errors else None)
    if kind is Finish:
        not_written = errors[0] if errors else None
        if isinstance(counted, Exception):
            return FinishAnswer((), counted, not_written)
        if not counted and not_written is None:
            return _DONE
        return FinishAnswer(counted or (), None, not_written)
    return errors if kind is Write else counted
