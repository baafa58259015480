"""Documents of a start, and of a reload by SIGHUP, are applied by a process of their own."""

import asyncio
import errno
import io
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from smtpgate.clock import SystemClock
from smtpgate.config import load_config
from smtpgate.gate.apply_alone import apply_alone, main
from smtpgate.gate.directory import open_directory, prepare_directory
from smtpgate.gate.initialize import Sample, initialize
from tests.support.forks import Fork
from tests.support.json_lines import json_lines
from tests.support.waiting import until


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Fork]:
    config = sample(tmp_path)
    # So it has no other process, as workers and what forks them.
    config.write_text(config.read_text().replace("[gate]\n", "[gate]\nworkers = 1\n", 1))
    fork = Fork("-m", "smtpgate", "serve", "--config", config, output=tmp_path / "output")
    yield fork
    fork.close()


def sample(tmp_path: Path) -> Path:
    initialize(tmp_path, Sample(hostname="gate.example.com"))
    config = tmp_path / "smtpgate.toml"
    text = config.read_text().replace('"0.0.0.0"', '"127.0.0.1"')
    for port in ("port = 587", "port = 465", "port = 9587"):
        text = text.replace(port, "port = 0")
    config.write_text(text)
    return config


def lines(gate: Fork, event: str) -> list[dict[str, Any]]:
    return [line for line in json_lines(gate.output()) if line["event"] == event]


@pytest.mark.slow
async def test_what_documents_changed_is_applied_and_their_problems_are_logged(
    gate: Fork, tmp_path: Path
) -> None:
    await until(lambda: bool(lines(gate, "started")))
    (documents,) = (tmp_path / "directory").glob("*.toml")
    text = documents.read_text()
    documents.write_text(f'{text}\n[accounts.123456789012]\nname = "New tenant"\n')
    gate.signal(signal.SIGHUP)
    await until(lambda: len(lines(gate, "directory applied")) == 2)
    documents.write_text(f"{text}\n[accounts.12]\n")
    gate.signal(signal.SIGHUP)
    await until(lambda: bool(lines(gate, "directory not applied")))
    gate.signal(signal.SIGTERM)
    assert gate.wait(20) == 0
    assert [line["steps"] for line in lines(gate, "directory applied")][1] == 1
    (refused,) = lines(gate, "directory not applied")
    assert "12" in refused["problem"]
    assert "Traceback" not in gate.output()


@pytest.mark.slow
async def test_the_process_of_a_start_ends_with_the_start(gate: Fork) -> None:
    await until(lambda: bool(lines(gate, "started")))
    assert gate.children == []
    assert lines(gate, "directory applied")[0]["steps"] > 0


@pytest.mark.slow
def test_a_start_with_documents_that_cannot_be_read_says_what_is_wrong(tmp_path: Path) -> None:
    config = sample(tmp_path)
    (documents,) = (tmp_path / "directory").glob("*.toml")
    documents.write_text(f"{documents.read_text()}\n[accounts.12]\n")
    words = (sys.executable, "-m", "smtpgate", "serve", "--config", str(config))
    ended = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert "accounts.12" in ended.stderr
    assert "Traceback" not in ended.stderr


_KILLS: Final = """
import asyncio, os, signal, sys
from pathlib import Path
from smtpgate.config import load_config
from smtpgate.gate.apply_alone import applying_at_start
from smtpgate.gate.errors import OpenError
config = load_config(Path(sys.argv[1]))
with applying_at_start(config):
    pass
with applying_at_start(config) as apply:
    (child,) = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)
    try:
        asyncio.run(apply(config, None))
    except OpenError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_process_of_a_start_that_is_killed_fails_the_start(tmp_path: Path) -> None:
    words = (sys.executable, "-c", _KILLS, str(sample(tmp_path)))
    ended = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
    assert ended.stdout == "directory.apply: its process ended with -9\n"


_BEGINS: Final = """
import os, subprocess, sys
words = sys.executable, "-P", "-m", "smtpgate.gate.apply_alone", str(os.getpid())
print(subprocess.Popen(words).pid, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.mark.slow
def test_the_process_ends_with_a_gate_that_is_killed() -> None:
    configuration, never = os.pipe()  # it waits for its configuration, and gets none
    words = [sys.executable, "-c", _BEGINS]
    with subprocess.Popen(words, stdin=configuration, stdout=subprocess.PIPE) as gate:
        try:
            # Its output ends when neither process has it open any more.
            output, _ = gate.communicate(timeout=30)
        finally:
            os.close(configuration)
            os.close(never)
    assert int(output)


@pytest.mark.slow
async def test_no_module_is_imported_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(sample(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "json.py").write_text("raise SystemExit(77)\n")
    monkeypatch.chdir(elsewhere)
    async with open_directory(config, SystemClock(), [], use="connect") as store:
        await prepare_directory(store, registers=False)
        assert (await apply_alone(config, store)).steps > 0


def test_documents_are_applied_though_the_system_refuses_another_priority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_by: int) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    async def prepare() -> None:
        async with open_directory(config, SystemClock(), [], use="connect") as store:
            await prepare_directory(store, registers=False)

    config = load_config(sample(tmp_path))
    asyncio.run(prepare())
    given = io.TextIOWrapper(io.BytesIO(pickle.dumps(config)))
    monkeypatch.setattr("sys.stdin", given)
    monkeypatch.setattr("os.nice", refuse)
    main()
    assert json.loads(capsys.readouterr().out)["steps"] > 0
