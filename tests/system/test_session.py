"""Traps of SMTP listeners, one test each, and the limits."""

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import cast

import pytest

from smtpgate.core.limits import Subject
from smtpgate.gate.gate import Gate
from smtpgate.ledger.sqlite import SqliteLedger
from smtpgate.smtp.session import SmtpSession
from smtpgate.tasks import LoopTurns
from tests.support.clock import move_loop
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
from tests.support.ledgers import used_24h
from tests.support.rows import rows
from tests.support.session_wire import feed
from tests.support.upstream_server import HOLD, open_upstream
from tests.support.world import DELEGATE, PASSWORD


async def begin(dialog: Dialog) -> None:
    """A transaction up to DATA."""
    for command in ("MAIL FROM:<marketing@ses-example.com>", "RCPT TO:<j@x.example>", "DATA"):
        await dialog.say(command)


async def hand_over(dialog: Dialog) -> None:
    """A transaction up to the final dot, its verdict not awaited."""
    await begin(dialog)
    await dialog.send(MESSAGE.encode() + b".\r\n")


async def test_the_null_reverse_path_is_nobody(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, sink):
        dialog = await login(gate)
        assert (await send(dialog, sender="")).startswith("250 2.0.0 Ok")
        assert sink.messages[0].mail_from in ("", "<>")


async def test_a_handshake_that_waits_for_its_turn_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait(_turns: LoopTurns, *, cost_s: float = 0.0) -> None:
        assert cost_s >= 0
        for _ in range(100):
            await asyncio.sleep(0)

    async with open_gate(tmp_path, listener="handshake_timeout_s = 1") as (gate, _):
        dialog = await Dialog.open(gate.listeners["starttls"].port)
        await dialog.reply()
        await dialog.say("EHLO client.example")
        monkeypatch.setattr(LoopTurns, "step", wait)
        assert (await dialog.say("STARTTLS")).startswith("220")
        await dialog.start_tls(client_tls())
        assert (await dialog.say("EHLO client.example")).startswith("250")


async def test_an_unexpected_error_is_in_the_log_and_not_in_the_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await login(gate)

        async def fail(_key_id: str) -> None:
            raise LookupError("the inner words")

        monkeypatch.setattr(gate.directory, "access_key", fail)
        reply = await send(dialog)
        assert reply.startswith("451 4.3.0 Temporary service failure")
        assert "inner words" not in reply
        await gate.log.flush()
        assert "the inner words" in (tmp_path / "log").read_text()
        monkeypatch.undo()
        assert (await send(dialog)).startswith("250")


async def test_one_session_does_not_change_what_another_may_say(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        first, second = await login(gate), await login(gate)
        long = "MAIL FROM:<marketing@ses-example.com>" + " " * 600 + "SIZE=10"
        assert (await first.say(long)).startswith("250")
        third = await login(gate)
        assert (await second.say(long)).startswith("250")
        assert (await third.say(long)).startswith("250")


@pytest.mark.parametrize("parameter", [" AUTH=<>", " AUTH=marketing@ses-example.com"])
async def test_the_auth_parameter_of_mail_is_accepted(tmp_path: Path, parameter: str) -> None:
    async with open_gate(tmp_path) as (gate, _):
        assert (await send(await login(gate), parameters=parameter)).startswith("250")


async def test_a_verb_may_be_in_any_case_with_blanks_and_tabs_behind_it(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await login(gate)
        for blank in ("\t", "  ", " \t "):
            for verb in ("MAIL", "mail"):
                sender = "FROM:<marketing@ses-example.com>"
                assert (await dialog.say(f"{verb}{blank}{sender}\t")).startswith("250 2.1.0")
                assert (await dialog.say(f"{verb[0]}SET")).startswith("500")
                assert (await dialog.say("RSET \t")).startswith("250")


async def test_the_greeting_names_no_product(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await Dialog.open(gate.listeners["plain"].port)
        assert await dialog.reply() == "220 gate.example ESMTP"


async def test_implicit_tls_offers_auth_at_once(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, sink):
        dialog = await Dialog.open(gate.listeners["tls"].port, client_tls())
        await dialog.reply()
        offered = await dialog.say("EHLO client.example")
        assert "STARTTLS" not in offered
        assert offered.endswith("250 AUTH PLAIN LOGIN")
        assert (await dialog.say(f"AUTH PLAIN {auth_plain()}")).startswith("235")
        assert (await send(dialog)).startswith("250")
        received = sink.messages[0].content.split(b"\r\n", 1)[0]
        assert b"client.example ([127.0.0.1])" in received


async def test_tls_below_the_minimum_is_refused(tmp_path: Path) -> None:
    context = client_tls()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with open_gate(tmp_path, listener='min_tls = "1.3"') as (gate, _):
        dialog = await Dialog.open(gate.listeners["starttls"].port)
        await dialog.reply()
        await dialog.say("EHLO client.example")
        await dialog.say("STARTTLS")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await dialog.start_tls(context)


async def test_a_client_that_hangs_up_does_not_cut_the_relay(tmp_path: Path) -> None:
    async with (
        open_upstream() as upstream,
        open_gate(tmp_path, port=upstream.port) as (gate, _),
    ):
        upstream.answers["MESSAGE"] = HOLD
        dialog = await login(gate)
        await hand_over(dialog)
        await upstream.until(lambda: bool(upstream.messages))
        await dialog.close()
        upstream.release()
        entry = await _logged(gate, tmp_path)
        assert '"accepted"' in entry
        assert "2.0.0 queued" in entry


async def test_a_half_closed_connection_still_gets_its_verdict(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, sink):
        dialog = await login(gate)
        await hand_over(dialog)
        dialog.writer.write_eof()
        assert (await dialog.reply()).startswith("250 2.0.0 Ok")
        assert len(sink.messages) == 1
        assert await dialog.is_closed()


async def test_an_idle_client_gets_421(tmp_path: Path) -> None:
    async with open_gate(tmp_path, listener="command_timeout_s = 5") as (gate, _):
        dialog = await Dialog.open(gate.listeners["plain"].port)
        await dialog.reply()
        await move_loop(5)
        assert await dialog.reply() == "421 4.4.2 Timeout waiting for data from client."
        assert await dialog.is_closed()


async def test_the_time_that_the_relay_takes_is_not_the_client_s(tmp_path: Path) -> None:
    async with (
        open_upstream() as upstream,
        open_gate(tmp_path, port=upstream.port, listener="command_timeout_s = 5") as (
            gate,
            _,
        ),
    ):
        upstream.answers["MESSAGE"] = HOLD
        dialog = await login(gate)
        await hand_over(dialog)
        await upstream.until(lambda: bool(upstream.messages))
        idle = await Dialog.open(gate.listeners["plain"].port)
        await idle.reply()
        await move_loop(5)
        assert (await idle.reply()).startswith("421 4.4.2"), "so long a client may be silent"
        upstream.release()
        assert (await dialog.reply()).startswith("250 2.0.0 Ok")


async def test_a_client_is_disconnected_after_three_wrong_passwords(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await Dialog.open(gate.listeners["plain"].port)
        await dialog.reply()
        await dialog.say("EHLO client.example")
        for _ in range(3):
            reply = await dialog.say(f"AUTH PLAIN {auth_plain(password='wrong')}")
            assert reply == "535 5.7.8 Authentication Credentials Invalid"
        assert (await dialog.reply()).startswith("421 4.7.0")
        assert await dialog.is_closed()
        await gate.log.flush()
        text = (tmp_path / "log").read_text()
        assert text.count("AKIAMAILER0000000000") >= 3
        assert "wrong" not in text
        assert PASSWORD not in text


async def test_a_login_that_asks_to_act_as_another_identity_is_a_failed_login(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await Dialog.open(gate.listeners["plain"].port)
        await dialog.reply()
        await dialog.say("EHLO client.example")
        for _ in range(3):
            reply = await dialog.say(f"AUTH PLAIN {facts()['plain_as_other']}")
            assert reply == "535 5.7.8 Authentication Credentials Invalid"
        assert (await dialog.reply()).startswith("421 4.7.0")
        await gate.log.flush()
        text = (tmp_path / "log").read_text()
        assert text.count('"event":"auth-failed"') == 3
        assert text.count('"reason":"other-identity"') == 3
        metric = 'smtpgate_auth_failures_total{listener="plain",reason="other-identity"} 3.0'
        assert metric in gate.metrics.render().decode()


@rows(
    "key_id",
    ["AKIANOSUCHKEY0000000", "", "x" * 4000, "AKIA\0"],
    ids=["unknown", "", "long", "nul"],
)
async def test_an_unknown_login_gets_the_same_reply_as_a_wrong_password(
    usual: Opened, key_id: str
) -> None:
    gate, _ = usual
    dialog = await Dialog.open(gate.listeners["plain"].port)
    await dialog.reply()
    await dialog.say("EHLO client.example")
    reply = await dialog.say(f"AUTH PLAIN {auth_plain(key_id)}")
    assert reply[:9] in ("535 5.7.8", "501 5.5.2")


async def test_connections_beyond_the_limit_are_turned_away(tmp_path: Path) -> None:
    async with open_gate(tmp_path, listener="max_connections_per_client = 2") as (gate, _):
        first, second = await login(gate), await login(gate)
        third = await Dialog.open(gate.listeners["plain"].port)
        assert await third.reply() == "421 4.7.0 Too many concurrent SMTP connections"
        assert await third.is_closed()
        await first.say("QUIT")
        assert await first.is_closed()
        assert (await send(await login(gate))).startswith("250")
        assert (await send(second)).startswith("250")


async def test_a_message_that_is_too_long_is_refused_and_the_session_goes_on(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path, gate="max_message_octets = 5000") as (gate, sink):
        dialog = await login(gate)
        assert await send(dialog, MESSAGE + "x" * 6000 + "\r\n") == (
            "552 5.3.4 Message is too long."
        )
        assert (await send(dialog)).startswith("250")
        assert len(sink.messages) == 1


async def test_more_recipients_than_allowed_are_deferred(tmp_path: Path) -> None:
    async with open_gate(tmp_path, gate="max_recipients = 2") as (gate, _):
        dialog = await login(gate)
        to = ("a@example.net", "b@example.net", "c@example.net")
        assert (await send(dialog, to=to)).startswith(
            "452 4.5.3 Too many recipients: at most 2"
        )


@pytest.mark.parametrize("octets", [20_000, 100_000])  # which comes whole, and which in parts
async def test_a_line_that_is_too_long_is_skipped(tmp_path: Path, octets: int) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await login(gate)
        await dialog.send(b"NOOP " + b"x" * octets + b"\r\nNOOP\r\n")
        assert (await dialog.reply()).startswith("500 5.5.6")
        assert (await dialog.reply()).startswith("250 2.0.0")


async def test_the_end_of_a_line_that_is_too_long_is_no_command(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await login(gate)
        (session,) = gate.listeners["plain"]._sessions
        assert isinstance(session, SmtpSession)
        feed(session, b"NOOP " + b"x" * 20_000)
        feed(session, b"MAIL FROM:<marketing@ses-example.com>\r\nNOOP\r\n")
        assert (await dialog.reply()).startswith("500 5.5.6")
        assert (await dialog.reply()).startswith("250 2.0.0")


async def test_draining_tells_idle_sessions_and_lets_transactions_finish(
    tmp_path: Path,
) -> None:
    async with (
        open_upstream() as upstream,
        open_gate(tmp_path, port=upstream.port) as (gate, _),
    ):
        upstream.answers["MESSAGE"] = HOLD
        idle, busy = await login(gate), await login(gate)
        await hand_over(busy)
        await upstream.until(lambda: bool(upstream.messages))
        stopping = asyncio.create_task(gate.stop(drain_s=5))
        assert (await idle.reply()).startswith("421 4.3.2 gate.example Service shutting down")
        assert await idle.is_closed()
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await Dialog.open(gate.listeners["plain"].port)
        upstream.release()
        assert (await busy.reply()).startswith("250 2.0.0 Ok")
        assert (await busy.reply()).startswith("421 4.3.2")
        await stopping


async def _logged(gate: Gate, folder: Path) -> str:
    await gate.sessions.drain(5)
    await gate.log.flush()
    return (folder / "log").read_text()


async def test_a_message_that_trickles_in_is_cut_off(tmp_path: Path) -> None:
    async with open_gate(tmp_path, listener="data_timeout_s = 5") as (gate, sink):
        dialog = await login(gate)
        await begin(dialog)
        said = asyncio.create_task(dialog.reply())
        with contextlib.suppress(ConnectionError):
            while not said.done():
                await dialog.send(b"x")
                await move_loop(0.5)
        assert (await said).startswith("421 4.4.2")
        assert not sink.messages


async def test_a_transaction_that_outlasts_every_deadline_is_cut_off_and_reported_as_in_doubt(
    tmp_path: Path,
) -> None:
    async with (
        open_upstream() as upstream,
        open_gate(tmp_path, port=upstream.port) as (gate, _),
    ):
        upstream.answers["MESSAGE"] = HOLD
        dialog = await login(gate)
        await hand_over(dialog)
        await upstream.until(lambda: bool(upstream.messages))
        await gate.stop(drain_s=0, finish_s=0.05)
        with contextlib.suppress(ConnectionError):
            assert await dialog.is_closed(), "without a verdict: the client keeps its copy"
        text = (tmp_path / "log").read_text()
        assert '"outcome":"in-doubt"' in text.replace('": "', '":"')
        assert '"transactions_cut_off":1' in text.replace('": 1', '":1')
        ledger = SqliteLedger(gate.config.ledger_path)
        assert await used_24h(ledger, Subject(DELEGATE), gate.clock.now()) == 1
        await ledger.close()


async def test_a_command_that_comes_to_a_session_just_cancelled_is_no_error(
    tmp_path: Path,
) -> None:
    strays: list[object] = []
    async with open_gate(tmp_path) as (gate, _):
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: strays.append(context)
        )
        dialog = await login(gate)
        (session,) = gate.listeners["plain"]._sessions
        gate.service.sessions.cancel()
        feed(cast("SmtpSession", session), b"QUIT\r\n")
        assert await dialog.is_closed()
    assert strays == []
