import asyncio

import pytest

from smtpgate.core.upstream import Answered, Octets
from smtpgate.relay import PooledUpstream
from tests.support.clock import MovableClock
from tests.support.deliveries import UnsentError, deliver
from tests.support.upstream_server import (
    HANG_UP,
    HOLD,
    SILENCE,
    TO_BOB,
    TO_BOTH,
    UpstreamServer,
    open_upstream,
    relay_to,
)

MESSAGE: list[Octets] = [b"Subject: Spring\r\n\r\n", b"Hello\r\n"]


def numbered(number: int) -> list[Octets]:
    return [b"Subject: %d\r\n\r\n" % number]


def start(upstream: PooledUpstream, *numbers: int) -> list[asyncio.Task[Answered]]:
    return [
        asyncio.create_task(deliver(upstream, TO_BOB, numbered(number))) for number in numbers
    ]


async def holding(server: UpstreamServer, upstream: PooledUpstream, count: int) -> None:
    """Wait until so many messages are at the server, their answers delayed."""
    await server.until(lambda: len(server.messages) == count)
    assert upstream.open_connections == count
    assert upstream.idle_connections == 0


# -- connections that died ---------------------------------------------------------------------


async def test_a_kept_connection_that_the_server_closed_is_not_used() -> None:
    async with open_upstream("PIPELINING") as server, relay_to(server) as upstream:
        await deliver(upstream, TO_BOB, MESSAGE)
        server.drop_all()
        await server.visits[0].ended.wait()
        assert (await deliver(upstream, TO_BOB, MESSAGE)).is_accepted
        assert len(server.visits) == 2


@pytest.mark.parametrize("offers", [(), ("PIPELINING",)], ids=["lock step", "pipelined"])
@pytest.mark.parametrize("farewell", [HANG_UP, "421 4.4.2 idle too long"])
async def test_a_kept_connection_that_turns_out_dead_is_replaced_unseen(
    offers: tuple[str], farewell: str
) -> None:
    async with open_upstream(*offers) as server, relay_to(server) as upstream:
        await deliver(upstream, TO_BOB, MESSAGE)
        farewells = [farewell]
        server.answers["MAIL"] = lambda _: farewells.pop() if farewells else "250 ok"
        assert (await deliver(upstream, TO_BOB, MESSAGE)).is_accepted
        assert [len(visit.messages) for visit in server.visits] == [1, 1]
        assert upstream.open_connections == 1


async def test_it_is_replaced_once_and_not_for_ever() -> None:
    async with open_upstream("PIPELINING") as server, relay_to(server) as upstream:
        await deliver(upstream, TO_BOB, MESSAGE)
        server.answers["MAIL"] = "421 4.3.2 stopping"
        with pytest.raises(UnsentError, match=r"421 4\.3\.2 stopping"):
            await deliver(upstream, TO_BOB, MESSAGE)
        assert len(server.visits) == 2
        assert upstream.open_connections == 0


async def test_silence_on_a_kept_connection_is_not_tried_again() -> None:
    async with open_upstream("PIPELINING") as server, relay_to(server) as upstream:
        await deliver(upstream, TO_BOB, MESSAGE)
        server.answers["MAIL"] = SILENCE
        with pytest.raises(UnsentError, match=r"no answer to MAIL within 5 s"):
            await deliver(upstream, TO_BOB, MESSAGE)
        assert len(server.visits) == 1


async def test_what_an_idle_server_says_unasked_ends_the_connection() -> None:
    async with open_upstream("PIPELINING") as server, relay_to(server) as upstream:
        server.answers["MESSAGE"] = "250 2.0.0 queued\r\n421 4.3.2 stopping"
        assert (await deliver(upstream, TO_BOB, MESSAGE)).is_accepted
        await server.visits[0].ended.wait()
        assert upstream.open_connections == 0


# -- bounds, and shares of accounts ------------------------------------------------------------


async def test_there_are_never_more_connections_than_configured() -> None:
    async with (
        open_upstream("PIPELINING") as server,
        relay_to(server, max_connections=2) as upstream,
    ):
        server.answers["MESSAGE"] = HOLD
        deliveries = start(upstream, *range(10))
        await holding(server, upstream, 2)
        assert upstream.waiting == 8
        assert (upstream.open_connections, upstream.idle_connections) == (2, 0)
        server.release()
        assert all(delivery.is_accepted for delivery in await asyncio.gather(*deliveries))
        assert len(server.visits) == 2
        assert (upstream.waiting, upstream.idle_connections) == (0, 2)


async def test_who_waits_longest_is_served_first() -> None:
    async with (
        open_upstream("PIPELINING") as server,
        relay_to(server, max_connections=1) as upstream,
    ):
        server.answers["MESSAGE"] = HOLD
        deliveries = start(upstream, *range(5))
        await holding(server, upstream, 1)
        server.release()
        await asyncio.gather(*deliveries)
        assert server.messages == [b"Subject: %d\r\n\r\n" % number for number in range(5)]


async def test_the_connection_used_last_is_used_first() -> None:
    async with open_upstream("PIPELINING") as server, relay_to(server) as upstream:
        server.answers["MESSAGE"] = HOLD
        first, second = start(upstream, 1, 2)
        await holding(server, upstream, 2)
        server.release()
        await asyncio.gather(first, second)
        for _ in range(3):
            await deliver(upstream, TO_BOB, MESSAGE)
        assert sorted(len(visit.messages) for visit in server.visits) == [1, 4]


async def test_waiting_for_a_connection_ends_at_the_deadline() -> None:
    async with (
        open_upstream("PIPELINING") as server,
        relay_to(server, max_connections=1) as upstream,
    ):
        server.answers["MESSAGE"] = HOLD
        (first,) = start(upstream, 1)
        await holding(server, upstream, 1)
        upstream._config = upstream._config.model_copy(update={"deadline_s": 0.05})
        with pytest.raises(UnsentError, match="no connection was free within"):
            await deliver(upstream, TO_BOB, MESSAGE)
        assert upstream.waiting == 0
        server.release()
        assert (await first).is_accepted


async def test_a_failed_connection_makes_room_for_the_next() -> None:
    async with (
        open_upstream("PIPELINING") as server,
        relay_to(server, max_connections=1) as upstream,
    ):
        greetings = ["421 4.3.2 not yet"] * 2
        server.answers["CONNECT"] = lambda _: greetings.pop() if greetings else "220 mx"
        deliveries = start(upstream, *range(4))
        results = await asyncio.gather(*deliveries, return_exceptions=True)
        assert [isinstance(result, UnsentError) for result in results] == [
            True,
            True,
            False,
            False,
        ]


async def test_a_connection_retires_after_so_many_messages() -> None:
    async with (
        open_upstream("PIPELINING") as server,
        relay_to(server, max_messages=2, max_connections=1) as upstream,
    ):
        await asyncio.gather(*start(upstream, *range(5)))
        assert [len(visit.messages) for visit in server.visits] == [2, 2, 1]
        assert [visit.verbs[-1] for visit in server.visits[:2]] == ["QUIT", "QUIT"]


async def test_a_message_that_exceeds_announced_limits_is_not_one_of_them() -> None:
    async with (
        open_upstream("PIPELINING", "LIMITS RCPTMAX=1") as server,
        relay_to(server, max_messages=2, max_connections=1) as upstream,
    ):
        await deliver(upstream, TO_BOB, MESSAGE)
        for _ in range(3):
            assert not (await deliver(upstream, TO_BOTH, MESSAGE)).is_accepted
        await deliver(upstream, TO_BOB, MESSAGE)
        assert [len(visit.messages) for visit in server.visits] == [2]


# -- age ---------------------------------------------------------------------------------------


async def test_a_connection_kept_too_long_is_not_used(clock: MovableClock) -> None:
    async with (
        open_upstream("PIPELINING") as server,
        relay_to(server, clock=clock, max_idle_s=30) as upstream,
    ):
        await deliver(upstream, TO_BOB, MESSAGE)
        clock.move(29)
        await deliver(upstream, TO_BOB, MESSAGE)
        clock.move(31)
        await deliver(upstream, TO_BOB, MESSAGE)
        assert [len(visit.messages) for visit in server.visits] == [2, 1]
        assert server.visits[0].verbs[-1] == "QUIT"


async def test_a_connection_nobody_uses_is_closed(clock: MovableClock) -> None:
    async with (
        open_upstream("PIPELINING") as server,
        relay_to(server, clock=clock, max_idle_s=0.01) as upstream,
    ):
        await deliver(upstream, TO_BOB, MESSAGE)
        clock.move(1)
        await server.visits[0].ended.wait()
        assert server.visits[0].verbs[-1] == "QUIT"
        assert upstream.idle_connections == 0


async def test_each_connection_has_its_own_age(clock: MovableClock) -> None:
    async with (
        open_upstream("PIPELINING") as server,
        relay_to(server, clock=clock, max_idle_s=0.02) as upstream,
    ):
        server.answers["MESSAGE"] = HOLD
        deliveries = start(upstream, 1, 2)
        await holding(server, upstream, 2)
        server.release()
        await asyncio.gather(*deliveries)
        clock.move(0.015)
        await deliver(upstream, TO_BOB, MESSAGE)
        clock.move(0.01)
        await server.until(lambda: server.open_visits == 1)
        assert upstream.idle_connections == 1
        clock.move(1)
        await server.until(lambda: server.open_visits == 0)


# -- ends --------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["CONNECT", "MAIL", "MESSAGE"])
async def test_a_cancelled_delivery_leaves_no_half_used_connection(verb: str) -> None:
    async with (
        open_upstream() as server,
        relay_to(server, max_connections=1) as upstream,
    ):
        server.answers[verb] = HOLD
        (first,) = start(upstream, 1)
        seen = {"CONNECT": 0, "MAIL": 2, "MESSAGE": 4}[verb]
        await server.until(lambda: bool(server.visits) and len(server.visits[0].verbs) == seen)
        (second,) = start(upstream, 2)
        await asyncio.wait([second], timeout=0)
        first.cancel()
        server.release()
        assert (await second).is_accepted
        with pytest.raises(asyncio.CancelledError):
            await first
        assert server.messages[-1:] == [b"Subject: 2\r\n\r\n"]
        assert len(server.visits) == 2


async def test_a_cancelled_waiter_loses_its_place_and_nothing_else() -> None:
    async with (
        open_upstream("PIPELINING") as server,
        relay_to(server, max_connections=1) as upstream,
    ):
        server.answers["MESSAGE"] = HOLD
        first, second, third = start(upstream, 1, 2, 3)
        await holding(server, upstream, 1)
        second.cancel()
        server.release()
        assert (await first).is_accepted
        assert (await third).is_accepted
        assert len(server.visits) == 1
        assert second.cancelled()


async def test_a_waiter_cancelled_as_it_is_served_passes_the_connection_on() -> None:
    async with (
        open_upstream("PIPELINING") as server,
        relay_to(server, max_connections=1) as upstream,
    ):

        async def deliver_and_cancel() -> None:
            await deliver(upstream, TO_BOB, numbered(1))
            second.cancel()  # which was handed the connection before this line

        server.answers["MESSAGE"] = HOLD
        first = asyncio.create_task(deliver_and_cancel())
        second, third = start(upstream, 2, 3)
        await holding(server, upstream, 1)
        server.release()
        await first
        assert (await third).is_accepted
        assert second.cancelled()
        assert server.messages == [b"Subject: 1\r\n\r\n", b"Subject: 3\r\n\r\n"]
        assert len(server.visits) == 1


async def test_closing_says_goodbye_and_lets_running_transactions_finish() -> None:
    async with (
        open_upstream("PIPELINING") as server,
        relay_to(server, max_connections=2) as upstream,
    ):
        await deliver(upstream, TO_BOB, MESSAGE)
        answers = ["250 2.0.0 quick", HOLD]
        server.answers["MESSAGE"] = lambda _: answers.pop()
        deliveries = start(upstream, 1, 2)
        done, running = await asyncio.wait(
            deliveries, timeout=5, return_when=asyncio.FIRST_COMPLETED
        )
        assert len(done) == len(running) == 1
        await upstream.close()
        assert sum(visit.verbs[-1] == "QUIT" for visit in server.visits) == 1
        with pytest.raises(UnsentError, match="the gate is stopping"):
            await deliver(upstream, TO_BOB, MESSAGE)
        server.release()
        assert (await running.pop()).is_accepted
        await server.until(lambda: server.open_visits == 0)


async def test_closing_turns_waiters_away() -> None:
    async with (
        open_upstream("PIPELINING") as server,
        relay_to(server, max_connections=1) as upstream,
    ):
        server.answers["MESSAGE"] = HOLD
        first, second = start(upstream, 1, 2)
        await holding(server, upstream, 1)
        await upstream.close()
        with pytest.raises(UnsentError, match="the gate is stopping"):
            await second
        server.release()
        assert (await first).is_accepted


async def test_a_server_that_ignores_goodbye_is_left_standing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("smtpgate.relay.connection._QUIT_S", 0.01)
    async with open_upstream("PIPELINING") as server, relay_to(server) as upstream:
        await deliver(upstream, TO_BOB, MESSAGE)
        server.answers["QUIT"] = SILENCE
        await upstream.close()
        assert upstream.open_connections == 0
