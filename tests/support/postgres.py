"""A real PostgreSQL server on a loopback port, with its data in the lab's folder."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.support.daemons import LOOPBACK, Daemon, Lab, free_port, missing, need

# PostgreSQL refuses to run as root.
_UNPRIVILEGED: Final = "nobody"
_SETTINGS: Final = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "fsync": "off",  # the tests end the server, not the machine
    "max_connections": "60",
    "autovacuum": "off",  # rows that come later stand behind those of earlier tests
    "logging_collector": "off",
    "timezone": "UTC",
}


class PostgresServer:
    """A server that can be stopped and started again on the same data."""

    def __init__(self, lab: Lab, port: int, data: Path, settings: Mapping[str, str]) -> None:
        self.port = port
        self._settings = {**_SETTINGS, **settings}
        self._lab = lab
        self._data = data
        self._daemon = self._start()

    def url(self, database: str = "postgres") -> str:
        """The URL of one of its databases."""
        return f"postgresql://smtpgate@{LOOPBACK}:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """Make an empty database; its URL."""
        self._psql("postgres", f"CREATE DATABASE {name}")
        return self.url(name)

    def sql(self, database: str, statement: str) -> str:
        """Run a statement as its owner would at a prompt; what it printed."""
        return self._psql(database, statement)

    def _psql(self, database: str, statement: str) -> str:
        words = [program("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        done = subprocess.run(
            [*words, "-c", statement, self.url(database)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stop(self) -> None:
        """Stop it at once, as a crash would: connections are cut."""
        self._daemon.signal(signal.SIGQUIT)
        self._daemon.wait()

    def freeze(self) -> None:
        """Let it answer nothing, with its connections open, until it is thawed."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        """Each connection is served by a process of its own, in a session of its own."""
        server = self._daemon.process.pid
        for pid in (server, *_children(server)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def start(self) -> None:
        """Start it again."""
        self._daemon = self._start()

    def _start(self) -> Daemon:
        options = [word for pair in self._settings.items() for word in ("-c", "=".join(pair))]
        command = [program("postgres"), "-D", str(self._data), "-p", str(self.port), *options]
        return self._lab.start(
            "postgres",
            [*_dropped(), *command],
            self._data.parent / "log",
            ready=self._answers,
        )

    def _answers(self) -> bool:
        words = [program("pg_isready"), "-q", "-h", LOOPBACK, "-p", str(self.port)]
        return subprocess.run(words, timeout=10, check=False).returncode == 0


def _children(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [
        int(child) for thread in threads for child in (thread / "children").read_text().split()
    ]


def program(name: str) -> str:
    """A program of the newest PostgreSQL there is; Debian keeps them out of the way."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else need(name, "postgresql")


def _dropped() -> Sequence[str]:
    """The first words of a command that must not run as root."""
    if os.geteuid() != 0:
        return ()
    user = pwd.getpwnam(_UNPRIVILEGED)
    setpriv = need("setpriv", "util-linux")
    return (setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")


def postgres_server(lab: Lab, **settings: str) -> PostgresServer:
    """Make a cluster and start it."""
    initdb = program("initdb")
    if not Path(initdb).exists():
        missing("initdb is not installed (Debian package postgresql)")
    folder = lab.new_folder("postgres", 0o755)
    if os.geteuid() == 0:
        shutil.chown(folder, _UNPRIVILEGED)
    data = folder / "data"
    words = [
        initdb,
        "-D",
        str(data),
        "-U",
        "smtpgate",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
    ]
    done = subprocess.run(
        [*_dropped(), *words, "--no-sync"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return PostgresServer(lab, free_port(), data, settings)
