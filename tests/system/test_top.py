"""`smtpgate top' of a real gate: sessions, messages by account and reason, upstreams."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Final, cast

import msgspec
import pytest

from smtpgate.control import GateLoad, RefusedError, SessionCount, TopRequest
from smtpgate.gate.gate import Gate
from tests.support.dialog import Dialog
from tests.support.inprocess import login, open_gate, send
from tests.support.upstream_server import HOLD, open_upstream
from tests.support.waiting import until
from tests.support.world import DELEGATE

pytestmark = pytest.mark.slow

_QUOTA: Final = 'name = "Delegate sender"\nmax_24h_send = 1000\n'


def loads(gate: Gate, interval_s: float = 0.2) -> AsyncGenerator[GateLoad]:
    request = TopRequest(interval_s)
    answer = gate.host.routes.answer(request.name, msgspec.json.encode(request))
    return cast("AsyncGenerator[GateLoad]", answer)


async def test_sessions_messages_and_upstreams_are_shown(tmp_path: Path) -> None:
    async with (
        open_gate(tmp_path, replace=(_QUOTA, _QUOTA.replace("1000", "3", 1))) as (gate, _),
        aclosing(loads(gate)) as answers,
    ):
        stranger = await Dialog.open(gate.listeners["starttls"].port)
        await stranger.reply()
        owner = await login(gate, "AKIAOWNERROOT0000000")
        dialog, other = await login(gate), await login(gate)
        await other.say("MAIL FROM:<marketing@ses-example.com>")
        # Before the command, so not in its counts.
        assert (await send(dialog)).startswith("250")
        assert (await anext(answers)).senders == ()
        for _ in range(2):
            assert (await send(dialog)).startswith("250")
        assert (await send(owner, "From: x@y.example\r\n\r\n.\r\n")).startswith("5")
        load = await anext(answers)
    assert set(load.sessions) == {
        SessionCount("starttls", "", "no login", 1),
        SessionCount("plain", DELEGATE, "idle", 1),
        SessionCount("plain", DELEGATE, "transaction", 1),
        SessionCount("plain", owner_of(load), "idle", 1),
    }
    accepted = [one for one in load.senders if one.outcome == "accepted"]
    assert {(one.account, one.reason) for one in accepted} == {(DELEGATE, "accepted")}
    assert sum(one.messages for one in accepted) == 2
    assert sum(one.messages for one in load.senders if one.outcome == "refused") == 1
    (upstream,) = load.upstreams
    assert (upstream.name, upstream.busy, upstream.idle) == ("sink", 0, 1)
    assert (upstream.waiting, upstream.breaker, upstream.limit) == (0, "closed", 20)
    assert load.workers == 1
    assert load.interval_s >= 0.2
    assert load.quotas == ((DELEGATE, 1.0),)
    assert gate.metrics.tallies == []


def owner_of(load: GateLoad) -> str:
    """The account that is neither unknown nor the delegate."""
    (found,) = {one.account for one in load.sessions} - {"", DELEGATE}
    return found


async def test_messages_that_wait_for_an_upstream_are_shown(tmp_path: Path) -> None:
    async with open_upstream() as upstream:
        upstream.answers["MAIL"] = HOLD
        one = "max_connections = 1"
        async with open_gate(tmp_path, port=upstream.port, upstream=one) as (gate, _):
            sending = [asyncio.create_task(send(await login(gate))) for _ in range(2)]
            pool = gate.upstream.pools["sink"]
            await until(lambda: pool.waiting == 1)
            async with aclosing(loads(gate)) as answers:
                load = await anext(answers)
            upstream.release()
            replies = await asyncio.gather(*sending)
    assert all(one.startswith("250") for one in replies)
    assert load.sessions == (SessionCount("plain", DELEGATE, "verdict", 2),)
    assert [(one.busy, one.waiting) for one in load.upstreams] == [(1, 1)]


async def test_an_interval_has_bounds_and_few_may_watch(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        with pytest.raises(RefusedError, match=r"an interval has 0.2 to 3600 seconds"):
            await anext(loads(gate, 0.01))
        watching = [asyncio.create_task(anext(loads(gate, 60))) for _ in range(8)]
        await until(lambda: len(gate.metrics.tallies) == 8)
        with pytest.raises(RefusedError, match="8 commands watch the gate already"):
            await anext(loads(gate, 60))
        for one in watching:
            _ = one.cancel()
        await asyncio.wait(watching)
        assert gate.metrics.tallies == []
