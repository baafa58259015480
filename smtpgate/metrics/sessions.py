"""The number of open sessions of each listener."""

from collections.abc import Iterable, Iterator

from smtpgate.core.events import SessionClosed, SessionOpened
from smtpgate.ports import Reading


class OpenSessions:
    """Counts sessions as they begin and end."""

    def __init__(self, listeners: Iterable[str]) -> None:
        self._open = dict.fromkeys(listeners, 0)

    def note(self, event: SessionOpened | SessionClosed) -> None:
        """Count one more, or one fewer."""
        change = 1 if isinstance(event, SessionOpened) else -1
        self._open[event.listener] = self._open.get(event.listener, 0) + change

    def readings(self) -> Iterator[Reading]:
        """The open sessions, for a scrape."""
        for listener, sessions in tuple(self._open.items()):
            yield Reading("smtpgate_sessions", sessions, (listener,))
