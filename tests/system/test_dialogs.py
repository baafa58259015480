from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.cases import CASES
from tests.support.dialog import play
from tests.support.inprocess import Opened, client_tls, facts, open_gate
from tests.support.rows import rows

DIALOGS = sorted((CASES / "dialogs").glob("*.smtp"))


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[Opened]:
    """A gate that bears five errors."""
    async with open_gate(tmp_path, listener="max_errors = 5") as opened:
        yield opened


@rows("path", [path for path in DIALOGS if "errors" not in path.stem], ids=str)
async def test_the_words_on_the_wire(usual: Opened, path: Path) -> None:
    await play(path, usual[0].listeners["starttls"].port, facts(), client_tls())


@rows("path", [path for path in DIALOGS if "errors" in path.stem], ids=str)
async def test_the_words_of_the_last_error(impatient: Opened, path: Path) -> None:
    await play(path, impatient[0].listeners["starttls"].port, facts(), client_tls())
