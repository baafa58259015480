import asyncio
import http.client
import logging
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import uvloop

from smtpgate.http import HttpServer, Readiness
from smtpgate.http.readiness import passes_in_all, passes_in_one
from tests.support.daemons import LOOPBACK, free_port


@dataclass
class Answer:
    status: int
    fields: Mapping[str, str]
    body: bytes


class Gate:
    """The gate, as the server sees it."""

    def __init__(self) -> None:
        self.ready = True
        self.rendered_in: list[threading.Thread] = []

    def is_ready(self) -> tuple[bool, Mapping[str, str]]:
        return self.ready, {"listeners": "open" if self.ready else "draining"}

    def metrics(self) -> bytes:
        self.rendered_in.append(threading.current_thread())
        return b"smtpgate_sessions 1\n"


def listening(address: str = LOOPBACK, port: int = 0) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family)


@asynccontextmanager
async def serving(gate: Gate, address: str = LOOPBACK) -> AsyncIterator[HttpServer]:
    server = HttpServer(listening(address), metrics=gate.metrics, is_ready=gate.is_ready)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def ask(port: int, path: str, *, method: str = "GET", address: str = LOOPBACK) -> Answer:
    connection = http.client.HTTPConnection(address, port, timeout=10)
    try:
        connection.request(method, path, headers={"Connection": "close"})
        response = connection.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, fields, response.read())
    finally:
        connection.close()


async def get(server: HttpServer, path: str, *, method: str = "GET") -> Answer:
    return await asyncio.to_thread(ask, server.port, path, method=method)


async def test_metrics_are_reported_in_prometheus_format_and_made_in_a_thread() -> None:
    gate = Gate()
    async with serving(gate) as server:
        answer = await get(server, "/metrics")
    assert answer.status == 200
    assert answer.body == b"smtpgate_sessions 1\n"
    assert answer.fields["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert threading.current_thread() not in gate.rendered_in


async def test_a_gate_that_drains_is_healthy_and_not_ready() -> None:
    gate = Gate()
    async with serving(gate) as server:
        ready = await get(server, "/readyz")
        gate.ready = False
        draining = await get(server, "/readyz")
        health = await get(server, "/healthz")
    assert (ready.status, ready.body) == (200, b'{"ready":true,"checks":{"listeners":"open"}}')
    assert draining.status == 503
    assert draining.body == b'{"ready":false,"checks":{"listeners":"draining"}}'
    assert health.status == 200


async def test_one_failed_check_makes_the_gate_not_ready_and_each_is_reported() -> None:
    errors: list[BaseException] = []
    readiness = Readiness(errors.append)
    readiness.add("listeners", lambda: (True, "open"))
    server = HttpServer(listening(), metrics=Gate().metrics, is_ready=readiness.is_ready)
    await server.start()
    ready = await get(server, "/readyz")
    readiness.add("directory", lambda: (False, "no connection for 7 s"))
    failing = await get(server, "/readyz")
    health = await get(server, "/healthz")
    readiness.add("directory", lambda: (True, "connected"))
    again = await get(server, "/readyz")
    await server.stop()
    assert (ready.status, failing.status, health.status, again.status) == (200, 503, 200, 200)
    assert failing.body == (
        b'{"ready":false,"checks":{"listeners":"open","directory":"no connection for 7 s"}}'
    )
    assert again.body == (
        b'{"ready":true,"checks":{"listeners":"open","directory":"connected"}}'
    )
    assert not errors


async def test_a_check_that_raises_does_not_hold_and_its_words_are_for_the_log() -> None:
    def fail() -> tuple[bool, str]:
        raise LookupError("the inner words")

    errors: list[BaseException] = []
    readiness = Readiness(errors.append)
    readiness.add("ledger", fail)
    assert readiness.is_ready() == (False, {"ledger": "not known"})
    assert [str(error) for error in errors] == ["the inner words"]


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/metrics/", "/readyz/x"])
async def test_nothing_else_is_served(path: str) -> None:
    async with serving(Gate()) as server:
        assert (await get(server, path)).status == 404


async def test_pages_are_only_read_and_the_server_does_not_say_what_it_is() -> None:
    async with serving(Gate()) as server:
        answer = await get(server, "/metrics", method="POST")
        assert answer.status == 405
        assert "server" not in answer.fields
        assert (await get(server, "/healthz", method="HEAD")).body == b""


async def test_an_error_in_a_page_keeps_its_words_to_itself() -> None:
    def fail() -> bytes:
        raise LookupError("the inner words")

    server = HttpServer(listening(), metrics=fail, is_ready=Gate().is_ready)
    await server.start()
    answer = await get(server, "/metrics")
    await server.stop()
    assert answer.status == 500
    assert b"inner words" not in answer.body


async def test_an_ipv6_address_can_be_listened_on() -> None:
    async with serving(Gate(), "::1") as server:
        answer = await asyncio.to_thread(ask, server.port, "/healthz", address="::1")
    assert answer.status == 200


async def test_the_port_is_free_again_after_a_stop_and_a_second_stop_does_nothing() -> None:
    gate, port = Gate(), free_port()
    for _ in range(2):
        server = HttpServer(
            listening(LOOPBACK, port), metrics=gate.metrics, is_ready=gate.is_ready
        )
        await server.start()
        assert (await get(server, "/healthz")).status == 200
        await server.stop()
        await server.stop()


async def test_a_connection_that_is_kept_open_does_not_hold_up_the_stop() -> None:
    async with serving(Gate()) as server:
        kept = socket.create_connection((LOOPBACK, server.port), timeout=10)
        kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: gate.example\r\n\r\n")
        assert await asyncio.to_thread(kept.recv, 12) == b"HTTP/1.1 200"
    with kept:
        while await asyncio.to_thread(kept.recv, 65536):
            pass


async def test_an_answer_that_is_being_made_is_finished_before_the_stop() -> None:
    gate, may_go_on, began = Gate(), threading.Event(), threading.Event()

    def slow() -> bytes:
        began.set()
        may_go_on.wait(10)
        return b"late\n"

    server = HttpServer(listening(), metrics=slow, is_ready=gate.is_ready)
    await server.start()
    asking = asyncio.ensure_future(get(server, "/metrics"))
    await asyncio.to_thread(began.wait, 10)
    stopping = asyncio.ensure_future(server.stop())
    may_go_on.set()
    assert (await asking).body == b"late\n"
    await stopping


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_signals_and_logging_stay_the_gates_on_either_loop(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def serve_once() -> None:
        async with serving(Gate()) as server:
            assert (await get(server, "/healthz")).status == 200
            assert signal.getsignal(signal.SIGTERM) is handlers[0]
            assert signal.getsignal(signal.SIGINT) is not None
        assert logging.getLogger("uvicorn").handlers == []
        assert logging.getLogger("uvicorn.access").handlers == []

    handlers = [signal.getsignal(signal.SIGTERM)]
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve_once())
    assert signal.getsignal(signal.SIGTERM) is handlers[0]


@asynccontextmanager
async def unfinished_requests(
    server: HttpServer, count: int
) -> AsyncIterator[list[asyncio.StreamReader]]:
    """So many connections whose request does not end."""
    pairs = [await asyncio.open_connection(LOOPBACK, server.port) for _ in range(count)]
    for _, writer in pairs:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
    yield [reader for reader, _ in pairs]
    for _, writer in pairs:
        writer.close()


async def test_clients_that_never_end_their_request_keep_nobody_out_nor_many_files_open() -> (
    None
):
    async with serving(Gate()) as server, unfinished_requests(server, 150) as readers:
        assert (await get(server, "/readyz")).status == 200
        async with asyncio.timeout(10):
            for reader in readers[:50]:
                assert await reader.read() == b""
        assert not any(reader.at_eof() for reader in readers[51:])


async def test_a_connection_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtpgate.http.server._IDLE_S", 0.05)
    async with serving(Gate()) as server, unfinished_requests(server, 1) as readers:
        async with asyncio.timeout(10):
            assert await readers[0].read() == b""


@pytest.mark.parametrize(
    ("states", "in_all", "in_one"),
    [
        ([], (False, "not known"), (False, "not known")),
        ([(True, "up")] * 2, (True, "up"), (True, "up")),
        (
            [(True, "up"), (False, "down: a")],
            (False, "down: a"),
            (True, "down: a (in 1 of 2 workers)"),
        ),
        (
            [(True, "up"), (True, "down: a")],
            (True, "up"),
            (True, "down: a (in 1 of 2 workers)"),
        ),
        ([(False, "down: a"), (False, "down: b")], (False, "down: a"), (False, "down: a")),
    ],
)
def test_the_checks_of_several_processes_become_one(
    states: list[tuple[bool, str]], in_all: tuple[bool, str], in_one: tuple[bool, str]
) -> None:
    assert passes_in_all(states) == in_all
    assert passes_in_one(states, "up") == in_one
