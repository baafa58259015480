"""``smtpgate trace``: the lines of a running gate, as people and programs read them."""

import json
from collections.abc import AsyncGenerator, Iterator

import pytest

from smtpgate.control import RefusedError, Routes, TraceRequest
from smtpgate.core.transcript import TraceTarget, TranscriptLine, TranscriptPart
from tests.support.answering import AnsweringGate
from tests.support.desk import Desk

LINES = (
    TranscriptLine("2026-11-29T10:02:11.402000Z", "0123456789ab", "client", "command", "NOOP"),
    TranscriptLine("2026-11-29T10:02:12.5Z", "", "client", "note", "worker 1: gone \x1b[31m"),
    TranscriptLine(
        "2026-11-29T10:02:13.402000Z", "0123456789ab", "upstream", "reply", "250 ok", "relay1"
    ),
)


class Asked:
    """The requests that came, and the refusal that they get."""

    def __init__(self) -> None:
        self.requests: list[TraceRequest] = []
        self.refusal = ""

    def add_to(self, routes: Routes) -> None:
        routes.add(TraceRequest, self._trace)

    async def _trace(self, request: TraceRequest) -> AsyncGenerator[object]:
        self.requests.append(request)
        if self.refusal:
            raise RefusedError(self.refusal)
        yield TranscriptPart(sessions=2)
        yield TranscriptPart(LINES[:2])
        yield TranscriptPart(LINES[2:], 5)


@pytest.fixture
def asked(desk: Desk) -> Iterator[Asked]:
    found = Asked()
    gate = AnsweringGate(desk, found.add_to)
    yield found
    gate.close()


def test_lines_are_printed_for_people_and_for_programs(desk: Desk, asked: Asked) -> None:
    result = desk.give("trace", "--account", "888888888888")
    assert result.stdout == (
        "10:02:11.402 0123456789ab client C: NOOP\n"
        "10:02:12.5Z - client -- worker 1: gone \\x1b[31m\n"
        "10:02:13.402 0123456789ab relay1 S: 250 ok\n"
        "-- 5 lines were dropped: they came too fast\n"
    )
    assert "2 open sessions in the trace" in result.stderr
    lines = desk.says("trace", "--session", "0123456789ab", "--json").splitlines()
    first, *_, last = map(json.loads, lines)
    assert first == {
        "at": "2026-11-29T10:02:11.402000Z",
        "session": "0123456789ab",
        "side": "client",
        "upstream": "",
        "kind": "command",
        "text": "NOOP",
    }
    assert last == {"dropped": 5}


def test_the_gate_is_asked_for_one_target(desk: Desk, asked: Asked) -> None:
    _ = desk.says("trace", "--address", "192.0.2.7/24", "--for", "2.5")
    _ = desk.says("trace", "--key", "AKIAIOSFODNN7EXAMPLE")
    assert asked.requests == [
        TraceRequest(TraceTarget(network="192.0.2.0/24"), 2.5),
        TraceRequest(TraceTarget(key="AKIAIOSFODNN7EXAMPLE")),
    ]
    asked.refusal = "8 traces run already; end one of them"
    assert desk.refuses("trace", "--account", "888888888888") == f"{asked.refusal} "


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--account", "888888888888", "--address", "192.0.2.7"),
        ("--account", "88"),
        ("--address", "192.0.2.256"),
        ("--session", "*"),
        ("--account", "888888888888", "--for", "0"),
    ],
)
def test_another_target_is_misuse(desk: Desk, words: tuple[str, ...]) -> None:
    assert desk.give("trace", *words).exit_code == 2
