"""An upstream in memory, on a loop of its own: every reply can go wrong in a chosen way.

It knows which final dots left and which verdicts arrived, so a test can compare what the
relay says with what was so. No socket is open, and the loop's time is moved, never waited for.
"""

import asyncio
import errno
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, cast

from smtpgate.relay.connection import Connection
from tests.support.clock import MovableLoop

# The fate of one reply: it is as it should be (fine), comes a little later (late), octet by
# octet (pieces), twice at once or with a pause (twice, echo), before it is due (early), is a
# refusal, once or twice (refuse, refuse-echo), or a 421; the server closes instead of it, in
# the same moment, or one or two turns of the loop later; it never comes (stall). The octets
# that it answers are kept back by the transport until the connection is lost (stuck), or for a
# while (slow).
Mishap = Literal[
    "fine",
    "late",
    "pieces",
    "twice",
    "echo",
    "early",
    "refuse",
    "refuse-echo",
    "421",
    "close",
    "close-with",
    "close-after",
    "close-later",
    "stall",
    "stuck",
    "slow",
]
MISHAPS: Final[tuple[Mishap, ...]] = Mishap.__args__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class _Saying:
    """The octets that the server sends in one turn of the loop, and its close."""

    octets: bytes = b""
    means: Callable[[], None] | None = None
    is_end: bool = False

    @property
    def last_octet(self) -> "_Saying":
        return replace(self, octets=self.octets[-1:])


_END: Final = _Saying(is_end=True)
_PAUSE: Final = [_Saying()] * 3


class Wire(asyncio.Transport):
    """One connection, as the relay's transport and as the server's side of it."""

    def __init__(self, upstream: "ScriptedUpstream", protocol: Connection) -> None:
        super().__init__()
        self.upstream, self.protocol = upstream, protocol
        self.is_closed = False
        self._is_lost = False
        self._kept_back: list[bytes] | None = None
        self._input = b""
        self._takes_message = False
        self._number = -1
        self._is_chunk_refused = False
        self._is_mute = False
        self._sayings: deque[_Saying] = deque()
        self._loop = asyncio.get_running_loop()

    # -- the relay's side ----------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        return {"socket": self, "peername": ("127.0.0.1", 25)}.get(name, default)

    def setsockopt(self, *_: int) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self.is_closed

    def abort(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._loop.call_soon(self._lose)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.is_closed:
            return
        if self._kept_back is None and is_message_end(data):
            self._hold_back()
        if self._kept_back is not None:
            self._kept_back.append(bytes(data))
            self.protocol.pause_writing()
        else:
            self._arrive(bytes(data))

    def _hold_back(self) -> None:
        mishap = self.upstream.look()
        if mishap in ("stuck", "slow"):
            self.upstream.next()
            self._kept_back = []
            self._loop.call_later(3, self._lose if mishap == "stuck" else self._release)

    def _release(self) -> None:
        kept, self._kept_back = self._kept_back or [], None
        if not self.is_closed:
            self.protocol.resume_writing()
            for octets in kept:
                self._arrive(octets)

    # -- the server's side ---------------------------------------------------------------------

    def greet(self) -> None:
        """Begin."""
        upstream = self.upstream
        most = upstream.max_wires
        is_too_many = most is not None and upstream.open_wires > most
        mishap: Mishap | None = "421" if is_too_many else None
        self._answer("220 mx", "421 4.7.0 not now", mishap=mishap)

    def _arrive(self, octets: bytes) -> None:
        if octets[-5:] == b"\r\n.\r\n":
            self.upstream.sent.append(int(octets.split()[1]))
        elif octets.startswith(b"BDAT"):
            self._note_chunk(octets)
        self._input += octets
        while not self._is_mute:
            if self._takes_message:
                end = self._input.find(b"\r\n.\r\n")
                if end < 0:
                    return
                message, self._input = self._input[:end], self._input[end + 5 :]
                self._takes_message = False
                self._judge(int(message.split()[1]))
                continue
            line, found, rest = self._input.partition(b"\r\n")
            if not found:
                return
            if line.startswith(b"BDAT"):
                size = int(line.split()[1])
                if len(rest) < size:
                    return
                self._input = rest[size:]
                self._take_chunk(is_last=line.endswith(b" LAST"))
                continue
            self._input = rest
            self._obey(line.split(b" ")[0].decode())

    def _note_chunk(self, octets: bytes) -> None:
        """A chunk left the relay: the first of a message has its number."""
        command, _, rest = octets.partition(b"\r\n")
        if rest.startswith(b"Subject: "):
            self._number = int(rest.split()[1])
        if command.endswith(b" LAST"):
            self.upstream.sent.append(self._number)

    def _take_chunk(self, *, is_last: bool) -> None:
        number, refused = self._number, self.upstream.refused
        if self._is_chunk_refused:
            self._then(_Saying(b"503 5.5.1 no transaction\r\n"))
        elif is_last:
            self._judge(number)
        else:
            no = f"552 5.6.0 refused {number}"
            mishap = self.upstream.look()
            self._is_chunk_refused = mishap in ("refuse", "refuse-echo", "421")
            self._answer("250 2.0.0 chunk", no, None, lambda: refused.add(number))

    def _judge(self, number: int) -> None:
        upstream = self.upstream
        self._answer(
            f"250 2.0.0 queued {number}",
            f"550 5.6.0 refused {number}",
            lambda: upstream.accepted.add(number),
            lambda: upstream.refused.add(number),
            mishap=upstream.after_message,
        )

    def _obey(self, verb: str) -> None:
        match verb:
            case "EHLO":
                self._answer(self.upstream.ehlo, "550 5.0.0 no")
            case "MAIL" | "RSET":
                self._is_chunk_refused = False
                self._answer("250 2.0.0 ok", f"451 4.3.0 no {verb}")
            case "DATA":
                self._takes_message = True
                self._answer("354 go", "451 4.3.0 not now")
            case "NOOP":
                self._then(_Saying(b"250 2.0.0 ok\r\n"))
            case "QUIT":
                self._then(_Saying(b"221 bye\r\n", is_end=True))
            case _:
                self._answer("250 2.0.0 ok", f"451 4.3.0 no {verb}")

    def _answer(
        self,
        text: str,
        refusal: str,
        means: Callable[[], None] | None = None,
        otherwise: Callable[[], None] | None = None,
        mishap: Mishap | None = None,
    ) -> None:
        """Say the text, or the refusal, as the script wants it; each has a meaning."""
        mishap = mishap or self.upstream.next()
        if self.upstream.is_chunking and mishap == "echo":
            mishap = "twice"  # without a 354 between, a late repetition is found out by nobody
        good, bad = f"{text}\r\n".encode(), f"{refusal}\r\n".encode()
        early = good + b"250 2.0.0 early\r\n"
        yes, no = _Saying(good, means), _Saying(bad, otherwise)
        stopping = _Saying(b"421 4.3.2 stopping\r\n", otherwise)
        sayings = {
            "refuse": [no],
            "refuse-echo": [no, *_PAUSE, _Saying(bad)],
            "421": [stopping, _END],
            "close": [_END],
            "close-with": [replace(yes, is_end=True)],
            "close-after": [yes, _END],
            "close-later": [yes, _Saying(), _END],
            "stall": [],
            "twice": [replace(yes, octets=good + good)],
            "echo": [yes, *_PAUSE, _Saying(good)],
            "early": [_Saying(early)] if self._takes_message else [yes],
            "pieces": [*(_Saying(bytes([one])) for one in good[:-1]), yes.last_octet],
            "late": [*_PAUSE, yes],
        }.get(mishap, [yes])
        self._takes_message &= no not in sayings
        self._is_mute = not sayings or sayings[-1].is_end
        for saying in sayings:
            self._then(saying)

    def _then(self, saying: _Saying) -> None:
        """Say that in a later turn of the loop, after all that is to be said before."""
        if not self._sayings:
            self._loop.call_soon(self._say)
        self._sayings.append(saying)

    def _say(self) -> None:
        saying = self._sayings.popleft()
        if self._sayings:
            self._loop.call_soon(self._say)
        if self.is_closed:
            return
        if saying.octets:
            self.protocol.data_received(saying.octets)
            if saying.means is not None:
                saying.means()
        if saying.is_end:
            self.close_soon()

    def close_soon(self) -> None:
        """Hang up, unless that was done."""
        if not self.is_closed:
            self.is_closed = True
            self.protocol.eof_received()
            self._loop.call_soon(self._lose)

    def _lose(self) -> None:
        self.is_closed = True
        if not self._is_lost:
            self._is_lost = True
            self.protocol.connection_lost(None)


class ScriptedUpstream:
    """The server: a script of mishaps, one a reply; after its end everything is fine.

    With ``after_message`` that befalls every reply to a message, whatever the script says.
    Connections beyond ``max_wires`` are greeted with 421, and refused while it ``is_away``.
    ``sent`` are the messages whose final dot left the relay; ``accepted`` and ``refused`` those
    whose verdict arrived there.
    """

    def __init__(
        self,
        script: Iterable[Mishap] = (),
        *,
        is_pipelining: bool = True,
        is_chunking: bool = False,
        after_message: Mishap | None = None,
        max_wires: int | None = None,
    ) -> None:
        self.is_away = False
        self.after_message = after_message
        self.max_wires = max_wires
        self.ehlo = "250-mx\r\n250 PIPELINING" if is_pipelining else "250 mx"
        self.is_chunking = is_chunking
        if is_chunking:
            self.ehlo = self.ehlo.replace(
                "250", "250-mx\r\n250-BINARYMIME\r\n250-CHUNKING\r\n250", 1
            )
        self.script = deque(script)
        self.wires: list[Wire] = []
        self.sent: list[int] = []
        self.accepted: set[int] = set()
        self.refused: set[int] = set()

    @property
    def open_wires(self) -> int:
        """Connections now."""
        return sum(not wire.is_closed for wire in self.wires)

    def close_all(self) -> None:
        """Hang up on every connection."""
        for wire in self.wires:
            wire.close_soon()

    def look(self) -> Mishap:
        """The next step."""
        return self.script[0] if self.script else "fine"

    def next(self) -> Mishap:
        """Take what comes next."""
        return self.script.popleft() if self.script else "fine"


def is_message_end(octets: bytes | bytearray | memoryview) -> bool:
    """True for a write that ends a message."""
    return octets[-5:] == b"\r\n.\r\n" or b" LAST\r\n" in bytes(octets[:30])


class ScriptedLoop(MovableLoop):
    """A loop whose connections all lead to its ``upstream``, or to those of ``by_port``."""

    upstream: ScriptedUpstream
    by_port: Mapping[int, ScriptedUpstream] = {}

    async def create_connection(  # type: ignore[override]
        self,
        factory: Callable[[], Connection],
        _host: str,
        port: int,
        **_: Any,  # noqa: ANN401
    ) -> tuple[Wire, Connection]:
        await asyncio.sleep(0)
        upstream = self.by_port.get(port) or self.upstream
        if upstream.is_away:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        wire = Wire(upstream, factory())
        upstream.wires.append(wire)
        wire.protocol.connection_made(wire)
        wire.greet()
        return wire, wire.protocol


def on_scripted_loop(
    upstream: ScriptedUpstream, scene: Callable[[ScriptedLoop], Coroutine[Any, Any, None]]
) -> None:
    """Run the scene."""
    with asyncio.Runner(loop_factory=ScriptedLoop) as runner:
        loop = cast("ScriptedLoop", runner.get_loop())
        loop.upstream = upstream
        runner.run(scene(loop))
