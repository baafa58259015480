"""Queries of many rows, read in steps between which the event loop does other work."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from sqlalchemy import Select

from smtpgate.sql.asynchronous import AsyncConnection

# To read so many rows, and make objects of them, takes less than a millisecond.
STEP: Final = 100


async def in_steps(connection: AsyncConnection, query: Select[Any]) -> AsyncIterator[Any]:
    """The rows of a query; all are to be taken before the connection is used again."""
    async with connection.stream(query.execution_options(yield_per=STEP)) as found:
        async for some in found.partitions():
            for row in some:
                yield row
            await asyncio.sleep(0)  # a driver may have the next rows already
