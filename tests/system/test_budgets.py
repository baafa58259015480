"""The bounds of one client: each with a real socket, as its client sees it.

Each bound that a client reaches is a line of the log and a counter, by the name in the table.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import uvloop

from smtpgate.core.limits.budget import BUDGETS, BudgetName
from smtpgate.gate.gate import Gate
from tests.support.clock import MovableClock, move_loop, settle
from tests.support.dialog import Dialog
from tests.support.inprocess import (
    MESSAGE,
    Opened,
    auth_plain,
    client_tls,
    login,
    open_gate,
    send,
)
from tests.support.rows import rows
from tests.support.upstream_server import HOLD, open_upstream
from tests.support.waiting import until

pytestmark = pytest.mark.slow

IMPLICIT = "[listener.implicit]\naddress = '127.0.0.1'\nport = 0\ntls = 'implicit'\n"
IMPLICIT += "cert_file = 'tls.crt'\nkey_file = 'tls.key'\n"
TRUSTED = 'proxy_from = ["127.0.0.0/8"]\n'
FREE = "max_junk_commands = 1000000\n"
NO_ERROR_ENDS_IT = 'max_errors = 1000000\nearly_talkers = "allow"\n'


async def exhausted(gate: Gate, folder: Path, budget: BudgetName, listener: str) -> int:
    """The number of times that the budget was used up, as the log and the metrics agree."""
    await gate.log.flush()
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    output = [
        line
        for line in lines
        if line["event"] == "budget-exhausted"
        and (line["budget"], line["listener"]) == (budget, listener)
    ]
    for line in output:
        assert line["client"]
        assert line["key"] == BUDGETS[budget].key.replace(
            "listener.NAME", f"listener.{listener}"
        )
    series = f'smtpgate_budget_exhausted_total{{budget="{budget}",listener="{listener}"}} '
    (counted,) = [
        line.removeprefix(series)
        for line in gate.metrics.render().decode().splitlines()
        if line.startswith(series)
    ]
    assert float(counted) == len(output)
    return len(output)


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[Opened]:
    """A gate that bears few errors, and few commands without a message."""
    listener = "max_junk_commands = 10\nmax_errors = 5\nmax_octets_before_auth = 1000000"
    async with open_gate(tmp_path, listener=listener) as opened:
        yield opened


async def connect(gate: Gate, listener: str = "plain") -> Dialog:
    return await Dialog.open(gate.listeners[listener].port)


async def greeted(gate: Gate, listener: str = "plain") -> Dialog:
    dialog = await connect(gate, listener)
    assert (await dialog.reply()).startswith("220")
    return dialog


async def is_cut_off(dialog: Dialog) -> bool:
    with contextlib.suppress(ConnectionError):
        return await dialog.is_closed()
    return True


class _SlowMachine(MovableClock):
    """Whenever it is asked, the time of a turn has gone by."""

    def monotonic(self) -> float:
        self.move(0.003)
        return super().monotonic()


async def test_few_commands_that_take_long_leave_the_others_their_turns(
    tmp_path: Path,
) -> None:
    turns: dict[type[MovableClock], int] = {}
    for clock in (MovableClock, _SlowMachine):
        folder = tmp_path / clock.__name__
        folder.mkdir()
        async with open_gate(folder, clock=clock()) as (gate, _):
            dialog = await login(gate)
            answered = asyncio.create_task(_answers_to(dialog, b"NOOP\r\n" * 40))
            turns[clock] = 0
            while not answered.done():
                turns[clock] += 1
                await asyncio.sleep(0)
            assert await answered == ["250 2.0.0 Ok"] * 40
    assert turns[MovableClock] < 40 <= turns[_SlowMachine], turns


async def test_commands_that_wait_behind_a_message_are_read_no_further_than_a_bound(
    tmp_path: Path,
) -> None:
    async with (
        open_upstream() as upstream,
        open_gate(tmp_path, port=upstream.port) as (gate, _),
    ):
        upstream.answers["MESSAGE"] = HOLD
        dialog = await login(gate)
        for command in ("MAIL FROM:<marketing@ses-example.com>", "RCPT TO:<jane@example.net>"):
            await dialog.say(command)
        await dialog.say("DATA")
        await dialog.send(MESSAGE.encode() + b".\r\n")
        (session,) = gate.listeners["plain"]._sessions
        for _ in range(12):
            await dialog.send(b"NOOP\r\n" * 2500)
            await asyncio.sleep(0.001)
        await until(lambda: session._is_paused)
        dialog.writer.transport.abort()


async def _answers_to(dialog: Dialog, commands: bytes) -> list[str]:
    await dialog.send(commands)
    return [await dialog.reply() for _ in range(commands.count(b"\n"))]


# -- sockets -----------------------------------------------------------------------------------


async def test_sockets_count_also_before_their_tls_handshake(tmp_path: Path) -> None:
    sections = IMPLICIT + "max_connections_per_client = 3"
    async with open_gate(tmp_path, sections=sections) as (gate, _):
        silent = [await connect(gate, "implicit") for _ in range(3)]
        await until(lambda: len(gate.listeners["implicit"].places) == 3)
        for _ in range(5):
            assert await is_cut_off(await connect(gate, "implicit"))
        assert await exhausted(gate, tmp_path, "connections-per-client", "implicit") == 5
        await silent[0].close()
        await until(lambda: len(gate.listeners["implicit"].places) == 2)
        port = gate.listeners["implicit"].port
        assert (await (await Dialog.open(port, client_tls())).reply()).startswith("220")


async def test_sockets_count_also_before_their_proxy_header(tmp_path: Path) -> None:
    listener = TRUSTED + "max_connections = 2"
    async with open_gate(tmp_path, listener=listener) as (gate, _):
        silent = [await connect(gate) for _ in range(2)]
        await until(lambda: len(gate.listeners["plain"].places) == 2)
        assert (await (await connect(gate)).reply()).startswith("421 4.7.0")
        assert await exhausted(gate, tmp_path, "connections", "plain") == 1
        for one in silent:
            await one.close()
        await until(lambda: not len(gate.listeners["plain"].places))


async def test_no_more_sockets_are_taken_than_there_are_open_files_for(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        gate.client_sockets.limit = 2
        first = await login(gate)
        await greeted(gate, "starttls")
        assert (await (await connect(gate)).reply()).startswith("421 4.7.0")
        assert await exhausted(gate, tmp_path, "descriptors", "plain") == 1
        assert (await send(first)).startswith("250")


async def test_a_socket_counts_until_it_is_closed(tmp_path: Path) -> None:
    async with open_gate(tmp_path, listener="max_connections = 2") as (gate, _):
        for _ in range(5):
            dialog = await login(gate)
            assert (await dialog.say("QUIT")).startswith("221")
            assert await dialog.is_closed()
        await until(lambda: not gate.client_sockets.open)
        assert not len(gate.listeners["plain"].places)


# -- time --------------------------------------------------------------------------------------


async def test_a_tls_handshake_has_its_time(tmp_path: Path) -> None:
    sections = IMPLICIT + "handshake_timeout_s = 0.1"
    async with open_gate(tmp_path, sections=sections) as (gate, _):
        dialog = await connect(gate, "implicit")
        await until(lambda: bool(gate.client_sockets.open))
        await move_loop(0.1)
        assert await is_cut_off(dialog)
        assert await exhausted(gate, tmp_path, "handshake-time", "implicit") == 1
        await until(lambda: not gate.client_sockets.open)


async def test_a_handshake_after_starttls_has_its_time(tmp_path: Path) -> None:
    async with open_gate(tmp_path, listener="handshake_timeout_s = 0.1") as (gate, _):
        dialog = await greeted(gate, "starttls")
        await dialog.say("EHLO client.example")
        assert (await dialog.say("STARTTLS")).startswith("220")
        await settle()
        await move_loop(0.1)
        assert await is_cut_off(dialog)
        assert await exhausted(gate, tmp_path, "handshake-time", "starttls") == 1
        await until(lambda: not gate.client_sockets.open)


async def test_a_client_that_breaks_off_its_handshake_gives_its_place_back(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path, sections=IMPLICIT) as (gate, _):
        for listener in ("starttls", "implicit"):
            dialog = await connect(gate, listener)
            if listener == "starttls":
                await dialog.reply()
                await dialog.say("EHLO client.example")
                await dialog.say("STARTTLS")
            await dialog.send(b"\x16\x03\x01")
            await until(lambda: bool(gate.client_sockets.open))
            await dialog.close()
            await until(lambda: not gate.client_sockets.open)


async def test_a_proxy_header_has_its_time(tmp_path: Path) -> None:
    listener = TRUSTED + "handshake_timeout_s = 0.1"
    async with open_gate(tmp_path, listener=listener) as (gate, _):
        dialog = await connect(gate)
        await dialog.send(b"PROXY TCP4 192.0.2.7 ")
        await until(lambda: bool(gate.client_sockets.open))
        await move_loop(0.1)
        assert await is_cut_off(dialog)
        assert await exhausted(gate, tmp_path, "handshake-time", "plain") == 1


@pytest.mark.parametrize("octets", [b"N", b"NOOP\r\n", b"x" * 13_000 + b"\r\n"])
async def test_a_client_that_does_not_log_in_is_disconnected_whatever_it_sends(
    tmp_path: Path, octets: bytes
) -> None:
    listener = "auth_timeout_s = 20\nmax_octets_before_auth = 1000000000\n"
    listener += FREE + NO_ERROR_ENDS_IT
    log = "refusals_per_minute = 1000"
    async with open_gate(tmp_path, listener=listener, sections=log) as (gate, _):
        dialog = await greeted(gate)
        closed = asyncio.create_task(dialog.reader.read())
        with contextlib.suppress(ConnectionError):
            while not closed.done():
                await dialog.send(octets)
                await move_loop(1)
        with contextlib.suppress(ConnectionError):  # a reset takes the last reply with it
            await closed
        assert await exhausted(gate, tmp_path, "auth-time", "plain") == 1


async def test_the_time_before_auth_is_no_bound_on_a_client_that_has_logged_in(
    tmp_path: Path,
) -> None:
    listener = "auth_timeout_s = 3\nmax_octets_before_auth = 16384"
    async with open_gate(tmp_path, listener=listener) as (gate, _):
        dialog = await login(gate)
        stranger = await greeted(gate)
        await move_loop(3)
        assert (await stranger.reply()).startswith("421 4.7.0 Not authenticated")
        message = MESSAGE + ("x" * 70 + "\r\n") * 1000
        assert (await send(dialog, message)).startswith("250")


async def test_a_command_line_has_its_time_however_it_trickles_in(tmp_path: Path) -> None:
    async with open_gate(tmp_path, listener="command_timeout_s = 5") as (gate, _):
        dialog = await login(gate)
        said = asyncio.create_task(dialog.reply())
        with contextlib.suppress(ConnectionError):
            while not said.done():
                await dialog.send(b"N")
                await move_loop(0.5)
        assert (await said).startswith("421 4.4.2 Timeout waiting for data from client.")
        assert await exhausted(gate, tmp_path, "command-time", "plain") == 1


async def test_the_time_of_a_message_is_not_that_of_the_command_behind_it(
    tmp_path: Path,
) -> None:
    listener = "command_timeout_s = 60\ndata_timeout_s = 600"
    async with open_gate(tmp_path, listener=listener) as (gate, _):
        dialog = await login(gate)
        for command in ("MAIL FROM:<>", "RCPT TO:<jane@example.net>", "DATA"):
            await dialog.say(command)
        await move_loop(70)
        await dialog.send(b"no header field\r\n.\r\n")
        assert (await dialog.reply()).startswith("5"), "a message has its own time"
        await move_loop(59)
        assert (await dialog.say("NOOP")).startswith("250")
        await move_loop(59)
        assert gate.client_sockets.open == 1
        await move_loop(1)
        assert (await dialog.reply()).startswith("421 4.4.2")
        assert await exhausted(gate, tmp_path, "command-time", "plain") == 1


async def test_a_message_has_its_time(tmp_path: Path) -> None:
    async with open_gate(tmp_path, listener="data_timeout_s = 60") as (gate, _):
        dialog = await login(gate)
        for command in ("MAIL FROM:<>", "RCPT TO:<jane@example.net>", "DATA"):
            await dialog.say(command)
        await move_loop(60)
        assert (await dialog.reply()).startswith("421 4.4.2")
        assert await exhausted(gate, tmp_path, "message-time", "plain") == 1


@asynccontextmanager
async def deaf(gate: Gate) -> AsyncIterator[Callable[[bytes], Awaitable[None]]]:
    """A client that has logged in, and from then on sends and never reads."""
    loop, log_in = asyncio.get_running_loop(), f"EHLO x\r\nAUTH PLAIN {auth_plain()}\r\n"
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        await loop.sock_connect(raw, ("127.0.0.1", gate.listeners["plain"].port))
        await loop.sock_sendall(raw, log_in.encode())
        said = b""
        while b"235 " not in said:
            said += await loop.sock_recv(raw, 4096)
        yield lambda octets: loop.sock_sendall(raw, octets)


async def test_a_client_that_never_reads_is_cut_off_and_its_socket_is_closed(
    tmp_path: Path,
) -> None:
    listener = FREE + NO_ERROR_ENDS_IT + "reply_timeout_s = 0.2\nmax_connections = 1"
    async with open_gate(tmp_path, listener=listener) as (gate, _):
        async with deaf(gate) as send_octets:
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(20):
                    while True:
                        await send_octets(b"EHLO x\r\n" * 1000)
            await until(lambda: not gate.client_sockets.open)
            assert await exhausted(gate, tmp_path, "reply-time", "plain") == 1
        assert (await send(await login(gate))).startswith("250")


@pytest.mark.slow
async def test_a_client_that_never_reads_is_cut_off_also_with_tls(tmp_path: Path) -> None:
    sections = IMPLICIT + FREE + NO_ERROR_ENDS_IT + "reply_timeout_s = 0.2\n"
    async with open_gate(tmp_path, sections=sections) as (gate, _):
        dialog = await Dialog.open(gate.listeners["implicit"].port, client_tls())
        await dialog.reply()
        await dialog.say("EHLO client.example")
        assert (await dialog.say(f"AUTH PLAIN {auth_plain()}")).startswith("235")
        dialog.writer.transport.pause_reading()  # type: ignore[attr-defined]
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(20):
                while gate.client_sockets.open:
                    dialog.writer.write(b"EHLO x\r\n" * 1000)
                    await asyncio.sleep(0)
        await until(lambda: not gate.client_sockets.open)
        assert await exhausted(gate, tmp_path, "reply-time", "implicit") == 1


async def test_the_time_to_read_replies_that_ends_beside_a_message_begins_again_after_it(
    tmp_path: Path,
) -> None:
    async with (
        open_upstream() as upstream,
        open_gate(tmp_path, port=upstream.port, listener="reply_timeout_s = 60") as (gate, _),
    ):
        upstream.answers["MESSAGE"] = HOLD
        dialog = await login(gate)
        for command in ("MAIL FROM:<marketing@ses-example.com>", "RCPT TO:<jane@example.net>"):
            await dialog.say(command)
        await dialog.say("DATA")
        await dialog.send(MESSAGE.encode() + b".\r\n")
        await upstream.until(lambda: bool(upstream.messages))
        (session,) = gate.listeners["plain"]._sessions
        session.pause_writing()  # as the event loop does when the client does not read
        await move_loop(60)
        await until(lambda: session._deadline.at is None)
        assert gate.client_sockets.open == 1
        upstream.release()
        assert (await dialog.reply()).startswith("250"), "the verdict was written all the same"
        await move_loop(60)
        assert await is_cut_off(dialog)
        assert await exhausted(gate, tmp_path, "reply-time", "plain") == 1


async def test_the_time_to_read_replies_is_not_that_of_the_message_that_comes_meanwhile(
    tmp_path: Path,
) -> None:
    listener = "reply_timeout_s = 60\ndata_timeout_s = 600"
    async with open_gate(tmp_path, listener=listener) as (gate, _):
        dialog = await login(gate)
        for command in ("MAIL FROM:<>", "RCPT TO:<jane@example.net>", "DATA"):
            await dialog.say(command)
        (session,) = gate.listeners["plain"]._sessions
        session.pause_writing()  # as the event loop does when the client does not read
        await move_loop(59)
        assert gate.client_sockets.open == 1
        await move_loop(1)
        assert await is_cut_off(dialog)
        assert await exhausted(gate, tmp_path, "reply-time", "plain") == 1


async def test_a_client_that_has_read_its_replies_has_the_time_of_a_command_again(
    tmp_path: Path,
) -> None:
    listener = "reply_timeout_s = 60\ncommand_timeout_s = 90"
    async with open_gate(tmp_path, listener=listener) as (gate, _):
        dialog = await login(gate)
        (session,) = gate.listeners["plain"]._sessions
        session.pause_writing()  # as the event loop does when the client does not read
        await move_loop(50)
        session.resume_writing()
        await move_loop(89)
        assert gate.client_sockets.open == 1
        await move_loop(1)
        assert (await dialog.reply()).startswith("421 4.4.2")
        assert await exhausted(gate, tmp_path, "command-time", "plain") == 1


@pytest.mark.slow
async def test_a_client_that_does_not_read_is_not_read_from(tmp_path: Path) -> None:
    listener = FREE + NO_ERROR_ENDS_IT
    async with open_gate(tmp_path, listener=listener) as (gate, _), deaf(gate) as send_octets:
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 200_000_000:
                async with asyncio.timeout(0.5):
                    await send_octets(b"EHLO x\r\n" * 1000)
                sent += 8000
        assert sent < 20_000_000  # what fits into the buffers of both systems


# -- octets, commands, errors ------------------------------------------------------------------


async def test_a_stranger_may_not_send_much(tmp_path: Path) -> None:
    async with open_gate(tmp_path, listener=FREE) as (gate, _):
        dialog = await greeted(gate)
        await dialog.send(b"NOOP " + b"x" * 70_000)
        assert (await dialog.reply()).startswith("421 4.7.0 Too much input before auth")
        assert await is_cut_off(dialog)
        assert await exhausted(gate, tmp_path, "input-before-auth", "plain") == 1


@rows("command", ["NOOP", "RSET", "VRFY jane", "HELP", "HELO x", "EHLO x"])
async def test_commands_that_bring_no_message_nearer_end_in_421(
    impatient: Opened, tmp_path: Path, command: str
) -> None:
    gate, _ = impatient
    junk = await exhausted(gate, tmp_path, "junk-commands", "plain")
    errors = await exhausted(gate, tmp_path, "errors", "plain")
    dialog = await greeted(gate)
    for _ in range(15):
        assert (await dialog.say(command))[:3] in ("250", "252", "214")
    assert (await dialog.reply()).startswith("421 4.7.0 Too many errors")
    assert await is_cut_off(dialog)
    assert await exhausted(gate, tmp_path, "junk-commands", "plain") == junk + 1
    assert await exhausted(gate, tmp_path, "errors", "plain") == errors + 1


@rows("line", [b"x" * 13_000, b"\0", b"XYZZY", b"EXPN x", b"EHLO", b"MAIL FROM:<>", b"DATA"])
async def test_every_refused_command_counts_as_an_error(
    impatient: Opened, tmp_path: Path, line: bytes
) -> None:
    gate, _ = impatient
    errors = await exhausted(gate, tmp_path, "errors", "plain")
    dialog = await greeted(gate)
    for _ in range(5):
        await dialog.send(line + b"\r\n")
        assert (await dialog.reply()).startswith("5")
    assert (await dialog.reply()).startswith("421 4.7.0 Too many errors")
    assert await exhausted(gate, tmp_path, "errors", "plain") == errors + 1


async def test_errors_and_junk_count_again_after_an_accepted_message(tmp_path: Path) -> None:
    listener = "max_errors = 3\nmax_junk_commands = 3"
    async with open_gate(tmp_path, listener=listener) as (gate, sink):
        dialog = await login(gate)
        for _ in range(6):
            for command, code in (
                ("NOOP", "250"),
                ("MAIL FROM:<marketing@ses-example.com>", "250"),
                ("RCPT TO:<typo@example..net>", "553"),
                ("RCPT TO:<no-domain>", "553"),
                ("RCPT TO:<bob@example.net>", "250"),
                ("DATA", "354"),
            ):
                assert (await dialog.say(command)).startswith(code)
            assert (await dialog.say(f"{MESSAGE}.")).startswith("250")
        assert len(sink.messages) == 6


async def test_a_refused_message_does_not_make_errors_count_again(tmp_path: Path) -> None:
    async with open_gate(tmp_path, listener="max_errors = 3") as (gate, _):
        dialog = await login(gate)
        for _ in range(2):
            assert (await dialog.say("XYZZY")).startswith("500")
        assert (await send(dialog, "no message\r\n")).startswith("554")
        assert (await dialog.say("XYZZY")).startswith("500")
        assert (await dialog.reply()).startswith("421 4.7.0 Too many errors")


async def test_too_many_wrong_passwords_end_the_session(tmp_path: Path) -> None:
    async with open_gate(tmp_path, listener="max_auth_failures = 2") as (gate, _):
        dialog = await greeted(gate)
        await dialog.say("EHLO client.example")
        for _ in range(2):
            said = await dialog.say(f"AUTH PLAIN {auth_plain(password='wrong')}")
            assert said.startswith("535")
        assert (await dialog.reply()).startswith("421 4.7.0")
        assert await exhausted(gate, tmp_path, "auth-failures", "plain") == 1


async def test_recipients_beyond_the_limit_are_deferred_then_end_in_421(tmp_path: Path) -> None:
    listener = "max_excess_recipients = 3\nmax_errors = 2"
    async with open_gate(tmp_path, gate="max_recipients = 2", listener=listener) as (gate, _):
        dialog = await login(gate)
        await dialog.say("MAIL FROM:<marketing@ses-example.com>")
        said = [await dialog.say(f"RCPT TO:<jane{n}@example.net>") for n in range(7)]
        assert [reply[:3] for reply in said] == ["250"] * 2 + ["452"] * 5
        assert (await dialog.reply()).startswith("421 4.7.0 Too many errors")
        assert await exhausted(gate, tmp_path, "recipients", "plain") == 1
        assert await exhausted(gate, tmp_path, "excess-recipients", "plain") == 1


async def test_a_client_that_offers_many_more_recipients_can_send_to_the_first(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path, gate="max_recipients = 2") as (gate, sink):
        dialog = await login(gate)
        await dialog.say("MAIL FROM:<marketing@ses-example.com>")
        for number in range(200):
            await dialog.say(f"RCPT TO:<jane{number}@example.net>")
        assert (await dialog.say("DATA")).startswith("354")
        assert (await dialog.say(f"{MESSAGE}.")).startswith("250")
        assert len(sink.messages[0].recipients) == 2


async def test_a_message_that_is_too_long_counts_as_an_error(tmp_path: Path) -> None:
    small, listener = "max_message_octets = 5000", "max_errors = 2"
    async with open_gate(tmp_path, gate=small, listener=listener) as (gate, _):
        dialog = await login(gate)
        assert (await send(dialog, parameters=" SIZE=5001")).startswith("552")
        assert (await send(dialog, "x" * 6000 + "\r\n")).startswith("552")
        assert (await dialog.reply()).startswith("421")
        assert await exhausted(gate, tmp_path, "message-octets", "plain") == 2


# -- octets in flight --------------------------------------------------------------------------

KIB = ("x" * 510 + "\r\n") * 2
TIGHT = "max_message_octets = 300000\nmax_inflight_octets = 800000\n"


async def unfinished(gate: Gate, octets: int, key_id: str = "AKIAMAILER0000000000") -> Dialog:
    """A session with a message of so many octets, and no final dot."""
    dialog = await login(gate, key_id)
    for command in ("MAIL FROM:<>", "RCPT TO:<jane@example.net>", "DATA"):
        assert (await dialog.say(command))[:3] in ("250", "354")
    await dialog.send((KIB * (octets // 1024)).encode())
    return dialog


async def test_one_account_leaves_room_in_flight_for_the_others(tmp_path: Path) -> None:
    async with open_gate(tmp_path, gate=TIGHT) as (gate, _):
        greedy = [await unfinished(gate, 250_000) for _ in range(3)]
        for one in greedy[1:]:
            await one.send(b"\r\n.\r\n")
        said = [await one.reply() for one in greedy[1:]]
        assert any(reply.startswith("452 4.3.1 Too many messages in flight") for reply in said)
        assert await exhausted(gate, tmp_path, "inflight-share", "plain") >= 1
        other = await login(gate, "AKIAOWNERROOT0000000")
        large = MESSAGE + KIB * 100
        assert (await send(other, large)).startswith("250")


async def test_small_messages_have_room_when_large_ones_take_the_rest(tmp_path: Path) -> None:
    settings = TIGHT + "max_inflight_share = 1\nreserved_inflight_octets = 100000"
    async with open_gate(tmp_path, gate=settings) as (gate, _):
        _ = [await unfinished(gate, 290_000), await unfinished(gate, 290_000)]
        third = await unfinished(gate, 290_000)
        await third.send(b"\r\n.\r\n")
        assert (await third.reply()).startswith("452 4.3.1")
        assert await exhausted(gate, tmp_path, "inflight-octets", "plain") == 1
        _ = [await unfinished(gate, 119 * 1024)]
        assert (await send(await login(gate))).startswith("250")


# -- refusals ----------------------------------------------------------------------------------


async def test_the_messages_of_an_account_that_the_gate_refuses_are_bounded(
    tmp_path: Path,
) -> None:
    limits = "[limits]\nmax_refusals = 1\nrefusal_delay_s = 0\n"
    async with open_gate(tmp_path, sections=limits) as (gate, _):
        dialog = await login(gate)
        denied = "From: ceo@ses-example.com\r\nSubject: x\r\n\r\nHello.\r\n"
        assert (await send(dialog, denied)).startswith("554 5.7.1 ")
        reply = await dialog.say("MAIL FROM:<marketing@ses-example.com>")
        assert reply.startswith("421 4.7.0 Too many messages of this account were refused")
        assert await exhausted(gate, tmp_path, "refusals", "plain") == 1


# -- the upstream's line -----------------------------------------------------------------------


async def test_an_account_has_a_bounded_number_of_messages_in_the_upstream_s_line(
    tmp_path: Path,
) -> None:
    settings = "max_connections = 1\nmax_waiting_per_account = 1"
    async with (
        open_upstream("PIPELINING") as upstream,
        open_gate(tmp_path, port=upstream.port, upstream=settings) as (gate, _),
    ):
        upstream.answers["MESSAGE"] = HOLD
        first = asyncio.create_task(send(await login(gate)))
        await upstream.until(lambda: bool(upstream.messages))
        second = asyncio.create_task(send(await login(gate)))
        await until(lambda: gate.upstream.pools["sink"].waiting == 1)
        third = await send(await login(gate))
        assert third.startswith("451 4.3.2 Too many messages wait for the upstream mail server")
        assert "(upstream-busy: " in third
        assert await exhausted(gate, tmp_path, "upstream-line", "plain") == 1
        upstream.release()
        assert all(reply.startswith("250") for reply in (await first, await second))


# -- fairness ----------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_client_that_pipelines_without_end_yields(tmp_path: Path) -> None:
    async with open_gate(tmp_path, listener=FREE) as (gate, _):
        dialog = await login(gate)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0)
                ticks += 1

        ticker = asyncio.create_task(tick())
        dialog.writer.write(b"NOOP\r\n" * 5000)
        before = ticks
        for _ in range(5000):
            assert (await dialog.reply()).startswith("250")
        ticker.cancel()
        assert ticks - before > 4800 / 50


# -- on uvloop, as the gate runs as a service --------------------------------------------------

SCENES: Final[list[Callable[[Path], Coroutine[Any, Any, None]]]] = [
    test_sockets_count_also_before_their_tls_handshake,
    test_sockets_count_also_before_their_proxy_header,
    test_a_socket_counts_until_it_is_closed,
    test_a_tls_handshake_has_its_time,
    test_a_handshake_after_starttls_has_its_time,
    test_a_client_that_breaks_off_its_handshake_gives_its_place_back,
    test_a_client_that_never_reads_is_cut_off_and_its_socket_is_closed,
    test_a_client_that_never_reads_is_cut_off_also_with_tls,
    test_a_client_that_does_not_read_is_not_read_from,
    test_a_stranger_may_not_send_much,
    test_a_client_that_pipelines_without_end_yields,
]


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_the_bounds_hold_on_uvloop(
    scene: Callable[[Path], Coroutine[Any, Any, None]], tmp_path: Path
) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scene(tmp_path))


async def test_a_banned_client_is_turned_away_before_it_is_counted(tmp_path: Path) -> None:
    async with open_gate(tmp_path, listener='proxy_from = ["127.0.0.1"]') as (gate, _):
        gate.service.bans.add("192.0.2.7", gate.clock.now().timestamp() + 60)
        dialog = await Dialog.open(gate.listeners["plain"].port)
        await dialog.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n")
        assert (await dialog.reply()).startswith("421 4.7.0 Too many failed logins or errors")
        assert await dialog.is_closed()
        assert await exhausted(gate, tmp_path, "banned", "plain") == 1
        await until(lambda: not gate.client_sockets.open)


def test_every_budget_is_shown_by_a_test_with_a_socket() -> None:
    shown = "".join(one.read_text() for one in Path(__file__).parent.glob("test_*budget*.py"))
    assert not [name for name in BUDGETS if f'"{name}"' not in shown]
