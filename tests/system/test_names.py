"""The upstream's name: resolved once for all, kept, and no message waits for it."""

import asyncio
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from smtpgate.relay.names import Address, Names
from tests.support.clock import move_loop, settle
from tests.support.inprocess import MESSAGE, login, open_gate, send
from tests.support.waiting import until

HERE: list[Address] = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 25))]
THERE: list[Address] = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.2", 25))]
IN_TROUBLE = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
NO_SUCH_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class Resolver:
    """Answers as it is set to, once it may; keeps count of its questions."""

    def __init__(self, answer: Sequence[Address] | OSError) -> None:
        self.answer = answer
        self.asked = 0
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self, host: str, port: int) -> Sequence[Address]:
        assert (host, port) == ("mx.example.net", 25)
        self.asked += 1
        assert self.may_answer.wait(10)
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer


def names_of(resolver: Resolver) -> Names:
    return Names("mx.example.net", 25, resolver)


async def asked(names: Names) -> Sequence[Address]:
    """The addresses, once a lookup under way has ended."""
    await names.addresses()
    await until(lambda: names._lookup is None)
    return await names.addresses()


async def test_an_answer_is_replaced_in_the_background_before_it_is_too_old() -> None:
    resolver = Resolver(HERE)
    names = names_of(resolver)
    for _ in range(3):
        assert await names.addresses() == HERE
    await move_loop(24)
    assert await names.addresses() == HERE
    assert resolver.asked == 1
    resolver.answer = THERE
    await move_loop(2)
    await until(lambda: names._lookup is None)
    assert await names.addresses() == THERE
    assert resolver.asked == 2
    resolver.may_answer.clear()
    await move_loop(26)
    assert await names.addresses() == THERE, "a lookup under way delays nothing yet"
    assert resolver.asked == 3
    resolver.may_answer.set()


async def test_a_name_that_is_not_used_is_not_looked_up_until_it_is() -> None:
    resolver = Resolver(HERE)
    names = names_of(resolver)
    await names.addresses()
    for _ in range(50):
        await move_loop(26)
        await until(lambda: names._lookup is None)
    assert resolver.asked == 1 + 600 // 26
    resolver.answer = THERE
    assert await asked(names) == THERE
    asked_by_then = resolver.asked
    names.close()
    await move_loop(60)
    assert resolver.asked == asked_by_then


async def test_all_that_wait_share_one_lookup() -> None:
    resolver = Resolver(HERE)
    resolver.may_answer.clear()
    names = names_of(resolver)
    waiting = [asyncio.create_task(names.addresses()) for _ in range(50)]
    await settle()
    waiting[0].cancel()
    await until(lambda: resolver.asked)
    resolver.may_answer.set()
    answers = await asyncio.gather(*waiting[1:])
    assert all(answer == HERE for answer in answers)
    assert resolver.asked == 1


async def test_the_old_answer_serves_while_the_resolver_fails() -> None:
    resolver = Resolver(HERE)
    names = names_of(resolver)
    await names.addresses()
    resolver.answer = IN_TROUBLE
    await move_loop(31)
    assert await asked(names) == HERE
    assert resolver.asked == 2
    await move_loop(4)
    assert await names.addresses() == HERE
    assert resolver.asked == 2, "not asked for a while after it failed"
    resolver.answer = THERE
    await move_loop(2)
    assert await asked(names) == THERE


async def test_the_old_answer_serves_while_the_resolver_hangs() -> None:
    resolver = Resolver(HERE)
    names = names_of(resolver)
    await names.addresses()
    resolver.may_answer.clear()
    await move_loop(31)
    first = asyncio.create_task(names.addresses())
    await settle()
    assert not first.done(), "it has a moment to answer"
    await move_loop(1)
    assert await first == HERE
    for _ in range(10):
        assert await names.addresses() == HERE
    assert resolver.asked == 2
    resolver.answer = THERE
    resolver.may_answer.set()
    assert await asked(names) == THERE


async def test_the_old_answer_serves_for_a_day_and_no_longer() -> None:
    resolver = Resolver(HERE)
    names = names_of(resolver)
    await names.addresses()
    resolver.answer = IN_TROUBLE
    await move_loop(86_390)
    assert await asked(names) == HERE
    await move_loop(11)
    with pytest.raises(socket.gaierror, match="Temporary failure"):
        await names.addresses()


async def test_that_there_is_no_such_name_is_an_answer() -> None:
    resolver = Resolver(HERE)
    names = names_of(resolver)
    await names.addresses()
    resolver.answer = NO_SUCH_NAME
    await move_loop(31)
    with pytest.raises(socket.gaierror, match="not known"):
        await asked(names)
    resolver.answer = THERE
    assert await names.addresses() == THERE


async def test_addresses_to_which_nothing_connects_are_asked_for_again() -> None:
    resolver = Resolver(HERE)
    names = names_of(resolver)
    await names.addresses()
    resolver.answer = THERE
    names.doubt()
    assert await asked(names) == THERE


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_address_in_numbers_needs_no_lookup(host: str) -> None:
    resolver = Resolver(IN_TROUBLE)
    (address,) = await Names(host, 25, resolver).addresses()
    assert address[4][0] == host
    assert not resolver.asked


async def test_an_error_of_another_kind_is_an_error_of_the_lookup() -> None:
    def ask(_host: str, _port: int) -> Sequence[Address]:
        raise UnicodeError("label too long")

    with pytest.raises(OSError, match="label too long"):
        await Names("mx.example.net", 25, ask).addresses()


async def test_a_lookup_that_outlives_the_loop_harms_nobody() -> None:
    resolver = Resolver(HERE)
    resolver.may_answer.clear()

    def run() -> None:
        async def give_up() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await names_of(resolver).addresses()

        asyncio.run(give_up())
        resolver.may_answer.set()

    await asyncio.to_thread(run)
    await until(lambda: not [one for one in threading.enumerate() if "names" in one.name])


# -- nobody's way ------------------------------------------------------------------------------


async def test_while_the_upstream_s_name_hangs_other_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large messages are read and signed in threads, and the log is written in one.

    None of them is asyncio's own, which may all hang as well.
    """
    hanging = threading.Event()
    resolver = Resolver(IN_TROUBLE)
    resolver.may_answer = hanging
    monkeypatch.setattr("smtpgate.relay.names.look_up", lambda host, _port: resolver(host, 25))
    async with open_gate(tmp_path, host="mx.example.net") as (gate, _):
        waiting = [asyncio.create_task(send(await login(gate))) for _ in range(12)]
        await until(lambda: resolver.asked)
        others = [asyncio.create_task(asyncio.to_thread(hanging.wait, 60)) for _ in range(64)]
        refused = MESSAGE.replace("marketing@", "ceo@") + "Hello.\r\n" * 100_000
        assert (await send(await login(gate), refused)).startswith("554 5.7.1 Access denied")
        await gate.log.flush()
        assert "implicit-deny" in (tmp_path / "log").read_text()
        assert not [task for task in waiting if task.done()]
        hanging.set()
        await asyncio.gather(*others)
        replies = await asyncio.gather(*waiting)
        assert all(reply.startswith("451 4.4.1 Upstream") for reply in replies)
        assert resolver.asked == 1
