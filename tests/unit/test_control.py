"""The control socket: who may ask, what is understood, how answers come, and their ends."""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from smtpgate.control import (
    ControlError,
    ControlRequest,
    ControlServer,
    FromWorker,
    OwnProcess,
    RefusedError,
    Routes,
    ask,
)
from smtpgate.control.routes import DEFECT
from smtpgate.gate.frames import AnswerEnd, AnswerValue, Ask, StopAnswer, ToWorker
from smtpgate.gate.questions import Answers, Questions
from tests.support.clock import move_loop, settle
from tests.support.rows import rows
from tests.support.waiting import until


class Count(ControlRequest, frozen=True):
    name: ClassVar[str] = "count"

    to: int


class Wait(ControlRequest, frozen=True):
    name: ClassVar[str] = "wait"


class Unknown(ControlRequest, frozen=True):
    name: ClassVar[str] = "unknown"


class Fail(ControlRequest, frozen=True):
    name: ClassVar[str] = "fail"

    is_refusal: bool


class Server:
    """A control socket whose handlers count, wait and fail."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.routes = Routes()
        self.errors: list[BaseException] = []
        self.waiting = self.left = 0
        self.routes.add(Count, self._count)
        self.routes.add(Wait, self._wait)
        self.routes.add(Fail, self._fail)
        self.control = ControlServer(path, self.routes, self.errors.append)
        self.control.start()

    async def _count(self, request: Count) -> AsyncGenerator[object]:
        for number in range(request.to):
            yield {"number": number}

    async def _wait(self, _request: Wait) -> AsyncGenerator[object]:
        self.waiting += 1
        try:
            yield "waiting"
            await asyncio.Event().wait()
        finally:
            self.left += 1

    async def _fail(self, request: Fail) -> AsyncGenerator[object]:
        yield 1
        raise RefusedError("not now") if request.is_refusal else OSError("secret/path")

    async def ask(self, request: ControlRequest) -> list[Any]:
        return await asyncio.to_thread(
            lambda: list(ask(self.path, request, object, timeout_s=10))
        )


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    found = Server(tmp_path / "control.sock")
    yield found
    await found.control.stop()
    assert not found.path.exists()


async def test_values_come_in_their_order_and_then_the_end(server: Server) -> None:
    assert await server.ask(Count(3)) == [{"number": 0}, {"number": 1}, {"number": 2}]
    assert await server.ask(Count(0)) == []


@rows(
    "request_,problem",
    [
        (Unknown(), "this gate does not know the request `unknown'"),
        (Count("many"), "count: Expected `int`, got `str` - at `$.to`"),  # type: ignore[arg-type]
        (Fail(is_refusal=True), "not now"),
        (Fail(is_refusal=False), DEFECT),
    ],
)
async def test_a_request_that_is_not_carried_out_says_why(
    tmp_path: Path, request_: ControlRequest, problem: str
) -> None:
    server = Server(tmp_path / "control.sock")
    with pytest.raises(ControlError) as refusal:
        await server.ask(request_)
    assert str(refusal.value) == problem
    assert len(server.errors) == (problem == DEFECT)
    await server.control.stop()


async def test_a_handler_ends_when_its_client_leaves(server: Server) -> None:
    with closing(await connected(server.path)) as client:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, frame(b'{"request":"wait"}'))
        assert b"waiting" in await loop.sock_recv(client, 4096)
    await until(lambda: server.left == server.waiting == 1)


async def test_a_handler_ends_when_the_gate_stops(tmp_path: Path) -> None:
    server = Server(tmp_path / "control.sock")
    asking = asyncio.ensure_future(server.ask(Wait()))
    await until(lambda: server.waiting == 1)
    stopping = asyncio.ensure_future(server.control.stop())
    await settle()
    await move_loop(2)
    await stopping
    with pytest.raises(ControlError, match="the gate ended before its answer did"):
        await asking
    assert server.left == 1


@rows(
    "octets",
    [
        b"GET / HTTP/1.1\r\n",
        struct.pack("!I", 2**31),
        struct.pack("!I", 2) + b"{}",
        struct.pack("!I", 3) + b"\xff\xff\xff",
        struct.pack("!I", 30) + b'{"request":"count","more":"x"}',
    ],
)
async def test_octets_that_are_no_request_end_the_connection(
    tmp_path: Path, octets: bytes
) -> None:
    server = Server(tmp_path / "control.sock")
    with closing(await connected(server.path)) as client:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, octets)
        with suppress(ConnectionResetError):  # it was closed before all of it was read
            assert await asyncio.wait_for(loop.sock_recv(client, 10), 10) == b""
    assert server.errors == []
    await server.control.stop()


async def test_only_the_user_of_the_gate_and_root_may_ask(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server.path.stat().st_mode & 0o777 == 0o600
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    if os.getuid() != 0:
        with pytest.raises(ControlError, match="only root and the gate's own user"):
            await server.ask(Count(1))
    monkeypatch.setattr("smtpgate.control.server._ROOT", 54321)
    with pytest.raises(ControlError, match="only root and the gate's own user"):
        await server.ask(Count(1))


async def test_a_gate_replaces_what_a_killed_one_has_left_and_leaves_a_newer_one(
    tmp_path: Path,
) -> None:
    path = tmp_path / "control.sock"
    older, newer = Server(path), Server(path)
    await older.control.stop()
    assert path.exists(), "it is the newer one's"
    assert await newer.ask(Count(1)) == [{"number": 0}]
    await newer.control.stop()


async def test_a_path_may_be_longer_than_an_address_of_a_socket(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    server = Server(folder / "control.sock")
    assert await server.ask(Count(1)) == [{"number": 0}]
    await server.control.stop()
    assert list(folder.iterdir()) == []


def test_without_a_gate_the_path_is_named(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with pytest.raises(ControlError) as refusal:
        list(ask(path, Wait(), object, timeout_s=1))
    assert str(refusal.value) == (
        f"no gate answers at {path} (no such file or directory); is it running, with this "
        f"configuration?"
    )


async def connected(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, str(path))
    return client


def frame(octets: bytes) -> bytes:
    return struct.pack("!I", len(octets)) + octets


# -- all workers -------------------------------------------------------------------------------


class PlayedWorker:
    """A worker's handlers, and the frames between it and its parent."""

    def __init__(self, number: int, questions: Questions, routes: Routes) -> None:
        self.number = number
        self.got: list[ToWorker] = []
        self.errors: list[BaseException] = []
        self.answers = Answers(routes, partial(questions.take, self), self.errors.append)

    def send(self, frame: ToWorker) -> None:
        self.got.append(frame)
        assert isinstance(frame, Ask | StopAnswer)
        self.answers.take(frame)


def routes_with(handler: Callable[[Wait], AsyncGenerator[object]]) -> Routes:
    routes = Routes()
    routes.add(Wait, handler)
    return routes


async def _number(number: int, _request: Wait) -> AsyncGenerator[object]:
    yield {"number": number}
    yield {"number": number + 1}


async def test_the_answers_of_all_workers_are_gathered() -> None:
    questions = Questions()
    workers = [
        PlayedWorker(one, questions, routes_with(partial(_number, one))) for one in range(3)
    ]
    for worker in workers:
        worker.answers.begin()
    found = [answer async for answer in questions.ask(workers, Wait())]
    wanted = [FromWorker(one, {"number": one + more}) for one in range(3) for more in (0, 1)]
    assert sorted(found, key=repr) == sorted(wanted, key=repr)
    assert [one async for one in questions.ask([], Wait())] == []
    own = OwnProcess(routes_with(partial(_number, 5)), lambda _: None)
    assert [one.value["number"] async for one in own.ask(Wait())] == [5, 6]


async def _refuse(_request: Wait) -> AsyncGenerator[object]:
    yield 1
    raise RefusedError("not now")


async def _break(_request: Wait) -> AsyncGenerator[object]:
    yield 1
    raise OSError("secret/path")


@rows("handler,problem", [(_refuse, "not now"), (_break, DEFECT)])
async def test_the_problem_of_a_worker_is_a_part_of_the_answer(
    handler: Callable[[Wait], AsyncGenerator[object]], problem: str
) -> None:
    questions, routes = Questions(), routes_with(handler)
    worker = PlayedWorker(2, questions, routes)
    worker.answers.begin()
    wanted = [FromWorker(2, 1), FromWorker(2, problem=problem)]
    assert [one async for one in questions.ask([worker], Wait())] == wanted
    errors: list[BaseException] = []
    own = OwnProcess(routes, errors.append)
    assert [one.problem async for one in own.ask(Wait())] == [None, problem]
    assert len(errors) == len(worker.errors) == (problem == DEFECT)


async def test_a_worker_that_starts_answers_when_it_serves_and_one_that_ends_is_reported() -> (
    None
):
    questions = Questions()
    late, dead = (
        PlayedWorker(one, questions, routes_with(partial(_number, 7))) for one in range(2)
    )
    answer = questions.ask([late, dead], Wait())
    first = asyncio.ensure_future(anext(answer))
    await settle()
    assert not first.done()
    questions.lose(dead)
    assert await first == FromWorker(1, problem="the worker has ended")
    late.answers.begin()
    assert [one.value async for one in answer] == [{"number": 7}, {"number": 8}]


class Endless:
    """An answer without an end; ``began`` and ``ended`` count how often."""

    def __init__(self) -> None:
        self.began = self.ended = 0

    async def answer(self, _request: Wait) -> AsyncGenerator[object]:
        """The answer."""
        self.began += 1
        try:
            yield "first"
            await asyncio.Event().wait()
        finally:
            self.ended += 1


async def test_workers_stop_when_nobody_waits_for_their_answers_any_more() -> None:
    questions, endless = Questions(), Endless()
    worker = PlayedWorker(0, questions, routes_with(endless.answer))
    worker.answers.begin()
    answer = questions.ask([worker], Wait())
    assert await anext(answer) == FromWorker(0, "first")
    await answer.aclose()
    assert worker.got[-1] == StopAnswer(1)
    await settle()
    assert (endless.began, endless.ended) == (1, 1)


async def test_a_request_that_is_stopped_before_it_began_leaves_nothing_behind() -> None:
    questions, endless = Questions(), Endless()
    worker = PlayedWorker(0, questions, routes_with(endless.answer))
    worker.answers.begin()
    worker.answers.take(Ask(1, Wait.name, b"{}"))
    worker.answers.take(StopAnswer(1))
    await settle()
    assert endless.began == endless.ended


async def test_what_nobody_reads_is_bounded_and_ends_the_answer() -> None:
    questions = Questions()
    worker = PlayedWorker(0, questions, Routes())
    answer = questions.ask([worker], Wait())
    first = asyncio.ensure_future(anext(answer))
    await settle()
    for number in range(5000):
        questions.take(worker, AnswerValue(1, number))
    questions.take(worker, AnswerEnd(1, None))
    found = [await first, *[one async for one in answer]]
    assert len(found) < 1010
    assert found[-1].problem == "the answer came faster than it was read"
    assert StopAnswer(1) in worker.got
    await worker.answers.close()
