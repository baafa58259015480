"""One call over a real socket: what it sends, what it takes, and where it does not go."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
import trustme

from smtpgate.core.outbox.task import Carried, GivenUp, Result, TryAgain
from smtpgate.core.secret import Secret
from smtpgate.webhooks.carrier import result_of
from smtpgate.webhooks.client import CallError, CallSettings, HttpAnswer, HttpCaller
from tests.support.rows import rows

NOW: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LOCAL: Final = CallSettings(allow_plaintext=True, allow_private=True, timeout_s=5)


@dataclass
class Receiver:
    """A server that answers each connection with the same octets."""

    answer: bytes = OK
    requests: list[bytes] = field(default_factory=list)
    port: int = 0
    hangs: bool = False
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        self.requests.append(head + await reader.readexactly(length))
        writer.write(self.answer)
        if not self.hangs:
            writer.close()


@asynccontextmanager
async def receiving(
    answer: bytes = OK, *, tls: ssl.SSLContext | None = None, hangs: bool = False
) -> AsyncIterator[Receiver]:
    receiver = Receiver(answer, hangs=hangs)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for writer in receiver.writers:
            writer.transport.abort()
        await asyncio.sleep(0)


class Lookup:
    """A resolver with an answer for each question, in their order."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0)


async def call(
    receiver: Receiver, settings: CallSettings = LOCAL, *, path: str = "/hook?a=b"
) -> HttpAnswer:
    url = f"http://127.0.0.1:{receiver.port}{path}"
    return await HttpCaller(settings).post(url, [("X-One", "1")], b"body", Secret("me:pä"))


async def test_a_call_sends_the_body_with_its_header() -> None:
    async with receiving() as receiver:
        answer = await call(receiver)
    assert answer == HttpAnswer(200, None, "ok")
    (request,) = receiver.requests
    lines = request.decode().split("\r\n")
    assert lines[0] == "POST /hook?a=b HTTP/1.1"
    assert {line.lower() for line in lines[1:-2]} == {
        f"host: 127.0.0.1:{receiver.port}",
        "content-length: 4",
        "connection: close",
        "x-one: 1",
        "authorization: basic bwu6cmok",
    }
    assert lines[-1] == "body"


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    async with receiving() as other:
        location = f"http://127.0.0.1:{other.port}/".encode()
        answer = b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % location
        async with receiving(answer) as receiver:
            assert (await call(receiver)).status == 302
        assert other.requests == []


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    # The second answer is another one: who asked twice would go there.
    lookup = Lookup(["127.0.0.1"], ["10.0.0.1"])
    async with receiving() as receiver:
        caller = HttpCaller(LOCAL, lookup=lookup)
        url = f"http://hooks.example.com:{receiver.port}/"
        assert (await caller.post(url, (), b"")).status == 200
    assert lookup.asked == ["hooks.example.com"]
    assert b"hooks.example.com" in receiver.requests[0]


async def test_addresses_that_are_not_public_are_not_called() -> None:
    async with receiving() as receiver:
        caller = HttpCaller(CallSettings(allow_plaintext=True), lookup=Lookup(["127.0.0.1"]))
        with pytest.raises(CallError, match=r"hooks\.example\.com has no public"):
            await caller.post(f"http://hooks.example.com:{receiver.port}/", (), b"")
        caller = HttpCaller(CallSettings(allow_plaintext=True))
        for host in ("127.0.0.1", "localhost", "2130706433", "0x7f000001", "127.1"):
            with pytest.raises(CallError):
                await caller.post(f"http://{host}:{receiver.port}/", (), b"")
    assert receiver.requests == []


async def test_plaintext_is_refused_unless_it_is_allowed() -> None:
    caller = HttpCaller(CallSettings(allow_private=True))
    with pytest.raises(CallError, match="allow_plaintext"):
        await caller.post("http://127.0.0.1:1/", (), b"")


async def test_tls_is_verified(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("hooks.example.com").configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    trusting = CallSettings(allow_private=True, ca_file=ca_file, timeout_s=5)
    async with receiving(tls=context) as receiver:
        url = f"https://hooks.example.com:{receiver.port}/"
        caller = HttpCaller(trusting, lookup=Lookup(["127.0.0.1"]))
        assert (await caller.post(url, (), b"x")).status == 200
        caller = HttpCaller(CallSettings(allow_private=True), lookup=Lookup(["127.0.0.1"]))
        with pytest.raises(CallError, match="certificate is refused"):
            await caller.post(url, (), b"x")
        caller = HttpCaller(trusting, lookup=Lookup(["127.0.0.1"]))
        with pytest.raises(CallError, match="certificate is refused"):
            await caller.post(url.replace("hooks", "other"), (), b"x")


_BROKEN: Final = {
    b"": "without an answer",
    b"HTTP/1.1 200 OK\r\n": "without an answer",
    b"220 mail.example.com ESMTP\r\n\r\n": "no HTTP",
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * 20_000: "no HTTP",
}


@pytest.mark.parametrize("answer", _BROKEN, ids=lambda one: repr(one[:20]))
async def test_a_broken_answer_is_an_error(answer: bytes) -> None:
    async with receiving(answer) as receiver:
        with pytest.raises(CallError, match=_BROKEN[answer]):
            await call(receiver)


async def test_an_endless_answer_is_cut() -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x\r\n" * 100_000
    async with receiving(endless, hangs=True) as receiver:
        answer = await call(receiver)
    assert (answer.status, len(answer.text)) == (200, 199)
    assert "\n" not in answer.text


async def test_a_receiver_that_does_not_answer_is_left() -> None:
    async with receiving(b"", hangs=True) as receiver:
        with pytest.raises(CallError, match=r"no answer within 0.05 s"):
            await call(
                receiver,
                CallSettings(allow_plaintext=True, allow_private=True, timeout_s=0.05),
            )


async def test_a_closed_port_is_an_error_and_the_next_address_is_tried() -> None:
    async with receiving() as receiver:
        caller = HttpCaller(LOCAL, lookup=Lookup(["127.0.0.2", "127.0.0.1"]))
        url = f"http://hooks.example.com:{receiver.port}/"
        assert (await caller.post(url, (), b"")).status == 200
        caller = HttpCaller(LOCAL, lookup=Lookup(["127.0.0.2"]))
        with pytest.raises(CallError, match=r"refused|connect"):
            await caller.post(url, (), b"")


_RESULTS: Final[list[tuple[HttpAnswer, Result]]] = [
    (HttpAnswer(200, None, "ok"), Carried("200 ok")),
    (HttpAnswer(204, None, ""), Carried("204")),
    (HttpAnswer(302, None, ""), TryAgain("302")),
    (HttpAnswer(401, None, "who"), TryAgain("401 who")),
    (HttpAnswer(404, None, ""), TryAgain("404")),
    (HttpAnswer(410, None, "gone"), GivenUp("410 gone")),
    (HttpAnswer(413, None, ""), GivenUp("413")),
    (HttpAnswer(429, "30", ""), TryAgain("429", 30.0)),
    (HttpAnswer(503, "Fri, 02 Jan 2026 03:05:05 GMT", ""), TryAgain("503", 60.0)),
    (HttpAnswer(503, "Fri, 02 Jan 2026 03:05:05 -0000", ""), TryAgain("503", 60.0)),
    (HttpAnswer(503, "Fri, 02 Jan 2020 03:05:05 GMT", ""), TryAgain("503", 0.0)),
    (HttpAnswer(503, "99999999999999", ""), TryAgain("503", 86_400.0)),
    (HttpAnswer(503, "soon", ""), TryAgain("503")),
    (HttpAnswer(503, "-1", ""), TryAgain("503")),
    (HttpAnswer(500, None, ""), TryAgain("500")),
]


@rows("answer, result", _RESULTS, ids=repr)
def test_an_answer_means_done_or_later_or_never(answer: HttpAnswer, result: Result) -> None:
    assert result_of(answer, NOW) == result
