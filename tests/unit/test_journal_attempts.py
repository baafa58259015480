"""Groups of entries as transactions: together, or in halves when one of them spoils it."""

from collections.abc import Callable, Sequence

import pytest

from smtpgate.journal.file import Attempts
from smtpgate.journal.rows import row_of
from smtpgate.journal.statements import Entry, RowsChangedError
from smtpgate.ports import JournalUnavailableError
from tests.support.clock import MovableClock
from tests.support.journal import submission
from tests.support.records import submission_record

DEFECT = ZeroDivisionError()


@pytest.fixture
def entries(clock: MovableClock) -> list[Entry]:
    """Ten entries of messages that were begun."""
    made: list[Entry] = []
    for _ in range(10):
        record = submission_record(submission(clock), keep_recipients=True, keep_subject=False)
        row, texts = row_of(record)
        made.append(Entry(row=row, texts=texts, early_terms=b"", is_begun=True))
    return made


def attempted(
    entries: Sequence[Entry], commit: Callable[[Sequence[Entry]], Exception | None]
) -> tuple[list[list[int]], list[Exception | None]]:
    """The places of the entries of each transaction, and the errors in the end."""
    places = {entry.row.id: at for at, entry in enumerate(entries)}
    transactions: list[list[int]] = []
    attempts = Attempts(entries)
    while (group := attempts.group) is not None:
        transactions.append([places[entry.row.id] for entry in group])
        attempts.note(commit(group))
    return transactions, attempts.errors


def test_entries_that_nothing_spoils_are_one_transaction(entries: list[Entry]) -> None:
    transactions, errors = attempted(entries, lambda _: None)
    assert transactions == [list(range(10))]
    assert errors == [None] * 10


@pytest.mark.parametrize("spoilt", [{0}, {9}, {4}, {2, 3, 8}, set(range(10))])
def test_only_entries_that_spoil_a_transaction_have_an_error(
    entries: list[Entry], spoilt: set[int]
) -> None:
    bad = {entries[at].row.id for at in spoilt}
    written: list[str] = []

    def commit(group: Sequence[Entry]) -> Exception | None:
        if any(entry.row.id in bad for entry in group):
            return DEFECT
        written.extend(entry.row.id for entry in group)
        return None

    _, errors = attempted(entries, commit)
    assert errors == [DEFECT if at in spoilt else None for at in range(10)]
    assert written == [entry.row.id for entry in entries if entry.row.id not in bad]


def test_rows_that_have_changed_are_written_as_rows_that_may_be_there(
    entries: list[Entry],
) -> None:
    def commit(group: Sequence[Entry]) -> Exception | None:
        return None if all(entry.may_be_there for entry in group) else RowsChangedError()

    transactions, errors = attempted(entries, commit)
    assert transactions == [list(range(10))] * 2
    assert errors == [None] * 10


def test_rows_that_always_change_end_with_their_errors(entries: list[Entry]) -> None:
    error = RowsChangedError()
    _, errors = attempted(entries, lambda _: error)
    assert errors == [error] * 10


def test_a_journal_that_cannot_be_reached_is_not_tried_in_halves(entries: list[Entry]) -> None:
    error = JournalUnavailableError("closed")
    transactions, errors = attempted(entries, lambda _: error)
    assert transactions == [list(range(10))]
    assert errors == [error] * 10
