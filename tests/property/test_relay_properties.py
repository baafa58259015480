"""Pool and connections against a server whose every reply can go wrong, and cancellations.

The server says which final dots left and which of its verdicts arrived; what the relay says of
each message must follow from that, whatever happened.
"""

import asyncio
from collections.abc import Sequence
from itertools import product, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from smtpgate.clock import SystemClock
from smtpgate.core.upstream import Answered, Delivery, InDoubt, NotSent
from smtpgate.ports import DeliveryAttempt
from smtpgate.relay import PooledUpstream
from smtpgate.tasks import TaskOwner
from tests.support.rows import rows
from tests.support.scripted_upstream import (
    MISHAPS,
    Mishap,
    ScriptedLoop,
    ScriptedUpstream,
    on_scripted_loop,
)
from tests.support.upstream_server import TO_BOB, TO_BOTH, UpstreamServer

_TURNS_A_PAUSE = 25  # after so many turns of the loop without news, time passes
_PAUSE_S = 2.0
_MAX_TURNS = 4000
_CHUNKS = [b"a" * 200_000, b"b" * 200_000, b"c" * 200_000]
_FIVE_FINE: list[Mishap] = ["fine", "fine", "fine", "fine", "fine"]


class Sending:
    """One message, and what the relay said of it in the end."""

    def __init__(
        self,
        number: int,
        cancel_at: int | None = None,
        *,
        gone_at: int | None = None,
        is_binary: bool = False,
    ) -> None:
        self.number = number
        self.is_binary = is_binary
        self.cancel_at = cancel_at
        self.gone_at = gone_at
        self.restart()

    def restart(self) -> None:
        """Forget what became of it."""
        self.attempt = DeliveryAttempt(str(self.number % 2))
        self.task: asyncio.Task[Delivery] | None = None

    def start(self, pool: PooledUpstream) -> None:
        self.attempt.client_gone = asyncio.get_running_loop().create_future()
        message = [b"Subject: %d\r\n\r\n" % self.number, b"Hello\r\n"]
        envelope = TO_BOTH if self.number % 3 == 2 else TO_BOB
        if self.is_binary:  # it goes out in chunks
            message += _CHUNKS
            envelope = structs.replace(envelope, body_binary=True)
        self.task = asyncio.create_task(pool.deliver(envelope, message, self.attempt))

    @property
    def is_done(self) -> bool:
        return self.task is not None and self.task.done()

    def outcome(self) -> Delivery | BaseException | None:
        """The verdict, the error, or ``None`` when it was cut short and nothing is certain."""
        assert self.task is not None
        if self.task.cancelled():
            return self.attempt.certain
        return self.task.exception() or self.task.result()


async def carry_out(
    pool: PooledUpstream, loop: ScriptedLoop, sendings: Sequence[Sending]
) -> None:
    """Start one message a turn, and go on until every one has its end."""
    for turn in range(_MAX_TURNS):
        for sending in sendings:
            if turn == sending.number:
                sending.start(pool)
            if turn == sending.cancel_at and sending.task is not None:
                sending.task.cancel()
            if turn == sending.gone_at and sending.attempt.client_gone is not None:
                sending.attempt.client_gone.set_result(None)
        if all(sending.is_done for sending in sendings):
            return
        if turn % _TURNS_A_PAUSE == _TURNS_A_PAUSE - 1:
            loop.ahead_s += _PAUSE_S
        await asyncio.sleep(0)
    raise AssertionError("a delivery never ended")


def judge(upstream: ScriptedUpstream, sending: Sending) -> None:
    """Hold what the relay said against what the server knows."""
    number, outcome = sending.number, sending.outcome()
    departures = upstream.sent.count(number)
    assert departures <= 1, "a message was sent twice"
    verdicts = upstream.accepted | upstream.refused
    match outcome:
        case Answered():
            words = outcome.reply.text.split()
            if words[0] in ("queued", "refused"):
                assert int(words[1]) == number, "it is the verdict on another message"
            if outcome.is_accepted:
                assert words[0] == "queued"
                assert number in upstream.accepted
            else:
                assert number not in upstream.accepted
                is_refused = number in upstream.refused
                # A chunk may be refused before the last one leaves.
                assert departures == is_refused or (sending.is_binary and is_refused)
        case InDoubt():
            assert departures == 1, "in doubt, and the final dot never left"
            assert number not in verdicts, "a verdict was lost"
        case NotSent() | None:
            assert number not in upstream.accepted, "an acceptance was lost"
            assert not departures or number in upstream.refused, "the final dot had left"
        case _:
            raise outcome


def hold(
    script: Sequence[Mishap],
    sendings: Sequence[Sending],
    max_connections: int,
    *,
    is_pipelining: bool = True,
    is_chunking: bool = False,
    after_message: Mishap | None = None,
    max_wires: int | None = None,
    deadline_s: float = 10,
) -> ScriptedUpstream:
    """Send the messages, judge each of them, and see that the pool is whole afterwards."""
    upstream = ScriptedUpstream(
        script,
        is_pipelining=is_pipelining,
        is_chunking=is_chunking,
        after_message=after_message,
        max_wires=max_wires,
    )

    async def scene(loop: ScriptedLoop) -> None:
        tasks = TaskOwner()
        config = UpstreamServer((), None).config(
            max_connections=max_connections, deadline_s=deadline_s
        )
        pool = PooledUpstream(config, clock=SystemClock(), tasks=tasks)
        await carry_out(pool, loop, sendings)
        assert pool.waiting == 0
        upstream.script.clear()
        upstream.close_all()
        for _ in range(_TURNS_A_PAUSE):
            await asyncio.sleep(0)
        last = Sending(999)
        last.start(pool)
        assert last.task is not None
        delivery = await last.task
        assert isinstance(delivery, Answered), "the pool is of no use any more"
        assert delivery.is_accepted, "the pool is of no use any more"
        await pool.close()
        loop.ahead_s += 10
        await tasks.drain(1)
        assert pool.open_connections == 0
        judge(upstream, last)

    on_scripted_loop(upstream, scene)
    for sending in sendings:
        judge(upstream, sending)
    return upstream


scripts = st.lists(st.sampled_from(["fine", *MISHAPS]), max_size=24)
turns = st.none() | st.integers(1, 60)
ends = st.lists(st.tuples(turns, turns), min_size=1, max_size=7)


@given(scripts, ends, st.integers(1, 3))
def test_every_message_has_its_own_verdict_and_doubt_is_there_exactly_when_it_must_be(
    script: list[Mishap], ends: list[tuple[int | None, int | None]], max_connections: int
) -> None:
    sendings = [
        Sending(number, cancel_at, gone_at=gone_at)
        for number, (cancel_at, gone_at) in enumerate(ends)
    ]
    hold(script, sendings, max_connections)
    for sending in sendings:
        sending.restart()
    hold(script, sendings, max_connections, is_pipelining=False)


@given(scripts, ends, st.integers(1, 3))
def test_every_message_in_chunks_has_its_own_verdict_too(
    script: list[Mishap], ends: list[tuple[int | None, int | None]], max_connections: int
) -> None:
    sendings = [
        Sending(number, cancel_at, gone_at=gone_at, is_binary=number % 3 != 1)
        for number, (cancel_at, gone_at) in enumerate(ends)
    ]
    hold(script, sendings, max_connections, is_chunking=True)


@pytest.mark.parametrize("first", ["fine", "close-with", "twice", "echo"])
def test_a_delivery_cancelled_in_any_turn_of_the_loop_loses_and_invents_nothing(
    first: Mishap,
) -> None:
    outcomes = set()
    for turn, followers in product(range(1, 30), (1, 2)):
        sendings = [Sending(0, turn), *map(Sending, range(1, 1 + followers))]
        script: list[Mishap] = [*_FIVE_FINE, first]  # greeting, EHLO, MAIL, RCPT, DATA
        hold(script, sendings, 1)
        outcomes.add(type(sendings[0].outcome()))
    assert outcomes == {type(None), InDoubt, Answered}


@pytest.mark.slow
@rows("mishap", MISHAPS)
@rows("place", range(12))
@rows("way", ["pipelined", "lock step", "in chunks"])
def test_one_mishap_at_any_reply_loses_and_invents_nothing(
    mishap: Mishap, place: int, way: str
) -> None:
    fine: Mishap = "fine"
    script = [*repeat(fine, place), mishap]
    in_chunks = way == "in chunks"
    sendings = [Sending(number, is_binary=in_chunks) for number in range(4)]
    hold(script, sendings, 1, is_pipelining=way != "lock step", is_chunking=in_chunks)


@pytest.mark.parametrize("end", ["close-with", "close-after", "close-later"])
def test_a_server_that_closes_after_each_message_costs_none(end: Mishap) -> None:
    sendings = [Sending(number) for number in range(20)]
    upstream = hold((), sendings, 2, after_message=end)
    assert upstream.accepted >= set(range(20))


@given(
    st.lists(st.sampled_from(["fine", "late", "pieces"]), max_size=24),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 8),
)
def test_while_any_connection_works_no_message_fails_because_another_was_refused(
    script: list[Mishap], max_wires: int, max_connections: int, messages: int
) -> None:
    sendings = [Sending(number) for number in range(messages)]
    after: Mishap = "fine"
    upstream = hold(
        script,
        sendings,
        max_connections,
        after_message=after,
        max_wires=max_wires,
        deadline_s=200,  # the replies may be slow, and the messages many
    )
    assert upstream.accepted >= set(range(messages))
