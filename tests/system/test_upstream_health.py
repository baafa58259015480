"""Circuit breakers and probes of upstreams, and lines that are too long to wait in."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from smtpgate.config.routes import RouteConfig
from smtpgate.core.routing.notes import RecipientLimitSeen, RelayNote, UpstreamFailed
from smtpgate.core.upstream import Answered, Delivery, NotSent
from smtpgate.ports import DeliveryAttempt
from smtpgate.relay import RoutedUpstream
from tests.support.clock import MovableClock, MovableLoop, move_loop, settle
from tests.support.daemons import free_port
from tests.support.routed import named, routed_to
from tests.support.upstream_server import (
    HANG_UP,
    HOLD,
    TO_BOB,
    TO_BOTH,
    UpstreamServer,
    open_upstream,
)
from tests.support.waiting import until

ACCOUNT, OTHER = "111122223333", "444455556666"


async def send(
    upstream: RoutedUpstream, account: str = ACCOUNT, lines: int = 1
) -> tuple[Delivery, list[str]]:
    """The end of a message, and the causes for which upstreams were of no use for it."""
    attempt = DeliveryAttempt(account)
    message = [b"Subject: Spring\r\n\r\n", b"Hello\r\n" * lines]
    delivery = await upstream.deliver(TO_BOB, message, attempt)
    return delivery, [one.cause for one in attempt.failed]


def by(delivery: Delivery) -> str:
    assert isinstance(delivery, Answered)
    return delivery.upstream


def readings(upstream: RoutedUpstream) -> dict[tuple[str, str], float]:
    return {
        (one.metric.removeprefix("smtpgate_upstream_"), one.labels[0]): one.value
        for one in upstream.readings()
    }


def routes_up(upstream: RoutedUpstream) -> dict[str, float]:
    readings = upstream.readings()
    return {one.labels[0]: one.value for one in readings if one.metric == "smtpgate_route_up"}


async def test_after_failures_in_a_row_messages_do_not_try_an_upstream_until_it_is_back() -> (
    None
):
    states: list[tuple[str, str]] = []
    async with (
        open_upstream("PIPELINING") as first,
        open_upstream("PIPELINING") as second,
        routed_to(
            named(first, "first", max_failures=2),
            named(second, "second", priority=20),
            on_state=lambda name, state, _: states.append((name, state)),
        ) as upstream,
    ):
        first.answers["CONNECT"] = HANG_UP
        assert [(await send(upstream))[1] for _ in range(4)] == [
            ["lost"],
            ["lost"],
            ["open"],
            ["open"],
        ]
        assert len(first.visits) == 2
        assert readings(upstream)["breaker", "first"] == 2
        assert readings(upstream)["up", "first"] == 0
        del first.answers["CONNECT"]
        await move_loop(2)
        delivery, causes = await send(upstream)
        assert (by(delivery), causes) == ("first", [])
        assert states == [("first", "open"), ("first", "half-open"), ("first", "closed")]
        assert readings(upstream)["breaker", "first"] == 0
        assert readings(upstream)["up", "first"] == 1


async def test_when_all_upstreams_are_of_no_use_messages_are_deferred_at_once() -> None:
    async with (
        open_upstream("PIPELINING") as server,
        routed_to(named(server, "only", max_failures=1, max_connections=1)) as upstream,
    ):
        server.answers["DATA"] = HOLD
        under_way = asyncio.create_task(send(upstream))
        await server.until(lambda: bool(server.visits) and "DATA" in server.visits[0].verbs)
        waiting = [asyncio.create_task(send(upstream, OTHER)) for _ in range(3)]
        await until(lambda: upstream.pools["only"].waiting == 3)
        server.drop_all()
        delivery, causes = await under_way
        assert (delivery, causes) == (
            NotSent("upstream-unreachable", "upstream only: it closed the connection", "lost"),
            ["lost"],
        )
        for delivery, _ in await asyncio.gather(*waiting):
            assert isinstance(delivery, NotSent)
            assert delivery.reason == "upstream-unreachable"
        delivery, causes = await send(upstream)
        assert isinstance(delivery, NotSent)
        assert delivery.problem == "upstream only: it closed the connection"
        assert causes == ["open"]
        assert len(server.visits) == 1


@asynccontextmanager
async def grown_slow() -> AsyncIterator[tuple[RoutedUpstream, UpstreamServer]]:
    """The first of two upstreams takes long after 25 messages; with it the other's server."""
    async with (
        open_upstream("PIPELINING") as slow,
        open_upstream("PIPELINING") as other,
        routed_to(named(slow, "slow"), named(other, "other", priority=20)) as upstream,
    ):
        for _ in range(25):
            assert by((await send(upstream))[0]) == "slow"
        pass_time(slow, "RCPT", 4)
        pass_time(slow, "MESSAGE", 4)
        yield upstream, other


async def test_a_slow_upstream_is_used_when_no_other_is_left() -> None:
    async with grown_slow() as (upstream, other):
        taken = [by((await send(upstream))[0]) for _ in range(4)]
        assert taken == ["slow", "slow", "slow", "other"]
        assert upstream.check("slow") == (True, "up")
        other.answers["CONNECT"] = HANG_UP
        other.drop_all()
        delivery, causes = await send(upstream)
        assert (by(delivery), causes) == ("slow", ["lost"])


async def test_large_messages_that_take_long_say_nothing_about_an_upstream() -> None:
    async with grown_slow() as (upstream, _):
        taken = [by((await send(upstream, lines=10_000))[0]) for _ in range(4)]
        assert taken == ["slow"] * 4


def pass_time(server: UpstreamServer, verb: str, seconds: float) -> None:
    """Have the server take so long for that answer."""
    loop = cast("MovableLoop", asyncio.get_running_loop())

    def answer(_: str) -> str:
        loop.ahead_s += seconds
        return "250 2.0.0 at last"

    server.answers[verb] = answer


async def test_a_message_whose_turn_comes_after_its_deadline_is_refused_at_once() -> None:
    async with (
        open_upstream("PIPELINING") as server,
        routed_to(named(server, "only", max_connections=1)) as upstream,  # deadline_s = 10
    ):
        pass_time(server, "MESSAGE", 3)
        for _ in range(10):
            await send(upstream)
        server.answers["MESSAGE"] = HOLD
        tasks = [asyncio.create_task(send(upstream)) for _ in range(4)]
        await until(lambda: upstream.pools["only"].waiting == 3)
        delivery, causes = await send(upstream)
        assert delivery == NotSent(
            "upstream-busy", "a message would wait about 12 s for a connection", "busy"
        )
        assert causes == ["busy"]
        # Another account has its turn after one message of the first.
        others = asyncio.create_task(send(upstream, OTHER))
        await until(lambda: upstream.pools["only"].waiting == 4)
        server.release()
        for task in (*tasks, others):
            assert by((await task)[0]) == "only"


async def test_a_failure_is_passed_on_to_workers_that_had_no_answer_lately(
    clock: MovableClock,
) -> None:
    notes: list[RelayNote] = []
    async with (
        open_upstream("PIPELINING") as server,
        routed_to(
            named(server, "only", max_failures=1), clock=clock, tell_peers=notes.append
        ) as one,
        routed_to(
            named(server, "only", max_failures=1), clock=clock, tell_peers=notes.append
        ) as other,
    ):
        await send(other)
        server.answers["CONNECT"] = HANG_UP
        await send(one)
        (note,) = notes
        assert note == UpstreamFailed("only", "upstream only: it closed the connection")
        other.take(note)
        assert readings(other)["breaker", "only"] == 0, "it has just answered there"
        clock.move(11)
        other.take(note)
        assert readings(other)["breaker", "only"] == 2
        assert (await send(other))[1] == ["open"]
        assert len(notes) == 1, "it is not passed back"


async def test_a_limit_of_recipients_is_passed_on_to_workers() -> None:
    notes: list[RelayNote] = []
    async with (
        open_upstream("PIPELINING") as server,
        routed_to(named(server, "only"), tell_peers=notes.append) as one,
        routed_to(named(server, "only")) as other,
    ):
        server.answers["RCPT"] = lambda line: (
            "452 4.5.3 too many recipients" if "carol" in line else "250 ok"
        )
        await one.deliver(TO_BOTH, [b"Subject: Spring\r\n\r\n"], DeliveryAttempt())
        assert notes == [RecipientLimitSeen("only", 1)]
        other.take(notes[0])
        assert other.facts("x").max_recipients == one.facts("x").max_recipients == 1


# -- probes ------------------------------------------------------------------------------------


async def test_an_idle_upstream_is_probed_and_one_that_answered_lately_is_not(
    clock: MovableClock,
) -> None:
    async with (
        open_upstream("PIPELINING", "SIZE 1000") as server,
        routed_to(named(server, "only", max_idle_s=300), clock=clock) as upstream,
    ):
        upstream.start()
        await server.until(lambda: bool(server.visits) and "NOOP" in server.visits[0].verbs)
        await until(lambda: upstream.pools["only"].idle_connections == 1)
        assert upstream.facts("x").max_octets == 1000, "a probe learns what it offers"
        await send(upstream)
        clock.move(29)
        await move_loop(30)
        assert server.visits[0].verbs.count("NOOP") == 1, "it answered 29 seconds ago"
        clock.move(1)
        await move_loop(1)
        await server.until(lambda: server.visits[0].verbs.count("NOOP") == 2)
        assert len(server.visits) == 1, "by the kept connection"
        assert upstream.check("only") == (True, "up")


async def test_probes_find_out_that_an_upstream_is_away_and_back(clock: MovableClock) -> None:
    async with (
        open_upstream("PIPELINING") as server,
        routed_to(named(server, "only", max_failures=3), clock=clock) as upstream,
    ):
        server.answers["CONNECT"] = "421 4.3.2 stopping"
        upstream.start()
        await until(lambda: not upstream.check("only")[0])
        assert upstream.check("only")[1] == "down: upstream only: 421 4.3.2 stopping"
        assert readings(upstream)["up", "only"] == 0
        await move_loop(2)
        await until(lambda: readings(upstream)["breaker", "only"] == 2)
        assert (await send(upstream))[1] == ["open"]
        await move_loop(2)
        await server.until(lambda: len(server.visits) == 3)
        await until(lambda: not upstream.pools["only"].open_connections)
        del server.answers["CONNECT"]
        await move_loop(4)
        await until(lambda: readings(upstream)["breaker", "only"] == 1)
        assert upstream.check("only") == (True, "up")
        assert by((await send(upstream))[0]) == "only"
        assert readings(upstream)["breaker", "only"] == 0


async def test_a_probe_that_finds_no_free_connection_says_nothing(clock: MovableClock) -> None:
    async with (
        open_upstream("PIPELINING") as server,
        routed_to(named(server, "only", max_connections=1), clock=clock) as upstream,
    ):
        upstream.start()
        await until(lambda: upstream.pools["only"].idle_connections == 1)
        server.answers["DATA"] = HOLD
        under_way = asyncio.create_task(send(upstream))
        await server.until(lambda: "DATA" in server.visits[0].verbs)
        clock.move(11)
        upstream.take(UpstreamFailed("only", "upstream only: timed out"))
        for _ in range(3):
            await move_loop(2)
            await settle()
            assert readings(upstream)["breaker", "only"] == 2
            assert upstream.check("only") == (False, "down: upstream only: timed out")
        server.drop_all()
        await under_way
        await move_loop(2)
        await until(lambda: readings(upstream)["breaker", "only"] == 1)


async def test_the_gate_is_ready_while_a_route_has_an_upstream_that_is_of_use(
    clock: MovableClock,
) -> None:
    routes = [
        RouteConfig(name="one", upstreams=("gone",), listeners=("x",)),
        RouteConfig(name="rest", upstreams=("there",), fallback=("gone",)),
    ]
    async with (
        open_upstream("PIPELINING") as server,
        routed_to(
            named(server, "gone", port=free_port(), max_failures=1),
            named(server, "there", max_failures=1),
            routes=routes,
            clock=clock,
        ) as upstream,
    ):
        upstream.start()
        checks = upstream.checks()
        await until(lambda: checks["upstream.gone"]()[1] != "up")
        assert {name: check() for name, check in checks.items()} == {
            "upstream.gone": (True, "down: upstream gone: cannot connect: connection refused"),
            "upstream.there": (True, "up"),
            "route.one": (True, "down: none of its upstreams can be used (gone)"),
            "route.rest": (True, "up"),
        }
        assert routes_up(upstream) == {"one": 0, "rest": 1}
        server.answers["MAIL"] = HANG_UP
        await send(upstream)
        assert [check()[0] for check in checks.values()] == [False] * 4
        assert (
            checks["route.rest"]()[1] == "down: none of its upstreams can be used (there, gone)"
        )
        assert routes_up(upstream) == {"one": 0, "rest": 0}


async def test_the_only_route_has_no_check_beside_its_upstreams_but_a_reading() -> None:
    async with (
        open_upstream("PIPELINING") as server,
        routed_to(named(server, "only")) as upstream,
    ):
        assert list(upstream.checks()) == ["upstream.only"]
        assert routes_up(upstream) == {"default": 1}


@pytest.mark.parametrize("interval_s", [0, 30])
async def test_nothing_is_probed_where_probes_are_off(interval_s: int) -> None:
    async with (
        open_upstream("PIPELINING") as server,
        routed_to(named(server, "only", probe_interval_s=interval_s)) as upstream,
    ):
        upstream.start()
        await move_loop(60)
        await until(lambda: bool(server.visits) == bool(interval_s))
