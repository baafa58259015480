"""The change feed: nothing that was committed is missed, and another database is noticed."""

import asyncio
from collections.abc import Callable, Set
from itertools import count
from typing import Any, Final, NoReturn

import pytest

from smtpgate.directory.change import AuditSubject, Change, Note
from smtpgate.directory.feed import Changes, Feed
from smtpgate.directory.live import LiveSettings
from smtpgate.directory.store import DirectoryStore
from smtpgate.ports import DirectoryUnavailableError
from smtpgate.sql.database import Database
from tests.support.clock import MovableClock
from tests.support.databases import Databases
from tests.support.directory import ACTOR, live, open_store
from tests.support.statements import noted_statements
from tests.support.tenants import ACME, OTHER, add_account, add_identity, add_key, add_user
from tests.support.waiting import until

EVERYTHING: Final[tuple[Set[AuditSubject], bool]] = (frozenset(), True)
NOTHING: Final[tuple[Set[AuditSubject], bool]] = (frozenset(), False)


@pytest.fixture
def feed(store: DirectoryStore, clock: MovableClock) -> Feed:
    return Feed(store.database, clock)


async def read(feed: Feed) -> tuple[Set[AuditSubject], bool]:
    changes = await feed.read()
    return changes.subjects, changes.everything


async def change_many(store: DirectoryStore, number: int) -> None:
    async with store.changing(ACTOR) as change:
        await change.note_all(
            [
                Note(action="change", subject=AuditSubject("identity", ACME, f"d{one}.example"))
                for one in range(number)
            ]
        )


async def test_the_first_reading_says_that_everything_changed(
    store: DirectoryStore, feed: Feed
) -> None:
    assert await read(feed) == EVERYTHING
    assert await read(feed) == NOTHING
    await add_account(store)
    assert await read(Feed(store.database, MovableClock())) == EVERYTHING


async def test_each_change_is_reported_once_with_what_it_was_about(
    store: DirectoryStore, feed: Feed
) -> None:
    await read(feed)
    await add_account(store)
    assert await read(feed) == ({AuditSubject("account", ACME)}, False)
    await add_user(store, "Mailer")
    key = await add_key(store)
    await add_identity(store, "Ceo@example.com")
    output = {
        AuditSubject("user", ACME, "Mailer"),
        AuditSubject("key", ACME, key.id),
        AuditSubject("identity", ACME, "Ceo@example.com"),
    }
    assert await read(feed) == (output, False)
    assert await read(feed) == NOTHING


async def test_what_was_rolled_back_is_not_reported(store: DirectoryStore, feed: Feed) -> None:
    await read(feed)

    async def fail() -> None:
        async with store.changing(ACTOR) as change:
            await change.note("create", AuditSubject("account", ACME))
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert await read(feed) == NOTHING
    await add_account(store, OTHER)
    assert await read(feed) == ({AuditSubject("account", OTHER)}, False)


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_thousand_changes_are_reported_each_and_more_as_everything(
    store: DirectoryStore, feed: Feed, is_first: bool
) -> None:
    if not is_first:
        await add_account(store)
    await read(feed)
    await change_many(store, 1000)
    subjects, everything = await read(feed)
    assert (len(subjects), everything) == (1000, False)
    await change_many(store, 1001)
    assert await read(feed) == EVERYTHING
    assert await read(feed) == NOTHING
    await add_account(store, OTHER)
    assert await read(feed) == ({AuditSubject("account", OTHER)}, False)


async def test_numbers_that_are_missing_miss_no_change(
    store: DirectoryStore, feed: Feed
) -> None:
    """PostgreSQL takes numbers that it then does not use, when a change is rolled back."""
    await add_account(store)
    await read(feed)

    async def fail() -> None:
        async with store.changing(ACTOR) as change:
            await change.note("create", AuditSubject("account", OTHER))
            raise LookupError

    for _ in range(3):
        with pytest.raises(LookupError):
            await fail()
    await add_account(store, OTHER)
    assert await read(feed) == ({AuditSubject("account", OTHER)}, False)


async def test_two_that_read_at_once_miss_nothing_together(
    store: DirectoryStore, feed: Feed
) -> None:
    await read(feed)
    output: set[AuditSubject] = set()
    for number in range(20):
        account_id = f"{number:012}"
        readings = asyncio.gather(*(read(feed) for _ in range(3)))
        await add_account(store, account_id)
        for subjects, everything in [*await readings, await read(feed)]:
            assert not everything
            output |= subjects
        assert AuditSubject("account", account_id) in output


async def test_a_reading_that_was_cut_off_is_made_good_by_the_next(
    store: DirectoryStore, feed: Feed
) -> None:
    await read(feed)
    await add_account(store)
    for steps in count():
        reading = asyncio.ensure_future(feed.read())
        await asyncio.sleep(steps * 0.0002)  # each time a little later
        if not reading.cancel():
            assert (await reading).subjects == {AuditSubject("account", ACME)}
            return
        with pytest.raises(asyncio.CancelledError):
            await reading


async def test_a_reading_of_a_file_without_a_commit_makes_no_query(
    store: DirectoryStore, feed: Feed, clock: MovableClock
) -> None:
    """Nor does a file that is overwritten in its place stay unread for long."""
    if not store.database.is_sqlite:
        return
    await read(feed)
    with noted_statements() as statements:
        clock.move(4)
        assert await feed.read() == Changes(frozenset(), as_of_s=clock.monotonic())
        assert not statements
        clock.move(2)
        assert await read(feed) == NOTHING
    assert statements


async def test_a_database_of_an_earlier_day_is_another(
    databases: Databases, clock: MovableClock
) -> None:
    """A gate that follows, and finds a backup where its database was."""
    async with open_store(databases.fresh(), clock=clock) as now:
        for number in range(5):
            await add_account(now, f"{number:012}")
        feed = Feed(now.database, clock)
        await read(feed)
        async with open_store(databases.fresh(), clock=clock) as restored:
            await add_account(restored)
            feed._database = restored.database
            assert await read(feed) == EVERYTHING
            assert await read(feed) == NOTHING


async def test_a_database_that_went_another_way_since_is_another_also_with_the_same_numbers(
    databases: Databases, clock: MovableClock
) -> None:
    async with open_store(databases.fresh(), clock=clock) as now:
        for number in range(5):
            await add_account(now, f"{number:012}")
        feed = Feed(now.database, clock)
        await read(feed)
        clock.move(3600)
        async with open_store(databases.fresh(), clock=clock) as restored:
            for number in range(9):
                await add_account(restored, f"{number:012}")
            feed._database = restored.database
            assert await read(feed) == EVERYTHING


async def test_a_follower_gets_a_failure_and_then_what_was_missed(
    store: DirectoryStore, feed: Feed, databases: Databases
) -> None:
    url = store.database.url.render_as_string(hide_password=False)
    await read(feed)
    output: list[Changes | DirectoryUnavailableError] = []
    following = asyncio.ensure_future(feed.follow(output.append, 0.01))
    await until(lambda: output)
    await add_account(store)
    await until(lambda: _subjects(output) == {AuditSubject("account", ACME)})
    databases.cut_off(url)
    await until(lambda: isinstance(output[-1], DirectoryUnavailableError))
    databases.give_back(url)
    await add_account(store, OTHER)
    await until(lambda: AuditSubject("account", OTHER) in _subjects(output))
    feed.stop()
    await following
    assert not any(one.everything for one in output if isinstance(one, Changes))


def _subjects(output: list[Changes | DirectoryUnavailableError]) -> set[AuditSubject]:
    return {
        one for changes in output if isinstance(changes, Changes) for one in changes.subjects
    }


async def test_a_reader_that_fails_ends_nothing_and_is_no_lost_error(
    store: DirectoryStore, feed: Feed
) -> None:
    lost: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    output: list[object] = []

    def take(one: object) -> None:
        output.append(one)
        raise LookupError("a mistake in the reader")

    following = asyncio.ensure_future(feed.follow(take, 0.01))
    await until(lambda: len(output) > 3)
    feed.stop()
    await following
    assert {str(context["exception"]) for context in lost} == {"a mistake in the reader"}


class Deaf(Database):
    """Cannot listen, for a reason that is not the database's."""

    def listening(self, channel: str, on_notice: Callable[[], None]) -> NoReturn:
        raise LookupError("a mistake in the driver")


async def test_to_listen_without_result_ends_no_reading_and_is_no_lost_error(
    store: DirectoryStore, clock: MovableClock
) -> None:
    lost: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    deaf = Deaf(store.database.url, DirectoryUnavailableError)
    feed, output = Feed(deaf, clock), list[object]()
    following = asyncio.ensure_future(feed.follow(output.append, 0.01))
    await until(lambda: lost or following.done())
    read = len(output)
    await until(lambda: len(output) > read or following.done())
    feed.stop()
    await following
    await deaf.close()
    assert {str(context["exception"]) for context in lost} == {"a mistake in the driver"}


async def test_a_follower_that_is_stopped_asks_no_more(
    store: DirectoryStore, clock: MovableClock
) -> None:
    directory = live(store, clock, LiveSettings(poll_s=0.01))
    await directory.start()
    await directory.stop()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("feed")]


async def test_subjects_of_a_kind_that_is_not_known_are_no_harm(
    store: DirectoryStore, clock: MovableClock
) -> None:
    """A later version of the gate may write them, on another host of the fleet."""
    await add_account(store)
    await add_identity(store)
    directory = live(store, clock)
    await directory.catch_up()
    assert await directory.identities("example.com")
    async with store.changing(ACTOR) as change:
        await note_unknown(change)
    await directory.catch_up()
    assert await directory.identities("example.com")


async def note_unknown(change: Change) -> None:
    later: Callable[..., AuditSubject] = AuditSubject
    await change.note("invent", later("planet", "", "mars"))
