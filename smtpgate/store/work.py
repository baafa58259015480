"""The synchronous core of the store: a list of requests in, a list of answers out.

The ledger's transaction comes first: a row is begun only of what was counted, and a killed
process leaves a count without a row, never a row that was not counted. Neither file is locked
while the other is written.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from smtpgate.core.limits import Reservation
from smtpgate.journal.file import Do, Errors, JournalFile, Write, in_order
from smtpgate.journal.statements import Entry
from smtpgate.ledger.transactions import LedgerTransactions
from smtpgate.ledger.transactions import Request as LedgerRequest
from smtpgate.sql.thread import IsAbandoned
from smtpgate.store.requests import Begin, BeginAnswer, Finish, FinishAnswer

Request = Begin | Finish | Write | Do | LedgerRequest
NotWritten = Callable[[Entry, Exception], None]

_NOTHING: Final = object()


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
            return self._together(some, lambda at: is_abandoned(first + at))

        return in_order(requests, self.journal, together)

    def answered(self, request: Request, answer: Any, *, is_abandoned: bool) -> None:  # noqa: ANN401 - any request's
        """Give back what has no owner, and pass on what was not written."""
        match request:
            case Begin() | Finish() if isinstance(answer, Exception):
                self._note(request.entry, answer)
                if isinstance(request, Finish) and request.settle is not None:
                    self._ledger.owe(request.settle.silent)
            case Begin():
                if request.reserve is not None:
                    counted = answer.counted
                    self._ledger.answered(request.reserve, counted, is_abandoned=is_abandoned)
                self._note(request.entry, answer.not_written)
            case Finish():
                self._note(request.entry, answer.not_written)
            case Write() | Do():
                pass
            case _:
                self._ledger.answered(request, answer, is_abandoned=is_abandoned)

    def close(self) -> None:
        """Close both files, after one attempt at all that is owed."""
        self._ledger.close()
        self.journal.close()

    def _note(self, entry: Entry | None, error: Exception | None) -> None:
        if entry is not None and error is not None:
            self.not_written(entry, error)

    # -- both transactions ---------------------------------------------------------------------

    def _together(self, requests: Sequence[Any], is_abandoned: IsAbandoned) -> list[Any]:
        counted = self._count(requests, is_abandoned)
        entries = [_entries(one, done) for one, done in zip(requests, counted, strict=True)]
        flat = [entry for of_one in entries for entry in of_one]
        errors = iter(self.journal.write(flat) if flat else ())
        return [
            _answer(request, done, [next(errors) for _ in of_one])
            for request, done, of_one in zip(requests, counted, entries, strict=True)
        ]

    def _count(self, requests: Sequence[Any], is_abandoned: IsAbandoned) -> list[Any]:
        """The ledger's answer to each request, and nothing for one that has none for it."""
        places: list[int] = []
        asked: list[LedgerRequest] = []
        for at, request in enumerate(requests):
            match request:
                case Begin():
                    one: LedgerRequest | None = request.reserve
                case Finish():
                    one = request.settle
                case Write():
                    one = None
                case _:
                    one = request
            if one is not None:
                places.append(at)
                asked.append(one)
        answers: list[Any] = [_NOTHING] * len(requests)
        if asked or not requests:
            done = self._ledger.run(asked, lambda at: is_abandoned(places[at]))
            for at, answer in zip(places, done, strict=True):
                answers[at] = answer
        return answers


def _entries(request: Any, counted: Any) -> Sequence[Entry]:  # noqa: ANN401 - any request's
    """The entries to write for a request."""
    match request:
        case Begin(entry=Entry() as entry):
            is_counted = request.reserve is None or isinstance(counted, Reservation)
            return (entry,) if is_counted else ()
        case Finish(entry=Entry() as entry):
            return (entry,)
        case Write():
            return request.entries
        case _:
            return ()


def _answer(request: Any, counted: Any, errors: Errors) -> Any:  # noqa: ANN401 - any request's
    match request:
        case Begin():
            return BeginAnswer(
                None if counted is _NOTHING else counted, errors[0] if errors else None
            )
        case Finish():
            not_written = errors[0] if errors else None
            if isinstance(counted, Exception):
                return FinishAnswer((), counted, not_written)
            return FinishAnswer(() if counted is _NOTHING else counted, None, not_written)
        case Write():
            return errors
        case _:
            return counted
