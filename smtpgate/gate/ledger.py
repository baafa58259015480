"""The ledger of sending limits: a SQLite file, Redis or memory, by configuration."""

import importlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from smtpgate.config import Config
from smtpgate.gate.errors import OpenError
from smtpgate.gate.state_dir import cannot_be_made
from smtpgate.ledger.memory import MemoryLedger
from smtpgate.ledger.sqlite import SqliteLedger
from smtpgate.ports import Ledger


def new_ledger(config: Config) -> Ledger:
    """The configured ledger; nothing is asked of its store yet. Raises OpenError."""
    settings = config.ledger
    if settings.kind == "redis":
        return _redis_ledger(config)
    if settings.kind == "memory":
        return MemoryLedger(lease_s=settings.lease_s)
    make_folder(config)
    return SqliteLedger(
        config.ledger_path, timeout_s=settings.timeout_s, lease_s=settings.lease_s
    )


@asynccontextmanager
async def open_ledger(config: Config) -> AsyncIterator[Ledger]:
    """The configured ledger, closed afterwards. Raises OpenError."""
    ledger = new_ledger(config)
    try:
        yield ledger
    finally:
        await ledger.close()


@asynccontextmanager
async def open_ledger_to_read(config: Config) -> AsyncIterator[Ledger]:
    """The configured ledger for questions; a file that is missing is not made.

    Raises OpenError, for a ledger in the memory of the running gate too.
    """
    kind, path = config.ledger.kind, config.ledger_path
    if kind == "memory":
        raise OpenError('ledger.kind is "memory": only the running gate knows it')
    if kind == "sqlite" and not path.exists():
        # Nothing was sent yet. A file made here would not be the service's.
        yield MemoryLedger(lease_s=config.ledger.lease_s)
        return
    async with open_ledger(config) as ledger:
        yield ledger


def describe_ledger(config: Config) -> str:
    """The store of the ledger, in a line without secrets.

    Raises OpenError when the ledger of this configuration cannot be made.
    """
    settings = config.ledger
    if settings.kind == "sqlite":
        return f"ledger: sqlite, {config.ledger_path}"
    if settings.kind == "redis":
        _redis_ledger(config)
        return f"ledger: redis, {settings.url or 'the server named in ledger.url_file'}"
    return "ledger: memory"


def make_folder(config: Config) -> None:
    """Make the folder of a ledger whose file has no path of its own. Raises OpenError."""
    if config.ledger.path is not None:
        return
    folder = config.gate.state_dir
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OpenError(cannot_be_made(folder, error)) from None


def _redis_ledger(config: Config) -> Ledger:
    """The ledger in Redis, whose client is loaded only when it is used."""
    settings = config.ledger
    try:
        module = importlib.import_module("smtpgate.ledger.redis")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "redis":
            raise
        text = 'ledger.kind: "redis" needs a package that is not installed'
        cure = f"{sys.prefix}/bin/pip install '.[redis]', in smtpgate's source folder"
        raise OpenError(f"{text}: {cure}") from None
    try:
        ledger = module.RedisLedger(
            settings.server_url.value, timeout_s=settings.timeout_s, lease_s=settings.lease_s
        )
    except (ValueError, TypeError) as error:
        # The URL is not repeated: it may hold a password.
        text = f"means nothing to the client ({type(error).__name__})"
        raise OpenError(f"ledger.url: {text}") from None
    return cast("Ledger", ledger)
