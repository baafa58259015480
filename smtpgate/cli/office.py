"""The office: where a command opens the directory, does its deed in it, and closes it again.

Every trouble that a person can do something about becomes one message and exit status 1.
"""

import asyncio
import os
import pwd
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from smtpgate.cli.terminal import fail, loaded_config, warn
from smtpgate.clock import SystemClock
from smtpgate.config import Config
from smtpgate.core.proof.dkim_stages import StageError
from smtpgate.directory.change import Actor, Change, RefusedChangeError
from smtpgate.directory.declared.documents import DirectoryError
from smtpgate.directory.registry import DirectoryRegistry
from smtpgate.directory.sealing import MasterKeyError, SealError
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.opening import OpeningError, directory_store, open_directory
from smtpgate.ports import Clock, DirectoryUnavailableError
from smtpgate.sql.upgrade import SchemaError
from smtpgate.upkeep.mailing import CodeNotSentError
from smtpgate.upkeep.settling import OvertakenError

T = TypeVar("T")

# What is told in its own words; anything else is a mistake of the program.
TROUBLES: Final = (
    CodeNotSentError,
    DirectoryError,
    DirectoryUnavailableError,
    MasterKeyError,
    OpeningError,
    OvertakenError,
    RefusedChangeError,
    SchemaError,
    SealError,
    StageError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """An open directory, and who is at work in it."""

    config: Config
    store: DirectoryStore
    clock: Clock
    actor: Actor

    @property
    def region(self) -> str:
        """The region whose identities are meant."""
        return self.store.region

    @property
    def partition(self) -> str:
        """What ARNs begin with."""
        return self.store.partition

    def now(self) -> datetime:
        """This moment."""
        return self.clock.now()

    def changing(self) -> AbstractAsyncContextManager[Change]:
        """A change by whoever gave the command."""
        return self.store.changing(self.actor)

    def registry(self, action: str) -> DirectoryRegistry:
        """What is kept of identities, to be changed by whoever gave the command."""
        return DirectoryRegistry(self.store, self.actor, action)


def person(environment: Mapping[str, str] = os.environ) -> Actor:
    """Who gave the command: the login name, behind sudo too, and from which machine."""
    try:
        name = environment.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    origin = f"cli on {socket.gethostname()}"
    address = environment.get("SSH_CLIENT", "").partition(" ")[0]
    return Actor(name, f"{origin} from {address}" if address else origin)


def run(
    config_file: Path,
    deed: Callable[[Office], Awaitable[T]],
    *,
    changes: bool = False,
    opens: bool = True,
) -> T:
    """Do a deed in the directory of that configuration.

    ``changes`` says that the tables may be made; without ``opens`` nothing is asked of the
    database beforehand. Exits with 1 when something is in the way.
    """
    config = loaded_config(config_file)
    opening = open_directory if changes else _looked_at if opens else _unopened
    try:
        return asyncio.run(_done(config, deed, opening))
    except (*TROUBLES, PermissionError) as error:
        raise fail(error) from None


_Opening = Callable[[Config, Clock, list[str]], Awaitable[DirectoryStore]]


async def _done(config: Config, deed: Callable[[Office], Awaitable[T]], opening: _Opening) -> T:
    clock = SystemClock()
    warnings: list[str] = []
    store = await opening(config, clock, warnings)
    warn(warnings)
    try:
        return await deed(Office(config=config, store=store, clock=clock, actor=person()))
    finally:
        await store.close()


async def _unopened(config: Config, clock: Clock, warnings: list[str]) -> DirectoryStore:
    return directory_store(config, clock, warnings)


async def _looked_at(config: Config, clock: Clock, warnings: list[str]) -> DirectoryStore:
    """The directory for questions: nothing is made, nothing is changed."""
    store = directory_store(config, clock, warnings)
    try:
        must_exist(store)
        await store.look()
    except BaseException:
        await store.close()
        raise
    return store


def is_missing(store: DirectoryStore) -> bool:
    """Whether there is no file yet; to open it would make one."""
    path = store.database.path
    return path is not None and not path.exists()


def must_exist(store: DirectoryStore) -> None:
    """Raises SchemaError when there is no file yet."""
    if is_missing(store):
        raise SchemaError(
            f"there is no {store.database.path} yet; `smtpgate directory upgrade' makes it, as "
            f"do the first change and the first start"
        )
