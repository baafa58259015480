"""``POST /feedback``: its credential, its bounds, and its answers."""

import asyncio
import http.client
import json
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from smtpgate.core.events import Event, PostRefused
from smtpgate.core.feedback.record import RecordError
from smtpgate.http import FeedbackPage, HttpServer
from smtpgate.ports import JournalUnavailableError
from smtpgate.posted import PostAnswer
from tests.support.clock import MovableClock
from tests.support.daemons import LOOPBACK
from tests.support.rows import rows
from tests.unit.test_http import listening

SECRET: Final = "current-credential-0123456789"
OLD: Final = "replaced-credential-0123456789"
ACCEPTED: Final = PostAnswer(1, 0, 0, ())
BEARER: Final = {"Authorization": f"Bearer {SECRET}"}


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


@dataclass
class Records:
    """Takes posts, and answers as a test says."""

    answer: PostAnswer | Exception = ACCEPTED
    taken: list[bytes] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    events: list[Event] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    async def take(self, octets: bytes) -> PostAnswer:
        self.taken.append(octets)
        await self.may_answer.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def publish(self, event: Event) -> None:
        self.events.append(event)

    @property
    def reasons(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, PostRefused)]


@dataclass
class Answer:
    status: int
    fields: Mapping[str, str]
    said: Any


@asynccontextmanager
async def serving(records: Records, *, waits: bool = False) -> AsyncIterator[HttpServer]:
    if not waits:
        records.may_answer.set()
    page = FeedbackPage(
        records,
        (SECRET.encode(), OLD.encode()),
        max_octets=100,
        max_posts=2,
        clock=MovableClock(),
        events=records,
        on_error=records.errors.append,
    )
    server = HttpServer(listening(), metrics=bytes, is_ready=lambda: (True, {}), feedback=page)
    await server.start()
    try:
        yield server
    finally:
        records.may_answer.set()
        await server.stop()


def ask(
    port: int, body: bytes | list[bytes], fields: Mapping[str, str], method: str = "POST"
) -> Answer:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=10)
    try:
        connection.request(method, "/feedback", body=body, headers=dict(fields))
        response = connection.getresponse()
        text = response.read()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, json.loads(text) if text[:1] == b"{" else text)
    finally:
        connection.close()


async def post(
    server: HttpServer, body: bytes | list[bytes] = b"{}", fields: Mapping[str, str] = BEARER
) -> Answer:
    return await asyncio.to_thread(ask, server.port, body, fields)


@rows(
    "field,status",
    [
        (f"Bearer {SECRET}", 200),
        (f"bearer  {SECRET}", 200),
        (f"Bearer {OLD}", 200),
        (basic("feedback", SECRET), 200),
        (basic("feedback", OLD), 200),
        (basic("other", SECRET), 401),
        (basic("feedback", SECRET + "x"), 401),
        (basic("feedback", ""), 401),
        ("Basic !", 401),
        ("Basic \xe9", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        (f"Bearer {SECRET[:-1]}", 401),
        (f"Bearer {SECRET}, Bearer {SECRET}", 401),
        (SECRET, 401),
        ("", 401),
    ],
    ids=str,
)
async def test_a_post_needs_a_credential(field: str, status: int) -> None:
    records = Records()
    async with serving(records) as server:
        answer = await post(server, fields={"Authorization": field} if field else {})
    assert answer.status == status
    assert len(records.taken) == (status == 200)
    if status == 401:
        assert answer.fields["www-authenticate"].startswith("Bearer ")
        assert records.reasons == ["no-credential"]
        assert SECRET not in repr(records.events)


async def test_an_answer_counts_the_records_and_names_those_that_are_unread() -> None:
    records = Records(PostAnswer(3, 2, 1, ((4, "is not JSON"),)))
    async with serving(records) as server:
        answer = await post(server)
    assert answer.status == 200
    assert answer.fields["connection"] == "close"
    assert answer.said == {
        "accepted": 3,
        "ignored": 2,
        "unknown": 1,
        "unread": 1,
        "problems": [{"line": 4, "problem": "is not JSON"}],
    }


async def test_a_post_with_nothing_that_is_read_has_the_status_400() -> None:
    records = Records(PostAnswer(0, 0, 0, tuple((line, "is not JSON") for line in range(150))))
    async with serving(records) as server:
        answer = await post(server)
        records.answer = PostAnswer(0, 0, 0, ())
        empty = await post(server, b"")
    assert (answer.status, answer.said["unread"], len(answer.said["problems"])) == (
        400,
        150,
        100,
    )
    assert empty.status == 200


@rows(
    "error,status,reason",
    [
        (RecordError("is not JSON"), 400, "unread"),
        (JournalUnavailableError("/var/lib: disk full"), 503, "unavailable"),
    ],
    ids=str,
)
async def test_a_post_that_cannot_be_taken_has_an_answer_without_inner_details(
    error: Exception, status: int, reason: str
) -> None:
    records = Records(error)
    async with serving(records) as server:
        answer = await post(server)
    assert (answer.status, records.reasons) == (status, [reason])
    assert "disk" not in str(answer.said)
    assert answer.fields.get("retry-after") == ("30" if status == 503 else None)


async def test_the_octets_of_a_post_are_bounded_declared_or_not() -> None:
    records = Records()
    async with serving(records) as server:
        fits = await post(server, b"x" * 100)
        declared = await post(server, b"x" * 101)
        chunked = await post(server, [b"x" * 60, b"x" * 60])
        encoded = await post(server, b"x", BEARER | {"Content-Encoding": "gzip"})
    assert [one.status for one in (fits, declared, chunked, encoded)] == [200, 413, 413, 415]
    assert records.taken == [b"x" * 100]
    assert records.reasons == ["too-large", "too-large", "encoded"]


async def test_posts_at_once_are_bounded() -> None:
    records = Records()
    async with serving(records, waits=True) as server:
        first = [asyncio.ensure_future(post(server)) for _ in range(2)]
        async with asyncio.timeout(10):
            while len(records.taken) < 2:
                await asyncio.wait(first, timeout=0.01)
        third = await post(server)
        records.may_answer.set()
        assert [one.status for one in await asyncio.gather(*first)] == [200, 200]
        assert (await post(server)).status == 200
    assert (third.status, third.fields["retry-after"]) == (503, "1")


async def test_a_body_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtpgate.http.feedback._TIMEOUT_S", 0.05)
    records = Records()
    async with serving(records) as server:
        reader, writer = await asyncio.open_connection(LOOPBACK, server.port)
        head = f"POST /feedback HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n"
        writer.write(head.encode() + b"Content-Length: 50\r\n\r\n{")
        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408")
        writer.close()
    assert records.reasons == ["too-slow"]
    assert records.taken == []


async def test_a_client_that_leaves_within_its_body_is_no_error() -> None:
    records = Records()
    async with serving(records) as server:
        _, writer = await asyncio.open_connection(LOOPBACK, server.port)
        head = f"POST /feedback HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n"
        writer.write(head.encode() + b"Content-Length: 50\r\n\r\n{")
        await writer.drain()
        writer.close()
        assert (await post(server)).status == 200
    assert (len(records.taken), records.errors) == (1, [])


async def test_the_page_is_there_for_posts_alone_and_with_a_credential_alone() -> None:
    async with serving(Records()) as server:
        got = await asyncio.to_thread(ask, server.port, b"", BEARER, "GET")
    assert got.status == 405
    plain = HttpServer(listening(), metrics=bytes, is_ready=lambda: (True, {}))
    await plain.start()
    assert (await post(plain)).status == 404
    await plain.stop()
