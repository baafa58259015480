"""Remembers which quotas were used up when last seen, so that few need be asked for."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from smtpgate.core.limits import Charge, LimitExceededError, Reservation, Subject

_MAX_SUBJECTS: Final = 10_000


class FullQuotas:
    """The subjects whose 24-hour quota is used up, as far as this process knows.

    It needs no query, and may be wrong either way: the store is asked about a subject that is
    in it, and any other subject is counted exactly when the message is there.
    """

    def __init__(self) -> None:
        self._subjects: OrderedDict[Subject, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._subjects)

    def has_any(self, charges: Iterable[Charge]) -> bool:
        """True if one of them is to be asked for."""
        return any(charge.subject in self._subjects for charge in charges)

    def note_passed(self, reservation: Reservation) -> None:
        """Recipients were counted: perhaps the last that the quota had."""
        for charge, used in zip(reservation.charges, reservation.used, strict=True):
            if used >= charge.limits.max_24h_send >= 0:
                self._note(charge.subject)
            elif self._subjects:
                self._subjects.pop(charge.subject, None)

    def note_refused(self, refusal: LimitExceededError) -> None:
        """Nothing was counted: perhaps because nothing is left."""
        if refusal.limit == "max-24h-send" and refusal.left == 0:
            self._note(refusal.charge.subject)

    def forget(self, charges: Iterable[Charge]) -> None:
        """There is something left again."""
        for charge in charges:
            self._subjects.pop(charge.subject, None)

    def _note(self, subject: Subject) -> None:
        self._subjects[subject] = None
        self._subjects.move_to_end(subject)
        if len(self._subjects) > _MAX_SUBJECTS:
            self._subjects.popitem(last=False)
