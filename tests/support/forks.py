"""Processes of their own that begin at once, forked from one that has imported the program.

An interpreter of its own takes most of a second to import all that, which is longer than most
tests need it then. What is run is what ``python -m MODULE`` or ``python -c CODE`` would run.
"""

import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Final

import pytest

from tests.support.activation import put_in_place
from tests.support.source import ROOT

# All but the command line: what that finds out when it is imported, of the terminal for one,
# each process finds out for itself.
_IMPORTED: Final = (
    *("rich.console", "rich.markdown", "rich.markup", "rich.table", "rich.traceback", "runpy"),
    *("typer", "smtpgate.admin", "smtpgate.admin.documents", "smtpgate.admin.policies"),
    *("smtpgate.admin.users", "smtpgate.demo", "smtpgate.gate.initialize"),
    *("tests.support.directory", "tests.support.journal", "tests.support.ledgers"),
    __name__,
)
# What a gate imports beside that, or only when it makes tables.
_IMPORTED_BY_GATES: Final = (
    *("aiosqlite", "asyncpg", "redis.asyncio", "smtpgate.gate.parent", "smtpgate.gate.worker"),
    *("smtpgate.sql.migrations", "uvloop", "uvicorn"),
)
_NOTHING: Final = Path(os.devnull)


class Fork:
    """A process that was started; it can be waited for, and killed."""

    def __init__(
        self,
        *words: str | Path,
        output: Path,
        errors: Path | None = None,
        stdin: Path = _NOTHING,
        environment: Mapping[str, str] | None = None,
        has_own_session: bool = False,
        sockets: Mapping[str, socket.socket] | None = None,
    ) -> None:
        self._words = words
        self._output = output
        self._errors = errors or output
        self._process = _context().Process(
            target=_run,
            args=(
                tuple(map(str, words)),
                (stdin, output, self._errors),
                dict(environment or os.environ),
                has_own_session,
                dict(sockets or {}),
            ),
            daemon=True,  # it does not outlive the tests
        )
        self._process.start()

    @property
    def is_running(self) -> bool:
        """True if it has not ended."""
        return self._process.is_alive()

    def output(self) -> str:
        """Its standard output."""
        return self._output.read_text() if self._output.exists() else ""

    def errors(self) -> str:
        """Its standard error."""
        return self._errors.read_text() if self._errors.exists() else ""

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, or ``None`` while it runs."""
        return self._process.exitcode

    @property
    def children(self) -> list[int]:
        """The processes that it started, and that have not ended."""
        path = f"/proc/{self.pid}/task/{self.pid}/children"
        return [int(word) for word in Path(path).read_text().split()]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._process.kill()
        _ = self.wait(10)

    def wait(self, timeout_s: float = 60) -> int:
        """Wait for its end, and return its exit status. Raises TimeoutExpired."""
        self._process.join(timeout_s)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(list(map(str, self._words)), timeout_s)
        return self._process.exitcode

    def close(self) -> None:
        """End it, if it has not ended."""
        self.kill()


def completed(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Give a command in a process of its own, and wait for its end."""
    with tempfile.TemporaryDirectory(prefix="smtpgate-") as folder:
        output, errors = Path(folder) / "output", Path(folder) / "errors"
        fork = Fork("-m", "smtpgate", *words, output=output, errors=errors)
        try:
            status = fork.wait()
        finally:
            fork.close()
        return subprocess.CompletedProcess(words, status, fork.output(), fork.errors())


def prepare_for_gates() -> None:
    """Have what gates import in that process too, which has not begun yet."""
    _imported.extend(_IMPORTED_BY_GATES)


_imported = [*_IMPORTED]


@cache
def _context() -> ForkServerContext:
    context = get_context("forkserver")
    context.set_forkserver_preload([*_imported, "tests.support.prepared"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        forkserver.ensure_running()
    return context


def _run(
    words: tuple[str, ...],
    files: tuple[Path, Path, Path],
    environment: dict[str, str],
    has_own_session: bool,
    sockets: dict[str, socket.socket],
) -> None:
    """In the new process: become the one that was asked for."""
    if has_own_session:
        os.setsid()
    for number, path in enumerate(files):
        how = os.O_WRONLY | os.O_CREAT | os.O_APPEND if number else os.O_RDONLY
        opened = os.open(path, how | os.O_NOCTTY, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    # A shell without job control has the tests, and what they start, ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", buffering=1 if os.isatty(1) else -1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    if sockets:
        os.environ.update(put_in_place({name: one.detach() for name, one in sockets.items()}))
    option, what, *arguments = words
    sys.argv = [option, *arguments]
    if option == "-c":
        exec(what, {"__name__": "__main__"})
    else:
        assert option == "-m"
        runpy.run_module(what, run_name="__main__", alter_sys=True)
