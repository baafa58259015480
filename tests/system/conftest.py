"""Gates for tables whose rows leave nothing behind that another row would notice."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.inprocess import Opened, open_gate


@pytest.fixture
async def usual(tmp_path: Path) -> AsyncIterator[Opened]:
    """A gate with the usual configuration, and the sink of its mail."""
    async with open_gate(tmp_path) as opened:
        yield opened
