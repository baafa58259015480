"""Clients that go on before the reply that they have to wait for (RFC 2920 §3.1)."""

import asyncio
import gc
import socket
import ssl
from pathlib import Path

import pytest

from tests.support.dialog import Dialog
from tests.support.inprocess import (
    MESSAGE,
    Opened,
    auth_plain,
    client_tls,
    facts,
    login,
    open_gate,
    send,
)
from tests.support.rows import rows
from tests.support.waiting import until

REFUSAL = "554 5.5.1 Protocol error: data was sent before the reply that it has to wait for"
ALLOWED = 'early_talkers = "allow"'
AUTH = f"AUTH PLAIN {auth_plain()}\r\n".encode()
WHOLE = (
    b"EHLO client.example\r\n"
    + AUTH
    + b"MAIL FROM:<marketing@ses-example.com>\r\nRCPT TO:<jane@example.net>\r\nDATA\r\n"
    + MESSAGE.encode()
    + b".\r\nQUIT\r\n"
)


async def connect(port: int, octets: bytes) -> Dialog:
    """A client whose first octets are there before the gate sees its connection."""
    made = socket.create_connection(("127.0.0.1", port))
    made.sendall(octets)
    made.setblocking(False)
    return await Dialog.over(made)


@rows("octets", [b"EHLO client.example\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b"Q"])
async def test_octets_before_the_greeting_are_refused(
    tmp_path_factory: pytest.TempPathFactory, octets: bytes
) -> None:
    async with open_gate(tmp_path_factory.mktemp("gate")) as (gate, _):
        for name in ("plain", "starttls"):
            dialog = await connect(gate.listeners[name].port, octets)
            assert await dialog.reply() == REFUSAL
            assert await dialog.is_closed()
            await dialog.close()
        seen = gate.metrics.render().decode()
        assert (
            'smtpgate_commands_refused_total{code="554",listener="plain",verb="other"} 1.0'
            in seen
        )


async def shake_hands_and_send(port: int, octets: bytes) -> str:
    """The first reply to a client whose octets come with the end of its handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    came, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_tls().wrap_bio(came, going, server_hostname="gate.example")
    try:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(going.read())
                came.write(await reader.read(65536))
        tls.write(octets)
        writer.write(going.read())
        while True:
            try:
                return tls.read(1000).decode()
            except ssl.SSLWantReadError:
                came.write(await reader.read(65536))
    finally:
        writer.close()
        await writer.wait_closed()


async def test_octets_before_the_greeting_are_refused_also_with_implicit_tls(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path) as (gate, _):
        port = gate.listeners["tls"].port
        said = await asyncio.wait_for(shake_hands_and_send(port, b"EHLO x\r\n"), 10)
        assert said.startswith(REFUSAL)


@rows(
    "before, ahead",
    [
        ([], b"EHLO client.example\r\nNOOP\r\n"),
        ([], b"HELO client.example\r\nMAIL FROM:<a@example.com>\r\n"),
        ([], b"EHLO client.example\r\nEH"),
        (["EHLO client.example"], AUTH + b"NOOP\r\n"),
        (["EHLO client.example"], b"AUTH LOGIN\r\nQUtJQQ==\r\nQUtJQQ==\r\n"),
        (["EHLO client.example", "AUTH LOGIN"], b"QUtJQQ==\r\nQUtJQQ==\r\n"),
        (["EHLO client.example", "AUTH PLAIN"], auth_plain().encode() + b"\r\nNOOP\r\n"),
    ],
)
async def test_commands_that_cannot_be_pipelined_are_the_last_ones(
    usual: Opened, before: list[str], ahead: bytes
) -> None:
    gate, _ = usual
    dialog = await Dialog.open(gate.listeners["plain"].port)
    await dialog.reply()
    for command in before:
        assert (await dialog.say(command))[0] in "23"
    await dialog.send(ahead)
    assert await dialog.reply() == REFUSAL
    assert await dialog.is_closed()


async def test_the_message_does_not_come_before_354(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, sink):
        dialog = await login(gate)
        await dialog.send(WHOLE.partition(AUTH)[2])
        assert [(await dialog.reply())[:3] for _ in range(3)] == ["250", "250", "554"]
        assert await dialog.is_closed()
        assert not sink.messages
        # Where DATA is refused, what follows is commands, as it always was.
        dialog = await login(gate)
        await dialog.send(b"DATA\r\nNOOP\r\n")
        assert (await dialog.reply()).startswith("503")
        assert (await dialog.reply()).startswith("250")


async def close_with_an_early_message(folder: Path) -> list[object]:
    """The errors that nobody took."""
    errors: list[object] = []
    async with open_gate(folder) as (gate, _):
        asyncio.get_running_loop().set_exception_handler(lambda _, one: errors.append(one))
        dialog = await login(gate)
        await dialog.say("MAIL FROM:<marketing@ses-example.com>")
        await dialog.say("RCPT TO:<jane@example.net>")
        dialog.writer.write(b"DATA\r\nFrom: ")
        dialog.writer.transport.abort()
        await until(lambda: not len(gate.service.sessions))
        gc.collect()  # a task that ended with an error reports it when it is freed
    return errors


def test_a_client_that_closes_its_socket_with_its_early_message_causes_no_error(
    tmp_path: Path,
) -> None:
    # uvloop does not say when the end of a stream could not be sent.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert runner.run(close_with_an_early_message(tmp_path)) == []


async def test_a_program_that_reads_no_replies_can_be_allowed(tmp_path: Path) -> None:
    async with open_gate(tmp_path, listener=ALLOWED) as (gate, sink):
        dialog = await connect(gate.listeners["plain"].port, WHOLE)
        replies = [(await dialog.reply())[:3] for _ in range(8)]
        assert replies == ["220", "250", "235", "250", "250", "354", "250", "221"]
        assert len(sink.messages) == 1


async def test_octets_in_plain_text_behind_starttls_are_forgotten_where_they_are_allowed(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path, listener=ALLOWED) as (gate, sink):
        dialog = await Dialog.open(gate.listeners["starttls"].port)
        await dialog.reply()
        await dialog.send(b"EHLO client.example\r\nSTARTTLS\r\nEHLO thief.example\r\n")
        await dialog.send(f"AUTH PLAIN {facts()['plain']}\r\nDATA\r\n".encode())
        assert (await dialog.reply()).startswith("250")
        assert (await dialog.reply()).startswith("220")
        await dialog.start_tls(client_tls())  # RFC 3207 §4.2
        assert (await dialog.say("AUTH PLAIN =")).startswith("503")
        assert (await dialog.say("MAIL FROM:<a@example.com>")).startswith("530")
        assert not sink.messages


@rows("fields, says", [(50, "250"), (51, "554 5.4.6 Message has passed too many mail servers")])
async def test_a_message_that_goes_in_a_circle_is_refused(
    usual: Opened, fields: int, says: str
) -> None:
    gate, _ = usual
    hops = "received: from a.example by b.example; Thu, 1 Jan 2026 00:00:00 +0000\r\n" * fields
    assert (await send(await login(gate), hops + MESSAGE)).startswith(says)
