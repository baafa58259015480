"""Several upstreams, each of whose replies can go wrong: a message is one upstream's at most.

Each server says which final dots left for it and which of its verdicts arrived.
"""

import asyncio
from collections.abc import Sequence
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpgate.core.upstream import Answered, Delivery, InDoubt, NotSent
from smtpgate.ports import DeliveryAttempt
from smtpgate.relay import RoutedUpstream
from smtpgate.tasks import TaskOwner
from tests.support.routed import new_routed
from tests.support.rows import rows
from tests.support.scripted_upstream import (
    MISHAPS,
    Mishap,
    ScriptedLoop,
    ScriptedUpstream,
    on_scripted_loop,
)
from tests.support.upstream_server import TO_BOB, TO_BOTH, UpstreamServer

_MAX_TURNS = 6000
_TURNS_A_PAUSE, _PAUSE_S = 25, 2.0
_FIRST_PORT = 1025

Script = tuple[Sequence[Mishap], bool]  # the replies that go wrong, and whether it is away


def judge(servers: Sequence[ScriptedUpstream], number: int, delivery: Delivery) -> None:
    """Compare the end of a message with what the servers know."""
    departures = [server.sent.count(number) for server in servers]
    accepted = [number in server.accepted for server in servers]
    refused = [number in server.refused for server in servers]
    assert sum(departures) <= 1, "a message was sent again after its final dot"
    assert sum(accepted) <= 1, "two upstreams accepted it"
    match delivery:
        case Answered():
            assert delivery.is_accepted == any(accepted)
            if any(accepted):
                assert delivery.upstream == f"up{accepted.index(True)}"
        case InDoubt():
            assert sum(departures) == 1
            assert not any(accepted)
        case NotSent():
            assert not any(accepted), "an acceptance was lost"
            assert departures == [
                one and sent for one, sent in zip(refused, departures, strict=True)
            ]


async def carry_out(
    upstream: RoutedUpstream, loop: ScriptedLoop, messages: int
) -> list[Delivery]:
    """Send the messages, one a turn at first, and let time pass until each has its end."""
    tasks: list[asyncio.Task[Delivery]] = []
    for turn in range(_MAX_TURNS):
        if turn < messages:
            content = [b"Subject: %d\r\n\r\n" % turn, b"Hello\r\n"]
            envelope = TO_BOTH if turn % 3 == 2 else TO_BOB
            attempt = DeliveryAttempt(str(turn % 2))
            tasks.append(asyncio.create_task(upstream.deliver(envelope, content, attempt)))
        elif all(task.done() for task in tasks):
            return [task.result() for task in tasks]
        if turn % _TURNS_A_PAUSE == _TURNS_A_PAUSE - 1:
            loop.ahead_s += _PAUSE_S
        await asyncio.sleep(0)
    raise AssertionError("a delivery never ended")


def hold(scripts: Sequence[Script], messages: int, *, max_failures: int = 3) -> list[Delivery]:
    """Send messages to servers with these scripts; then all works again, also the relay."""
    servers = [ScriptedUpstream(script) for script, _ in scripts]
    for server, (_, is_away) in zip(servers, scripts, strict=True):
        server.is_away = is_away
    found: list[Delivery] = []

    async def scene(loop: ScriptedLoop) -> None:
        loop.by_port = {_FIRST_PORT + at: server for at, server in enumerate(servers)}
        tasks, facts = TaskOwner(), UpstreamServer((), None)
        configs = [
            facts.config(
                name=f"up{at}",
                port=_FIRST_PORT + at,
                priority=at // 2,
                max_connections=2,
                max_failures=max_failures,
            )
            for at in range(len(servers))
        ]
        upstream = new_routed(configs, tasks)
        found.extend(await carry_out(upstream, loop, messages))
        for server in servers:
            server.script.clear()
            server.is_away = False
            server.close_all()
        loop.ahead_s += 60
        for _ in range(_TURNS_A_PAUSE):
            await asyncio.sleep(0)
        last = await upstream.deliver(TO_BOB, [b"Subject: 999\r\n\r\n"], DeliveryAttempt())
        assert isinstance(last, Answered)
        assert last.is_accepted
        await upstream.close()
        loop.ahead_s += 10
        await tasks.drain(1)

    on_scripted_loop(servers[0], scene)
    for number, delivery in enumerate(found):
        judge(servers, number, delivery)
    return found


scripts = st.lists(
    st.tuples(
        st.lists(st.sampled_from(["fine", *MISHAPS]), max_size=16),
        st.sampled_from([False, False, True]),
    ),
    min_size=1,
    max_size=3,
)


@given(scripts, st.integers(1, 6), st.integers(0, 3))
def test_whatever_fails_a_message_is_accepted_by_one_upstream_at_most_and_sent_once(
    all_scripts: list[Script], messages: int, max_failures: int
) -> None:
    hold(all_scripts, messages, max_failures=max_failures)


@pytest.mark.slow
@rows("mishap", MISHAPS)
@rows("place", range(6))
def test_one_mishap_before_the_final_dot_costs_no_message_if_there_is_another_upstream(
    mishap: Mishap, place: int
) -> None:
    fine: Mishap = "fine"
    script = [*repeat(fine, place), mishap]  # greeting, EHLO, MAIL, RCPT, DATA, message
    (delivery,) = hold([(script, False), ((), False)], 1)
    is_verdict = mishap in ("refuse", "refuse-echo") and place >= 2
    if not is_verdict and place < 4:  # after the reply to DATA the message is on its way
        assert isinstance(delivery, Answered), delivery
        assert delivery.is_accepted


def test_messages_go_on_while_all_upstreams_but_the_last_are_away() -> None:
    away: Script = ((), True)
    found = hold([away, away, ((), False)], 12)
    assert all(isinstance(one, Answered) and one.upstream == "up2" for one in found)
