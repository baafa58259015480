"""The line for upstream connections: whose turn it is, who has left, what the server allows."""

import asyncio
from collections.abc import Callable

import pytest

from smtpgate.core.upstream import Answered, Octets
from smtpgate.ports import DeliveryAttempt
from smtpgate.relay import PooledUpstream
from tests.support.clock import MovableClock
from tests.support.deliveries import UnsentError, deliver
from tests.support.upstream_server import HOLD, TO_BOB, UpstreamServer, open_upstream, relay_to
from tests.support.waiting import until

MANY, FEW = "111111111111", "222222222222"


def numbered(number: int) -> list[Octets]:
    return [b"Subject: %d\r\n\r\n" % number]


def start(
    upstream: PooledUpstream, account: str, *numbers: int
) -> list[asyncio.Task[Answered]]:
    return [
        asyncio.create_task(
            deliver(upstream, TO_BOB, numbered(number), DeliveryAttempt(account))
        )
        for number in numbers
    ]


def arrived(server: UpstreamServer) -> list[int]:
    return [int(message.split()[1]) for message in server.messages]


def at_most(connections: int, server: UpstreamServer) -> Callable[[str], str]:
    """The greeting of a server that takes so many connections at once."""
    return lambda _: (
        "220 mx" if server.open_visits <= connections else "421 4.7.0 too many connections"
    )


# -- turns -------------------------------------------------------------------------------------


async def test_an_account_with_many_messages_makes_another_wait_for_one_turn() -> None:
    async with (
        open_upstream("PIPELINING") as server,
        relay_to(server, max_connections=1) as upstream,
    ):
        server.answers["MESSAGE"] = HOLD
        many = start(upstream, MANY, *range(60))
        await server.until(lambda: bool(server.messages))
        few = start(upstream, FEW, 100, 101)
        await asyncio.wait(few, timeout=0)
        server.release()
        await asyncio.gather(*many, *few)
        assert arrived(server)[:5] == [0, 1, 100, 2, 101]
        assert arrived(server)[5:] == list(range(3, 60))


async def test_an_account_leaves_a_share_of_the_connections_to_the_others() -> None:
    async with (
        open_upstream("PIPELINING") as server,
        relay_to(server, max_connections=4) as upstream,
    ):
        server.answers["MESSAGE"] = HOLD
        many = start(upstream, MANY, *range(10))
        await server.until(lambda: len(server.messages) == 3)
        few = start(upstream, FEW, 100)
        await server.until(lambda: len(server.messages) == 4)
        assert arrived(server)[3] == 100
        assert (upstream.open_connections, upstream.waiting) == (4, 7)
        server.release()
        await asyncio.gather(*many, *few)


async def test_a_share_may_be_set() -> None:
    async with (
        open_upstream("PIPELINING") as server,
        relay_to(server, max_connections=4, max_connections_per_account=1) as upstream,
    ):
        await asyncio.gather(*start(upstream, MANY, *range(5)), *start(upstream, FEW, 9))
        assert len(server.visits) == 2


async def test_an_account_has_so_many_places_in_line_and_no_more() -> None:
    async with (
        open_upstream("PIPELINING") as server,
        relay_to(server, max_connections=1, max_waiting_per_account=2) as upstream,
    ):
        server.answers["MESSAGE"] = HOLD
        many = start(upstream, MANY, *range(3))
        await server.until(lambda: bool(server.messages))
        with pytest.raises(UnsentError, match=r"^2 messages of the account wait already$"):
            await deliver(upstream, TO_BOB, numbered(4), DeliveryAttempt(MANY))
        few = start(upstream, FEW, 100)
        await asyncio.wait(few, timeout=0)
        assert upstream.waiting == 3
        server.release()
        await asyncio.gather(*many, *few)


# -- clients that leave ------------------------------------------------------------------------


async def test_a_message_whose_client_left_while_it_waited_is_not_sent() -> None:
    async with (
        open_upstream("PIPELINING") as server,
        relay_to(server, max_connections=1) as upstream,
    ):
        server.answers["MESSAGE"] = HOLD
        (first,) = start(upstream, MANY, 0)
        await server.until(lambda: bool(server.messages))
        attempt = DeliveryAttempt(MANY, client_gone=asyncio.get_running_loop().create_future())
        second = asyncio.create_task(deliver(upstream, TO_BOB, numbered(1), attempt))
        (third,) = start(upstream, MANY, 2)
        await asyncio.wait([second], timeout=0)
        assert attempt.client_gone is not None
        attempt.client_gone.set_result(None)
        with pytest.raises(UnsentError, match="client-gone"):
            await second
        assert upstream.waiting == 1, "its place is free at once"
        server.release()
        await asyncio.gather(first, third)
        assert arrived(server) == [0, 2]


async def test_a_client_that_leaves_in_the_moment_of_its_turn_passes_the_turn_on() -> None:
    async with (
        open_upstream("PIPELINING") as server,
        relay_to(server, max_connections=1) as upstream,
    ):
        server.answers["MESSAGE"] = HOLD
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def deliver_and_leave() -> None:
            await deliver(upstream, TO_BOB, numbered(0), DeliveryAttempt(MANY))
            gone.set_result(None)  # for the second, which was handed the connection before

        first = asyncio.create_task(deliver_and_leave())
        second = asyncio.create_task(
            deliver(upstream, TO_BOB, numbered(1), DeliveryAttempt(MANY, client_gone=gone))
        )
        (third,) = start(upstream, MANY, 2)
        await server.until(lambda: bool(server.messages))
        server.release()
        await asyncio.gather(first, third)
        with pytest.raises(UnsentError, match="client-gone"):
            await second
        assert arrived(server) == [0, 2]
        assert len(server.visits) == 1


async def test_a_message_that_need_not_wait_is_sent_though_its_client_left() -> None:
    """Its final dot was answered with nothing yet; a client may close its side early."""
    async with open_upstream("PIPELINING") as server, relay_to(server) as upstream:
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        gone.set_result(None)
        assert (
            await deliver(
                upstream, TO_BOB, numbered(0), DeliveryAttempt(MANY, client_gone=gone)
            )
        ).is_accepted


# -- what the server allows --------------------------------------------------------------------


async def test_messages_wait_for_the_connections_that_work_when_the_server_takes_no_more() -> (
    None
):
    learned: list[tuple[str, int, str]] = []
    async with (
        open_upstream("PIPELINING") as server,
        relay_to(server, on_limit=lambda *what: learned.append(what)) as upstream,
    ):
        server.answers |= {"CONNECT": at_most(2, server), "MESSAGE": HOLD}
        deliveries = start(upstream, MANY, *range(8))
        await server.until(lambda: len(server.messages) == 2 and len(server.visits) == 8)
        server.release()
        assert all(delivery.is_accepted for delivery in await asyncio.gather(*deliveries))
        assert upstream.connection_limit == 2
        assert "421 4.7.0 too many connections" in learned[-1][2]
        assert len(server.visits) == 8, "once is enough to learn it"
        assert sorted(arrived(server)) == list(range(8))


async def test_one_more_connection_is_tried_after_a_while(clock: MovableClock) -> None:
    async with (
        open_upstream("PIPELINING") as server,
        relay_to(server, clock=clock, max_connections=3) as upstream,
    ):
        server.answers |= {"CONNECT": at_most(1, server), "MESSAGE": HOLD}
        first = start(upstream, MANY, *range(4))
        await until(lambda: upstream.waiting == 3 and upstream.open_connections == 1)
        assert upstream.connection_limit == 1
        server.answers["CONNECT"] = "220 mx"
        clock.move(61)
        more = start(upstream, FEW, 10, 11)
        await until(lambda: upstream.connection_limit == 3 and server.open_visits == 3)
        server.release()
        await asyncio.gather(*first, *more)


async def test_a_server_that_takes_no_connection_is_asked_once_a_message() -> None:
    async with (
        open_upstream("PIPELINING") as server,
        relay_to(server, max_connections=4) as upstream,
    ):
        server.answers["CONNECT"] = "421 4.3.2 not now"
        deliveries = start(upstream, MANY, *range(8)) + start(upstream, FEW, *range(8))
        results = await asyncio.gather(*deliveries, return_exceptions=True)
        assert all(isinstance(result, UnsentError) for result in results)
        assert len(server.visits) == 16
        assert upstream.connection_limit == 4
        server.answers.clear()
        assert (await deliver(upstream, TO_BOB, numbered(0))).is_accepted


async def test_what_becomes_of_another_connection_is_awaited_until_the_deadline() -> None:
    async with (
        open_upstream("PIPELINING") as server,
        relay_to(server) as upstream,
    ):
        greetings = ["421 4.3.2 not now", HOLD]
        server.answers["CONNECT"] = lambda _: greetings.pop()
        (slow,) = start(upstream, FEW, 1)
        await server.until(lambda: len(server.visits) == 1)
        upstream._config = upstream._config.model_copy(update={"deadline_s": 0.1})
        with pytest.raises(UnsentError, match=r"421 4\.3\.2 not now"):
            await deliver(upstream, TO_BOB, numbered(0), DeliveryAttempt(MANY))
        server.release()
        assert (await slow).is_accepted


async def test_what_waits_is_tried_again_when_the_last_connection_that_worked_is_lost() -> None:
    async with (
        open_upstream("PIPELINING") as server,
        relay_to(server, max_connections=3) as upstream,
    ):
        server.answers |= {"CONNECT": at_most(1, server), "MESSAGE": HOLD}
        deliveries = start(upstream, MANY, *range(4))
        await until(lambda: server.messages and upstream.waiting == 3)
        server.answers["CONNECT"] = "421 4.3.2 stopping"
        server.drop_all()
        results = await asyncio.gather(*deliveries, return_exceptions=True)
        assert not any(isinstance(result, Answered) for result in results)
        assert upstream.waiting == 0


async def test_the_largest_message_that_the_server_takes_is_known_for_a_while(
    clock: MovableClock,
) -> None:
    """Else a server whose limit was raised would be sent nothing that shows it."""
    async with (
        open_upstream("SIZE 1000") as server,
        relay_to(server, clock=clock, max_idle_s=1000) as upstream,
    ):
        await deliver(upstream, TO_BOB, numbered(0))
        clock.move(299)
        assert upstream.max_octets == 1000
        await deliver(upstream, TO_BOB, numbered(1))
        clock.move(299)
        assert upstream.max_octets == 1000, "its connection still works"
        clock.move(2)
        assert upstream.max_octets is None
