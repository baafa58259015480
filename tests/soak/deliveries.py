"""Replies to clients, and messages that upstreams took: a soak compares the two at its end."""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

MARK: Final = "soak"
_NAME: Final = re.compile(rb"(?im)^Message-ID: <(soak-[^@]+)@")
_ID: Final = re.compile(rb"\sid (0100[0-9a-f-]+);?\s")


@dataclass(slots=True)
class Attempt:
    """One transaction of a client: never tried again, so each name is one message."""

    name: str
    recipients: int
    code: str = ""
    id: str = ""
    is_complete: bool = False
    """True when the final dot has left, or the last chunk."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that an upstream decided to take, whether its reply arrived or not."""

    upstream: str
    id: str
    queue_id: str = ""


@dataclass(slots=True)
class Deliveries:
    """The messages that upstreams took, by the names that the clients gave them."""

    taken: dict[str, list[Taken]] = field(default_factory=lambda: defaultdict(list))
    reports: int = 0

    def add(self, message: bytes, upstream: str, queue_id: str = "") -> None:
        """Note a message; one without a name is a report of the gate."""
        header = message.partition(b"\r\n\r\n")[0] + b"\r\n"
        name, its_id = _NAME.search(header), _ID.search(header)
        if name is None:
            self.reports += 1
            return
        assert its_id is not None, "a message without the gate's Received field"
        one = Taken(upstream, its_id[1].decode(), queue_id)
        # A Postfix that was killed may send on again what it has sent: that is one message.
        if not queue_id or one not in self.taken[name[1].decode()]:
            self.taken[name[1].decode()].append(one)
