"""A mail server in a room of its own: a mount namespace with its own /etc, /run and /var.

Debian's mail servers exclude each other, and their folders and users are compiled into them.
``.ci/unpack`` unpacks them without installing; here one runs with its own users, sockets and
queue, and the machine has none of them. Nothing is mounted for any other process.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.support.daemons import LOOPBACK, Lab, missing, need, need_root

_UNPACKED: Final = Path(__file__).parents[2] / ".cache/debian"
_PROGRAMS: Final = ("usr/sbin", "usr/bin", "usr/lib/{package}")
_MOUNTS: Final = ("run", "var/lib", "var/log", "var/spool", "etc")
_USERS: Final = {
    "root": 0,
    "mail": 8,
    "Debian-exim": 64_001,
    "opensmtpd": 64_002,
    "opensmtpq": 64_003,
}
_TIMEOUT_S: Final = 60


class Room:
    """The folders that a server sees in place of the machine's, and a copy of its programs."""

    def __init__(self, lab: Lab, package: str, *programs: str) -> None:
        need_root("a private mount namespace")
        self.folder = lab.new_folder(package)
        for name in (*_MOUNTS, "bin"):
            (self.folder / name).mkdir(parents=True)
        for program in programs:
            # Without the set-user-id bit that one may have: it runs as root here.
            self.program(program).write_bytes(_unpacked(package, program).read_bytes())
            self.program(program).chmod(0o755)
        self._write_etc()
        run = self.run_to_end("true")
        if run.returncode:
            missing(f"no private mount namespace here: {run.stderr.decode().strip()}")
        # A library that lacks would else look like a server that does not start.
        for program in programs:
            needs = self.run_to_end("ldd", self.program(program)).stdout.decode()
            if "not found" in needs:
                missing(f"{program} lacks shared libraries (.ci/run installs them):\n{needs}")

    def program(self, name: str) -> Path:
        """The path of one of the programs."""
        return self.folder / "bin" / name

    def path(self, name: str) -> Path:
        """The path of a file of the room for the test."""
        return self.folder / name.removeprefix("/")

    def write(
        self, name: str, text: str, mode: int = 0o644, *, group: str | None = None
    ) -> None:
        """Write a file of the room, and the folder that it is in."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        if group is not None:
            shutil.chown(path, group=_USERS[group])

    def give(self, name: str, user: str) -> None:
        """Make a folder of the room that a user of the room owns."""
        path = self.path(name)
        path.mkdir(parents=True, exist_ok=True)
        shutil.chown(path, _USERS[user], _USERS[user])

    def command(self, *words: str | Path) -> list[str | Path]:
        """The words of a command that runs in the room."""
        mounts = [f"mount --bind {self.folder}/{name} /{name}" for name in _MOUNTS]
        script = " && ".join([*mounts, 'exec "$@"'])
        return [need("unshare", "util-linux"), "--mount", "sh", "-c", script, "sh", *words]

    def run(self, *words: str | Path, given: bytes = b"") -> str:
        """Run a command in the room, to its end; what it printed."""
        run = self.run_to_end(*words, given=given)
        output = f"{words}: {run.returncode}: {run.stdout.decode()}{run.stderr.decode()}"
        assert run.returncode == 0, output
        return run.stdout.decode()

    def run_to_end(
        self, *words: str | Path, given: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command in the room; how it ended, well or not."""
        return subprocess.run(
            self.command(*words),
            input=given,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )

    def _write_etc(self) -> None:
        users = [f"{name}:x:{uid}:{uid}::/:/bin/false\n" for name, uid in _USERS.items()]
        groups = [f"{name}:x:{gid}:\n" for name, gid in _USERS.items()]
        self.write("etc/passwd", "".join(users))
        self.write("etc/group", "".join(groups))
        self.write("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n")
        # No DNS: nobody answers there.
        self.write("etc/resolv.conf", f"lookup file\nnameserver {LOOPBACK}\n")
        self.write("etc/mailname", "client.example.com\n")
        self.write("etc/hosts", f"{LOOPBACK} localhost client.example.com gate.example.com\n")


def _unpacked(package: str, program: str) -> Path:
    """The path of the program in Debian's package."""
    for folder in _PROGRAMS:
        found = _UNPACKED / package / folder.format(package=package) / program
        if found.exists():
            return found
    return missing(f"{program} is not there (.ci/unpack downloads Debian's {package})")
