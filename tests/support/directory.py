"""A real directory in a SQLite file, for tests that change it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from smtpgate.core.account import SendingLimits
from smtpgate.directory.change import Actor
from smtpgate.directory.documents.apply import apply
from smtpgate.directory.documents.read import read_desired
from smtpgate.directory.live import LiveDirectory, LiveSettings
from smtpgate.directory.load import Loader
from smtpgate.directory.sealing import MasterKeys
from smtpgate.directory.store import DirectoryStore
from smtpgate.ports import Clock, DirectoryUnavailableError, EventSink
from smtpgate.sql.database import Database, parse_url, sqlite_url
from tests.support.clock import MovableClock
from tests.support.world import REGION

ACTOR: Final = Actor("tester", "a test")
MASTER_KEYS: Final = "m1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"


def sqlite_in(folder: Path) -> str:
    """The URL of a file that may be made there."""
    return sqlite_url(folder / "directory.sqlite")


@asynccontextmanager
async def open_store(
    url: str, *, clock: Clock | None = None, master_keys: str = MASTER_KEYS
) -> AsyncIterator[DirectoryStore]:
    """A store with current tables."""
    store = DirectoryStore(
        database=Database(parse_url(url), DirectoryUnavailableError),
        master_keys=MasterKeys.parse(master_keys),
        region=REGION,
        partition="aws",
        now=(clock or MovableClock()).now,
    )
    try:
        await store.open(may_upgrade=True)
        yield store
    finally:
        await store.close()


def live(
    store: DirectoryStore,
    clock: Clock | None = None,
    settings: LiveSettings | None = None,
    events: EventSink | None = None,
) -> LiveDirectory:
    """The directory as the path of a message sees it; start it to have it follow changes."""
    loader = Loader.of(store, SendingLimits(200, 1), address_tag_idiom=False)
    return LiveDirectory(
        store,
        loader,
        settings=settings or LiveSettings(),
        clock=clock or MovableClock(),
        events=events,
    )


class DeclaredDirectory:
    """A live directory that holds what the documents of a folder say; it follows nothing."""

    def __init__(self, folder: Path, store: DirectoryStore, clock: Clock) -> None:
        self._folder = folder
        self._store = store
        self.live = live(store, clock)

    @classmethod
    @asynccontextmanager
    async def open(cls, folder: Path, clock: Clock) -> "AsyncIterator[DeclaredDirectory]":
        """With a database beside the documents."""
        async with open_store(sqlite_in(folder), clock=clock) as store:
            directory = cls(folder, store, clock)
            await directory.reload()
            try:
                yield directory
            finally:
                await directory.live.stop()

    async def reload(self) -> None:
        """Apply the documents, and know it."""
        desired = read_desired(self._folder, region=REGION, partition="aws")
        async with self._store.changing(ACTOR) as change:
            _ = await apply(change, self._store, desired, prune=True)
        await self.live.catch_up()
