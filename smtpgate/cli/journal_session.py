"""A command's session in the journal: opened, one question asked, and closed again."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

from smtpgate.admin.journal import JOURNAL_ERRORS, JournalSession
from smtpgate.admin.session import OPERATOR
from smtpgate.cli.session import SESSION_ERRORS
from smtpgate.cli.terminal import fail, loaded_config
from smtpgate.clock import SystemClock
from smtpgate.gate.journal import open_journal_session

T = TypeVar("T")

# Errors whose text is for the person at the terminal; anything else is a bug of the program.
JOURNAL_SESSION_ERRORS: Final = (*SESSION_ERRORS, *JOURNAL_ERRORS, OSError)


def run(config_file: Path, operation: Callable[[JournalSession], Awaitable[T]]) -> T:
    """Ask the journal of that configuration, as an operator. Exits with 1 on an error."""
    config = loaded_config(config_file)

    async def done() -> T:
        async with open_journal_session(config, SystemClock(), OPERATOR) as session:
            return await operation(session)

    try:
        return asyncio.run(done())
    except BrokenPipeError:
        raise  # the reader of what is printed has enough: the journal is fine
    except JOURNAL_SESSION_ERRORS as error:
        raise fail(error) from None
