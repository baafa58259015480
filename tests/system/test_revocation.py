"""Live sessions end with their access key: when it is revoked, expires, moves, or is paused."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from smtpgate.gate.documents import apply_documents
from smtpgate.gate.gate import Gate
from tests.support.clock import MovableClock, move_loop
from tests.support.dialog import Dialog
from tests.support.inprocess import MESSAGE, auth_plain, client_tls, login, open_gate, send
from tests.support.upstream_server import HOLD, open_upstream
from tests.support.world import DELEGATE

KEY: Final = 'id = "AKIAMAILER0000000000"'
ACCOUNT: Final = 'name = "Delegate sender"'
NOT_ACTIVE: Final = (
    "421 4.7.0 Access key is no longer active, closing the connection (access-key-inactive)"
)
IN_50_S: Final = f"{KEY}\nexpires = 2026-11-23T10:00:50Z"  # by the clock that can be moved
TRANSACTION: Final = (
    b"MAIL FROM:<marketing@ses-example.com>\r\nRCPT TO:<jane@example.net>\r\nDATA\r\n"
)


def change(folder: Path, at: str, line: str) -> None:
    """A line more in accounts.toml, below that one."""
    accounts = folder / "directory" / "accounts.toml"
    text = accounts.read_text()
    assert text.count(at) == 1
    accounts.write_text(text.replace(at, f"{at}\n{line}"))


async def revoke(gate: Gate, folder: Path) -> None:
    change(folder, KEY, 'status = "inactive"')
    await gate.reload()


async def log_of(gate: Gate, folder: Path, event: str) -> list[dict[str, Any]]:
    await gate.log.flush()
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


@pytest.mark.parametrize(
    ("at", "line", "says"),
    [
        (KEY, 'status = "inactive"', NOT_ACTIVE),
        (
            KEY,
            "expires = 2020-01-01T00:00:00Z",
            "421 4.7.0 Access key has expired, closing the connection (access-key-expired)",
        ),
        (
            KEY,
            'networks = ["192.0.2.0/24"]',
            "421 4.7.0 Access key may not be used from this network, closing the connection "
            "(network-not-allowed: 127.0.0.1)",
        ),
        (
            ACCOUNT,
            'status = "paused"\npaused_reason = "too many complaints"',
            "421 4.7.0 Sending paused for this account, closing the connection "
            "(account-paused: too many complaints)",
        ),
    ],
    ids=["revoked", "expired", "moved", "paused"],
)
async def test_an_idle_session_gets_the_reason_why_it_ends_without_asking(
    tmp_path: Path, at: str, line: str, says: str
) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog, other = await login(gate), await login(gate, "AKIAOWNERROOT0000000")
        change(tmp_path, at, line)
        await gate.reload()
        assert await dialog.reply() == says
        assert await dialog.is_closed()
        assert (await other.say("NOOP")).startswith("250"), "another key's session goes on"
        (entry,) = await log_of(gate, tmp_path, "sessions-ended")
        reason = says.rpartition("(")[2].rstrip(")").partition(":")[0]
        assert entry["access_key"] == "AKIAMAILER0000000000"
        assert entry["account"] == DELEGATE
        assert (entry["reason"], entry["sessions"]) == (reason, 1)
        metrics = gate.metrics.render().decode()
        assert f'smtpgate_sessions_ended_total{{reason="{reason}"}} 1.0' in metrics


async def test_the_key_of_an_account_that_is_gone_ends_its_sessions(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await login(gate)
        accounts = tmp_path / "directory" / "accounts.toml"
        accounts.write_text(accounts.read_text().partition("[accounts.999999999999]")[0])
        await gate.reload()
        assert await dialog.reply() == NOT_ACTIVE


async def test_a_session_over_tls_gets_it_too(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await Dialog.open(gate.listeners["tls"].port, client_tls())
        await dialog.reply()
        await dialog.say("EHLO client.example")
        await dialog.say(f"AUTH PLAIN {auth_plain()}")
        await revoke(gate, tmp_path)
        assert await dialog.reply() == NOT_ACTIVE
        assert await dialog.is_closed()


@pytest.mark.parametrize(
    "commands",
    [
        ["MAIL FROM:<marketing@ses-example.com>"],
        ["MAIL FROM:<marketing@ses-example.com>", "RCPT TO:<jane@example.net>"],
    ],
    ids=["after MAIL", "after RCPT"],
)
async def test_a_transaction_ends_before_its_message(
    tmp_path: Path, commands: list[str]
) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await login(gate)
        for command in commands:
            await dialog.say(command)
        await revoke(gate, tmp_path)
        assert await dialog.reply() == NOT_ACTIVE
        assert await dialog.is_closed()


async def test_a_message_on_its_way_in_is_read_to_its_end_and_refused_first(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path) as (gate, sink):
        dialog = await login(gate)
        await dialog.send(TRANSACTION)
        for wanted in ("250", "250", "354"):
            assert (await dialog.reply()).startswith(wanted)
        head, tail = MESSAGE.encode()[:40], MESSAGE.encode()[40:]
        await dialog.send(head)
        await revoke(gate, tmp_path)
        await dialog.send(tail + b".\r\nNOOP\r\n")
        refusal = await dialog.reply()
        assert refusal.startswith("554 5.7.1 Access denied: the access key is not active (")
        assert await dialog.reply() == NOT_ACTIVE
        assert await dialog.is_closed()
        assert not sink.messages
        (entry,) = await log_of(gate, tmp_path, "submission")
        assert entry["id"] in refusal


async def test_a_message_on_its_way_upstream_has_its_verdict_and_what_is_behind_it_not(
    tmp_path: Path,
) -> None:
    async with (
        open_upstream() as upstream,
        open_gate(tmp_path, port=upstream.port) as (gate, _),
    ):
        upstream.answers["MESSAGE"] = HOLD
        dialog = await login(gate)
        message = MESSAGE.encode() + b".\r\n"
        await dialog.send(TRANSACTION)
        for wanted in ("250", "250", "354"):
            assert (await dialog.reply()).startswith(wanted)
        await dialog.send(message + TRANSACTION)
        await upstream.until(lambda: bool(upstream.messages))
        await revoke(gate, tmp_path)
        upstream.release()
        assert (await dialog.reply()).startswith("250 2.0.0 Ok 0100")
        assert await dialog.reply() == NOT_ACTIVE
        assert await dialog.is_closed()
        assert len(upstream.messages) == 1
        assert [entry["outcome"] for entry in await log_of(gate, tmp_path, "submission")] == [
            "accepted"
        ]


async def test_only_the_sessions_of_the_key_that_was_named_are_looked_at(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path) as (gate, _):
        mailer, intern = await login(gate), await login(gate, "AKIAINTERN0000000000")
        change(tmp_path, ACCOUNT, 'status = "paused"\npaused_reason = "unpaid"')
        await gate.directory.stop()  # so that the feed tells nothing
        assert (await apply_documents(gate.config, gate.store, [])).steps
        gate.directory.cache.clear()
        await gate.directory_changed({"AKIAMAILER0000000000"}, set())
        assert (await mailer.reply()).startswith("421 4.7.0 Sending paused")
        assert (await intern.say("NOOP")).startswith("250")
        await gate.directory_changed({"AKIANOBODY0000000000"}, {"111111111111"})
        assert (await intern.say("NOOP")).startswith("250")
        await gate.directory_changed(set(), {DELEGATE})
        assert (await intern.reply()).startswith("421 4.7.0 Sending paused")


async def test_who_logs_in_to_a_paused_account_is_let_in_and_refused_at_the_message(
    tmp_path: Path,
) -> None:
    paused = (ACCOUNT, f'{ACCOUNT}\nstatus = "paused"\npaused_reason = "unpaid"')
    async with open_gate(tmp_path, replace=paused) as (gate, _):
        reply = await send(await login(gate))
        assert reply.startswith("554 5.7.1 Message rejected: Sending paused for this account.")
        assert "(account-paused: unpaid; " in reply


async def test_a_key_that_may_be_used_again_lets_its_user_in_again(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        accounts = tmp_path / "directory" / "accounts.toml"
        before = accounts.read_text()
        dialog = await login(gate)
        await revoke(gate, tmp_path)
        assert await dialog.reply() == NOT_ACTIVE
        accounts.write_text(before.replace(KEY, f'{KEY}\nstatus = "active"'))
        await gate.reload()
        again = await login(gate)
        await gate.directory_changed({"AKIAMAILER0000000000"}, {DELEGATE})
        assert (await send(again)).startswith("250")


async def test_a_reload_that_fails_ends_no_session(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await login(gate)
        change(tmp_path, KEY, 'status = "gone"')
        await gate.reload()
        assert (await send(dialog)).startswith("250")


async def test_a_session_that_is_over_is_forgotten_however_it_ended(tmp_path: Path) -> None:
    async with open_gate(tmp_path, listener="max_errors = 1") as (gate, _):
        quits, errs, hangs_up, resets = [await login(gate) for _ in range(4)]
        assert gate.watch.keys == {"AKIAMAILER0000000000"}
        await quits.say("QUIT")
        await errs.say("WHAT")
        hangs_up.writer.write_eof()
        resets.writer.transport.abort()
        for dialog in (quits, errs, hangs_up):
            while not await dialog.is_closed():
                pass
        await gate.sessions.drain(5)
        assert gate.watch.keys == frozenset()


# -- logins ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('status = "inactive"', "access-key-inactive"),
        ("expires = 2020-01-01T00:00:00+02:00", "access-key-expired"),
        ('networks = ["192.0.2.0/24", "2001:db8::/32"]', "network-not-allowed"),
    ],
)
@pytest.mark.parametrize("password", ["right", pytest.param("wrong", marks=pytest.mark.slow)])
async def test_a_key_that_may_not_be_used_is_answered_as_a_wrong_password_is(
    tmp_path: Path, line: str, reason: str, password: str
) -> None:
    async with open_gate(tmp_path, replace=(KEY, f"{KEY}\n{line}")) as (gate, _):
        dialog = await Dialog.open(gate.listeners["plain"].port)
        await dialog.reply()
        await dialog.say("EHLO client.example")
        response = auth_plain() if password == "right" else auth_plain(password="wrong")
        for _attempt in range(3):
            said = await dialog.say(f"AUTH PLAIN {response}")
            assert said == "535 5.7.8 Authentication Credentials Invalid"
        assert (await dialog.reply()).startswith("421 4.7.0 Too many errors")
        wanted = reason if password == "right" else "invalid-credentials"
        entries = await log_of(gate, tmp_path, "auth-failed")
        assert [entry["reason"] for entry in entries] == [wanted] * 3
        labels = f'{{listener="plain",reason="{wanted}"}}'
        metrics = gate.metrics.render().decode()
        assert f"smtpgate_auth_failures_total{labels} 3.0" in metrics


@pytest.mark.parametrize(
    "line", ['networks = ["127.0.0.0/8"]', "expires = 9999-12-31T23:59:59Z"]
)
async def test_a_key_that_may_be_used_lets_in_and_the_login_is_counted(
    tmp_path: Path, line: str
) -> None:
    level = 'level = "debug"'
    async with open_gate(tmp_path, replace=(KEY, f"{KEY}\n{line}"), sections=level) as (
        gate,
        _,
    ):
        assert (await send(await login(gate))).startswith("250")
        (entry,) = await log_of(gate, tmp_path, "authenticated")
        assert entry["access_key"] == "AKIAMAILER0000000000"
        assert (entry["account"], entry["client"]) == (DELEGATE, "127.0.0.1")
        metrics = gate.metrics.render().decode()
        assert 'smtpgate_auth_successes_total{listener="plain"} 1.0' in metrics


# -- expiry ------------------------------------------------------------------------------------


async def test_an_idle_session_ends_at_the_moment_when_its_key_expires(
    tmp_path: Path, clock: MovableClock
) -> None:
    async with open_gate(tmp_path, replace=(KEY, IN_50_S), clock=clock) as (gate, _):
        dialog = await login(gate)
        clock.move(49.5)
        await move_loop(49.5)
        await gate.directory.catch_up()
        assert (await send(dialog)).startswith("250")
        clock.move(0.5)
        await move_loop(0.5)
        assert await dialog.reply() == (
            "421 4.7.0 Access key has expired, closing the connection (access-key-expired)"
        )
        assert await dialog.is_closed()


async def test_a_key_that_expires_while_its_message_is_on_its_way_does_not_cut_it_off(
    tmp_path: Path, clock: MovableClock
) -> None:
    async with (
        open_upstream() as upstream,
        open_gate(tmp_path, port=upstream.port, replace=(KEY, IN_50_S), clock=clock) as (
            gate,
            _,
        ),
    ):
        upstream.answers["MESSAGE"] = HOLD
        dialog = await login(gate)
        await dialog.send(TRANSACTION)
        for _ in range(3):
            await dialog.reply()
        await dialog.send(MESSAGE.encode() + b".\r\n")
        await upstream.until(lambda: bool(upstream.messages))
        clock.move(51)
        await move_loop(51)
        upstream.release()
        assert (await dialog.reply()).startswith("250 2.0.0 Ok")
        assert (await dialog.reply()).startswith("421 4.7.0 Access key has expired")
