"""The next hop of every peer: counts what arrives, and keeps a message when asked to."""

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.peers.messages import unstuffed
from tests.support.authority import Certificate
from tests.support.daemons import Lab, eventually, free_port, listens

_COUNTERS: Final = struct.Struct("=8Q")
_KEEP_AT: Final = 5 * 8
_MASK: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Counts:
    """Everything that has arrived since the sink was started."""

    messages: int
    recipients: int
    octets: int
    sum: int
    unmarked: int
    keep: int
    kept: int
    last_ns: int  # when the last message was complete, by the system's monotonic clock

    def since(self, before: "Counts") -> "Counts":
        """Everything that has arrived since then."""
        return Counts(
            self.messages - before.messages,
            self.recipients - before.recipients,
            self.octets - before.octets,
            (self.sum - before.sum) & _MASK,
            self.unmarked - before.unmarked,
            self.keep,
            self.kept,
            self.last_ns,
        )


class Sink:
    """A running sink."""

    def __init__(self, port: int, pid: int, counters: mmap.mmap, folder: Path) -> None:
        self.port = port
        self.pid = pid
        self._counters = counters
        self._folder = folder

    def counts(self) -> Counts:
        """Everything that has arrived so far."""
        return Counts(*_COUNTERS.unpack_from(self._counters))

    def keep_next(self) -> None:
        """Keep the next message that begins."""
        struct.pack_into("=Q", self._counters, _KEEP_AT, self.counts().kept + 1)

    def last_kept(self) -> bytes:
        """The message that was kept last, once it is there."""
        wanted = self.counts().keep
        eventually(lambda: self.counts().kept >= wanted, "a message to be kept")
        return unstuffed((self._folder / str(wanted - 1)).read_bytes())


@contextmanager
def open_sink(
    lab: Lab, program: Path, certificate: Certificate | None = None
) -> Iterator[Sink]:
    """A sink that runs until it is left; with a certificate it offers STARTTLS."""
    folder = lab.new_folder("sink")
    file = folder / "counters"
    file.write_bytes(bytes(_COUNTERS.size))
    port = free_port()
    words: list[str | Path] = [program, "-p", str(port), "-f", file, "-d", folder]
    if certificate:
        words += ["-c", certificate.cert_file, "-k", certificate.key_file]
    daemon = lab.start("sink", words, folder / "log", ready=lambda: listens(port))
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), _COUNTERS.size) as counters:
        yield Sink(port, daemon.process.pid, counters, folder)
    daemon.close()
