from pathlib import Path

import pytest

from tests.support.cases import CASES
from tests.support.dialog import play
from tests.support.inprocess import client_tls, facts, open_gate

DIALOGS = sorted((CASES / "dialogs").glob("*.smtp"))


@pytest.mark.parametrize("path", DIALOGS, ids=lambda path: path.stem)
async def test_the_words_on_the_wire(path: Path, tmp_path: Path) -> None:
    limit = 5 if "errors" in path.stem else 20
    async with open_gate(tmp_path, listener=f"max_errors = {limit}") as (gate, _):
        await play(path, gate.listeners["starttls"].port, facts(), client_tls())
