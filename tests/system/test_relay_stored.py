"""Messages whose body is in a file, on their way to the upstream."""

import asyncio
import threading
from collections.abc import Iterator
from typing import cast

import pytest

from smtpgate.core.message.body import StoredBody
from smtpgate.core.upstream import Body
from tests.support.bodies import Pieces, stored
from tests.support.clock import move_loop
from tests.support.deliveries import UnsentError, deliver
from tests.support.upstream_server import (
    HANG_UP,
    TO_BOB,
    half_reader,
    open_upstream,
    relay_to,
)
from tests.support.waiting import until

HEAD = b"Subject: Spring\r\n\r\n"
# Dots at the beginnings of lines, and line ends between pieces.
SEAMS = (b".first\r", b"\n..\r\n", b".", b"x\r\n", b"\r\n.\r", b"\nJane\r\n", b"." * 200_000)
# More than the sockets between two ends of a loopback connection hold.
LARGE = stored(*[b".0123456789abcde\r\n" * 10_000] * 90)


async def test_a_stored_message_arrives_octet_for_octet() -> None:
    body = stored(*SEAMS)
    async with open_upstream("PIPELINING", "SIZE") as server, relay_to(server) as upstream:
        assert (await deliver(upstream, TO_BOB, [HEAD, body])).is_accepted
        assert server.messages == [HEAD + b"".join(SEAMS) + b"\r\n"]
        assert upstream.idle_connections == 1


async def test_a_stored_message_is_read_in_threads_though_it_is_small() -> None:
    body = stored(b"Hello.\r\n", b"Jane\r\n")
    async with open_upstream("PIPELINING") as server, relay_to(server) as upstream:
        assert (await deliver(upstream, TO_BOB, [HEAD, body])).is_accepted
        assert server.messages == [HEAD + b"Hello.\r\nJane\r\n"]
    threads = cast("Pieces", body.file).threads
    assert threads
    assert all(name.startswith("smtpgate-upstream") for name in threads)


async def test_a_stored_message_is_read_again_for_a_fresh_connection() -> None:
    message: list[Body] = [HEAD, stored(*SEAMS)]
    async with open_upstream("PIPELINING") as server, relay_to(server) as upstream:
        await deliver(upstream, TO_BOB, message)
        farewells = [HANG_UP]
        server.answers["MAIL"] = lambda _: farewells.pop() if farewells else "250 ok"
        assert (await deliver(upstream, TO_BOB, message)).is_accepted
        assert len(server.visits) == 2
        assert server.messages == [HEAD + b"".join(SEAMS) + b"\r\n"] * 2


async def test_a_refusal_in_the_middle_of_a_stored_message_is_the_verdict() -> None:
    async with half_reader(then="refuse") as upstream:
        delivery = await deliver(upstream, TO_BOB, [HEAD, LARGE])
        assert str(delivery.reply) == "552 5.3.4 too big"
        assert upstream.open_connections == 0


@pytest.mark.parametrize("then", ["hang up", "stop reading"])
async def test_a_stored_message_that_is_not_taken_to_its_end_leaves_no_doubt(then: str) -> None:
    async with half_reader(then=then) as upstream:
        with pytest.raises(UnsentError):
            await deliver(upstream, TO_BOB, [HEAD, LARGE])


async def test_a_file_that_cannot_be_read_ends_the_transaction_before_its_final_dot() -> None:
    broken = stored(b"Hello.\r\n" * 40_000, RuntimeError("cannot read"), b"Jane\r\n")
    async with open_upstream("PIPELINING") as server, relay_to(server) as upstream:
        with pytest.raises(RuntimeError, match="cannot read"):
            await deliver(upstream, TO_BOB, [HEAD, broken])
        assert upstream.open_connections == 0
        await server.visits[0].ended.wait()
        assert server.messages == []


async def test_a_file_that_is_not_read_before_the_deadline_is_not_sent() -> None:
    release, stuck = threading.Event(), threading.Event()

    class Stuck(Pieces):
        def pieces(self) -> Iterator[bytes]:
            yield b"Hello.\r\n" * 40_000
            stuck.set()
            release.wait(10)

    body = StoredBody(Stuck([b"Hello.\r\n" * 50_000]), b"", b"")
    try:
        async with open_upstream("PIPELINING") as server, relay_to(server) as upstream:
            delivery = asyncio.ensure_future(deliver(upstream, TO_BOB, [HEAD, body]))
            await until(stuck.is_set)
            await move_loop(10)
            with pytest.raises(UnsentError):
                await delivery
            assert server.messages == []
    finally:
        release.set()
