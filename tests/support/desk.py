"""A desk to give commands at: a configuration with an empty directory of its own."""

import json
import os
import pty
import re
import shutil
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack

from typer.testing import CliRunner, Result

from smtpgate.cli import app
from tests.support.directory import MASTER_KEYS
from tests.support.forks import Fork

_CONFIG: Final = """\
[gate]
hostname = "gate.example.com"
[listener.submission]
address = "127.0.0.1"
port = 2587
tls = "none"
allow_plaintext_auth = true
[upstream.default]
host = "127.0.0.1"
port = 9
tls = "off"
[directory]
master_key_file = "master.key"
[dns]
nameservers = ["127.0.0.1:9"]
timeout_s = 0.05
lifetime_s = 0.06
[limits]
max_24h_send = 200
max_send_rate_per_s = 1
"""


class How(TypedDict, total=False):
    """The standard input, and the environment."""

    stdin: str | bytes
    environment: Mapping[str, str]


class Desk:
    """Gives commands, in this process or at a terminal of their own."""

    def __init__(self, folder: Path, template: Path | None) -> None:
        self.folder = folder
        self.config = folder / "smtpgate.toml"
        self.config.write_text(_CONFIG)
        self.environment = {"SMTPGATE_CONFIG": str(self.config)}
        key = folder / "master.key"
        key.write_text(MASTER_KEYS)
        key.chmod(0o600)
        self.database = folder / "state" / "directory.sqlite"
        if template is not None:
            self.database.parent.mkdir()
            shutil.copy(template, self.database)

    def configure(self, old: str, new: str) -> None:
        """Write another line into the configuration."""
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new))

    def take_bounces(self) -> None:
        """Let the configuration have a listener for bounces."""
        host = 'domain = "bounces.gate.example.com"'
        self.configure("[limits]", f"[feedback]\nenabled = true\nport = 2525\n{host}\n[limits]")

    def ask_dns_at(self, port: int) -> None:
        """Let the commands ask that name server."""
        self.configure('"127.0.0.1:9"', f'"127.0.0.1:{port}"')
        self.configure("timeout_s = 0.05\nlifetime_s = 0.06", "timeout_s = 5\nlifetime_s = 10")

    def relay_to(self, port: int) -> None:
        """Let mail go to that upstream."""
        self.configure("\nport = 9\n", f"\nport = {port}\n")

    def file(self, name: str, text: str) -> Path:
        """A file beside the configuration."""
        path = self.folder / name
        path.write_text(text)
        return path

    def sql(self, statement: str, rows: Iterable[Sequence[object]] = ((),)) -> None:
        """Run a statement behind the back of every command, once a row of values."""
        with closing(sqlite3.connect(self.database)) as connection, connection:
            connection.executemany(statement, rows)

    def rows(self, question: str) -> list[tuple[Any, ...]]:
        """The answer of the database."""
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(question).fetchall()

    def fill_with_users(self, account_id: str, number: int) -> None:
        """Give an account many users."""
        self.sql(
            "INSERT INTO users (account_id, key, name, path, tags, unique_id, created_at) "
            "VALUES (?, ?, ?, '/', '{}', ?, '2026-01-01 00:00:00.000000')",
            [
                (account_id, f"user-{at:05}", f"user-{at:05}", f"AIDA{at:017}")
                for at in range(number)
            ],
        )

    def give(
        self,
        *words: str | Path,
        stdin: str | bytes = b"",
        environment: Mapping[str, str] | None = None,
    ) -> Result:
        """Give a command, whatever comes of it."""
        return CliRunner().invoke(
            app,
            list(map(str, words)),
            input=stdin,
            env={**self.environment, **(environment or {})},
        )

    def says(self, *words: str | Path, **how: Unpack[How]) -> str:
        """The output of a command that succeeds."""
        result = self.give(*words, **how)
        assert result.exit_code == 0, result.output
        return result.stdout

    def answers(self, *words: str | Path, **how: Unpack[How]) -> Any:  # noqa: ANN401 - JSON
        """The JSON output of a command."""
        return json.loads(self.says(*words, "--json", **how))

    def refuses(self, *words: str | Path, status: int = 1, **how: Unpack[How]) -> str:
        """The standard error of a command that fails."""
        result = self.give(*words, **how)
        assert result.exit_code == status, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        # The frame that an error of usage stands in folds lines.
        return re.sub(r"[\s│]+", " ", result.stderr)

    def at_terminal(
        self, *words: str | Path, typed: str = "", columns: int | None = None
    ) -> tuple[int, str]:
        """The exit status of a command at a terminal, and what was printed there.

        With ``columns`` its output goes to that terminal too, which is so wide.
        """
        printed = self.folder / "printed"
        printed.unlink(missing_ok=True)
        ours, theirs = pty.openpty()
        try:
            os.write(ours, typed.encode())
            terminal = Path(os.ttyname(theirs))
            fork = Fork(
                *("-m", "smtpgate", *words),
                stdin=terminal,
                output=printed if columns is None else terminal,
                errors=terminal,
                environment={
                    **os.environ,
                    **self.environment,
                    **({} if columns is None else {"COLUMNS": str(columns), "TERM": "xterm"}),
                },
            )
            status = fork.wait()
        finally:
            os.close(theirs)
        try:
            shown = read_all(ours).decode()
        finally:
            os.close(ours)
        return status, shown + (printed.read_text() if printed.exists() else "")


def read_all(terminal: int) -> bytes:
    """The text written to a pseudo-terminal whose other end is closed; it comes in parts."""
    parts: list[bytes] = []
    with suppress(OSError):  # Linux says EIO at the end
        while part := os.read(terminal, 65536):
            parts.append(part)
    return b"".join(parts)
