"""Messages in chunks (RFC 3030): the octets of each are the message's, whatever they are."""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest

from smtpgate.core.message.body import StoredMessage, head_of, pieces_of
from smtpgate.core.message.envelope import Submission
from smtpgate.core.reply import Reply, reply_of
from smtpgate.gate.gate import Gate
from smtpgate.ports import ClientGone
from tests.support.clock import move_loop
from tests.support.dialog import Dialog
from tests.support.inprocess import MESSAGE, Opened, is_signed, login, open_gate, send
from tests.support.rows import rows
from tests.support.waiting import until

pytestmark = pytest.mark.slow

BODY = "\r\n.\r\nMAIL FROM:<ceo@ses-example.com>\r\n..\r\nDATA\r\n.\r\n"
SPOOLED = "max_message_octets = 400000"
SMALL_SPOOL = "[message]\nspool_octets = 70000"


async def begin(dialog: Dialog) -> None:
    """A transaction up to BDAT."""
    for command in ("MAIL FROM:<marketing@ses-example.com>", "RCPT TO:<jane@example.net>"):
        assert (await dialog.say(command)).startswith("250")


async def send_chunks(dialog: Dialog, *chunks: bytes, ends: bool = True) -> list[str]:
    """The chunks of a message, pipelined, and their replies."""
    last = len(chunks) - 1 if ends else None
    for number, chunk in enumerate(chunks):
        word = b" LAST" if number == last else b""
        await dialog.send(b"BDAT %d%s\r\n%s" % (len(chunk), word, chunk))
    return [await dialog.reply() for _ in chunks]


def cut(message: bytes, *places: int) -> list[bytes]:
    return [message[a:b] for a, b in pairwise((0, *places, len(message)))]


def see_submissions(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The messages that come to the pipeline, which accepts them all."""
    seen: list[bytes] = []

    async def submit(submission: Submission, *, client_gone: ClientGone = None) -> Reply:
        assert client_gone is not None
        message = submission.message
        body = b"".join(pieces_of(message.body)) if isinstance(message, StoredMessage) else b""
        seen.append(head_of(message) + body)
        return reply_of("accepted", message_id=submission.message_id)

    monkeypatch.setattr(gate.listeners["plain"].parts.pipeline, "submit", submit)
    return seen


async def test_a_message_in_chunks_is_relayed_and_signed_as_one_in_data(tmp_path: Path) -> None:
    message = MESSAGE + BODY
    async with open_gate(tmp_path) as (gate, sink):
        dialog = await login(gate)
        assert (await send(dialog, message)).startswith("250")
        await begin(dialog)
        assert (await send_chunks(dialog, *cut(message.encode(), 1, 100, 305)))[-1].startswith(
            "250 2.0.0 Ok 0100"
        )
        first, second = (one.content for one in sink.messages)
        assert first.partition(b"\r\n\r\n")[2] == second.partition(b"\r\n\r\n")[2]
        assert is_signed(first)
        assert is_signed(second)


@rows("end", [b"no line end", b"a\r\n", b"\r\n.\r\n", b".", b"\r\n."])
async def test_the_last_line_may_be_without_its_end(usual: Opened, end: bytes) -> None:
    gate, sink = usual
    dialog = await login(gate)
    await begin(dialog)
    assert (await send_chunks(dialog, MESSAGE.encode() + end))[-1].startswith("250 2.0.0 Ok")
    relayed = sink.messages[-1].content
    body = relayed.partition(b"\r\n\r\n")[2]
    assert body.removesuffix(b"\r\n") == (b"Hello Jane.\r\n" + end).removesuffix(b"\r\n")
    assert is_signed(relayed)


@rows("end", [b"a\nb", b"\n", b"a\rb", b"\r", b"\n.\n", b"a\0b"])
async def test_the_rules_of_lines_hold_in_chunks_too(usual: Opened, end: bytes) -> None:
    gate, sink = usual
    dialog = await login(gate)
    await begin(dialog)
    replies = await send_chunks(dialog, MESSAGE.encode(), end)
    assert replies[-1].startswith("554 5.6.0 Transaction failed")
    assert not sink.messages


async def test_a_large_message_goes_to_a_file_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = MESSAGE.encode() + BODY.encode() * 2_800 + b"the end\r\n.."
    size = len(message)
    async with open_gate(tmp_path, gate=SPOOLED, sections=SMALL_SPOOL) as (gate, _):
        seen = see_submissions(gate, monkeypatch)
        dialog = await login(gate)
        for places in ((), (69_000,), (70_500,), (1, 2, 69_999, 140_000), (size - 1,)):
            for rest in ([], [b""]):
                await begin(dialog)
                replies = await send_chunks(dialog, *cut(message, *places), *rest)
                assert all(reply.startswith("250") for reply in replies)
                assert seen.pop() == message
        intake = gate.listeners["plain"].parts.intake
        assert (intake.taken, intake.files, intake.spooled.taken) == (0, 0, 0)


async def test_line_ends_are_made_whole_without_a_look_at_dots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = SMALL_SPOOL + '\nbare_lf = "normalize"'
    async with open_gate(tmp_path, gate=SPOOLED, sections=sections) as (gate, _):
        seen = see_submissions(gate, monkeypatch)
        dialog = await login(gate)
        for lines in (10, 15_000):
            message = b"From: a@example.com\n\n" + b"..a\n.\n" * lines + b".\r\n.b\n."
            await begin(dialog)
            await send_chunks(dialog, *cut(message, 19, 20, 40, len(message) - 6))
            assert seen.pop() == message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


async def test_chunks_beyond_the_largest_message_are_thrown_away(tmp_path: Path) -> None:
    async with open_gate(tmp_path, gate="max_message_octets = 1024") as (gate, sink):
        dialog = await login(gate)
        await begin(dialog)
        commands = b"RSET\r\n" * 200
        first, second, third = await send_chunks(dialog, b"x" * 900, commands, commands)
        assert first.startswith("250")
        assert second == "552 5.3.4 Message is too long."
        assert third.startswith("503 5.5.1")
        await begin(dialog)
        assert (await send_chunks(dialog, MESSAGE.encode()))[-1].startswith("250")
        assert len(sink.messages) == 1
        assert gate.listeners["plain"].parts.intake.taken == 0


async def test_a_client_may_pipeline_many_chunks_behind_a_refused_one(tmp_path: Path) -> None:
    size, errors = "max_message_octets = 1024", "max_errors = 3"
    async with open_gate(tmp_path, gate=size, listener=errors) as (gate, _):
        dialog = await login(gate)
        await begin(dialog)
        replies = await send_chunks(dialog, b"x" * 1025, *[b"y"] * 20)
        assert [reply[:3] for reply in replies] == ["552", *["503"] * 20]
        assert (await dialog.say("NOOP")).startswith("250")


async def test_chunks_that_have_come_take_room_until_they_are_forgotten(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog, intake = await login(gate), gate.listeners["plain"].parts.intake
        for command in ("RSET", "EHLO client.example", "DATA", "QUIT"):
            await begin(dialog)
            await send_chunks(dialog, b"x" * 500, b"y" * 400, ends=False)
            assert intake.taken == 900
            await dialog.say(command)
            assert intake.taken == 0


async def test_the_time_of_a_message_goes_on_between_its_chunks(tmp_path: Path) -> None:
    async with open_gate(tmp_path, listener="data_timeout_s = 30") as (gate, _):
        dialog = await login(gate)
        await begin(dialog)
        await send_chunks(dialog, b"x", ends=False)
        await move_loop(20)
        assert (await dialog.say("NOOP")).startswith("250")
        await send_chunks(dialog, b"x", ends=False)
        await move_loop(11)
        assert (await dialog.reply()).startswith("421 4.4.2")
        assert await dialog.is_closed()


async def test_an_empty_chunk_that_is_not_the_last_brings_nothing_nearer(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path, listener="max_junk_commands = 3\nmax_errors = 2") as (
        gate,
        _,
    ):
        dialog = await login(gate)
        await begin(dialog)
        replies = await send_chunks(dialog, *[b""] * 4, ends=False)
        assert [reply[:3] for reply in replies] == ["250"] * 4  # two more than EHLO leaves
        assert (await dialog.reply()).startswith("421 4.7.0 Too many errors")


async def test_a_client_that_leaves_between_chunks_has_sent_nothing(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, sink):
        dialog = await login(gate)
        await begin(dialog)
        await send_chunks(dialog, MESSAGE.encode(), ends=False)
        dialog.writer.write_eof()
        assert await dialog.is_closed()
        assert gate.listeners["plain"].parts.intake.taken == 0
        await gate.log.flush()
        assert '"by":"client"' in (tmp_path / "log").read_text()
        assert not sink.messages


async def test_a_gate_that_stops_lets_the_chunks_of_a_message_come(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, sink):
        dialog = await login(gate)
        await begin(dialog)
        await send_chunks(dialog, MESSAGE.encode(), ends=False)
        stopping = asyncio.create_task(gate.stop(drain_s=5, finish_s=5))
        await asyncio.sleep(0)
        assert (await send_chunks(dialog, b"more"))[-1].startswith("250 2.0.0 Ok 0100")
        assert (await dialog.reply()).startswith("421 4.3.2")
        await stopping
        assert len(sink.messages) == 1


@pytest.mark.slow
async def test_a_client_that_reads_no_replies_to_its_chunks_is_not_read_from(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await login(gate)
        await begin(dialog)
        wire, chunks = cast("asyncio.Transport", dialog.writer.transport), 150_000
        wire.pause_reading()
        (session,) = gate.listeners["plain"]._sessions
        dialog.writer.write(b"BDAT 1\r\nx" * chunks)
        await until(lambda: session._writable is not None and session._is_paused)
        assert len(session._input) < 200_000, "no message has been charged with it"
        wire.resume_reading()
        first = await dialog.reply()
        assert first.startswith("250")
        await dialog.reader.readexactly((len(first) + 2) * (chunks - 1))
