"""Each refusal of a client, and each failure of its connection, is one event."""

import asyncio
import json
import smtplib
import socket
import ssl
import warnings
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import pytest
import uvloop

from smtpgate.gate.gate import Gate
from tests.support.dialog import Dialog
from tests.support.inprocess import Opened, client_tls, facts, login, open_gate
from tests.support.rows import rows
from tests.support.waiting import answered
from tests.support.world import DELEGATE

LONG = "A" * 13_000
REFUSED = "smtpgate_commands_refused_total"
CUT_OFF = "smtpgate_messages_cut_off_total"


def logged(folder: Path, event: str) -> list[dict[str, Any]]:
    lines = (folder / "log").read_text().splitlines()
    return [entry for line in lines if (entry := json.loads(line))["event"] == event]


def counted(gate: Gate, name: str, **labels: str) -> float:
    inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    for line in gate.metrics.render().decode().splitlines():
        if line.startswith(f"{name}{{{inside}}} "):
            return float(line.rpartition(" ")[2])
    return 0


async def until(gate: Gate, folder: Path, event: str, before: int = 0) -> dict[str, Any]:
    """The first line of that event after so many; a client's end is noticed a moment later."""

    async def found() -> list[dict[str, Any]]:
        await gate.log.flush()
        return logged(folder, event)[before:]

    return (await answered(found))[0]


STRANGER = [
    ("EHLO", "EHLO", 501, "syntax"),
    ("FOO", "other", 500, "unknown-command"),
    ("MAIL FROM:<marketing@ses-example.com>", "MAIL", 530, "auth-first"),
    ("RCPT TO:<bob@example.net>", "RCPT", 503, "bad-sequence"),
    ("DATA", "DATA", 503, "bad-sequence"),
    ("AUTH CRAM-MD5", "AUTH", 504, "auth-mechanism"),
    ("AUTH PLAIN =", "AUTH", 501, "auth-malformed"),
    ("STARTTLS", "STARTTLS", 454, "tls-unavailable"),
    ("EXPN all", "EXPN", 502, "not-implemented"),
    (f"NOOP {LONG}", "other", 500, "line-too-long"),
]
KNOWN = [
    ("MAIL FROM:<marketing@ses-example.com> MTRK=HDRS", "MAIL", 555, "unknown-parameter"),
    ("MAIL FROM:<marketing@ses-example.com> SIZE=99999999999", "MAIL", 552, "too-long"),
    ("MAIL FROM:<marketing@bad..example>", "MAIL", 553, "bad-sender"),
    ("AUTH PLAIN AAAA", "AUTH", 503, "bad-sequence"),
]


@rows("command, verb, code, reason", STRANGER)
async def test_a_strangers_refused_command_is_one_line_and_one_count(
    usual: Opened, tmp_path: Path, command: str, verb: str, code: int, reason: str
) -> None:
    gate, _ = usual
    before = len(logged(tmp_path, "command-refused"))
    labels = {"listener": "plain", "verb": verb, "code": str(code)}
    counted_before = counted(gate, REFUSED, **labels)
    dialog = await Dialog.open(gate.listeners["plain"].port)
    await dialog.reply()
    if not command.startswith("EHLO"):
        await dialog.say("EHLO client.example")
    reply = await dialog.say(command)
    await gate.log.flush()
    *_, line = logged(tmp_path, "command-refused")
    assert len(logged(tmp_path, "command-refused")) == before + 1
    assert reply.startswith(f"{line['code']} {line['enhanced']}")
    assert (line["verb"], line["code"], line["reason"]) == (verb, code, reason)
    assert (line["listener"], line["client"]) == ("plain", "127.0.0.1")
    assert "access_key" not in line
    assert LONG not in json.dumps(line)
    assert counted(gate, REFUSED, **labels) == counted_before + 1


@rows("command, verb, code, reason", KNOWN)
async def test_a_refused_command_after_the_login_names_the_key(
    usual: Opened, tmp_path: Path, command: str, verb: str, code: int, reason: str
) -> None:
    gate, _ = usual
    before = len(logged(tmp_path, "command-refused"))
    await (await login(gate)).say(command)
    await gate.log.flush()
    *_, line = logged(tmp_path, "command-refused")
    assert len(logged(tmp_path, "command-refused")) == before + 1
    assert (line["verb"], line["code"], line["reason"]) == (verb, code, reason)
    assert line["access_key"] == "AKIAMAILER0000000000"
    assert line["account"] == DELEGATE


async def test_the_lines_of_a_session_have_its_id_and_no_other_session_has_it(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path, sections='level = "debug"') as (gate, _):
        for _ in range(2):
            dialog = await login(gate)
            await dialog.say("FOO")
            await dialog.say("RCPT TO:<bob@example.net>")
            await dialog.close()
        await gate.log.flush()
        lines = logged(tmp_path, "authenticated") + logged(tmp_path, "command-refused")
        ids = [line["session"] for line in lines]
        assert len(ids) == 6
        assert sorted(ids.count(one) for one in set(ids)) == [3, 3]


async def test_a_refused_login_has_one_event_of_its_own(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await Dialog.open(gate.listeners["plain"].port)
        await dialog.reply()
        await dialog.say("EHLO client.example")
        assert (await dialog.say(f"AUTH PLAIN {facts()['plain_as_other']}")).startswith("535")
        await gate.log.flush()
        assert len(logged(tmp_path, "auth-failed")) == 1
        assert not logged(tmp_path, "command-refused")


async def test_a_client_that_leaves_in_its_message_is_one_event(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await login(gate)
        await dialog.say("MAIL FROM:<marketing@ses-example.com>")
        await dialog.say("RCPT TO:<bob@example.net>")
        await dialog.say("DATA")
        await dialog.send(b"Subject: half\r\n\r\nHalf of it")
        await dialog.close()
        line = await until(gate, tmp_path, "message-cut-off")
        assert line["account"] == DELEGATE
        assert (line["octets"], line["by"]) == (27, "client")
        assert counted(gate, CUT_OFF, listener="plain", by="client") == 1


async def test_a_message_that_the_stop_of_the_gate_cuts_off_is_one_event(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await login(gate)
        await dialog.say("MAIL FROM:<marketing@ses-example.com>")
        await dialog.say("RCPT TO:<bob@example.net>")
        await dialog.say("DATA")
        stopping = asyncio.create_task(gate.stop(drain_s=0))
        assert (await dialog.reply()).startswith("421 4.3.2")
        await dialog.close()
        await stopping
        (line,) = logged(tmp_path, "message-cut-off")
        assert (line["octets"], line["by"]) == (0, "gate")
        assert counted(gate, CUT_OFF, listener="plain", by="gate") == 1


def shake_hands(port: int, context: ssl.SSLContext) -> None:
    """As a client with a socket of its own: one that sends its alert before it closes."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as encrypted,
    ):
        encrypted.recv(1)


async def plain_text_on_the_tls_port(gate: Gate) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.listeners["tls"].port)
    writer.write(b"EHLO client.example\r\n")
    with suppress(ConnectionError):
        await reader.read()
    writer.close()


async def old_tls(gate: Gate) -> None:
    context = client_tls()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        await asyncio.to_thread(shake_hands, gate.listeners["tls"].port, context)


async def certificate_that_the_client_does_not_trust(gate: Gate) -> None:
    context = ssl.create_default_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.to_thread(shake_hands, gate.listeners["tls"].port, context)


async def the_same_with_tls_1_2(gate: Gate) -> None:
    context = ssl.create_default_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.to_thread(shake_hands, gate.listeners["tls"].port, context)


async def the_same_at_starttls(gate: Gate) -> None:
    def starttls() -> None:
        client = smtplib.SMTP("127.0.0.1", gate.listeners["starttls"].port, timeout=10)
        with closing(client):
            client.starttls(context=ssl.create_default_context())

    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.to_thread(starttls)


async def hanging_up_in_the_handshake(gate: Gate) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", gate.listeners["tls"].port)
    writer.write(b"\x16\x03\x01")
    await writer.drain()
    writer.close()


FAILURES: Final[list[tuple[Callable[[Gate], Awaitable[None]], str, str]]] = [
    (plain_text_on_the_tls_port, "tls", "no-tls"),
    (old_tls, "tls", "old-version"),
    (certificate_that_the_client_does_not_trust, "tls", "certificate-refused"),
    (the_same_with_tls_1_2, "tls", "certificate-refused"),
    (the_same_at_starttls, "starttls", "certificate-refused"),
    (hanging_up_in_the_handshake, "tls", "hung-up"),
]


@rows("fails, listener, reason", FAILURES)
async def test_a_failed_handshake_is_one_event_with_its_reason(
    usual: Opened,
    tmp_path: Path,
    fails: Callable[[Gate], Awaitable[None]],
    listener: str,
    reason: str,
) -> None:
    await fail_once(usual[0], tmp_path, fails, listener, reason)


@pytest.mark.slow
def test_a_failed_handshake_is_one_event_on_uvloop(tmp_path: Path) -> None:
    async def scene() -> None:
        async with open_gate(tmp_path) as (gate, _):
            for fails, listener, reason in FAILURES:
                await fail_once(gate, tmp_path, fails, listener, reason)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scene())


async def fail_once(
    gate: Gate,
    folder: Path,
    fails: Callable[[Gate], Awaitable[None]],
    listener: str,
    reason: str,
) -> None:
    name = "smtpgate_handshakes_failed_total"
    before = len(logged(folder, "handshake-failed"))
    counted_before = counted(gate, name, listener=listener, reason=reason)
    await fails(gate)
    line = await until(gate, folder, "handshake-failed", before)
    assert (line["listener"], line["reason"]) == (listener, reason)
    assert line["client"] == "127.0.0.1"
    assert counted(gate, name, listener=listener, reason=reason) == counted_before + 1
    assert len(logged(folder, "handshake-failed")) == before + 1


async def test_a_flood_of_refusals_is_a_few_lines_and_a_sum(tmp_path: Path) -> None:
    async with open_gate(
        tmp_path, listener="max_errors = 1000", sections="refusals_per_minute = 5"
    ) as (gate, _):
        dialog = await Dialog.open(gate.listeners["plain"].port)
        await dialog.reply()
        for _ in range(300):
            await dialog.say("FOO")
        assert counted(gate, REFUSED, listener="plain", verb="other", code="500") == 300
    assert len(logged(tmp_path, "command-refused")) == 5
    (line,) = logged(tmp_path, "lines-left-out")
    assert line["left_out"] == {"command-refused": 295}
    assert line["client"] == "127.0.0.1"
