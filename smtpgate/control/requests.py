"""The requests that a running gate answers: their names and their arguments."""

from typing import ClassVar

import msgspec


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
