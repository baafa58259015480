"""Commands that start a gate, with a limit of open files that is too low for one."""

import os
import resource
import shutil
import subprocess
import sys

import pytest

from smtpgate.config import load_config
from smtpgate.gate.errors import OpenError
from smtpgate.gate.listen import FILES_OF_SMALL_GATE, files_of_start, require_open_files
from tests.support.desk import Desk
from tests.support.open_files import pretend_limits


@pytest.mark.parametrize(
    "command",
    [
        "serve",
        pytest.param("check-config", marks=pytest.mark.slow),
        pytest.param("demo", marks=pytest.mark.slow),
    ],
)
def test_a_start_with_too_few_open_files_says_so(desk: Desk, command: str) -> None:
    shutil.rmtree(desk.database.parent)
    words = [sys.executable, "-m", "smtpgate", command]
    done = subprocess.run(
        ["sh", "-c", 'ulimit -n 16; exec "$@"', "sh", *words],
        env={**os.environ, **desk.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    (problem,) = done.stderr.splitlines()
    assert problem.startswith("the limit of open files (16) is too low to start: ")
    assert "raise LimitNOFILE of the unit, or `ulimit -n' of the shell" in problem
    assert done.stdout == ""
    assert not desk.database.parent.exists()


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The limit of open files, as the system tells it: soft, hard."""
    return pretend_limits(monkeypatch, 16, 64)


def test_the_limit_is_raised_as_far_as_a_start_needs(limits: list[int]) -> None:
    require_open_files(60)
    assert limits == [60, 64]
    with pytest.raises(OpenError, match=r"files \(64\) is too low to start: 65 are needed"):
        require_open_files(65)
    limits[:] = [resource.RLIM_INFINITY] * 2
    require_open_files(65)


def test_ports_and_workers_need_open_files(desk: Desk) -> None:
    text = desk.config.read_text()
    needed: list[int] = []
    for workers in (1, 3):
        desk.config.write_text(text.replace("[gate]\n", f"[gate]\nworkers = {workers}\n"))
        needed.append(files_of_start(load_config(desk.config)))
    assert needed[0] > FILES_OF_SMALL_GATE
    assert needed[1] - needed[0] == 4
