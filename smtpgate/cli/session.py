"""A command's session: the directory opened, one operation done in it, and closed again.

An error that a person can do something about becomes one message and exit status 1.
"""

import asyncio
import os
import pwd
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, TypeVar

from smtpgate.admin.errors import ADMIN_ERRORS
from smtpgate.admin.session import Session, operator_session
from smtpgate.cli.terminal import fail, loaded_config, warn
from smtpgate.clock import SystemClock
from smtpgate.config import Config
from smtpgate.gate.directory import DirectoryUse, open_directory
from smtpgate.gate.errors import OpenError

T = TypeVar("T")

# Errors whose text is for the person at the terminal; anything else is a bug of the program.
SESSION_ERRORS: Final = (*ADMIN_ERRORS, OpenError)


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
    notifies: bool = False,
) -> T:
    """Do an operation in the directory of that configuration, as an operator.

    ``changes`` lets the tables be made; without ``opens`` the database is not asked beforehand.
    ``notifies``: it may have messages for topics, which go into the outbox. Exits with 1 on an
    error.
    """
    config = loaded_config(config_file)
    use: DirectoryUse = "change" if changes else "read" if opens else "connect"
    try:
        return asyncio.run(_done(config, operation, use, notifies=notifies))
    except (*SESSION_ERRORS, PermissionError) as error:
        raise fail(error) from None


def change(
    config_file: Path,
    operation: Callable[[Session], Awaitable[T]],
    *,
    notifies: bool = False,
) -> T:
    """Do an operation that changes the directory, as ``run`` does."""
    return run(config_file, operation, changes=True, notifies=notifies)


async def _done(
    config: Config,
    operation: Callable[[Session], Awaitable[T]],
    use: DirectoryUse,
    *,
    notifies: bool,
) -> T:
    clock, warnings = SystemClock(), list[str]()
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(
            open_directory(config, clock, warnings, use=use)
        )
        warn(warnings)
        outbox = None
        if notifies:
            from smtpgate.gate.journal import open_outbox  # noqa: PLC0415 - few commands need it

            outbox = await stack.enter_async_context(open_outbox(config))
        name, origin = person()
        session = operator_session(
            config, store, clock, name=name, origin=origin, outbox=outbox
        )
        return await operation(session)
