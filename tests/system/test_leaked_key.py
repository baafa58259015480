"""A leaked key at a real gate: found, reported by mail, suspended or slowed, and confirmed."""

import base64
import sqlite3
from contextlib import closing
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Final

import pytest

from smtpgate.admin import key_watch
from smtpgate.admin.session import operator_session
from smtpgate.core.watch.profile import Profile, record
from smtpgate.directory.key_watch import decode, store_profiles
from smtpgate.gate.gate import Gate
from tests.support.clock import MovableClock
from tests.support.dialog import Dialog
from tests.support.inprocess import auth_plain, login, open_gate, send
from tests.support.key_uses import MONDAY, business, weeks_of
from tests.support.upstream_server import UpstreamServer, open_upstream
from tests.support.waiting import until
from tests.system.test_revocation import log_of

KEY: Final = "AKIAMAILER0000000000"
CONTACT: Final = (
    'name = "Delegate sender"',
    'name = "Delegate sender"\ncontact = "admin@example.net"',
)


def watching(action: str) -> str:
    return f'[watch]\naction = "{action}"\noperator = "postmaster@example.com"\n'


async def accustom(gate: Gate) -> None:
    """Three weeks of use from another network, under other names."""
    profile: Profile | None = None
    for use in weeks_of(business, 1, 3):
        profile = record(profile, use.observed(), 7)
    assert profile is not None
    assert max(profile.days) == MONDAY + 18
    async with gate.store.database.changing() as connection:
        await store_profiles(connection, {KEY: profile}, gate.clock.now())


async def judged(gate: Gate) -> None:
    """Have the watch judge what was sent, and senders see what it did."""
    assert gate.host.watcher is not None
    await gate.host.watcher.round()
    await gate.directory.catch_up()


def mail_about_keys(upstream: UpstreamServer) -> list[EmailMessage]:
    read = [message_from_bytes(one, policy=policy.default) for one in upstream.messages]
    return [one for one in read if "access key" in str(one["Subject"]).lower()]


async def test_a_leaked_key_is_suspended_until_its_use_is_confirmed(
    tmp_path: Path, clock: MovableClock
) -> None:
    async with (
        open_upstream() as upstream,
        open_gate(
            tmp_path,
            port=upstream.port,
            clock=clock,
            replace=CONTACT,
            sections=watching("disable"),
        ) as (gate, _),
    ):
        await accustom(gate)
        dialog = await login(gate)
        assert (await send(dialog)).startswith("250")
        await judged(gate)
        assert await dialog.reply() == (
            "421 4.7.0 Access key is suspended, closing the connection (access-key-suspended)"
        )
        fresh = await Dialog.open(gate.listeners["plain"].port)
        await fresh.reply()
        await fresh.say("EHLO client.example")
        said = await fresh.say(f"AUTH PLAIN {auth_plain(KEY)}")
        assert said == "535 5.7.8 Authentication Credentials Invalid"
        (entry,) = await log_of(gate, tmp_path, "auth-failed")
        assert entry["reason"] == "access-key-suspended"
        (entry,) = await log_of(gate, tmp_path, "key-use-differs")
        assert (entry["level"], entry["action"]) == ("warning", "suspended")
        assert {"network", "from-domain"} <= set(entry["signals"])
        metrics = gate.metrics.render().decode()
        assert 'smtpgate_key_findings_total{level="alarm",signal="network"} 1.0' in metrics
        await until(lambda: len(mail_about_keys(upstream)) == 2)
        mails = mail_about_keys(upstream)
        assert {str(mail["To"]) for mail in mails} == {
            "admin@example.net",
            "postmaster@example.com",
        }
        for mail in mails:
            text = base64.b64decode(str(mail.get_payload())).decode()
            assert f"smtpgate key confirm {KEY}\r\n" in text
            assert "127.0.0.0/24" in text
            assert mail["Auto-Submitted"] == "auto-generated"
        session = operator_session(gate.config, gate.store, clock, name="me", origin="a test")
        clock.move(60)
        await key_watch.confirm(session, KEY)
        clock.move(6)
        await judged(gate)
        again = await login(gate)
        assert (await send(again)).startswith("250")
        await judged(gate)
        assert (await again.say("NOOP")).startswith("250")
        assert len(await log_of(gate, tmp_path, "key-use-differs")) == 1


async def test_a_slowed_key_sends_slowly(tmp_path: Path, clock: MovableClock) -> None:
    sections = watching("slow") + "[limits]\nmax_wait_s = 0\n"
    async with open_gate(tmp_path, clock=clock, sections=sections, replace=CONTACT) as (
        gate,
        _,
    ):
        await accustom(gate)
        dialog = await login(gate)
        assert (await send(dialog)).startswith("250")
        await judged(gate)
        replies = [await send(dialog) for _ in range(3)]
        assert any(reply.startswith("454 4.7.0") for reply in replies), replies
        (refused, *_) = [reply for reply in replies if reply.startswith("454")]
        assert f"access key {KEY}" in refused


@pytest.mark.parametrize("sections", ["[watch]\nenabled = false\n"])
async def test_a_gate_without_the_watch_notes_nothing(tmp_path: Path, sections: str) -> None:
    async with open_gate(tmp_path, sections=sections) as (gate, _):
        assert gate.host.watcher is None
        assert (await send(await login(gate))).startswith("250")


async def test_the_profile_of_a_key_is_there_after_a_stop(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        assert (await send(await login(gate))).startswith("250")
    with closing(sqlite3.connect(tmp_path / "state" / "directory.sqlite")) as database:
        question = "SELECT profile FROM key_profiles WHERE key_id = ?"
        ((octets,),) = database.execute(question, [KEY]).fetchall()
    profile = decode(octets)
    assert profile is not None
    assert [its.messages for its in profile.days.values()] == [1]
