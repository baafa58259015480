"""Two processes at one file, with an operator: each is answered as one that reads every row."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from sqlite3 import connect
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal, NamedTuple

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.core.limits import Charge, Reservation, Subject
from smtpgate.ledger import transactions
from smtpgate.ledger.sqlite_file import LedgerFile
from smtpgate.ledger.transactions import LedgerTransactions, Look, Request, Reserve, Settle

START: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
# The first four are used all the time, the others at once: more rows than are remembered.
CHARGES: Final = [
    Charge(Subject("1"), SendingLimits(UNLIMITED, UNLIMITED)),
    Charge(Subject("1", "identity", "2"), SendingLimits(6, UNLIMITED)),
    Charge(Subject("2"), SendingLimits(100, 2)),
    Charge(Subject("3"), SendingLimits(UNLIMITED, UNLIMITED)),
    *[Charge(Subject(f"{number}"), SendingLimits(9, 9)) for number in range(4, 80)],
]
SEVERAL: Final = 4


class Ask(NamedTuple):
    """Requests of one process, carried out together, so long after those before."""

    process: int
    seconds: float
    requests: list[tuple[Literal["reserve", "settle", "look"], int, int]]


Step = Ask | Literal["reset", "reset all", "back up", "restore", "forget reservations"]

numbers = st.integers(0, SEVERAL - 1)
asked = st.lists(
    st.tuples(st.sampled_from(["reserve", "reserve", "settle", "look"]), numbers, numbers),
    min_size=1,
    max_size=6,
)
many = st.just([("reserve", number, 1) for number in range(len(CHARGES))])
steps = st.lists(
    st.builds(
        Ask,
        st.integers(0, 1),
        st.sampled_from([0, 0, 0, 0.5, 61, 40_000]),
        st.one_of(asked, asked, asked, asked, many),
    )
    | st.sampled_from(["reset", "reset all", "back up", "restore", "forget reservations"]),
    min_size=2,
    max_size=25,
)


class Gate:
    """Processes that share a file, and what was reserved by any of them."""

    def __init__(self, path: Path, processes: int) -> None:
        self.path = path
        self._ledgers = [self._ledger() for _ in range(processes)]
        self._reserved: list[Reservation] = []

    def _ledger(self) -> LedgerTransactions:
        return LedgerTransactions(self.path, busy_timeout_s=5, lease_s=900)

    def ask(self, step: Ask, now: datetime, number: int) -> list[Any]:
        """The answers of that process; of a fresh one, if there is none."""
        requests = [
            self._request(*one, now, number + at) for at, one in enumerate(step.requests)
        ]
        ledger = self._ledgers[step.process] if self._ledgers else self._ledger()
        answers = ledger.run(requests, lambda _: False)
        ledger.run((), lambda _: False)  # as in an idle moment
        if not self._ledgers:
            ledger.close()
        self._reserved += [one for one in answers if isinstance(one, Reservation)]
        return [repr(one) for one in answers]

    def _request(
        self, kind: str, which: int, recipients: int, now: datetime, number: int
    ) -> Request:
        charges = (CHARGES[which],)
        if kind == "settle" and self._reserved:
            one = self._reserved[-1 - which % len(self._reserved)]
            return Settle(one, min(recipients, one.recipients), now)
        if kind == "look":
            return Look(charges, now)
        return Reserve(number, charges, recipients + 1, now)

    def operate(self, step: str) -> None:
        """Do as an operator may, with SQLite's own means."""
        backup = self.path.with_suffix(".backup")
        with closing(connect(self.path, isolation_level=None)) as file:
            if step == "back up":
                with closing(connect(backup)) as copy:
                    file.backup(copy)
            elif step == "restore" and backup.exists():
                with closing(connect(backup)) as copy:
                    copy.backup(file)
            elif step == "reset":
                file.execute("DELETE FROM usage WHERE account = '1' AND kind = 'account'")
            elif step == "reset all":
                file.execute("DELETE FROM usage")
            elif step == "forget reservations":
                file.execute("DELETE FROM reservation WHERE id % 2 = 0")

    def rows(self) -> list[tuple[object, ...]]:
        """All counts."""
        columns = "account, kind, name, as_of_us, idle_at_us, used, tokens, reported, counts"
        with closing(connect(self.path)) as file:
            return file.execute(f"SELECT {columns} FROM usage ORDER BY 1, 2, 3").fetchall()

    def close(self) -> None:
        """End all processes."""
        for ledger in self._ledgers:
            ledger.close()


@pytest.fixture(scope="module", autouse=True)
def _unswept() -> Iterator[None]:
    """When old rows are deleted depends on the process; that changes no count."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transactions, "_SWEPT_AFTER", 1_000_000)
        yield


@contextmanager
def counting_retries() -> Iterator[list[None]]:
    found: list[None] = []
    begin_again = LedgerFile.begin_again

    def counted(file: LedgerFile) -> None:
        found.append(None)
        begin_again(file)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LedgerFile, "begin_again", counted)
        yield found


@given(steps)
@example(  # two that each know the row as it was
    [
        Ask(0, 0, [("reserve", 1, 2)]),
        Ask(1, 0, [("reserve", 1, 2)]),
        Ask(0, 0, [("reserve", 1, 0)]),
        Ask(1, 0, [("look", 1, 0), ("reserve", 1, 0), ("settle", 0, 0)]),
    ]
)
@example(  # a row that is only read
    [
        Ask(0, 0, [("reserve", 1, 2)]),
        Ask(1, 0, [("reserve", 1, 2)]),
        Ask(0, 0, [("look", 1, 0), ("reserve", 3, 0)]),
    ]
)
@example(  # a row that is gone, and one that is older than the process knows
    [
        Ask(0, 0, [("reserve", 0, 2)]),
        "back up",
        Ask(0, 0, [("reserve", 0, 3)]),
        "restore",
        Ask(0, 0, [("reserve", 0, 1), ("settle", 0, 0)]),
        "reset",
        Ask(0, 0, [("reserve", 0, 1), ("look", 0, 0)]),
    ]
)
def test_two_processes_count_as_one_that_reads_every_row(
    tmp_path_factory: pytest.TempPathFactory, tried: list[Step]
) -> None:
    now, place = START, tmp_path_factory.getbasetemp()
    with TemporaryDirectory(dir=place) as folder, counting_retries() as retries:
        gate, wanted = Gate(Path(folder) / "two", 2), Gate(Path(folder) / "fresh", 0)
        gate.ask(Ask(0, 0, [("look", 0, 0)]), now, 0)
        wanted.ask(Ask(0, 0, [("look", 0, 0)]), now, 0)
        for at, step in enumerate(tried):
            if isinstance(step, str):
                gate.operate(step)
                wanted.operate(step)
                continue
            now += timedelta(seconds=step.seconds)
            number = 1 + 100 * at
            assert gate.ask(step, now, number) == wanted.ask(step, now, number)
            assert gate.rows() == wanted.rows()
        gate.close()
        event("begun again" if retries else "nothing was changed by others")
