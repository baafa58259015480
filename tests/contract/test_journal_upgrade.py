"""An upgrade of a journal's tables keeps what an earlier version wrote."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Connection, Integer, LargeBinary, MetaData, String, Table, text

from smtpgate.core.history.search import Search
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.reader import JournalReader
from smtpgate.journal.rows import hour_of
from smtpgate.journal.schema import metadata
from smtpgate.journal.store import SCHEMA
from smtpgate.sql.types import NAMES, Serial
from smtpgate.sql.upgrade import revision_of, upgrade
from tests.support.clock import MovableClock
from tests.support.databases import Databases
from tests.support.journal import all_rows, open_journal, submission
from tests.support.world import OWNER

# Of revision 0004, beside the others.
RECENT: Final = Table(
    "journal_recent_terms",
    MetaData(naming_convention=NAMES),
    Column("seq", Serial, primary_key=True),
    Column("hour", Integer, nullable=False),
    Column("id", String(64), nullable=False),
    Column("digests", LargeBinary, nullable=False),
)
OF_OWNER: Final = Search(account_id=OWNER)
REFUSED: Final = Search(account_id=OWNER, reason="explicit-deny")
SORTED_IN: Final = text("SELECT value FROM journal_meta WHERE name = 'sorted'")


@pytest.fixture
async def journal(
    databases: Databases, tmp_path: Path, clock: MovableClock
) -> AsyncIterator[LiveJournal]:
    async with open_journal(databases.for_journal(), tmp_path, clock=clock) as opened:
        yield opened


def make_0004(connection: Connection) -> None:
    """Have the tables of that revision, with the terms of the rows where it had them."""
    RECENT.create(connection)
    found = connection.execute(
        text("SELECT received_us, id, digests FROM journal_records WHERE digests IS NOT NULL")
    )
    for row in found.all():
        values = {"hour": hour_of(row.received_us), "id": row.id, "digests": row.digests}
        connection.execute(RECENT.insert().values(values))
    connection.execute(text("ALTER TABLE journal_records DROP COLUMN digests"))
    connection.execute(text("UPDATE journal_version SET version_num = '0004'"))


def differences(connection: Connection) -> list[Any]:
    options = {"version_table": SCHEMA.version_table}
    found: list[Any] = compare_metadata(
        MigrationContext.configure(connection, opts=options), metadata
    )
    return found


async def found(journal: LiveJournal, clock: MovableClock, search: Search) -> list[str]:
    reader = JournalReader(journal.store, journal.store.key())
    return [record.id async for record in reader.search(search, clock.now())]


@pytest.mark.parametrize("has_records", [True, False])
async def test_records_of_revision_0004_are_found_after_the_upgrade_beside_new_ones(
    journal: LiveJournal,
    clock: MovableClock,
    has_records: bool,
) -> None:
    database = journal.store.database
    if has_records:
        await journal.finish(submission(clock, "refused", "explicit-deny"))
        begun = submission(clock)
        await journal.begin(begun)
        await journal.finish(begun)
    async with database.changing() as connection:
        await connection.run_sync(make_0004)
    assert await upgrade(database, SCHEMA) == ("0004", SCHEMA.head)
    async with database.reading() as connection:
        assert await connection.run_sync(differences) == []
        sorted_in = await connection.execute(SORTED_IN)
        assert (sorted_in.scalar() or "0") == str(2 * (has_records and database.is_sqlite))
    assert await revision_of(database, SCHEMA) == SCHEMA.head
    clock.move(1)
    await journal.finish(submission(clock, "refused", "explicit-deny"))
    rows = [row.id for row in reversed(await all_rows(journal.store))]
    assert await found(journal, clock, OF_OWNER) == rows
    assert await found(journal, clock, REFUSED) == [rows[0], *rows[2:]]
