"""The requests that a running gate answers: their names and their arguments."""

from typing import ClassVar

import msgspec


class ControlRequest(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The arguments of a request; a subclass has its name."""

    name: ClassVar[str]


class ReloadRequest(ControlRequest, frozen=True):
    """Reload, and answer when all processes have done so; one value, a ReloadAnswer."""

    name: ClassVar[str] = "reload"


class ReloadAnswer(msgspec.Struct, frozen=True, gc=False):
    """The end of a reload: why something stays as it was, a text each."""

    problems: tuple[str, ...] = ()
