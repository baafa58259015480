"""The error of a gate that cannot start, and the files that it leaves behind then."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from smtpgate.directory.sealing import MasterKeyError
from smtpgate.directory.store import read_master_keys
from smtpgate.gate.initialize import Sample, initialize
from tests.support.forks import Fork
from tests.support.source import ROOT


class Done(NamedTuple):
    """The files that a process left."""

    returncode: int
    stdout: str
    stderr: str


def from_nothing(*arguments: str | Path) -> Done:
    """The program in an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "smtpgate", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def smtpgate(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Done]:
    """The program in a process of its own."""

    def run(*arguments: str | Path) -> Done:
        shown = tmp_path_factory.mktemp("told")
        fork = Fork(
            "-m", "smtpgate", *arguments, output=shown / "output", errors=shown / "errors"
        )
        return Done(fork.wait(30), fork.output(), fork.errors())

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration that could run, were its ports free and ours to take."""
    initialize(tmp_path, Sample(hostname="gate.example.com"))
    return tmp_path


def change(folder: Path, old: str, new: str) -> None:
    config = folder / "smtpgate.toml"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))


def test_a_configuration_that_is_fine_is_summed_up(
    folder: Path, smtpgate: Callable[..., Done]
) -> None:
    done = smtpgate("check-config", folder / "smtpgate.toml")
    assert done.returncode == 0
    assert "fine" in done.stdout
    assert "listener submissions: 0.0.0.0 port 465, tls implicit" in done.stdout
    assert "2 accounts, 1 user, 1 access key, 1 identity" in done.stdout
    assert "directory.sqlite, to be made by the first start" in done.stdout
    assert not (folder / "state").exists()


@pytest.mark.parametrize("command", [("check-config",), ("serve", "--config")])
def test_a_certificate_of_another_key_is_named(
    folder: Path, smtpgate: Callable[..., Done], command: tuple[str, ...]
) -> None:
    (folder / "private/tls.crt").write_bytes((folder / "private/tls.key").read_bytes())
    done = smtpgate(*command, folder / "smtpgate.toml")
    assert done.returncode == 1
    assert done.stderr.startswith("listener.submission: cert_file ")
    assert "Traceback" not in done.stderr


def test_an_authority_that_is_none_is_named(
    folder: Path, smtpgate: Callable[..., Done]
) -> None:
    (folder / "ca.pem").write_text("junk")
    change(folder, '#ca_file = "upstream-ca.pem"', 'ca_file = "ca.pem"')
    change(folder, 'tls = "off"', 'tls = "required"')
    done = smtpgate("check-config", folder / "smtpgate.toml")
    assert done.returncode == 1
    assert done.stderr.startswith("upstream.default: ")


@pytest.mark.slow
def test_a_port_that_is_taken_is_named_and_nothing_keeps_running(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        change(folder, '"0.0.0.0"', '"127.0.0.1"')
        change(folder, "port = 587", f"port = {taken.getsockname()[1]}")
        done = from_nothing("serve", "--config", folder / "smtpgate.toml")
    assert done.returncode == 1
    assert "listener.submission.port: " in done.stderr
    assert "address already in use" in done.stderr.lower()
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_control_socket_that_cannot_be_made_is_named_with_its_key(
    folder: Path, smtpgate: Callable[..., Done]
) -> None:
    config, socket_ = folder / "smtpgate.toml", folder / "run/control.sock"
    change(folder, "[gate]\n", '[gate]\ncontrol_socket = "run/control.sock"\n')
    checked = smtpgate("check-config", config)
    assert checked.returncode == 0
    warning = f"warning: gate.control_socket: there is no folder {socket_.parent}"
    assert warning in checked.stdout
    done = smtpgate("serve", "--config", config)
    assert done.returncode == 1
    wanted = f"gate.control_socket: {socket_} cannot be made: no such file or directory"
    assert wanted in done.stderr
    assert "Traceback" not in done.stderr


def test_a_log_that_cannot_be_opened_is_named_with_its_key(
    folder: Path, smtpgate: Callable[..., Done]
) -> None:
    config, log = folder / "smtpgate.toml", folder / "logs/gate.log"
    change(folder, 'target = "stderr"', 'target = "logs/gate.log"')
    checked = smtpgate("check-config", config)
    assert checked.returncode == 0
    assert f"warning: log.target: there is no folder {log.parent}" in checked.stdout
    done = smtpgate("serve", "--config", config)
    assert done.returncode == 1
    assert f"log.target: {log} cannot be opened: no such file or directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_journal_is_named_with_the_way_out(
    folder: Path, smtpgate: Callable[..., Done]
) -> None:
    change(folder, '"0.0.0.0"', '"127.0.0.1"')
    for port in ("port = 587", "port = 465", "port = 9587"):
        change(folder, port, "port = 0")
    journal = folder / "state/journal.sqlite"
    journal.parent.mkdir(mode=0o700)
    journal.write_bytes(b"no database " * 1000)
    done = smtpgate("serve", "--config", folder / "smtpgate.toml")
    assert done.returncode == 1
    assert f"journal: {journal}: is no SQLite database, or is damaged;" in done.stderr
    assert "move it away with its -wal and -shm, and the gate makes a new one" in done.stderr


def test_a_master_key_file_that_cannot_be_read_is_named_with_what_to_do(tmp_path: Path) -> None:
    further = r"no such file or directory; .* a further host needs a copy$"
    with pytest.raises(MasterKeyError, match=further):
        read_master_keys(tmp_path / "master.key", [])
    with pytest.raises(MasterKeyError, match=r"is a directory$"):
        read_master_keys(tmp_path, [])
    private = tmp_path / "master.key"
    private.write_text("")
    private.chmod(0)
    if os.geteuid():  # root may read it
        with pytest.raises(MasterKeyError, match="as the user that the gate runs as"):
            read_master_keys(private, [])


def test_a_configuration_that_is_not_there_is_named(smtpgate: Callable[..., Done]) -> None:
    done = smtpgate("serve", "--config", "/nowhere/smtpgate.toml")
    assert done.returncode == 1
    assert done.stderr == "/nowhere/smtpgate.toml: cannot be read: no such file or directory\n"


def test_wrong_usage_has_its_own_exit_status(smtpgate: Callable[..., Done]) -> None:
    assert smtpgate("serve", "--confg", "x").returncode == 2
    assert smtpgate("check-config", "a", "b").returncode == 2


def test_only_the_start_and_its_check_warn_of_the_configuration(
    folder: Path, smtpgate: Callable[..., Done]
) -> None:
    """An operator reads a warning once, not at every command."""
    change(folder, 'host = "127.0.0.1"', 'host = "smtp.example.net"')
    config = folder / "smtpgate.toml"
    assert (
        'upstream.default.tls: "off" sends all mail' in smtpgate("check-config", config).stderr
    )
    assert smtpgate("journal", "status", "--config", config).stderr.count("warning: ") == 0
