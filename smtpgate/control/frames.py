"""The octets on the control socket: a length of four octets, then so many octets of JSON."""

import struct
from typing import Final, Literal

import msgspec

LENGTH: Final = struct.Struct("!I")
MAX_REQUEST_OCTETS: Final = 64 * 1024
MAX_ANSWER_OCTETS: Final = 4 * 1024 * 1024


class RequestFrame(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A request: its name, and its arguments as a JSON object."""

    request: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class AnswerFrame(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One of several values, or the end of the answer: all is done, or a problem."""

    kind: Literal["value", "done", "refused"]
    value: msgspec.Raw = msgspec.Raw(b"null")
    problem: str = ""


def framed(message: RequestFrame | AnswerFrame) -> bytes:
    """The octets of a message."""
    octets = msgspec.json.encode(message)
    return LENGTH.pack(len(octets)) + octets
