"""The messages of one worker between begin and finish, as its parent remembers them.

A worker does not send again what it sent with the beginning of a message.
"""

from collections.abc import Iterable

from smtpgate.core.limits import Reservation
from smtpgate.gate.frames import AskComplete, AskFinish, NotBegun, OfMessage, OnLine
from smtpgate.journal.statements import Entry
from smtpgate.store.requests import Begin, Completion, Finish


class BegunMessages:
    """The entry and the reservation of each message that a worker may have relayed.

    They are forgotten with the verdict, or when the worker has ended. The store's thread and
    the event loop use it, by single calls of a dict.
    """

    def __init__(self) -> None:
        self._begun: dict[str, tuple[Entry | None, Reservation | None]] = {}

    @property
    def ids(self) -> set[str]:
        """The ids of these messages."""
        return set(self._begun)

    def add(self, request: Begin | Finish, reservation: Reservation | None) -> None:
        """Remember a message that was begun by that request."""
        self._begun[request.message_id] = request.entry, reservation

    def forget(self, message_ids: Iterable[str]) -> None:
        """Forget messages, also those that were not begun."""
        for message_id in message_ids:
            self._begun.pop(message_id, None)

    def complete(self, requests: Iterable[OnLine]) -> tuple[list[OfMessage], list[NotBegun]]:
        """The requests as they are carried out, and the answers to those that cannot be."""
        whole: list[OfMessage] = []
        unknown: list[NotBegun] = []
        for one in requests:
            if not isinstance(one, AskComplete):
                whole.append(one)
            elif (finish := self._whole(one.request)) is not None:
                whole.append(AskFinish(one.number, finish))
            else:
                unknown.append(NotBegun(one.number))
        return whole, unknown

    def _whole(self, completion: Completion) -> Finish | None:
        """The request; ``None`` if something of it was not begun."""
        entry, reservation = self._begun.get(completion.message_id, (None, None))
        if entry is None or (reservation is None and completion.settled is not None):
            return None
        return completion.whole(entry, reservation)
