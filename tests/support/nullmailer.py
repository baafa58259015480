"""A private nullmailer as the gate's client: Debian's, in a room of its own.

It has no daemon: its queue is run once when a message is handed over, and on demand.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.support.daemons import PATIENCE_S, Lab, eventually
from tests.support.recipes import CA_FILE, recipe
from tests.support.relayhost import Relayhost
from tests.support.room import Room

_PROGRAMS: Final = (
    "sendmail",
    "nullmailer-inject",
    "nullmailer-queue",
    "nullmailer-send",
    "nullmailer-dsn",
    "smtp",
)


class Nullmailer:
    """A private nullmailer."""

    def __init__(self, room: Room, prefix: Path) -> None:
        self._room = room
        self._prefix = prefix
        self._said: list[str] = []

    def log(self) -> str:
        """The output of its runs of the queue."""
        return "".join(self._said)

    def inject(self, message: bytes, sender: str, recipients: Sequence[str]) -> None:
        """Hand a message over as a local program does, and try it once."""
        words = ("sendmail", "-f", sender, "--", *recipients)
        self._run(*words, given=message.replace(b"\r\n", b"\n"))
        self.flush()

    def flush(self) -> None:
        """Try everything in the queue now, once (``pausetime`` is 0)."""
        self._said.append(self._run("nullmailer-send"))

    def listing(self) -> str:
        """The envelopes in the queue; empty when nothing waits."""
        return "\n".join(_envelopes(self._prefix / "queue/queue"))

    def failed(self) -> list[str]:
        """The envelopes of the messages that it has given up."""
        return list(_envelopes(self._prefix / "queue/failed"))

    def wait_until_empty(self) -> None:
        """Run the queue until nothing is left to deliver."""

        def is_empty() -> bool:
            self.flush()
            return not self.listing()

        eventually(is_empty, "nullmailer's queue to be empty", PATIENCE_S)

    def _run(self, program: str, *words: str, given: bytes = b"") -> str:
        setting = f"NULLMAILER_TEST_PREFIX={self._prefix}"  # as its own tests have it
        command: tuple[str | Path, ...] = ("env", setting, self._room.program(program), *words)
        return self._room.run("sh", "-c", 'exec "$@" 2>&1', "sh", *command, given=given)


def _envelopes(folder: Path) -> Iterator[str]:
    """Sender and recipients of each message in it."""
    for path in sorted(folder.iterdir()):
        yield path.read_text(errors="replace").partition("\n\n")[0]


def nullmailer_client(lab: Lab, relay: Relayhost) -> Nullmailer:
    """Set up a nullmailer that sends everything to the gate, by the guide's recipe.

    It knows one server only, so bounces go there too, whatever the mailbox of ``relay`` is.
    """
    room = Room(lab, "nullmailer", *_PROGRAMS)
    prefix = room.folder / "nullmailer"
    for folder in ("conf", "queue/queue", "queue/tmp", "queue/failed"):
        (prefix / folder).mkdir(parents=True)
    for folder in ("bin", "sbin", "protocols"):
        (prefix / folder).symlink_to(room.folder / "bin")
    os.mkfifo(prefix / "queue/trigger")
    room.write(CA_FILE, relay.ca_file.read_text())
    (remotes,) = recipe("nullmailer", relay)
    room.write("nullmailer/mailname", "client.example.com\n")  # Debian's in place of `me'
    room.write("nullmailer/conf/pausetime", "0\n")
    room.write("nullmailer/conf/remotes", remotes.text, remotes.mode)
    return Nullmailer(room, prefix)
