"""A file that is locked while a gate runs, so that others on its host notice its end at once.

The system releases the lock however the process ends. The file also has the number of records
that exist only in the process's memory, so that a ``kill -9`` does not lose them in silence. It
is written in place, which needs no room on a full disk.

A copy of the file on another host has no meaning: the mark names the file itself.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PREFIX: Final = "journal.writer-"
_OCTETS: Final = 20
_TRIES: Final = 10
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Left:
    """A gate that died on this host: its number, its mark, and the records that it owed."""

    writer: int
    mark: str
    owed: int


class Marker:
    """The file of one gate, locked until it is removed."""

    def __init__(self, folder: Path) -> None:
        """Make the file. Raises OSError."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for _ in range(_TRIES):
            # Positive, and short enough for every database's whole numbers.
            self.writer = int.from_bytes(os.urandom(7))
            self._path = _path(folder, self.writer)
            self._descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            try:
                self.owes(0)
                if _lock(self._descriptor) and _is_at(self._path, self._descriptor):
                    break
            except OSError:
                self.remove()
                raise
            os.close(self._descriptor)  # another gate took it for the file of a dead gate
        else:
            raise OSError(f"{folder}: a file cannot be locked there")
        self.mark = _mark(self._descriptor)

    def owes(self, records: int) -> None:
        """Write the number of records that are only in memory. Raises OSError."""
        os.pwrite(self._descriptor, f"{records:<{_OCTETS - 1}}\n".encode(), 0)

    def remove(self) -> None:
        """Remove the file: the gate ends, and has completed its records."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def leave(self) -> None:
        """Release the file: the gate ends, and the host's next gate completes its records."""
        os.close(self._descriptor)


def left_behind(folder: Path, on_closed: Callable[[OSError], None]) -> Iterator[Left]:
    """The dead gates of this host; the file of each is locked while the caller handles it.

    The file is removed when the caller goes on to the next, and stays when it does not.
    ``on_closed`` is called with the error of each file that this user may not open.
    """
    for path in sorted(folder.glob(f"{_PREFIX}*")):
        with suppress(ValueError, FileNotFoundError):
            writer = int(path.name.removeprefix(_PREFIX), 16)
            try:
                descriptor = os.open(path, os.O_RDWR)
            except FileNotFoundError:
                raise
            except OSError as error:
                on_closed(error)
                continue
            try:
                if not _lock(descriptor) or not _is_at(path, descriptor):
                    continue
                words = os.pread(descriptor, _OCTETS, 0).strip()
                yield Left(writer, _mark(descriptor), int(words) if words.isdigit() else 0)
                path.unlink()
            finally:
                os.close(descriptor)


def is_alive(folder: Path, writer: int) -> bool:
    """True if it is a running gate of this host, possibly frozen.

    The file of another user's gate cannot be opened; it is treated as a gate of another host.
    """
    try:
        descriptor = os.open(_path(folder, writer), os.O_RDWR)
    except OSError:
        return False
    try:
        return not _lock(descriptor)
    finally:
        os.close(descriptor)


def _path(folder: Path, writer: int) -> Path:
    return folder / f"{_PREFIX}{writer:014x}"


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _mark(descriptor: int) -> str:
    """A text that differs for each copy of the file, until the host boots again."""
    try:
        boot = _BOOT_ID.read_text().strip()
    except OSError:
        boot = ""
    return f"{os.fstat(descriptor).st_ino:x} {boot}"
