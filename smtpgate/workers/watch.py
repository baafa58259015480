"""When a worker is replaced, and when it counts as hung; decisions, without processes."""

from typing import Final

# A worker that lived so long did not end because of its start.
_LIVED_S: Final = 60.0
_FIRST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 30.0


class Restarts:
    """The time for which a place stays empty: longer each time that workers end soon.

    What ends each worker at once would otherwise keep the host busy with starts.
    """

    def __init__(self) -> None:
        self._ended_soon = 0

    def wait_s(self, lived_s: float) -> float:
        """The wait after a worker that lived so long."""
        if lived_s >= _LIVED_S:
            self._ended_soon = 0
            return 0.0
        self._ended_soon += 1
        doublings = min(self._ended_soon - 1, 16)
        return min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0**doublings)


class Heartbeat:
    """The pings of one worker; it hangs when so many in a row have no answer.

    Pings are counted, and not seconds: while the host was asleep, or the parent was stopped
    itself, none were sent.
    """

    def __init__(self, most_unanswered: int) -> None:
        self._most_unanswered = most_unanswered
        self._unanswered = 0

    def is_hung_at_ping(self) -> bool:
        """Another ping is due; true if the worker has had enough of them."""
        self._unanswered += 1
        return self._unanswered > self._most_unanswered

    def answered(self) -> None:
        """The worker has answered."""
        self._unanswered = 0

    @property
    def is_answering(self) -> bool:
        """True if it answered one of the last two pings."""
        return self._unanswered <= 2
