"""``smtpgate top``: the load of a gate for people and for programs."""

import json
from collections.abc import AsyncGenerator, Iterator

import pytest
from rich.console import Console

from smtpgate.control import (
    GateLoad,
    Routes,
    SenderRate,
    SessionCount,
    TopRequest,
    UpstreamLoad,
)
from tests.support.answering import AnsweringGate
from tests.support.desk import Desk

_NAME = "an-upstream-with-a-name-that-is-longer-than-a-narrow-terminal-is-wide.example.com"
LOAD = GateLoad(
    at="2026-11-29T10:02:11+00:00",
    interval_s=2.0,
    workers=2,
    loop_delay_s=0.0123,
    paced=3,
    journal_owed=4,
    outbox=5,
    sessions=(SessionCount("submission", "888888888888", "idle", 7),),
    senders=(SenderRate("888888888888", "refused", "quota", 5),),
    upstreams=(UpstreamLoad(_NAME, 1, 2, 20, 6, "half-open", True),),
    quotas=(("888888888888", 0.955),),
    problems=("worker 1: the worker has ended",),
)


async def _answer(_request: TopRequest) -> AsyncGenerator[object]:
    while True:
        yield LOAD


def _add_to(routes: Routes) -> None:
    routes.add(TopRequest, _answer)


@pytest.fixture
def gate(desk: Desk) -> Iterator[AnsweringGate]:
    found = AnsweringGate(desk, _add_to)
    yield found
    found.close()


def test_one_look_has_all_of_it_and_cuts_no_name(desk: Desk, gate: AnsweringGate) -> None:
    lines = [line.split() for line in desk.says("top", "--once").splitlines()]
    assert lines[0][0] == "2026-11-29T10:02:11+00:00"
    assert "12.3" in lines[0]
    for row in (
        "worker 1: the worker has ended",
        f"{_NAME} 1 2 20 6 half-open yes",
        "888888888888 refused quota 5 2.5",
        "submission 888888888888 idle 7",
        "888888888888 96%",
    ):
        assert row.split() in lines


def test_programs_get_an_object(desk: Desk, gate: AnsweringGate) -> None:
    load = json.loads(desk.says("top", "--once", "--json"))
    assert load["workers"] == 2
    assert load["senders"] == [
        {"account": "888888888888", "outcome": "refused", "reason": "quota", "messages": 5}
    ]
    assert load["upstreams"][0]["breaker"] == "half-open"
    assert load["quotas"] == [["888888888888", 0.955]]


def test_an_interval_that_is_too_short_is_misuse(desk: Desk) -> None:
    assert desk.give("top", "--interval", "0").exit_code == 2


def test_on_a_narrow_terminal_columns_go_before_a_name_is_cut(
    desk: Desk, gate: AnsweringGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smtpgate.cli.top.console", lambda: Console(width=32))
    lines = [line.split() for line in desk.says("top", "--once").splitlines()]
    for row in (
        "upstream waiting",
        "account messages",
        "888888888888 5",
        "account sessions",
        "888888888888 7",
    ):
        assert row.split() in lines
    start = lines.index(["upstream", "waiting"]) + 1
    pieces = [line[0] for line in lines[start : lines.index(["account", "messages"])]]
    assert "".join(pieces) == _NAME
