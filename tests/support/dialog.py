"""Dialogues as data: ``C:`` and ``S:`` lines, run against a listener.

``S:`` lines match by prefix; ``S>`` is a whole reply, whose last line matches. ``C:`` lines
are sent with CRLF, ``C=`` lines as they are, with ``\\r``, ``\\n``, ``\\0`` and ``\\xNN`` read
as escapes. ``${name}`` is filled in. ``TLS`` begins a handshake, ``EOF`` ends the client's
side, ``CLOSED`` expects the end of the server's. ``#`` begins a comment.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from string import Template

_TIMEOUT_S = 10


class Dialog:
    """One connection, line by line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int, context: ssl.SSLContext | None = None) -> "Dialog":
        """Connect; :func:`close_dialogs` closes what a test leaves open."""
        dialog = cls(*await asyncio.open_connection("127.0.0.1", port, ssl=context))
        _open.append(dialog)
        return dialog

    @classmethod
    async def over(cls, connection: socket.socket) -> "Dialog":
        """Begin on a connection that is there already."""
        dialog = cls(*await asyncio.open_connection(sock=connection))
        _open.append(dialog)
        return dialog

    async def send(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def line(self) -> str:
        async with asyncio.timeout(_TIMEOUT_S):
            return (await self.reader.readline()).decode("ascii").rstrip("\r\n")

    async def reply(self) -> str:
        """A whole reply, its lines joined by ``\\n``."""
        lines = [await self.line()]
        while lines[-1][3:4] == "-":
            lines.append(await self.line())
        return "\n".join(lines)

    async def say(self, command: str) -> str:
        """Send one command and take its reply."""
        await self.send(command.encode() + b"\r\n")
        return await self.reply()

    async def is_closed(self) -> bool:
        async with asyncio.timeout(_TIMEOUT_S):
            return await self.reader.read(1) == b""

    async def start_tls(self, context: ssl.SSLContext) -> None:
        await self.writer.start_tls(context, server_hostname="gate.example")

    async def close(self) -> None:
        self.writer.close()


_open: list[Dialog] = []


async def close_dialogs() -> None:
    """Close every dialogue that is open, from our side."""
    while _open:
        writer = _open.pop().writer
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def play(
    path: Path, port: int, facts: Mapping[str, str], context: ssl.SSLContext
) -> None:
    """Play one file; fails with the line that came out otherwise."""
    dialog = await Dialog.open(port)
    try:
        await play_text(dialog, path.name, path.read_text(), facts, context)
    finally:
        await dialog.close()


async def play_text(
    dialog: Dialog, name: str, text: str, facts: Mapping[str, str], context: ssl.SSLContext
) -> None:
    """Play lines in a dialogue that is open already."""
    for number, raw in enumerate(text.splitlines(), 1):
        line = Template(raw).safe_substitute(facts)
        match line.partition(" "):
            case ("C:", _, command):
                await dialog.send(command.encode() + b"\r\n")
            case ("C=", _, octets):
                await dialog.send(octets.encode().decode("unicode_escape").encode("latin-1"))
            case ("S:", _, wanted):
                said = await dialog.line()
                assert said.startswith(wanted), f"{name}:{number}: got {said!r}"
            case ("S>", _, wanted):
                said = (await dialog.reply()).rpartition("\n")[2]
                assert said.startswith(wanted), f"{name}:{number}: got {said!r}"
            case ("TLS", _, _):
                await dialog.start_tls(context)
            case ("EOF", _, _):
                dialog.writer.write_eof()
            case ("CLOSED", _, _):
                assert await dialog.is_closed(), f"{name}:{number}: still open"
            case _:
                assert not line.strip() or line.startswith("#"), f"{name}:{number}"
