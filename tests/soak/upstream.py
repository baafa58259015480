"""An upstream of a soak: it speaks decent SMTP, notes what it takes, and has faults.

A mood lasts until the next one; besides, single replies go wrong by chance. All chance comes
from a seeded generator.
"""

import asyncio
import ssl
from contextlib import suppress
from random import Random
from typing import Final, Literal

from tests.soak.deliveries import Deliveries
from tests.support.daemons import LOOPBACK

Mood = Literal["fine", "closed", "frozen", "slow", "421", "full", "certificate"]
MOODS: Final[tuple[Mood, ...]] = Mood.__args__[1:]  # type: ignore[attr-defined]

_LARGEST: Final = 8 * 1024 * 1024
_USUAL: Final = {
    "MAIL": "250 2.1.0 ok",
    "RCPT": "250 2.1.5 ok",
    "DATA": "354 go on",
    "RSET": "250 2.0.0 ok",
    "NOOP": "250 2.0.0 ok",
    "QUIT": "221 2.0.0 bye",
}
# The faults of single replies, by how likely each is.
_BEFORE: Final = (("hang up", 0.002), ("421 4.3.2 restarting", 0.002))
_AFTER: Final = (
    ("take and hang up", 0.002),
    ("hang up", 0.002),
    ("451 4.3.0 not now", 0.005),
    ("554 5.6.0 not this one", 0.005),
)


class _HungUpError(Exception):
    """The connection is at its end."""


class FaultyUpstream:
    """Listens on a loopback port, with STARTTLS."""

    def __init__(
        self,
        name: str,
        port: int,
        deliveries: Deliveries,
        chance: Random,
        contexts: tuple[ssl.SSLContext, ssl.SSLContext],
    ) -> None:
        """``contexts``: the right certificate, and one of an authority that nobody trusts."""
        self.name, self.port = name, port
        self.mood: Mood = "fine"
        self.has_chance_faults = True
        self._deliveries, self._chance, self._contexts = deliveries, chance, contexts
        self._thawed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen."""
        self._thawed.set()
        self._server = await asyncio.start_server(
            self._serve, LOOPBACK, self.port, limit=_LARGEST, backlog=1000
        )

    async def change(self, mood: Mood) -> None:
        """Be in that mood from now on."""
        self.mood = mood
        if mood == "frozen":
            self._thawed.clear()
        else:
            self._thawed.set()
        if mood == "closed":
            await self.close()
        elif self._server is None:
            await self.start()
        if mood == "certificate":
            self._abort_all()  # so that new connections come, and see it

    async def close(self) -> None:
        """Listen no more, and hang up everywhere."""
        self._thawed.set()
        if self._server is not None:
            self._server.close()
            self._server = None
        self._abort_all()

    def _abort_all(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(
            _HungUpError,
            OSError,
            asyncio.IncompleteReadError,
            asyncio.CancelledError,
        ):
            await _Session(self, reader, writer).run()
        self._writers.discard(writer)
        writer.transport.abort()

    async def in_mood(self) -> None:
        """Wait as long as a reply takes now."""
        await self._thawed.wait()
        if self.mood == "slow":
            await asyncio.sleep(self._chance.uniform(0.05, 0.8))

    def fault(self, faults: tuple[tuple[str, float], ...]) -> str:
        """One of the faults by chance, mostly none."""
        at = self._chance.random()
        if not self.has_chance_faults:
            return ""
        for name, likely in faults:
            if at < likely:
                return name
            at -= likely
        return ""

    def tls(self) -> ssl.SSLContext:
        """The certificate to show now."""
        return self._contexts[self.mood == "certificate"]

    def refusal(self, verb: str) -> str:
        """The reply of its mood to a command, if that is none of the usual ones."""
        if verb == "MAIL" and self.mood == "421":
            return "421 4.3.2 closing"
        if self.mood == "full":
            return {"RCPT": "452 4.2.2 full", "end": "552 5.2.2 full"}.get(verb, "")
        return ""

    def take(self, message: bytes) -> None:
        """Note the message."""
        self._deliveries.add(message, self.name)


class _Session:
    """One connection."""

    def __init__(
        self,
        upstream: FaultyUpstream,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._upstream, self._reader, self._writer = upstream, reader, writer
        self._is_encrypted = False
        self._recipients = 0
        self._chunks = bytearray()

    async def run(self) -> None:
        """From the greeting to the end."""
        if self._upstream.mood == "421":
            await self._say("421 4.3.2 not now")
            return
        await self._say("220 mx.example.net ESMTP")
        while True:
            line = (await self._reader.readuntil(b"\r\n"))[:-2].decode()
            await self._obey(line.split(" ")[0].upper(), line)

    async def _obey(self, verb: str, line: str) -> None:
        match verb:
            case "EHLO":
                await self._say(self._ehlo())
            case "STARTTLS":
                await self._say("220 2.0.0 go ahead")
                await self._shake_hands()
            case "BDAT":
                await self._chunk(line)
            case _ if verb in _USUAL:
                await self._command(verb)
            case _:
                await self._say("500 5.5.2 what?")

    async def _shake_hands(self) -> None:
        plain = self._writer.transport
        try:
            await self._writer.start_tls(self._upstream.tls())
        except AttributeError:  # of Python 3.11, when the client has gone meanwhile
            self._writer._transport = plain  # type: ignore[attr-defined]
            raise _HungUpError from None
        self._is_encrypted = True

    def _ehlo(self) -> str:
        offers = ["PIPELINING", "8BITMIME", f"SIZE {_LARGEST}", "CHUNKING"]
        if not self._is_encrypted:
            offers.append("STARTTLS")
        return "\r\n".join(
            ["250-mx.example.net", *(f"250-{one}" for one in offers), "250 HELP"]
        )

    async def _command(self, verb: str) -> None:
        reply = self._upstream.refusal(verb)
        if not reply and verb in ("MAIL", "RCPT", "DATA"):
            reply = self._upstream.fault(_BEFORE)
        if verb in ("MAIL", "RSET"):
            self._recipients = 0
            self._chunks.clear()
        if verb == "DATA" and not self._recipients:
            reply = reply or "503 5.5.1 no recipients"
        if reply == "hang up":
            raise _HungUpError
        reply = reply or _USUAL[verb]
        await self._say(reply)
        if reply.startswith("421") or verb == "QUIT":
            raise _HungUpError
        if verb == "RCPT" and reply.startswith("250"):
            self._recipients += 1
        if verb == "DATA" and reply.startswith("354"):
            wire = b"\r\n" + await self._reader.readuntil(b"\r\n.\r\n")
            await self._judge(wire[:-3].replace(b"\r\n.", b"\r\n")[2:])

    async def _chunk(self, line: str) -> None:
        """A chunk, whose octets are read in any case (RFC 3030 §2)."""
        words = line.split(" ")
        self._chunks += await self._reader.readexactly(int(words[1]))
        if not self._recipients:
            await self._say("503 5.5.1 no recipients")
        elif words[-1].upper() != "LAST":
            await self._say("250 2.0.0 chunk")
        else:
            message = bytes(self._chunks)
            self._chunks.clear()
            await self._judge(message)

    async def _judge(self, message: bytes) -> None:
        """The end of a message: it is taken, refused, or the connection ends."""
        self._recipients = 0
        await self._upstream.in_mood()
        fault = self._upstream.refusal("end") or self._upstream.fault(_AFTER)
        if not fault or fault == "take and hang up":
            self._upstream.take(message)
        if fault.endswith("hang up"):
            raise _HungUpError
        await self._say(fault or "250 2.0.0 taken")

    async def _say(self, reply: str) -> None:
        await self._upstream.in_mood()
        self._writer.write(reply.encode() + b"\r\n")
        await self._writer.drain()
