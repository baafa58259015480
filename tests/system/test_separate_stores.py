"""A ledger and a journal that are kept in different ways: what one fails to do, both undo."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from smtpgate.core.limits import LimitExceededError
from smtpgate.journal.live import LiveJournal
from smtpgate.ledger.memory import MemoryLedger
from smtpgate.store.separate import SeparateStores
from tests.support.clock import MovableClock
from tests.support.journal import Breakable, all_rows, journal_in, open_journal, submission
from tests.support.ledgers import used_24h


class Scene:
    """Both stores, and the errors that were reported."""

    def __init__(self, journal: LiveJournal, clock: MovableClock) -> None:
        self.ledger = MemoryLedger()
        self.journal = journal
        self.clock = clock
        self.errors: list[BaseException] = []
        self.stores = SeparateStores(self.ledger, journal, on_error=self.errors.append)

    async def used(self, charge: int = 0) -> int:
        subject = submission(self.clock).charges[charge].subject
        return await used_24h(self.ledger, subject, self.clock.now())

    async def outcomes(self) -> list[str]:
        return [row.outcome for row in await all_rows(self.journal.store)]


@pytest.fixture
async def scene(tmp_path: Path, clock: MovableClock) -> AsyncIterator[Scene]:
    async with open_journal(journal_in(tmp_path), tmp_path, clock=clock) as journal:
        yield Scene(journal, clock)


async def test_a_message_is_counted_and_kept_and_its_verdict_settles_both(
    scene: Scene, clock: MovableClock
) -> None:
    event = submission(clock, recipients=3)
    begun = await scene.stores.begin(event, event.charges, clock.now())
    assert begun.reservation is not None
    assert begun.problem is None
    assert (await scene.used(), await scene.outcomes()) == (3, ["relaying"])
    event.counted = 2
    finished = await scene.stores.finish(event, begun.reservation, clock.now())
    assert finished.is_recorded
    assert (await scene.used(), await scene.outcomes()) == (2, ["accepted"])


async def test_a_message_that_is_over_a_limit_leaves_no_row(
    scene: Scene, clock: MovableClock
) -> None:
    event = submission(clock, recipients=3, max_24h_send=2)
    with pytest.raises(LimitExceededError):
        await scene.stores.begin(event, event.charges, clock.now())
    assert (await scene.used(), await scene.outcomes()) == (0, [])


async def test_without_charges_only_a_row_is_kept(scene: Scene, clock: MovableClock) -> None:
    event = submission(clock)
    assert (await scene.stores.begin(event, (), clock.now())).reservation is None
    assert (await scene.used(), await scene.outcomes()) == (0, ["relaying"])


async def test_a_journal_that_cannot_be_written_leaves_the_reservation_to_the_caller(
    scene: Scene, clock: MovableClock, tmp_path: Path
) -> None:
    file = Breakable(tmp_path / "journal.sqlite")
    file.break_()
    event = submission(clock)
    begun = await scene.stores.begin(event, event.charges, clock.now())
    assert begun.reservation is not None
    assert "cannot be opened" in str(begun.problem)
    event.counted = 0
    finished = await scene.stores.finish(event, begun.reservation, clock.now())
    assert not finished.is_recorded
    assert await scene.used() == 0
    assert scene.journal.owed == 1
    file.mend()
    await scene.journal.writer.retry()


async def test_an_error_that_nobody_expects_of_a_journal_gives_the_recipients_back(
    scene: Scene, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError

    event = submission(clock)
    with monkeypatch.context() as patch:
        patch.setattr(scene.journal, "begin", fail)
        with pytest.raises(RuntimeError):
            await scene.stores.begin(event, event.charges, clock.now())
        assert await scene.used() == 0
        patch.setattr(scene.journal, "finish", fail)
        patch.setattr(scene.ledger, "commit", fail)
        event.counted = 1
        reservation = await scene.ledger.reserve(event.charges, 1, clock.now())
        finished = await scene.stores.finish(event, reservation, clock.now())
    assert not finished.is_recorded
    assert [type(error) for error in scene.errors] == [RuntimeError, RuntimeError]
    assert await scene.used() == 1, "it stays as it was reserved"
