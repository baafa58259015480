"""A load, and the report that the load generator prints."""

import json
import select
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tests.bench.peers.peer import Running

_EXTRA_S: Final = 150.0  # the generator ends by itself before that
_QUIT_S: Final = 10.0


class GeneratorError(Exception):
    """The load generator did not run, or what it printed is not its report."""


@dataclass(frozen=True, slots=True)
class Load:
    """Messages of a size, offered over so many connections, at a rate."""

    title: str
    size: str = "4k"
    connections: int = 16
    messages_each: int = 10  # over a connection
    rate_per_s: float = 0  # 0: as fast as possible
    recipients: int = 1

    @property
    def pattern(self) -> str:
        """The same in a few characters."""
        pattern = f"{self.connections} x {self.messages_each}"
        return f"{pattern}, {self.rate_per_s:g}/s" if self.rate_per_s else pattern


@dataclass(frozen=True, slots=True)
class Report:
    """The report of the load generator."""

    begun: int
    accepted: int
    deferred: int
    refused: int
    failed: int
    connections: int
    seconds: float
    started_at: float  # by the system's monotonic clock
    cpu_s: float
    sum: int
    unexpected: str
    p50_ms: float
    p99_ms: float
    longest_ms: float
    login_p50_ms: float

    @classmethod
    def parse(cls, text: str) -> "Report":
        """Read the line that the generator prints."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise GeneratorError(f"no report of the load generator: {text!r}") from error

    @property
    def complaint(self) -> str:
        """The errors in a few words; empty when every message was accepted."""
        troubles = {
            "deferred": self.deferred,
            "refused": self.refused,
            "connections lost": self.failed,
        }
        found = [f"{count} {what}" for what, count in troubles.items() if count]
        if not found and self.accepted == self.begun:
            return ""
        found = found or [f"{self.begun - self.accepted} without a reply"]
        return ", ".join(found) + (f" ({self.unexpected})" if self.unexpected else "")


@dataclass(frozen=True, slots=True)
class Offer:
    """The files of a benchmark's load: the generator, the messages, the senders."""

    program: Path
    messages: dict[str, Path]
    senders: Path

    def start(self, load: Load, to: Running, *, seconds: float, run: int) -> "Generator":
        """Start the generator, and wait until its clients have logged in."""
        words: list[str | Path | int | float] = [
            *(self.program, "-p", to.port, "-m", self.messages[load.size]),
            *("-f", self.senders, "-c", load.connections, "-k", load.messages_each),
            *("-s", seconds, "-R", load.rate_per_s, "-r", load.recipients, "-i", run),
        ]
        if to.login:
            words += ["-u", to.login.username, "-w", to.login.password]
        if to.has_tls:
            words.append("-t")
        return Generator([str(word) for word in words], seconds + _EXTRA_S)


class Generator:
    """A running load generator: it begins when asked, and its sessions stay open to the end."""

    def __init__(self, words: list[str], timeout_s: float) -> None:
        self._until = time.monotonic() + timeout_s
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )
        try:
            self._wait_for_logins()
        except GeneratorError:
            self.close()
            raise

    def _wait_for_logins(self) -> None:
        while not self.has_printed(1.0):
            pass
        if (line := self._line()) != "ready":
            raise GeneratorError(f"the load generator ended: {line}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self) -> None:
        """Send messages from now on."""
        assert self._process.stdin
        self._process.stdin.write(b"\n")

    def has_printed(self, timeout_s: float) -> bool:
        """Wait so long for its next line."""
        if time.monotonic() > self._until:
            raise GeneratorError("the load generator did not end in time")
        assert self._process.stdout
        return bool(select.select([self._process.stdout], [], [], timeout_s)[0])

    def report(self) -> Report:
        """The report, once it has printed it."""
        return Report.parse(self._line())

    def _line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().decode().strip()

    def close(self) -> None:
        """End the sessions, and the process."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(_QUIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
