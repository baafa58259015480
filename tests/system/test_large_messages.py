"""Messages that are larger than memory is given them: their bodies are in unnamed files."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop

from tests.support.dialog import Dialog
from tests.support.forgetful import Forgetful
from tests.support.inprocess import Opened, auth_plain, client_tls, is_signed, login, send
from tests.support.large import (
    HEAD,
    LINE,
    SMALL_SPOOL,
    begin,
    body,
    open_files,
    open_spooling_gate,
)
from tests.support.rows import rows
from tests.support.upstream_server import HOLD, open_upstream
from tests.support.waiting import until

pytestmark = pytest.mark.slow

# -- there and back ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("size", [60_000, 65_536, 70_000, 400_000])
async def test_a_message_of_any_size_arrives_octet_for_octet_and_signed(
    tmp_path: Path, size: int
) -> None:
    text = body(size)
    async with open_spooling_gate(tmp_path) as (gate, sink):
        dialog = await login(gate)
        for _ in range(2):  # the second over a kept connection
            assert (await send(dialog, HEAD + text)).startswith("250 2.0.0 Ok ")
        for delivered in sink.messages:
            assert delivered.content.partition(b"\r\n\r\n")[2] == text
            assert b"X-SES" not in delivered.content
            assert is_signed(delivered.content)
        assert gate.client_sockets.open


@pytest.mark.parametrize("listener", ["tls", "starttls"])
def test_a_large_message_arrives_over_tls_and_uvloop(tmp_path: Path, listener: str) -> None:
    async def scene() -> None:
        async with open_spooling_gate(tmp_path) as (gate, sink):
            port, context = gate.listeners[listener].port, client_tls()
            dialog = await Dialog.open(port, context if listener == "tls" else None)
            await dialog.reply()
            await dialog.say("EHLO client.example")
            if listener == "starttls":
                await dialog.say("STARTTLS")
                await dialog.start_tls(context)
                await dialog.say("EHLO client.example")
            assert (await dialog.say(f"AUTH PLAIN {auth_plain()}")).startswith("235")
            text = body(300_000)
            assert (await send(dialog, HEAD + text)).startswith("250 2.0.0 Ok ")
            assert is_signed(sink.messages[0].content)
            assert sink.messages[0].content.endswith(text)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scene())


async def test_the_body_is_in_a_file_until_the_upstream_has_the_message(tmp_path: Path) -> None:
    async with (
        open_upstream("PIPELINING") as upstream,
        open_spooling_gate(tmp_path, port=upstream.port) as (gate, _),
    ):
        upstream.answers["MESSAGE"] = HOLD
        sending = asyncio.create_task(send(await login(gate), HEAD + LINE * 10_000))
        await upstream.until(lambda: bool(upstream.messages))
        assert open_files(tmp_path) == 1
        state = tmp_path / "state"
        assert not [path for path in state.iterdir() if path.name.startswith("spooled")]
        assert [one.value for one in gate.spool.readings()] == [1, len(LINE) * 10_000]
        upstream.release()
        assert (await sending).startswith("250")


async def test_commands_behind_the_final_dot_are_obeyed(tmp_path: Path) -> None:
    async with open_spooling_gate(tmp_path) as (gate, sink):
        dialog = await begin(gate, HEAD + LINE * 10_000 + b".\r\nNOOP\r\nQUIT\r\n")
        assert [(await dialog.reply())[:3] for _ in range(3)] == ["250", "250", "221"]
        assert len(sink.messages) == 1


async def test_a_message_that_comes_in_drops_is_taken_in_whole(tmp_path: Path) -> None:
    octets = HEAD + body(150_000)
    wire = octets.replace(b"\r\n.", b"\r\n..") + b".\r\n"
    async with open_spooling_gate(tmp_path) as (gate, sink):
        dialog = await begin(gate)
        for at in range(0, len(wire), 1447):
            await dialog.send(wire[at : at + 1447])
            await asyncio.sleep(0)
        assert (await dialog.reply()).startswith("250 2.0.0 Ok ")
        assert is_signed(sink.messages[0].content)


async def test_bare_line_feeds_of_a_large_message_are_normalized(tmp_path: Path) -> None:
    settings = SMALL_SPOOL + 'bare_lf = "normalize"\n'
    async with open_spooling_gate(tmp_path, sections=settings) as (gate, sink):
        octets = HEAD + b"line\n.\n..x\r\n" * 6_000
        dialog = await begin(gate, octets + b"\r\n.\r\n")
        assert (await dialog.reply()).startswith("250 2.0.0 Ok ")
        text = b"line\r\n.\r\n.x\r\n" * 6_000
        assert sink.messages[0].content.partition(b"\r\n\r\n")[2] == text + b"\r\n"
        assert is_signed(sink.messages[0].content)


# -- refusals ----------------------------------------------------------------------------------


@pytest.fixture
async def spooling(tmp_path: Path) -> AsyncIterator[Opened]:
    """A gate that keeps little in memory."""
    async with open_spooling_gate(tmp_path) as opened:
        yield opened


@rows(
    "spoilt, reply",
    [
        (b"a bare\nline feed\r\n", "554 5.6.0"),
        (b"a bare\rcarriage return\r\n", "554 5.6.0"),
        (b"a \0\r\n", "554 5.6.0"),
        (b"x" * 999 + b"\r\n", "554 5.6.0"),
    ],
    ids=["LF", "CR", "NUL", "long line"],
)
async def test_what_is_refused_in_memory_is_refused_in_a_file(
    spooling: Opened, spoilt: bytes, reply: str
) -> None:
    gate, sink = spooling
    before = len(sink.messages)
    dialog = await login(gate)
    refusals = []
    for size in (10, 5000):
        octets = HEAD + LINE * size + spoilt
        refusals.append((await send(dialog, octets)).partition("(")[0].replace("5001", "11"))
    assert refusals[0].startswith(reply)
    assert refusals[0] == refusals[1]
    assert (await send(dialog, HEAD + LINE)).startswith("250")
    assert len(sink.messages) == before + 1


async def test_a_large_message_with_a_header_block_that_is_too_large_is_refused(
    tmp_path: Path,
) -> None:
    async with open_spooling_gate(tmp_path) as (gate, sink):
        dialog = await login(gate)
        fields = b"X-Large: 0123456789\r\n" * 20_000
        reply = await send(dialog, fields + HEAD + LINE)
        assert reply.startswith("554 5.6.0")
        assert "larger than 262144 octets" in reply
        assert not sink.messages


async def test_a_large_message_that_is_too_long_is_read_to_its_end(tmp_path: Path) -> None:
    async with open_spooling_gate(tmp_path, gate="max_message_octets = 300000") as (gate, sink):
        dialog = await begin(gate, HEAD + LINE * 4000)
        await until(lambda: open_files(tmp_path) == 1)
        await dialog.send(LINE * 4000)
        await until(lambda: open_files(tmp_path) == 0)
        await dialog.send(b".\r\n")
        assert (await dialog.reply()).startswith("552 5.3.4")
        assert (await send(dialog, HEAD + LINE)).startswith("250")
        assert len(sink.messages) == 1


# -- ends --------------------------------------------------------------------------------------


async def test_a_client_that_leaves_in_the_middle_leaves_no_file(tmp_path: Path) -> None:
    async with open_spooling_gate(tmp_path) as (gate, sink):
        dialog = await begin(gate, HEAD + LINE * 4000)
        await until(lambda: open_files(tmp_path) == 1)
        await dialog.close()
        await until(lambda: open_files(tmp_path) == 0)
        await until(lambda: not gate.client_sockets.open)
        assert not sink.messages


async def test_a_stop_cuts_off_a_large_message_that_is_not_complete(tmp_path: Path) -> None:
    async with open_spooling_gate(tmp_path) as (gate, sink):
        dialog = await begin(gate, HEAD + LINE * 4000)
        await until(lambda: open_files(tmp_path) == 1)
        stopping = asyncio.create_task(gate.stop(drain_s=0))
        assert (await dialog.reply()).startswith("421")
        await dialog.close()
        await stopping
        assert not sink.messages


async def test_a_stop_lets_a_large_message_that_is_complete_end(tmp_path: Path) -> None:
    async with (
        open_upstream("PIPELINING") as upstream,
        open_spooling_gate(tmp_path, port=upstream.port) as (gate, _),
    ):
        upstream.answers["MESSAGE"] = HOLD
        sending = asyncio.create_task(send(await login(gate), HEAD + LINE * 10_000))
        await upstream.until(lambda: bool(upstream.messages))
        stopping = asyncio.create_task(gate.stop(drain_s=0, finish_s=10))
        await asyncio.sleep(0)
        upstream.release()
        assert (await sending).startswith("250")
        await stopping


# -- memory ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "spool_octets", "most"),
    [(3_000_000, 3_100_000, 2.4), (4_000_000, 65_536, 0.6)],
    ids=["in memory", "in a file"],
)
async def test_a_message_costs_two_copies_in_memory_or_a_file(
    tmp_path: Path, octets: int, spool_octets: int, most: float
) -> None:
    wire = HEAD + b"..0123456789abcdef\r\n" * (octets // 20) + b".\r\n"
    server = await asyncio.get_running_loop().create_server(Forgetful, "127.0.0.1", 0)
    settings = f"[message]\nspool_octets = {spool_octets}\n"
    port = server.sockets[0].getsockname()[1]
    async with server, open_spooling_gate(tmp_path, port=port, sections=settings) as (gate, _):
        dialog = await begin(gate)
        tracemalloc.start()
        try:
            for at in range(0, len(wire), 65_536):
                await dialog.send(wire[at : at + 65_536])
            assert (await dialog.reply()).startswith("250")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < most * octets
