"""Real daemons for the integration tests: each in its own folder, on free loopback ports.

A daemon is waited for until it answers, stopped by its own pid, and bounded in time. What it
logged goes into the report of a test that fails (see ``tests/integration/conftest.py``).
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from itertools import cycle
from pathlib import Path
from random import sample
from types import TracebackType
from typing import Final, NoReturn, Protocol, Self, TypeVar

import pytest

T = TypeVar("T")

LOOPBACK: Final = "127.0.0.1"
PATIENCE_S: Final = 30.0
_LOG_TAIL: Final = 6000
_PORTS: Final = range(20_000, 32_000)  # below those that Linux gives for port 0
_BLOCK: Final = 300  # ports of one process of the tests
_claims: Final[list[socket.socket]] = []
# Debian keeps most of these where an ordinary user's PATH does not look.
_PATH: Final = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def missing(reason: str) -> NoReturn:
    """Skip the test with that reason, or fail it where daemons are required."""
    if os.environ.get("SMTPGATE_REQUIRE_DAEMONS") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def need(program: str, package: str) -> str:
    """The path of a program that the test cannot do without."""
    path = shutil.which(program, path=_PATH)
    if path is None:
        missing(f"{program} is not installed (Debian package {package})")
    return path


def need_root(what: str) -> None:
    """Skip (or fail) unless the tests run as root."""
    if os.geteuid() != 0:
        missing(f"{what} needs root")


@cache
def _ports_of(pid: int) -> Iterator[int]:
    """The ports of one process of the tests, over and over; no other process picks from them.

    The process has its block as long as it keeps an abstract socket of that name. Two tests
    that picked from all ports would now and then pick one that no daemon listens on yet.
    """
    for block in sample(starts := range(_PORTS.start, _PORTS.stop, _BLOCK), len(starts)):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0smtpgate-tests-ports-{block}")
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        return cycle(range(block, block + _BLOCK))
    pytest.fail(f"process {pid}: other tests use all blocks of ports from {_PORTS.start}")


def free_port() -> int:
    """A loopback port that nobody listens on, and that the system gives to nobody by itself.

    So it is still free when a daemon that was killed is started again.
    """
    for port in _ports_of(os.getpid()):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
    raise AssertionError("the ports of a process never end")


def listens(port: int) -> bool:
    """True if a program accepts connections on that loopback port."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True


def eventually(ask: Callable[[], T], what: str, timeout_s: float = PATIENCE_S) -> T:
    """Ask until the answer is true, and return it; fail after so long.

    A daemon in another process sends no event, so this is the one place that polls.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout_s:g} s in vain: {what}", pytrace=True)
        time.sleep(0.02)


@contextmanager
def small_disk(lab: "Lab", mebibytes: int) -> Iterator[Path]:
    """A disk of its own, so large."""
    need_root("mounting a small disk")
    folder = lab.new_folder("disk")
    mount("-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", folder)
    yield folder
    subprocess.run(["umount", folder], check=True, timeout=30)


def mount(*words: str | Path) -> None:
    """Mount something, or mount it again; skip the test (or fail) where that cannot be."""
    run = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if run.returncode:
        missing(f"nothing can be mounted here: {run.stderr.strip()}")


class Closable(Protocol):
    """Something that is closed at the end of a test."""

    def close(self) -> None:
        """End it."""


def _read(log_file: Path) -> str:
    return log_file.read_text(errors="replace") if log_file.exists() else ""


class Process(Protocol):
    """A process that was started, as ``subprocess.Popen`` is one."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def signal(self, number: signal.Signals) -> None: ...
    def wait(self, timeout_s: float) -> int: ...


class _Begun:
    """A process of a program, in a session of its own; it writes into its log."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log_file: Path,
        env: Mapping[str, str] | None,
        pass_fds: Sequence[int],
    ) -> None:
        with log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=dict(env) if env is not None else None,
                pass_fds=pass_fds,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, or ``None`` while it runs."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it has not ended."""
        self._process.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        """Wait for its end, and return its exit status. Raises TimeoutExpired."""
        return self._process.wait(timeout_s)


class Daemon:
    """A process that we started, with its log."""

    def __init__(self, name: str, process: Process, log_file: Path) -> None:
        self.name = name
        self.process = process
        self.log_file = log_file

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """True if the process has not ended."""
        return self.process.returncode is None

    def log(self) -> str:
        """Everything that it has printed or logged."""
        return _read(self.log_file)

    def wait_until(self, ready: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
        """Wait until it answers; fail with its log when it ends first, or takes too long."""
        what = f"{self.name} to be ready"
        eventually(lambda: ready() or not self.is_running, what, timeout_s)
        if not self.is_running:
            pytest.fail(f"{self.name} ended with {self.process.returncode}:\n{self.log()}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this very process."""
        self.process.signal(number)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for its end and return its exit code."""
        return self.process.wait(timeout_s)

    def close(self) -> None:
        """Stop it: politely first, then for good."""
        self.process.signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.signal(signal.SIGKILL)
            self.process.wait(10)


class Lab:
    """A folder with the daemons of a test; leaving it stops them, newest first.

    The words of ``wrapper`` stand before each command, such as a shell that enters a group.
    With ``has_forks`` a gate is forked from a process that has imported the program: to import
    it takes longer than most tests need the gate.
    """

    def __init__(self, wrapper: Sequence[str] = (), *, has_forks: bool = False) -> None:
        self._wrapper = tuple(wrapper)
        self.has_forks = has_forks
        self._exits = ExitStack()
        self.daemons: list[Daemon] = []
        self._log_files: list[tuple[str, Path]] = []
        # Not pytest's tmp_path: daemons that drop to another user must reach their folders,
        # and the paths of their sockets must stay short.
        self.folder = Path(tempfile.mkdtemp(prefix="smtpgate-"))
        self.folder.chmod(0o755)
        self._exits.callback(shutil.rmtree, self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop every daemon, then remove the folder."""
        self._exits.close()

    def new_folder(self, name: str, mode: int = 0o755) -> Path:
        """A new folder, numbered when the name is taken."""
        folder, number = self.folder / name, 2
        while folder.exists():
            folder, number = self.folder / f"{name}-{number}", number + 1
        folder.mkdir(parents=True)
        folder.chmod(mode)
        return folder

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        log_file: Path,
        *,
        ready: Callable[[], bool],
        env: Mapping[str, str] | None = None,
        timeout_s: float = PATIENCE_S,
        pass_fds: Sequence[int] = (),
    ) -> Daemon:
        """Start a daemon and wait until it is ready."""
        process = _Begun([*self._wrapper, *command], log_file, env, pass_fds)
        return self.wait_for(Daemon(name, process, log_file), ready, timeout_s)

    def wait_for(
        self, daemon: Daemon, ready: Callable[[], bool], timeout_s: float = PATIENCE_S
    ) -> Daemon:
        """Wait until a daemon that was started is ready, and stop it at the end."""
        self.daemons.append(daemon)
        self._exits.callback(daemon.close)
        daemon.wait_until(ready, timeout_s)
        return daemon

    def keep_log(self, name: str, log_file: Path) -> None:
        """Report the log also of a program that is no daemon of the lab."""
        self._log_files.append((name, log_file))

    def keep(self, thing: Closable) -> None:
        """Close the thing too when the lab is left."""
        self._exits.callback(thing.close)

    def logs(self) -> list[tuple[str, str]]:
        """The end of each log."""
        files = [(daemon.name, daemon.log_file) for daemon in self.daemons] + self._log_files
        return [(name, _read(file)[-_LOG_TAIL:]) for name, file in files]
