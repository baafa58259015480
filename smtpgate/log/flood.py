"""Lines that a client can cause at will: the first few a minute, then one that counts them."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from smtpgate.core.message.envelope import network_of_client

MINUTE_S: Final = 60.0
_CLIENTS: Final = 10_000


@dataclass(slots=True)
class LinesLeftOut:
    """The number of lines of a client that were left out, by event."""

    client: str
    events: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Client:
    lines: dict[str, int] = field(default_factory=dict)
    left_out: LinesLeftOut | None = None


class RefusalFlood:
    """Lets so many lines of each client about each event pass in a minute.

    Events are counted separately, so that a client cannot hide one event by a flood of another.

    A minute begins with the first line after the last minute. Clients beyond the bound are
    counted together, so that a flood from many addresses is bounded too.
    """

    def __init__(self, lines_per_minute: int, *, clients: int = _CLIENTS) -> None:
        self._lines_per_minute = lines_per_minute
        self._most_clients = clients
        self._clients: OrderedDict[str, _Client] = OrderedDict()
        self._ends_s: float | None = None

    def passes(self, address: str, event: str, now_s: float) -> bool:
        """True if the line is written; if not, it is counted."""
        if self._ends_s is None:
            self._ends_s = now_s + MINUTE_S
        name = network_of_client(address)
        if name not in self._clients and len(self._clients) >= self._most_clients:
            name = "others"
        client = self._clients.setdefault(name, _Client())
        if (lines := client.lines.get(event, 0)) < self._lines_per_minute:
            client.lines[event] = lines + 1
            return True
        left_out = client.left_out = client.left_out or LinesLeftOut(name)
        left_out.events[event] = left_out.events.get(event, 0) + 1
        return False

    def ended(self, now_s: float) -> list[LinesLeftOut]:
        """The lines left out in the last minute, once it is over; then a new one begins."""
        if self._ends_s is None or now_s < self._ends_s:
            return []
        return self.end()

    def end(self) -> list[LinesLeftOut]:
        """End the minute at once."""
        found = [one.left_out for one in self._clients.values() if one.left_out is not None]
        self._clients.clear()
        self._ends_s = None
        return found
