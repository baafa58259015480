"""`smtpgate reload': a running gate loads what has changed, and says what it could not."""

import asyncio
from pathlib import Path

import pytest

from smtpgate.control import ReloadAnswer, ReloadRequest, ask
from smtpgate.gate.gate import Gate
from tests.support.inprocess import open_gate


async def reload(gate: Gate) -> ReloadAnswer:
    path = gate.config.control_path

    def asked() -> ReloadAnswer:
        (answer,) = ask(path, ReloadRequest(), ReloadAnswer, timeout_s=60)
        return answer

    return await asyncio.to_thread(asked)


@pytest.mark.slow
async def test_the_problems_of_a_reload_are_its_answer(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        assert await reload(gate) == ReloadAnswer()
        (tmp_path / "tls.crt").write_text("nonsense")
        (tmp_path / "directory/accounts.toml").write_text("[accounts.12]\n")
        answer = await reload(gate)
        assert [one.partition(": ")[0] for one in answer.problems[:2]] == [
            "listener.starttls",
            "listener.tls",
        ]
        assert "accounts.12" in answer.problems[2]
    assert not gate.config.control_path.exists()
