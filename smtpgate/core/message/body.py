"""The body of a message: octets in memory or, when it is large, octets in a file."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

Octets = bytes | memoryview


class BodyFile(Protocol):
    """The octets of a body in a file."""

    def __len__(self) -> int:
        """The number of octets."""

    def pieces(self) -> Iterator[bytes]:
        """The octets from the beginning on, in pieces of bounded size.

        It reads the file, so it is iterated in a thread. It can be called again.
        """


@dataclass(frozen=True, slots=True)
class StoredBody:
    """A body in a file, with the facts that were found while it arrived.

    ``beginning`` are its first octets, and ``relaxed_hash`` is DKIM's ``bh=`` value.
    """

    file: BodyFile
    beginning: bytes
    relaxed_hash: bytes

    def __len__(self) -> int:
        return len(self.file)


Body = Octets | StoredBody


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message whose body is in a file: its header block, and what is known of the rest.

    ``head`` ends with the empty line, if there is one; a header block that is too large is cut
    off behind the largest size. ``octets`` is the size of the whole message, ``problem`` that
    of its line ends, and ``long_line`` the number of the first long line of the body.
    """

    head: bytes
    body: StoredBody
    octets: int
    problem: str | None
    is_8bit: bool
    long_line: int | None

    def __len__(self) -> int:
        return self.octets


def pieces_of(body: Body) -> Iterator[Octets]:
    """The octets of a body; those in a file are read when it is their turn."""
    if isinstance(body, StoredBody):
        yield from body.file.pieces()
    else:
        yield body


def head_of(message: bytes | StoredMessage) -> bytes:
    """The part of a message that is in memory; it has the whole header block."""
    return message.head if isinstance(message, StoredMessage) else message


def beginning_of(body: Body, octets: int) -> bytes:
    """The first octets of a body; of one in a file, no more than were kept."""
    if isinstance(body, StoredBody):
        return body.beginning[:octets]
    return bytes(body[:octets])
