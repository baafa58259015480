import asyncio
import random
import socket
from typing import Any

import pytest

from smtpgate.core.address import ReversePath
from smtpgate.core.message.envelope import Envelope
from smtpgate.core.upstream import Octets
from smtpgate.relay import PooledUpstream
from smtpgate.tasks import TaskOwner
from tests.support.clock import MovableClock, move_loop
from tests.support.deliveries import DoubtError, UnsentError, deliver
from tests.support.rows import rows
from tests.support.upstream_server import (
    ALICE,
    BOB,
    CAROL,
    HANG_UP,
    SILENCE,
    TO_BOB,
    TO_BOTH,
    UpstreamServer,
    half_reader,
    open_upstream,
    relay_to,
)
from tests.support.waiting import until

MESSAGE: list[Octets] = [b"Subject: Spring\r\n\r\n", b".Hello\r\n..\r\n\r\n.\r\nJane\r\n"]
# More than the sockets between two ends of a loopback connection hold.
LARGE: list[Octets] = [b"Subject: Spring\r\n\r\n", b".0123456789abcde\r\n" * 900_000]


# -- transactions ------------------------------------------------------------------------------


@pytest.mark.parametrize("offers", [(), ("PIPELINING",)], ids=["lock step", "pipelined"])
async def test_messages_arrive_octet_for_octet_over_one_connection(offers: tuple[str]) -> None:
    async with open_upstream(*offers) as server, relay_to(server) as upstream:
        for _ in range(3):
            delivery = await deliver(upstream, TO_BOTH, MESSAGE)
            assert str(delivery.reply) == "250 2.0.0 queued"
            assert [entry.mailbox for entry in delivery.recipients] == [BOB, CAROL]
        (visit,) = server.visits
        assert visit.messages == [b"".join(MESSAGE)] * 3
        assert visit.verbs == ["EHLO", *["MAIL", "RCPT", "RCPT", "DATA"] * 3]
        assert upstream.extensions == frozenset({*offers, "HELP"})
        assert (upstream.open_connections, upstream.idle_connections) == (1, 1)
        assert (upstream.name, upstream.waiting) == ("next", 0)


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, 256 * 1024, 1_000_000])
async def test_a_message_of_any_size_arrives(size: int) -> None:
    octets = random.Random(size).choices([b".", b"\r\n", b"\r\n.", b"a", b"0123456789"], k=size)
    body = b"".join(octets)[:size].rstrip(b"\r\n") + b"\r\n"
    pieces: list[Octets] = [b"A: b\r\n\r\n", memoryview(body)[: size // 2], body[size // 2 :]]
    async with open_upstream("PIPELINING") as server, relay_to(server) as upstream:
        delivery = await deliver(upstream, TO_BOB, pieces)
        assert delivery.is_accepted
        assert server.messages == [b"A: b\r\n\r\n" + body]


@pytest.mark.parametrize("size", [64 * 1024 + 1, 256 * 1024, 266_240, 1_000_000])
async def test_a_large_message_arrives_in_chunks_as_it_is(size: int) -> None:
    body = b"".join(random.Random(size).choices([b".", b"\r\n.", b"0123456789"], k=size))[:size]
    pieces: list[Octets] = [b"A: b\r\n\r\n", memoryview(body)[: size // 2], body[size // 2 :]]
    async with (
        open_upstream("PIPELINING", "CHUNKING") as server,
        relay_to(server) as upstream,
    ):
        for _ in range(2):
            assert (await deliver(upstream, TO_BOTH, pieces)).is_accepted
        (visit,) = server.visits
        whole = b"A: b\r\n\r\n" + body
        assert visit.messages == [whole + (b"" if body.endswith(b"\r\n") else b"\r\n")] * 2
        assert "DATA" not in visit.verbs
        assert visit.commands[-1].endswith(" LAST")


async def test_no_chunk_follows_a_refused_one_and_the_connection_is_used_again() -> None:
    async with (
        open_upstream("PIPELINING", "CHUNKING") as server,
        relay_to(server) as upstream,
    ):
        server.answers["BDAT"] = "552 5.3.4 too big"
        server.answers["MESSAGE"] = "503 5.5.1 no transaction"
        delivery = await deliver(upstream, TO_BOB, LARGE)
        assert str(delivery.reply) == "552 5.3.4 too big"
        assert upstream.idle_connections == 1
        (visit,) = server.visits
        assert visit.verbs.count("BDAT") < sum(map(len, LARGE)) // (256 * 1024)
        assert visit.verbs[-1] == "RSET"
        server.answers.clear()
        assert (await deliver(upstream, TO_BOB, MESSAGE)).is_accepted


@pytest.mark.parametrize("answer", [HANG_UP, SILENCE, "nonsense"])
async def test_no_clear_answer_to_the_last_chunk_is_in_doubt(answer: str) -> None:
    async with (
        open_upstream("PIPELINING", "CHUNKING") as server,
        relay_to(server) as upstream,
    ):
        server.answers["MESSAGE"] = answer
        with pytest.raises(DoubtError):
            await deliver(upstream, TO_BOB, [b"A: b\r\n\r\n", b"x" * 500_000])
        assert len(server.messages) == 1


@pytest.mark.parametrize("answer", [HANG_UP, SILENCE, "nonsense", "421 4.3.2 stopping"])
async def test_a_server_that_fails_before_the_last_chunk_accepted_nothing(answer: str) -> None:
    async with (
        open_upstream("PIPELINING", "CHUNKING") as server,
        relay_to(server) as upstream,
    ):
        server.answers["BDAT"] = answer
        with pytest.raises(UnsentError, match="upstream next: "):
            await deliver(upstream, TO_BOB, LARGE)
        assert server.messages == []
        assert upstream.open_connections == 0


async def test_any_refused_recipient_keeps_the_message_back_and_the_connection_lives() -> None:
    async with open_upstream("PIPELINING") as server, relay_to(server) as upstream:
        server.answers["RCPT"] = lambda command: (
            "550 5.1.1 no such user" if "carol" in command else "250 2.1.5 ok"
        )
        delivery = await deliver(upstream, TO_BOTH, MESSAGE)
        assert not delivery.is_accepted
        assert [entry.mailbox for entry in delivery.refused] == [CAROL]
        assert (await deliver(upstream, TO_BOB, MESSAGE)).is_accepted
        (visit,) = server.visits
        assert visit.verbs[1:] == ["MAIL", "RCPT", "RCPT", "RSET", "MAIL", "RCPT", "DATA"]
        assert len(visit.messages) == 1


async def test_a_refused_message_is_a_delivery_with_that_reply() -> None:
    async with open_upstream("PIPELINING") as server, relay_to(server) as upstream:
        server.answers["MESSAGE"] = "554 5.6.0 no thanks"
        delivery = await deliver(upstream, TO_BOB, MESSAGE)
        assert str(delivery.reply) == "554 5.6.0 no thanks"
        assert upstream.idle_connections == 1


async def test_what_the_server_cannot_take_is_not_sent_and_costs_no_connection() -> None:
    async with open_upstream("PIPELINING") as server, relay_to(server) as upstream:
        envelope = Envelope.of(ReversePath(ALICE), [BOB], body_8bit=True)
        with pytest.raises(UnsentError, match="needs-8bitmime"):
            await deliver(upstream, envelope, MESSAGE)
        assert (await deliver(upstream, TO_BOB, MESSAGE)).is_accepted
        assert len(server.visits) == 1


# -- misfortunes -------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [HANG_UP, SILENCE, "354 go on", "250-half\r\n", "nonsense"])
async def test_no_clear_answer_after_the_dot_is_in_doubt_and_never_tried_again(
    answer: str,
) -> None:
    async with open_upstream("PIPELINING") as server, relay_to(server) as upstream:
        assert (await deliver(upstream, TO_BOB, MESSAGE)).is_accepted
        server.answers["MESSAGE"] = answer
        with pytest.raises(DoubtError):
            await deliver(upstream, TO_BOB, MESSAGE)
        assert len(server.messages) == 2
        assert len(server.visits) == 1
        assert upstream.open_connections == 0


@rows("verb", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA"])
@rows("answer", [HANG_UP, SILENCE, "nonsense", "421 4.3.2 stopping"])
async def test_nothing_is_accepted_before_the_dot(verb: str, answer: str) -> None:
    async with open_upstream() as server, relay_to(server) as upstream:
        server.answers[verb] = answer
        with pytest.raises(UnsentError, match="upstream next: "):
            await deliver(upstream, TO_BOB, MESSAGE)
        assert server.messages == []
        assert len(server.visits) == 1
        assert upstream.open_connections == 0


async def test_a_deadline_ends_a_transaction_that_drags_on() -> None:
    async with open_upstream() as server, relay_to(server, deadline_s=4) as upstream:
        server.answers["RCPT"] = SILENCE
        with pytest.raises(UnsentError, match="RCPT before the deadline"):
            await deliver(upstream, TO_BOB, MESSAGE)


async def test_a_refusal_in_the_middle_of_a_message_is_the_verdict() -> None:
    async with half_reader(then="refuse") as upstream:
        delivery = await deliver(upstream, TO_BOB, LARGE)
        assert str(delivery.reply) == "552 5.3.4 too big"
        assert upstream.open_connections == 0


async def test_a_connection_that_breaks_in_the_middle_of_a_message_leaves_no_doubt() -> None:
    async with half_reader(then="hang up") as upstream:
        with pytest.raises(UnsentError):
            await deliver(upstream, TO_BOB, LARGE)


async def test_a_server_that_stops_reading_a_message_leaves_no_doubt() -> None:
    async with half_reader(then="stop reading") as upstream:
        with pytest.raises(UnsentError, match="no answer to the message"):
            await deliver(upstream, TO_BOB, LARGE)


# -- connecting --------------------------------------------------------------------------------


async def test_a_port_where_nobody_listens_is_unavailable() -> None:
    async with open_upstream() as server:
        config = server.config()
    tasks = TaskOwner()
    upstream = PooledUpstream(config, clock=MovableClock(), tasks=tasks)
    with pytest.raises(
        UnsentError, match=r"^upstream next: cannot connect: connection refused$"
    ):
        await deliver(upstream, TO_BOB, MESSAGE)
    assert upstream.open_connections == 0


async def test_every_address_is_tried_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_upstream() as server, relay_to(server, host="mx.example.net") as upstream:

        def addresses(_: str, port: int) -> list[Any]:
            kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            return [(*kind, (host, port)) for host in ("127.0.0.2", "127.0.0.1")]

        monkeypatch.setattr("smtpgate.relay.names.look_up", addresses)
        assert (await deliver(upstream, TO_BOB, MESSAGE)).is_accepted


async def test_a_name_that_does_not_resolve_is_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nothing(_: str, __: int) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async with open_upstream() as server, relay_to(server, host="mx.example.net") as upstream:
        monkeypatch.setattr("smtpgate.relay.names.look_up", nothing)
        with pytest.raises(UnsentError, match="name or service not known"):
            await deliver(upstream, TO_BOB, MESSAGE)


async def test_an_address_that_does_not_answer_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A listener whose queue is full lets connections hang."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.2", 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.2", port))

        looked_up: list[str] = []

        def addresses(name: str, _: int) -> list[Any]:
            looked_up.append(name)
            kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            return [(*kind, ("127.0.0.2", port)), (*kind, ("127.0.0.1", port))]

        facts = UpstreamServer((), None)
        server = await asyncio.start_server(facts.serve, "127.0.0.1", port)
        facts.port = port
        async with relay_to(facts, host="mx.example.net") as upstream:
            monkeypatch.setattr("smtpgate.relay.names.look_up", addresses)
            delivery = asyncio.ensure_future(deliver(upstream, TO_BOB, MESSAGE))
            await until(lambda: bool(looked_up))
            await asyncio.sleep(0.01)
            await move_loop(2.5)
            assert (await delivery).is_accepted
        server.close()
        await facts.close()
        for filler in fillers:
            filler.close()
