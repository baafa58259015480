"""The directory, opened for changes or for questions."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal

from smtpgate.config import Config
from smtpgate.directory.sealing import MasterKeyError
from smtpgate.directory.store import DirectoryStore, read_master_keys
from smtpgate.gate.databases import new_database
from smtpgate.gate.errors import OpenError
from smtpgate.ports import Clock, DirectoryUnavailableError
from smtpgate.sql.upgrade import SchemaError

_CREDENTIAL: Final = "master.key"

# "connect": nothing is asked of the database yet. "read": its tables must be current, and stay
# unchanged. "change": SQLite's tables are made or upgraded, a new master key is registered.
DirectoryUse = Literal["connect", "read", "change"]


def new_directory(config: Config, clock: Clock, warnings: list[str]) -> DirectoryStore:
    """The configured directory, not opened yet. Raises OpenError."""
    url, unavailable = config.directory_url, DirectoryUnavailableError
    database = new_database("directory", config.directory, url, unavailable)
    try:
        master_keys = read_master_keys(_master_key_file(config), warnings)
    except MasterKeyError as error:
        raise OpenError(f"directory.master_key_file: {error}") from None
    return DirectoryStore(
        database=database,
        master_keys=master_keys,
        region=config.gate.region,
        partition=config.gate.partition,
        now=clock.now,
    )


@asynccontextmanager
async def open_directory(
    config: Config, clock: Clock, warnings: list[str], *, use: DirectoryUse = "change"
) -> AsyncIterator[DirectoryStore]:
    """The configured directory, open. Raises OpenError."""
    store = new_directory(config, clock, warnings)
    try:
        if use == "read":
            await _look(store)
        elif use == "change":
            await prepare_directory(store)
        yield store
    finally:
        await store.close()


async def prepare_directory(store: DirectoryStore, *, registers: bool = True) -> None:
    """Check the tables of a directory; SQLite's are made or upgraded.

    ``registers`` registers a new master key. Raises OpenError.
    """
    try:
        await store.open(may_upgrade=store.database.is_sqlite, registers=registers)
    except (DirectoryUnavailableError, MasterKeyError, OSError, SchemaError) as error:
        raise OpenError(f"directory: {error}") from None


async def _look(store: DirectoryStore) -> None:
    try:
        must_exist(store)
        _ = await store.look()
    except (DirectoryUnavailableError, MasterKeyError, SchemaError) as error:
        raise OpenError(f"directory: {error}") from None


def is_missing(store: DirectoryStore) -> bool:
    """True if the database is a file that does not exist yet; connecting would make it."""
    path = store.database.path
    return path is not None and not path.exists()


def must_exist(store: DirectoryStore) -> None:
    """Raises OpenError when the database is a file that does not exist yet."""
    if is_missing(store):
        raise OpenError(
            f"there is no {store.database.path} yet; `smtpgate directory upgrade' makes it, as "
            f"do the first change and the first start"
        )


def _master_key_file(config: Config) -> Path:
    """The credential that systemd passes to the service, or else the configured file.

    https://systemd.io/CREDENTIALS/
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder is not None and (credential := Path(folder, _CREDENTIAL)).exists():
        return credential
    return config.directory.master_key_file
