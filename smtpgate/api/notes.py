"""Notes of the API that other workers need: the next call of a client may reach one of them."""

from datetime import datetime
from typing import TypeAlias

from msgspec import Struct

from smtpgate.core.limits.budget import BudgetName


class CallCounted(Struct, frozen=True, gc=False, tag=True, array_like=True):
    """A call took one of the tokens of a client or an account, at the port of that section."""

    section: str
    budget: BudgetName
    key: str


class KeyUsed(Struct, frozen=True, gc=False, tag=True, array_like=True):
    """A request from that network was signed with that access key, for the first time."""

    section: str
    network: str
    key_id: str


class DoubtNoted(Struct, frozen=True, gc=False, tag=True, array_like=True):
    """An attempt to send ended in doubt about the message of that id."""

    attempt: str
    message_id: str
    at: datetime


ApiNote: TypeAlias = CallCounted | KeyUsed | DoubtNoted
