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
