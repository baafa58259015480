"""The log, from ``[log]``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from smtpgate.config import Config
from smtpgate.config.toml import reason
from smtpgate.gate.errors import OpenError
from smtpgate.log import JsonLog
from smtpgate.ports import Clock


@asynccontextmanager
async def open_log(config: Config, clock: Clock) -> AsyncIterator[JsonLog]:
    """The log, its file open. Raises OpenError."""
    log = _new_log(config, clock)
    try:
        yield log
    finally:
        await log.close()


def _new_log(config: Config, clock: Clock) -> JsonLog:
    try:
        return JsonLog(config.log, clock=clock)
    except OSError as error:
        text = f"log.target: {config.log.target} cannot be opened: {reason(error)}"
        raise OpenError(f"{text}; name a file in a folder that the service may write") from None
