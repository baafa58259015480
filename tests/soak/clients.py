"""Clients of a soak: most behave, some hang up anywhere, some stick half-way."""

import asyncio
import re
import ssl
from base64 import b64encode
from contextlib import suppress
from random import Random
from typing import Final

from tests.soak.deliveries import MARK, Attempt
from tests.support.daemons import LOOPBACK
from tests.support.gate import BOUNCES_TO, HOSTNAME, LOGIN, letter

_ID: Final = re.compile(r"(?:Ok |; )(0100[0-9a-f-]+)")
_REPLY_S: Final = 60.0  # far over the gate's deadline with the upstreams
_MOST_IN_A_SESSION: Final = 20
_LINE: Final = "0123456789 abcdefghijklmnopqrstuvwxyz .,;:- ABCDEFGHIJKLMNOPQRS\r\n"
# What a client does with a message, by how likely it is; mostly it just sends it.
_MISHAPS: Final = {
    "gone after MAIL": 0.01,
    "gone within the message": 0.01,
    "gone after the end": 0.01,
    "stuck": 0.003,
}
_STUCK_S: Final = (5.0, 20.0)


class Pace:
    """Turns at a steady rate; when the clients are late, turns come at once."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._next_at = 0.0

    async def turn(self) -> None:
        """Wait for it."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        # Not more than ten seconds' messages are made up for.
        self._next_at = max(self._next_at, now - 10) + 1 / self._per_s
        await asyncio.sleep(max(0.0, self._next_at - now))


class SoakClient:
    """Sends message after message until it is stopped."""

    def __init__(
        self, number: int, seed: int, port: int, context: ssl.SSLContext, pace: Pace
    ) -> None:
        self.attempts: list[Attempt] = []
        self.unanswered = 0
        self._number, self._port, self._context, self._pace = number, port, context, pace
        self._chance = Random(f"{seed}-{number}")
        self._is_over = False
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    def stop(self) -> None:
        """End after the message that is under way."""
        self._is_over = True

    async def run(self) -> None:
        """Until it is stopped; a gate that is away is waited for."""
        while not self._is_over:
            with suppress(OSError, EOFError, asyncio.IncompleteReadError):
                await self._session()
            await asyncio.sleep(0.05)

    async def _session(self) -> None:
        self._reader, self._writer = await asyncio.wait_for(
            asyncio.open_connection(
                LOOPBACK, self._port, ssl=self._context, server_hostname=HOSTNAME
            ),
            _REPLY_S,
        )
        try:
            await self._expect("220")
            login = b64encode(f"\0{LOGIN.username}\0{LOGIN.password}".encode()).decode()
            for line in ("EHLO client.example.com", f"AUTH PLAIN {login}"):
                await self._send(f"{line}\r\n".encode())
                await self._expect("2")
            for _ in range(self._chance.randint(1, _MOST_IN_A_SESSION)):
                await self._pace.turn()
                if self._is_over:
                    break
                await self._submit()
            await self._send(b"QUIT\r\n")
            await self._reply()
        finally:
            self._writer.transport.abort()

    async def _submit(self) -> None:
        name = f"{MARK}-{self._number}-{len(self.attempts)}"
        attempt = Attempt(name, self._chance.choices((1, 3), (9, 1))[0])
        self.attempts.append(attempt)
        mishap = self._mishap()
        lines = 10_000 if self._chance.random() < 0.02 else self._chance.randint(1, 60)
        message = letter(name, _LINE * lines)
        uses_chunks = self._chance.random() < 0.2
        commands = [
            f"MAIL FROM:<{BOUNCES_TO}>",
            # Addresses of its own: one that was refused may be on the suppression list later.
            *(f"RCPT TO:<{name}-{one}@example.net>" for one in range(attempt.recipients)),
            *([] if uses_chunks else ["DATA"]),
        ]
        await self._send("".join(f"{line}\r\n" for line in commands).encode())
        if mishap == "gone after MAIL":
            raise EOFError
        for line in commands:
            await self._expect("354" if line == "DATA" else "250")
        head = f"BDAT {len(message)} LAST\r\n".encode() if uses_chunks else b""
        if mishap in ("stuck", "gone within the message"):
            await self._send(head + message[: len(message) // 2])
            if mishap == "stuck":
                await asyncio.sleep(self._chance.uniform(*_STUCK_S))
            raise EOFError
        attempt.is_complete = True
        await self._send(head + message + (b"" if uses_chunks else b".\r\n"))
        if mishap == "gone after the end":
            raise EOFError
        said = await self._reply()
        attempt.code = said[:3]
        found = _ID.search(said)
        attempt.id = found[1] if found else ""
        if attempt.code == "421":
            raise EOFError

    def _mishap(self) -> str:
        at = self._chance.random()
        for name, likely in _MISHAPS.items():
            if at < likely:
                return name
            at -= likely
        return ""

    async def _send(self, octets: bytes) -> None:
        self._writer.write(octets)
        await asyncio.wait_for(self._writer.drain(), _REPLY_S)

    async def _expect(self, code: str) -> None:
        reply = await self._reply()
        if not reply.startswith(code):
            raise EOFError

    async def _reply(self) -> str:
        """A whole reply; a gate that is there and does not answer is noted."""
        lines: list[str] = []
        while not lines or lines[-1][3:4] == "-":
            try:
                line = await asyncio.wait_for(self._reader.readuntil(b"\r\n"), _REPLY_S)
            except TimeoutError:
                self.unanswered += 1
                raise EOFError from None
            lines.append(line.decode("ascii").rstrip())
        return "\n".join(lines)
