"""The requests that a running gate answers: their names and their arguments."""

from typing import ClassVar, Literal, TypeAlias

import msgspec

from smtpgate.core.limits.bans import Ban
from smtpgate.core.transcript import TraceTarget


class ControlRequest(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The arguments of a request; a subclass has its name."""

    name: ClassVar[str]


class ReloadRequest(ControlRequest, frozen=True):
    """Reload, and answer when all processes have done so; one value, a ReloadAnswer.

    With ``is_check`` nothing is changed.
    """

    name: ClassVar[str] = "reload"

    is_check: bool = False


class ReloadAnswer(msgspec.Struct, frozen=True, gc=False):
    """The end of a reload: keys that were changed, and those that need a restart.

    ``problems`` are why something stays as it was, a text each. With ``is_refused`` the
    configuration cannot be used, and nothing at all was changed.
    """

    changed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    is_refused: bool = False


BansAction: TypeAlias = Literal["list", "add", "remove"]


class BansRequest(ControlRequest, frozen=True):
    """Show the bans in force, after that change; one value, a BansAnswer.

    ``until_s``, in seconds since 1970, is for one that is added.
    """

    name: ClassVar[str] = "bans"

    action: BansAction = "list"
    address: str = ""
    until_s: float = 0.0


class BansPart(ControlRequest, frozen=True):
    """The same, of one process."""

    name: ClassVar[str] = "bans-part"

    action: BansAction
    address: str
    until_s: float


class BansAnswer(msgspec.Struct, frozen=True, gc=False):
    """The bans in force; ``is_changed``: one was added, or something forgotten."""

    bans: tuple[Ban, ...]
    is_changed: bool = False


class TraceRequest(ControlRequest, frozen=True):
    """Show sessions as they go on; TranscriptParts, until the client leaves.

    The answer ends after so many ``seconds``, and for one session with that.
    """

    name: ClassVar[str] = "trace"

    target: TraceTarget
    seconds: float | None = None


class TracePart(ControlRequest, frozen=True):
    """The same, of one process, without an end."""

    name: ClassVar[str] = "trace-part"

    target: TraceTarget


class TopRequest(ControlRequest, frozen=True):
    """Show the load of the gate: a GateLoad each ``interval_s``, until the client leaves."""

    name: ClassVar[str] = "top"

    interval_s: float = 2.0


class SessionsPart(ControlRequest, frozen=True):
    """Count the open sessions of one process: a tuple of SessionCounts."""

    name: ClassVar[str] = "sessions-part"


class SessionCount(msgspec.Struct, frozen=True, gc=False):
    """Open sessions of one listener and account, in one state."""

    listener: str
    account: str
    state: str
    sessions: int


class SenderRate(msgspec.Struct, frozen=True, gc=False):
    """Messages of an account with one verdict, in the interval."""

    account: str
    outcome: str
    reason: str
    messages: int


class UpstreamLoad(msgspec.Struct, frozen=True, gc=False):
    """The connections to an upstream, its waiting line, and its circuit breaker."""

    name: str
    busy: int
    idle: int
    limit: int
    waiting: int
    breaker: str
    is_up: bool


class GateLoad(msgspec.Struct, frozen=True, gc=False):
    """The load of a gate, with the messages of the last ``interval_s``.

    ``quotas`` are accounts that have used most of theirs, with the share. ``problems`` are why
    something is not complete.
    """

    at: str
    interval_s: float
    workers: int
    loop_delay_s: float
    paced: int
    journal_owed: int
    outbox: int
    sessions: tuple[SessionCount, ...]
    senders: tuple[SenderRate, ...]
    upstreams: tuple[UpstreamLoad, ...]
    quotas: tuple[tuple[str, float], ...]
    problems: tuple[str, ...] = ()
