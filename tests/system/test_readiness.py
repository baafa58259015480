"""``/readyz`` of a running gate: open, draining, or the check that fails."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from smtpgate.gate.gate import Gate
from tests.support.inprocess import open_gate

OTHERS: Final = ("directory", "ledger", "journal", "log")


def _ask(port: int) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)


async def readiness(gate: Gate) -> tuple[int, dict[str, Any]]:
    assert gate.http is not None
    return await asyncio.to_thread(_ask, gate.http.port)


async def test_each_check_is_reported_and_one_that_fails_makes_the_gate_not_ready(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path) as (gate, _):
        checks = dict.fromkeys(("listeners", *OTHERS), "open") | {"upstream.sink": "up"}
        assert await readiness(gate) == (200, {"ready": True, "checks": checks})
        gate.readiness.add("directory", lambda: (False, "no connection"))
        checks["directory"] = "no connection"
        assert await readiness(gate) == (503, {"ready": False, "checks": checks})


async def test_a_gate_that_drains_says_so(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        gate.service.is_draining = True
        status, body = await readiness(gate)
        assert (status, body["checks"]) == (
            503,
            {"listeners": "draining", **dict.fromkeys(OTHERS, "open"), "upstream.sink": "up"},
        )
        gate.service.is_draining = False


async def test_a_part_that_cannot_be_stopped_is_reported_and_the_others_are_stopped(
    tmp_path: Path,
) -> None:
    def failing(stop: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def stop_and_fail() -> None:
            await stop()
            raise LookupError("it does not end well")

        return stop_and_fail

    async with open_gate(tmp_path) as (gate, _):
        for part, stop in ((gate.upstream, "close"), (gate.ledger, "close")):
            setattr(part, stop, failing(getattr(part, stop)))
        await gate.stop(drain_s=0, finish_s=0)
        with pytest.raises(urllib.error.URLError):
            await readiness(gate)
    output = [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()]
    assert output[-3:] == ["unexpected-error", "unexpected-error", "stopped"]


@pytest.mark.parametrize(("policy", "wanted"), [("refuse", 503), ("allow", 200)])
async def test_a_ledger_that_cannot_count_is_reported_until_it_can(
    tmp_path: Path, policy: str, wanted: int
) -> None:
    in_the_way = tmp_path / "counts"
    in_the_way.mkdir()
    sections = f'[ledger]\npath = "counts"\n[limits]\non_store_failure = "{policy}"'
    async with open_gate(tmp_path, sections=sections) as (gate, _):
        status, body = await readiness(gate)
        assert status == wanted
        assert str(in_the_way) in body["checks"]["ledger"]
        in_the_way.rmdir()
        await gate.ledger_watch.look()
        status, body = await readiness(gate)
        assert (status, body["checks"]["ledger"]) == (200, "open")
