"""A command's session: the directory opened, one operation done in it, and closed again.

An error that a person can do something about becomes one message and exit status 1.
"""

import asyncio
import os
import pwd
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from smtpgate.admin.errors import ADMIN_ERRORS
from smtpgate.admin.session import Session, operator_session
from smtpgate.cli.terminal import fail, loaded_config, warn
from smtpgate.clock import SystemClock
from smtpgate.config import Config
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.opening import OpeningError, directory_store, open_directory
from smtpgate.ports import Clock

T = TypeVar("T")

# Errors whose text is for the person at the terminal; anything else is a bug of the program.
SESSION_ERRORS: Final = (*ADMIN_ERRORS, OpeningError)


def person(environment: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """The author of a command: the login name, behind sudo too, and the origin."""
    try:
        name = environment.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    origin = f"cli on {socket.gethostname()}"
    address = environment.get("SSH_CLIENT", "").partition(" ")[0]
    return name, f"{origin} from {address}" if address else origin


def run(
    config_file: Path,
    operation: Callable[[Session], Awaitable[T]],
    *,
    changes: bool = False,
    opens: bool = True,
) -> T:
    """Do an operation in the directory of that configuration, as an operator.

    ``changes`` lets the tables be made; without ``opens`` the database is not asked beforehand.
    Exits with 1 on an error.
    """
    config = loaded_config(config_file)
    opening = open_directory if changes else _looked_at if opens else _unopened
    try:
        return asyncio.run(_done(config, operation, opening))
    except (*SESSION_ERRORS, PermissionError) as error:
        raise fail(error) from None


_Opening = Callable[[Config, Clock, list[str]], Awaitable[DirectoryStore]]


async def _done(
    config: Config, operation: Callable[[Session], Awaitable[T]], opening: _Opening
) -> T:
    clock = SystemClock()
    warnings: list[str] = []
    store = await opening(config, clock, warnings)
    warn(warnings)
    name, origin = person()
    session = operator_session(config, store, clock, name=name, origin=origin)
    try:
        return await operation(session)
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
    """Raises OpeningError when there is no file yet."""
    if is_missing(store):
        raise OpeningError(
            f"there is no {store.database.path} yet; `smtpgate directory upgrade' makes it, as "
            f"do the first change and the first start"
        )
