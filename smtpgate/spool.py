"""Files for the bodies of large messages, which have no name and last as long as the message.

A file is open in this process and in no folder, so nothing of it is left when the process ends,
however it ends. It is never synced: the client has its copy until the upstream has accepted the
message.

A disk may be slow or full, so whatever touches a file runs in threads of the spool's own. A
file is closed there too, because to free its blocks takes a while.
"""

import errno
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from smtpgate.ports import Reading
from smtpgate.tasks import Threads

P = ParamSpec("P")
T = TypeVar("T")

# One may wait for the disk while the other works. Four fifths of the work need the lock of the
# interpreter, so more threads would be no faster, and would keep the event loop waiting.
_THREADS: Final = 2
_READ_OCTETS: Final = 256 * 1024
NO_UNNAMED_FILES: Final = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}
"""The errors of a file system or a kernel that has no unnamed files."""


class SpoolError(Exception):
    """The file of a large message cannot be written or read."""


class SpoolFile:
    """An unnamed file; it is opened for its first octets. Every method but ``len`` may block.

    The lock keeps a file open while a thread reads or writes it: its number would otherwise be
    free for another file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._octets = 0
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._is_closed = False

    def __len__(self) -> int:
        return self._octets

    def write(self, octets: bytes) -> None:
        """Add octets at the end. Raises SpoolError, OSError."""
        with self._lock:
            descriptor = self._opened()
            rest = memoryview(octets)
            while rest:
                written = os.pwrite(descriptor, rest, self._octets)
                self._octets += written
                rest = rest[written:]

    def pieces(self) -> Iterator[bytes]:
        """The octets from the beginning on. Raises SpoolError."""
        place = 0
        while place < self._octets:
            with self._lock:
                piece = self._read(place)
            place += len(piece)
            yield piece

    def _read(self, place: int) -> bytes:
        try:
            piece = os.pread(self._opened(), _READ_OCTETS, place)
        except OSError as error:
            raise SpoolError(f"cannot read a spooled message: {error.strerror}") from error
        if not piece:
            raise SpoolError("cannot read a spooled message: the file is shorter than it was")
        return piece

    def _opened(self) -> int:
        if self._is_closed:
            raise SpoolError("the file of the message is closed")
        if self._descriptor is None:
            self._descriptor = _open_unnamed(self._folder)
        return self._descriptor

    def close(self) -> None:
        """Close the file, whose octets are gone then."""
        with self._lock:
            self._is_closed = True
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)


def _open_unnamed(folder: Path) -> int:
    """Raises OSError."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_TMPFILE | os.O_EXCL  # EXCL: it never gets a name
    try:
        return os.open(folder, flags, 0o600)
    except OSError as error:
        if error.errno not in NO_UNNAMED_FILES:
            raise
    descriptor, path = tempfile.mkstemp(prefix="spooled-", dir=folder)
    try:
        os.unlink(path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _must_have_room(folder: Path, octets: int) -> None:
    """Raises OSError."""
    disk = os.statvfs(folder)
    # Others write to the disk too, the journal for one. Postfix's smtpd asks for as much.
    if 2 * disk.f_bavail * disk.f_frsize < 3 * octets:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Spool:
    """The files of all large messages in flight.

    ``on_problem`` is called with the reason when a file cannot be written, and with ``None``
    when that works again.
    """

    def __init__(self, folder: Path, on_problem: Callable[[str | None], None]) -> None:
        self._folder = folder
        self._on_problem = on_problem
        self._has_problem = False
        self._threads = Threads("spool", _THREADS)
        self._files: set[SpoolFile] = set()

    def readings(self) -> Iterator[Reading]:
        """The messages in files and their octets, for a scrape."""
        files = tuple(self._files)
        yield Reading("smtpgate_spooled_messages", len(files))
        yield Reading("smtpgate_spooled_octets", sum(map(len, files)))

    def new_file(self) -> SpoolFile:
        """A file for a message; give it to :meth:`drop` in the end."""
        file = SpoolFile(self._folder)
        self._files.add(file)
        return file

    async def must_have_room(self, octets: int) -> None:
        """Raises SpoolError if the folder's disk has not room for a message of that size."""
        await self.run(_must_have_room, self._folder, octets)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work on a file in a thread. Raises SpoolError."""
        try:
            return await self._threads.run(work, *args, **kwargs)
        except OSError as error:
            problem = error.strerror or str(error)
            if not self._has_problem:
                self._has_problem = True
                self._on_problem(problem)
            raise SpoolError(problem) from error

    def note_stored(self) -> None:
        """All of a message is in its file, so there is no problem any more."""
        if self._has_problem:
            self._has_problem = False
            self._on_problem(None)

    def drop(self, file: SpoolFile) -> None:
        """Close a file soon; returns at once."""
        self._files.discard(file)
        self._threads.start(file.close)
