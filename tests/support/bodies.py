"""Bodies in files, as tests make them."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from smtpgate.core.message.body import StoredBody
from smtpgate.core.signing import body_hash


@dataclass
class Pieces:
    """A body file whose pieces are in memory; at an error in them it is raised.

    ``threads`` are those that read it.
    """

    kept: list[bytes | Exception] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        return sum(len(piece) for piece in self.kept if isinstance(piece, bytes))

    def pieces(self) -> Iterator[bytes]:
        """The pieces, as they were kept."""
        for piece in self.kept:
            self.threads.add(threading.current_thread().name)
            if isinstance(piece, Exception):
                raise piece
            yield piece


def stored(*pieces: bytes | Exception) -> StoredBody:
    """A body in a file that is read in these pieces."""
    octets = b"".join(piece for piece in pieces if isinstance(piece, bytes))
    return StoredBody(Pieces(list(pieces)), octets[:1024], body_hash(octets))
