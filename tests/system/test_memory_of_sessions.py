"""Closed connections leave nothing behind that waits to be collected."""

import asyncio
import gc
import tracemalloc
import weakref
from pathlib import Path

import pytest
import uvloop

from smtpgate.gate.gate import Gate
from smtpgate.gate.memory import FreedMemory, trimmer
from smtpgate.tasks import TaskOwner
from tests.support.dialog import Dialog
from tests.support.inprocess import MESSAGE, auth_plain, client_tls, open_gate, send


async def _greeted(gate: Gate, listener: str) -> Dialog:
    dialog = await Dialog.open(gate.listeners[listener].port)
    await dialog.reply()
    await dialog.say("EHLO client.example")
    if listener == "starttls":
        await dialog.say("STARTTLS")
        await dialog.start_tls(client_tls())
        await dialog.say("EHLO client.example")
    return dialog


@pytest.mark.parametrize("listener", ["plain", "starttls"])
def test_a_session_that_ended_is_freed_without_the_garbage_collector(
    tmp_path: Path, listener: str
) -> None:
    uvloop.run(_serve_and_end(tmp_path, listener))  # as a gate does


async def _serve_and_end(tmp_path: Path, listener: str) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await _greeted(gate, listener)
        await dialog.say("FOO")
        (session,) = map(weakref.ref, gate.listeners[listener]._sessions)
        gc.disable()
        try:
            await dialog.say("QUIT")
            await dialog.close()
            await gate.sessions.finish(5)
            await asyncio.sleep(0)
            assert session() is None
        finally:
            gc.enable()


@pytest.mark.parametrize("listener", ["plain", "starttls"])
def test_a_session_that_waits_keeps_nothing_of_its_last_message(
    tmp_path: Path, listener: str
) -> None:
    uvloop.run(_serve_and_wait(tmp_path, listener))


async def _serve_and_wait(tmp_path: Path, listener: str) -> None:
    async with open_gate(tmp_path) as (gate, sink):
        dialog = await _greeted(gate, listener)
        assert (await dialog.say(f"AUTH PLAIN {auth_plain()}")).startswith("235")
        assert (await send(dialog)).startswith("250")  # what is made once is there
        tracemalloc.start()
        try:
            octets = MESSAGE.encode() + 12_000 * (b"x" * 70 + b"\r\n")
            assert (await send(dialog, octets)).startswith("250")
            await sink.wait_for(2)
            sink.messages.clear()
            size = len(octets)
            del octets
            gc.collect()
            async with asyncio.timeout(5):
                while tracemalloc.get_traced_memory()[0] > size / 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        finally:
            tracemalloc.stop()


async def test_memory_is_given_back_after_so_many_connections_and_not_for_each() -> None:
    trims: list[int] = []

    def trim(pad: int) -> int:
        trims.append(pad)
        return 1

    tasks = TaskOwner()
    freed = FreedMemory(tasks, trim, rest_s=0)
    for _ in range(127):
        freed.connection_closed()
    assert len(tasks) == 0
    for _ in range(300):
        freed.connection_closed()
    await tasks.finish(5)
    assert len(trims) == 2, "once more for the sessions that end last"
    freed.connection_closed()
    assert len(tasks) == 0


async def test_a_system_without_malloc_trim_is_left_alone() -> None:
    tasks = TaskOwner()
    freed = FreedMemory(tasks, None)
    for _ in range(1000):
        freed.connection_closed()
    assert len(tasks) == 0


def test_the_system_s_trimmer_can_be_called_where_there_is_one() -> None:
    trim = trimmer()
    if trim is not None:
        assert trim(0) in (0, 1)
