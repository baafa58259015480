"""The control socket of a gate: who may ask, how much, and for how long."""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from smtpgate.control.asker import ASKER, Asker
from smtpgate.control.frames import (
    LENGTH,
    MAX_ANSWER_OCTETS,
    MAX_REQUEST_OCTETS,
    AnswerFrame,
    RequestFrame,
    framed,
)
from smtpgate.control.routes import DEFECT, RefusedError, Routes
from smtpgate.control.socket_address import address_of
from smtpgate.tasks import TaskOwner

_MODE: Final = 0o600
_BACKLOG: Final = 16
_MAX_CONNECTIONS: Final = 32
_REQUEST_S: Final = 5.0
_WRITE_S: Final = 30.0
_NO_ROOM_S: Final = 0.2
_LAST_WORK_S: Final = 1.0
_ROOT: Final = 0
_CREDENTIALS: Final = struct.Struct("3i")  # unix(7): struct ucred, of process, user and group


class _LeftError(Exception):
    """The client has left, or reads nothing."""


class ControlServer:
    """The socket, and the connections of those who ask."""

    def __init__(
        self, path: Path, routes: Routes, on_error: Callable[[BaseException], None]
    ) -> None:
        self._path = path
        self._routes = routes
        self._on_error = on_error
        self._listening: socket.socket | None = None
        self._inode = 0
        self._accepting, self._serving = TaskOwner(), TaskOwner()

    def start(self) -> None:
        """Listen. Raises OSError when the socket cannot be made at its path.

        It replaces what is left there by a gate that was killed.
        """
        self._listening = _bound(self._path)
        self._inode = self._path.stat().st_ino
        _ = self._accepting.start(self._accept(self._listening), name="control socket")

    async def stop(self) -> None:
        """Take no more requests; those under way have a moment."""
        if self._listening is None:
            return
        await self._accepting.drain(0)
        self._listening.close()
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:  # else it is another gate's
                self._path.unlink()
        self._listening = None
        await self._serving.drain(_LAST_WORK_S)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except ConnectionError:
                continue
            except OSError as error:  # no descriptor is free
                self._on_error(error)
                await asyncio.sleep(_NO_ROOM_S)
                continue
            connection.setblocking(False)
            if len(self._serving) >= _MAX_CONNECTIONS:
                connection.close()
            else:
                _ = self._serving.start(self._serve(connection), name="control request")

    async def _serve(self, connection: socket.socket) -> None:
        """Answer the one request of a connection, until the client leaves."""
        with connection:
            try:
                asked = await _read(connection)
            except (TimeoutError, OSError, ValueError, msgspec.DecodeError):
                return  # it said nothing that can be answered
            tasks = TaskOwner()
            leaving = tasks.start(_left(connection))
            answering = tasks.start(self._answer(connection, asked))
            try:
                await asyncio.wait((leaving, answering), return_when=asyncio.FIRST_COMPLETED)
            finally:
                await tasks.drain(0)

    async def _answer(self, connection: socket.socket, asked: RequestFrame) -> None:
        with contextlib.suppress(_LeftError):
            end = AnswerFrame("done")
            try:
                await self._pass_on(connection, asked)
            except RefusedError as error:
                end = AnswerFrame("refused", problem=str(error))
            except _LeftError:
                raise
            except Exception as error:  # noqa: BLE001 - logged; the gate goes on
                self._on_error(error)
                end = AnswerFrame("refused", problem=DEFECT)
            await _write(connection, end)

    async def _pass_on(self, connection: socket.socket, asked: RequestFrame) -> None:
        """Write the values of the answer. Raises RefusedError, _LeftError, or a defect."""
        who = _asker(connection)
        if who.user not in (_ROOT, os.geteuid()):
            raise RefusedError("only root and the gate's own user may ask it")
        _ = ASKER.set(who)
        values = self._routes.answer(asked.request, bytes(asked.arguments))
        async with contextlib.aclosing(values):
            async for value in values:
                await _write(connection, _of_value(value))


def _of_value(value: object) -> AnswerFrame:
    octets = msgspec.json.encode(value)
    if len(octets) > MAX_ANSWER_OCTETS - LENGTH.size - 100:
        raise RefusedError("a part of the answer is too long")
    return AnswerFrame("value", msgspec.Raw(octets))


async def _read(connection: socket.socket) -> RequestFrame:
    """The request. Raises TimeoutError, OSError, ValueError or DecodeError."""
    async with asyncio.timeout(_REQUEST_S):
        (length,) = LENGTH.unpack(await _octets(connection, LENGTH.size))
        if length > MAX_REQUEST_OCTETS:
            raise ValueError(f"a request of {length} octets")
        return msgspec.json.decode(await _octets(connection, length), type=RequestFrame)


async def _octets(connection: socket.socket, count: int) -> bytes:
    loop, received = asyncio.get_running_loop(), b""
    while len(received) < count:
        more = await loop.sock_recv(connection, count - len(received))
        if not more:
            raise ConnectionError("the client has left")
        received += more
    return received


async def _write(connection: socket.socket, answered: AnswerFrame) -> None:
    """Write a part of the answer. Raises _LeftError."""
    try:
        async with asyncio.timeout(_WRITE_S):
            await asyncio.get_running_loop().sock_sendall(connection, framed(answered))
    except (TimeoutError, OSError) as error:
        raise _LeftError from error


async def _left(connection: socket.socket) -> None:
    """Wait until the client has left; what it sends beyond its request is dropped."""
    with contextlib.suppress(OSError):
        while await asyncio.get_running_loop().sock_recv(connection, 4096):
            pass


def _asker(connection: socket.socket) -> Asker:
    """The process at the other end, as the kernel names it."""
    octets = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, _ = _CREDENTIALS.unpack(octets)
    return Asker(process, user)


def _bound(path: Path) -> socket.socket:
    """A listening socket at that path, made under another name and then renamed.

    So nobody connects before its mode is set, and what a killed gate has left is replaced.
    """
    making = path.with_name(f".{path.name}.{os.getpid()}")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        making.unlink(missing_ok=True)
        with address_of(making) as address:
            listening.bind(address)
        making.chmod(_MODE)
        listening.listen(_BACKLOG)
        making.rename(path)
    except BaseException:
        listening.close()
        making.unlink(missing_ok=True)
        raise
    listening.setblocking(False)
    return listening
