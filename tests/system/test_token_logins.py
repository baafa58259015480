"""Logins by token at a gate: whose they are, and how long they last."""

import asyncio
import json
import smtplib
import ssl
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from smtpgate.cli.record_view import record_fields
from smtpgate.config.file import ConfigError
from smtpgate.control import ReloadAnswer
from smtpgate.core.history.story import as_seen_by, story_of
from smtpgate.gate.gate import Gate
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.reader import JournalReader
from tests.support.clock import MovableClock
from tests.support.dialog import Dialog
from tests.support.inprocess import Opened, client_tls, open_gate, send
from tests.support.issuer import (
    AUDIENCE,
    ISSUER,
    SUBJECT,
    Issuer,
    claims_at,
    issuer,
    signed,
)
from tests.support.rows import rows
from tests.support.world import OWNER
from tests.system.test_reload import change
from tests.system.test_revocation import log_of

pytestmark = pytest.mark.slow

KEY: Final = "AKIAMAILER0000000000"
SECTIONS: Final = """\
[issuer.cluster]
issuer = "{issuer}"
audience = "{audience}"
jwks_url = "{url}"
ca_file = "issuer-ca.pem"
[[login]]
issuer = "cluster"
claims = {{ sub = "{subject}" }}
access_key = "AKIAMAILER0000000000"
"""


@asynccontextmanager
async def gate_with_issuer(
    folder: Path,
    clock: MovableClock,
    **settings: Any,  # noqa: ANN401 - open_gate's
) -> AsyncIterator[tuple[Opened, Issuer]]:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(str(folder / "issuer-ca.pem"))
    with issuer(tls) as server:
        sections = SECTIONS.format(
            issuer=ISSUER, audience=AUDIENCE, url=server.url, subject=SUBJECT
        )
        async with open_gate(folder, clock=clock, sections=sections, **settings) as opened:
            yield opened, server


async def session(gate: Gate) -> Dialog:
    dialog = await Dialog.open(gate.listeners["tls"].port, client_tls())
    await dialog.reply()
    assert "\n250-AUTH PLAIN LOGIN OAUTHBEARER XOAUTH2" in (
        await dialog.say("EHLO client.example")
    ).replace("250 AUTH", "250-AUTH")
    return dialog


def bearer(token: str, name: str = "") -> str:
    header = f"n,a={name}," if name else "n,,"
    text = f"{header}\1host=gate.example\1port=465\1auth=Bearer {token}\1\1"
    return b64encode(text.encode()).decode()


def xoauth2(token: str, name: str = KEY) -> str:
    return b64encode(f"user={name}\1auth=Bearer {token}\1\1".encode()).decode()


async def test_a_token_sends_as_the_user_of_its_access_key(
    tmp_path: Path, clock: MovableClock
) -> None:
    async with gate_with_issuer(tmp_path, clock) as ((gate, sink), server):
        token = signed(claims_at(clock.now()))
        for command in (
            f"AUTH OAUTHBEARER {bearer(token)}",
            f"AUTH oauthbearer {bearer(token, KEY)}",
            f"AUTH XOAUTH2 {xoauth2(token)}",
            f"AUTH XOAUTH2 {xoauth2(token, '')}",
        ):
            dialog = await session(gate)
            assert (await dialog.say(command)).startswith("235")
            assert (await send(dialog)).startswith("250")
        dialog = await session(gate)
        assert await dialog.say("AUTH OAUTHBEARER") == "334 "
        assert (await dialog.say(bearer(token))).startswith("235")
        assert len(sink.messages) == 4
        assert server.requests == 1
        lines = await log_of(gate, tmp_path, "submission")
        assert {(line["access_key"], line["token"]) for line in lines} == {
            (KEY, f"cluster:{SUBJECT}")
        }
        assert isinstance(gate.journal, LiveJournal)
        store = gate.journal.store
        record = await JournalReader(store, store.key()).get(lines[0]["id"])
        assert record is not None
        assert (record.username, record.client.token) == (KEY, f"cluster:{SUBJECT}")
        assert record_fields(record, clock.now())["token"] == f"cluster:{SUBJECT}"
        words = str(story_of(record, clock.now()))
        wanted = (
            f"with access key {KEY}, logged in by the token of cluster:{SUBJECT}, for account"
        )
        assert wanted in words
        seen_by_owner = as_seen_by(record, OWNER)
        assert (seen_by_owner.username, seen_by_owner.client.token) == ("", "")
        metrics = gate.metrics.render().decode()
        assert 'smtpgate_issuer_keys{issuer="cluster"} 1.0' in metrics
        assert 'smtpgate_issuer_keys_up{issuer="cluster"} 1.0' in metrics
        assert 'smtpgate_issuer_keys_failures_total{issuer="cluster"} 0.0' in metrics
    assert token not in (tmp_path / "log").read_text()


async def test_tokens_are_logins_only_over_tls(tmp_path: Path, clock: MovableClock) -> None:
    async with gate_with_issuer(tmp_path, clock) as ((gate, _), _):
        dialog = await Dialog.open(gate.listeners["plain"].port)
        await dialog.reply()
        assert "OAUTH" not in await dialog.say("EHLO client.example")
        token = signed(claims_at(clock.now()))
        assert (await dialog.say(f"AUTH OAUTHBEARER {bearer(token)}")).startswith("504")


async def test_without_an_issuer_there_are_only_passwords(tmp_path: Path) -> None:
    async with open_gate(tmp_path) as (gate, _):
        dialog = await Dialog.open(gate.listeners["tls"].port, client_tls())
        await dialog.reply()
        assert "OAUTH" not in await dialog.say("EHLO client.example")
        assert (await dialog.say(f"AUTH XOAUTH2 {xoauth2('a.b.c')}")).startswith("504")


@pytest.mark.slow
async def test_a_refused_token_is_a_failed_login_whose_cause_is_in_the_log(
    tmp_path: Path, clock: MovableClock
) -> None:
    async with gate_with_issuer(tmp_path, clock) as ((gate, _), _):
        now = clock.now()
        tries = [
            (xoauth2(signed(claims_at(now, aud="other"))), KEY, "invalid-token"),
            (xoauth2(signed(claims_at(now, sub="x"))), "cluster:x", "token-without-login"),
            (
                xoauth2(signed(claims_at(now)), "AKIAINTERN0000000000"),
                "AKIAINTERN0000000000",
                "other-identity",
            ),
        ]
        for response, _, _ in tries:
            dialog = await session(gate)
            challenge = await dialog.say(f"AUTH XOAUTH2 {response}")
            assert challenge.startswith("334 ")
            assert json.loads(b64decode(challenge[4:])) == {"status": "invalid_token"}
            assert (await dialog.say("AQ==")).startswith("535 5.7.8")
            assert (await dialog.say("MAIL FROM:<marketing@ses-example.com>"))[:3] == "530"
        dialog = await session(gate)
        assert (await dialog.say("AUTH XOAUTH2 AAAA")).startswith("501 5.5.2")
        lines = await log_of(gate, tmp_path, "auth-failed")
    found = [(line["username"], line["reason"]) for line in lines]
    assert found == [(name, reason) for _, name, reason in tries]
    assert "another audience" in lines[0]["detail"]


async def test_guessing_ends_the_session_as_with_passwords(
    tmp_path: Path, clock: MovableClock
) -> None:
    async with gate_with_issuer(tmp_path, clock) as ((gate, _), _):
        dialog = await Dialog.open(gate.listeners["starttls"].port)
        await dialog.reply()
        await dialog.say("EHLO client.example")
        await dialog.say("STARTTLS")
        await dialog.start_tls(client_tls())
        await dialog.say("EHLO client.example")
        for _ in range(2):
            assert (await dialog.say(f"AUTH XOAUTH2 {xoauth2('a.b.c')}"))[:3] == "334"
            assert (await dialog.say(""))[:3] == "535"
        assert (await dialog.say(f"AUTH XOAUTH2 {xoauth2('a.b.c')}"))[:3] == "535"
        assert (await dialog.reply())[:3] == "421"
        assert await dialog.is_closed()


async def test_a_session_ends_with_its_token_at_the_next_message(
    tmp_path: Path, clock: MovableClock
) -> None:
    async with gate_with_issuer(tmp_path, clock) as ((gate, sink), _):
        dialog = await session(gate)
        token = signed(claims_at(clock.now()))
        assert (await dialog.say(f"AUTH XOAUTH2 {xoauth2(token)}"))[:3] == "235"
        assert (await send(dialog))[:3] == "250"
        clock.move(631)
        said = await dialog.say("MAIL FROM:<marketing@ses-example.com>")
        assert said.startswith("421 4.7.0 Access token has ended")
        assert await dialog.is_closed()
        assert len(sink.messages) == 1


async def test_a_removed_rule_ends_the_session_at_the_next_message(
    tmp_path: Path, clock: MovableClock
) -> None:
    async with gate_with_issuer(tmp_path, clock) as ((gate, _), _):
        dialog = await session(gate)
        token = signed(claims_at(clock.now()))
        assert (await dialog.say(f"AUTH XOAUTH2 {xoauth2(token)}"))[:3] == "235"
        assert (await send(dialog))[:3] == "250"
        change(tmp_path, SUBJECT, "system:serviceaccount:shop:other")
        assert await gate.reload() == ReloadAnswer(("login",))
        assert (await send(dialog)).startswith("421 4.7.0 Access token has ended")


async def test_a_reload_keeps_the_keys_of_an_issuer_that_is_away(
    tmp_path: Path, clock: MovableClock
) -> None:
    async with gate_with_issuer(tmp_path, clock) as ((gate, _), server):
        token = signed(claims_at(clock.now()))
        assert (await (await session(gate)).say(f"AUTH XOAUTH2 {xoauth2(token)}"))[:3] == "235"
        server.status = 503
        change(tmp_path, f'sub = "{SUBJECT}"', 'sub = "system:*"')
        assert await gate.reload() == ReloadAnswer(("login",))
        assert (await (await session(gate)).say(f"AUTH XOAUTH2 {xoauth2(token)}"))[:3] == "235"
        assert server.requests == 1


async def test_an_issuer_that_is_away_means_to_try_again(
    tmp_path: Path, clock: MovableClock
) -> None:
    async with gate_with_issuer(tmp_path, clock) as ((gate, _), server):
        server.status = 503
        change(tmp_path, 'issuer-ca.pem"', 'issuer-ca.pem"\nrefresh_s = 61')
        assert await gate.reload() == ReloadAnswer(("issuer.cluster.refresh_s",))
        dialog = await session(gate)
        token = signed(claims_at(clock.now()))
        assert (await dialog.say(f"AUTH XOAUTH2 {xoauth2(token)}")).startswith("454 4.7.0")
        failed = await log_of(gate, tmp_path, "issuer-keys failed")
    assert failed[-1]["problem"] == "the issuer answered 503"


async def test_python_s_own_client_logs_in(tmp_path: Path, clock: MovableClock) -> None:
    async with gate_with_issuer(tmp_path, clock) as ((gate, _), _):
        token = signed(claims_at(clock.now()))
        bad = signed(claims_at(clock.now(), aud="other"))

        def log_in(value: str) -> tuple[int, bytes]:
            def response(challenge: bytes | None = None) -> str:
                if challenge:
                    return "\1"
                return f"user={KEY}\1auth=Bearer {value}\1\1"

            port = gate.listeners["tls"].port
            with smtplib.SMTP_SSL("127.0.0.1", port, context=client_tls()) as client:
                client.ehlo()
                return client.auth("XOAUTH2", response)

        assert (await asyncio.to_thread(log_in, token))[0] == 235
        with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
            _ = await asyncio.to_thread(log_in, bad)
        assert caught.value.smtp_code == 535


@rows(
    "old,new,problem",
    [
        (f'audience = "{AUDIENCE}"\n', "", "issuer.cluster.audience: is missing"),
        ("https://127", "http://127", "issuer.cluster.jwks_url: must begin with https://"),
        ('[[login]]\nissuer = "cluster"', '[[login]]\nissuer = "other"', "login[0].issuer"),
        (f'sub = "{SUBJECT}"', 'sub = "*"', "login[0].claims"),
        ("AKIAMAILER0000000000", "mailer", "login[0].access_key"),
        ("ca_file", 'algorithms = ["HS256"]\nca_file', "issuer.cluster.algorithms"),
    ],
)
async def test_a_configuration_that_is_not_safe_is_refused(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    text = SECTIONS.format(
        issuer=ISSUER, audience=AUDIENCE, url="https://127.0.0.1:1/keys", subject=SUBJECT
    )
    assert old in text
    folder = tmp_path / str(abs(hash(old)))
    folder.mkdir()
    (folder / "issuer-ca.pem").write_text("PEM")
    with pytest.raises(ConfigError) as caught:
        async with open_gate(folder, sections=text.replace(old, new, 1)):
            pass
    assert problem in str(caught.value)
