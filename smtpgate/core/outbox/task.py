"""Tasks: an event's delivery to one destination, and what can come of an attempt."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from smtpgate.core.outbox.event import SendingEvent

# A list is an account's suppression list.
DestinationKind = Literal["webhook", "mail", "list"]
# An identity's notification, without or with the header fields of the message, or an event of a
# configuration set; the automatic answer of a simulated mailbox; a notice. A report by mail and
# a list have none of these forms.
DestinationForm = Literal[
    "", "notification", "notification-with-headers", "event", "answer", "notice"
]
# A provisional task is in force only with the verdict on its message.
TaskState = Literal["provisional", "waiting", "sent", "dead"]
MAIL_LANE: Final = "mail"
_LANES: Final[Mapping[DestinationKind, str]] = {"mail": MAIL_LANE, "list": "list"}
_TASKS: Final = b"smtpgate task"


class Destination(Struct, frozen=True, gc=False):
    """A receiver of events.

    ``name`` is the ARN of the subscription, the address that mail goes to, or the account that
    has the list. ``account_id`` is the account that has the subscription, or whose setting made
    the destination; it may see its tasks. The ``form`` of the event is part of it: a
    subscription may get an event in several.
    """

    kind: DestinationKind
    name: str
    account_id: str = ""
    form: DestinationForm = ""

    @property
    def lane(self) -> str:
        """The line that its tasks wait in: mail has one upstream, lists are in one database."""
        return _LANES.get(self.kind, self.name)


class Task(Struct, frozen=True, gc=False, omit_defaults=True):
    """One delivery of an event.

    ``original`` is for a report by mail: the header block of the message that it is about.
    """

    event: SendingEvent
    destination: Destination
    original: bytes = b""
    envelope_id: str = ""

    @property
    def id(self) -> str:
        """The same for the same message, recipients, kind of event and destination."""
        to = self.destination
        text = "\n".join((self.event.fact, to.kind, to.name, *filter(None, (to.form,))))
        return hashlib.blake2b(text.encode(), digest_size=16, person=_TASKS).hexdigest()


class LeasedTask(Struct, frozen=True, gc=False):
    """A task that a sender has leased: ``number`` counts the attempts from 1."""

    task: Task
    number: int
    created_at: datetime


class Carried(Struct, frozen=True, gc=False):
    """The destination has it; ``answer`` is its answer, shortened."""

    answer: str = ""


class TryAgain(Struct, frozen=True, gc=False):
    """The attempt failed, and another may succeed.

    ``after_s`` is the wait that the destination asked for.
    """

    problem: str
    after_s: float | None = None


class GivenUp(Struct, frozen=True, gc=False):
    """No attempt will succeed: the subscription is gone, or the refusal is for good."""

    problem: str


Result: TypeAlias = Carried | TryAgain | GivenUp
