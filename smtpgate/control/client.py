"""Asking a running gate, as commands do."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from smtpgate.control.frames import LENGTH, MAX_ANSWER_OCTETS, AnswerFrame, RequestFrame, framed
from smtpgate.control.requests import ControlRequest
from smtpgate.control.socket_address import address_of

T = TypeVar("T")

_CONNECT_S: Final = 5.0


class ControlError(Exception):
    """No gate answers, or it refuses; the text is for the person who asked."""


def ask(
    path: Path, request: ControlRequest, kind: type[T], *, timeout_s: float | None
) -> Iterator[T]:
    """The values of the answer, as they come, each of that type, which msgspec can read.

    ``timeout_s`` is the longest time between two values. Raises ControlError.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_CONNECT_S)
        try:
            with address_of(path) as address:
                connection.connect(address)
            arguments = msgspec.Raw(msgspec.json.encode(request))
            connection.sendall(framed(RequestFrame(request.name, arguments)))
        except OSError as error:
            raise ControlError(_no_gate(path, error)) from None
        connection.settimeout(timeout_s)
        while True:
            answered = _next(connection)
            if answered.kind == "done":
                return
            if answered.kind == "refused":
                raise ControlError(answered.problem)
            yield _value(answered, kind)


def _no_gate(path: Path, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"{path}: give the command as root, or as the user that the gate runs as"
    text = (error.strerror or type(error).__name__).lower()
    return f"no gate answers at {path} ({text}); is it running, with this configuration?"


def _value(answered: AnswerFrame, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answered.value, type=kind)
    except msgspec.DecodeError as error:
        raise ControlError(f"the gate is of another version: {error}") from None


def _next(connection: socket.socket) -> AnswerFrame:
    try:
        (length,) = LENGTH.unpack(_octets(connection, LENGTH.size))
        if length > MAX_ANSWER_OCTETS:
            raise ControlError("the gate's answer cannot be read")
        return msgspec.json.decode(_octets(connection, length), type=AnswerFrame)
    except TimeoutError:
        raise ControlError("the gate did not answer in time") from None
    except OSError as error:
        raise ControlError(f"the gate's answer broke off: {error.strerror}") from None
    except msgspec.DecodeError:
        raise ControlError("the gate's answer cannot be read") from None


def _octets(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        more = connection.recv(min(count - len(received), 65536))
        if not more:
            raise ControlError("the gate ended before its answer did")
        received += more
    return received
