"""The subjects that a message is charged to, and the refusal that names one of them."""

from collections.abc import Sequence
from datetime import timedelta
from math import ceil
from typing import Final, Literal

from msgspec import Struct

from smtpgate.core.account import SendingLimits

LimitName = Literal["max-24h-send", "max-send-rate"]
SubjectKind = Literal["account", "user", "access-key", "identity"]

_WORDS: Final[dict[SubjectKind, str]] = {
    "account": "account {account_id}",
    "user": "user {name}",
    "access-key": "access key {name}",
    "identity": "account {account_id} by identity {name}",
}


class Subject(Struct, frozen=True, gc=False, array_like=True):
    """An account, or a part of it, whose recipients are counted together.

    ``account_id`` is the sending account for every kind: all subjects of a message have the
    same, so that a store can keep them together. ``name`` is empty for the account itself, or
    the user's name, the access key's id, or the ARN of the identity whose owner set a cap for
    that account.
    """

    account_id: str
    kind: SubjectKind = "account"
    name: str = ""

    def __str__(self) -> str:
        return _WORDS[self.kind].format(account_id=self.account_id, name=self.name)


class Charge(Struct, frozen=True, gc=False, array_like=True):
    """A subject and its limits."""

    subject: Subject
    limits: SendingLimits


def must_go_together(charges: Sequence[Charge]) -> None:
    """Raise ValueError if the charges cannot be those of one message, or there are none."""
    if len(charges) == 1:
        return
    subjects = [charge.subject for charge in charges]
    if len({subject.account_id for subject in subjects}) != 1:
        raise ValueError("a message is charged to subjects of one account")
    if len(set(subjects)) != len(subjects):
        raise ValueError("a message is charged once to a subject")


class LimitExceededError(Exception):
    """A sending limit would be exceeded; nothing was counted.

    ``charge`` has the subject of the exceeded ``limit``; of several limits it is the one with
    the longest wait. ``left`` is the number of recipients that the limit allows now.
    ``retry_after`` is the time until these ``recipients`` would pass if nothing else is sent,
    or ``None`` if they never will.
    """

    def __init__(
        self,
        charge: Charge,
        limit: LimitName,
        *,
        recipients: int,
        left: int,
        retry_after: timedelta | None,
    ) -> None:
        super().__init__(charge, limit, recipients, left, retry_after)
        self.charge = charge
        self.limit = limit
        self.recipients = recipients
        self.left = left
        self.retry_after = retry_after

    def __str__(self) -> str:
        limits = self.charge.limits
        if self.limit == "max-24h-send":
            room = f"{self.left} of {limits.max_24h_send} recipients left"
        else:
            room = f"{self.left} recipients left at {limits.max_send_rate_per_s:.6g} a second"
        if self.retry_after is None:
            return f"{self.charge.subject}: {room}, {self.recipients} never fit"
        return f"{self.charge.subject}: {room}, retry after {clock_time(self.retry_after)}"


def clock_time(span: timedelta) -> str:
    """The span in hours, minutes and seconds, such as ``00:03:12``, rounded up."""
    seconds = ceil(max(0.0, span.total_seconds()))
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
