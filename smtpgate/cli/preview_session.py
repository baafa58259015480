"""A command's session for decisions about messages that nobody sends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from smtpgate.admin.preview import PreviewSession
from smtpgate.admin.session import OPERATOR
from smtpgate.cli.session import SESSION_ERRORS
from smtpgate.cli.terminal import fail, loaded_config, warn
from smtpgate.clock import SystemClock
from smtpgate.config import Config
from smtpgate.gate.preview import open_preview

T = TypeVar("T")


@asynccontextmanager
async def opened_preview(config: Config) -> AsyncIterator[PreviewSession]:
    """The directory of a configuration, for questions of an operator."""
    warnings = list[str]()
    async with open_preview(config, SystemClock(), warnings, OPERATOR) as session:
        warn(warnings)
        yield session


def run(config_file: Path, operation: Callable[[PreviewSession], Awaitable[T]]) -> T:
    """Ask the directory of that configuration, as an operator. Exits with 1 on an error."""
    config = loaded_config(config_file)

    async def done() -> T:
        async with opened_preview(config) as session:
            return await operation(session)

    try:
        return asyncio.run(done())
    except SESSION_ERRORS as error:
        raise fail(error) from None
