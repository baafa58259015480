"""Access keys that need a client certificate, at a listener that asks for one."""

import hashlib
import socket
import ssl
from asyncio import to_thread
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from smtpgate.gate.gate import Gate
from tests.support.aws import aws_client
from tests.support.clock import MovableClock
from tests.support.dialog import Dialog
from tests.support.inprocess import Opened, auth_plain, client_tls, open_gate, send
from tests.support.issuer import claims_at, signed
from tests.support.waiting import until
from tests.support.world import PASSWORD
from tests.system.test_api import API, MAILER, refused
from tests.system.test_reload import change
from tests.system.test_revocation import KEY, log_of
from tests.system.test_revocation import change as declare
from tests.system.test_token_logins import gate_with_issuer, xoauth2

pytestmark = pytest.mark.slow

OPEN: Final = 'port = 0\ntls = "implicit"'
ASKS: Final = (
    f'{OPEN}\nauth_failure_delay_s = 0\nclient_ca_file = "clients-ca.pem"\n'
    'client_certificate = "{}"'
)
INVALID: Final = "535 5.7.8 Authentication Credentials Invalid"
ENDED: Final = (
    "421 4.7.0 Access key may not be used without its certificate, closing the connection "
    "(certificate-not-allowed)"
)


def pin_of_pem(pem: bytes) -> str:
    """The pin as a client makes it that has the private key, and no certificate yet."""
    public = load_pem_private_key(pem, None).public_key()
    octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(octets).hexdigest()}"


def pin(leaf: trustme.LeafCert) -> str:
    return pin_of_pem(leaf.private_key_pem.bytes())


def needing(*leaves: trustme.LeafCert) -> str:
    return f"certificates = {[pin(leaf) for leaf in leaves]}"


def context_of(leaf: trustme.LeafCert | None) -> ssl.SSLContext:
    context = client_tls()
    if leaf is not None:
        leaf.configure_cert(context)
    return context


async def session(gate: Gate, leaf: trustme.LeafCert | None) -> Dialog:
    dialog = await Dialog.open(gate.listeners["tls"].port, context_of(leaf))
    await dialog.reply()
    await dialog.say("EHLO client.example")
    return dialog


async def is_let_in(gate: Gate, leaf: trustme.LeafCert | None) -> bool:
    """With TLS 1.3 the handshake of the client is over before the gate refuses it."""
    try:
        return (await (await session(gate, leaf)).say("NOOP")).startswith("250")
    except (ssl.SSLError, OSError):
        return False


async def asks(gate: Gate, folder: Path, authority: trustme.CA, how: str = "optional") -> None:
    authority.cert_pem.write_to_path(str(folder / "clients-ca.pem"))
    change(folder, OPEN, ASKS.format(how))
    assert (await gate.reload()).problems == ()


@asynccontextmanager
async def asking(
    folder: Path, authority: trustme.CA, *leaves: trustme.LeafCert
) -> AsyncIterator[Opened]:
    """A gate whose mailer needs one of these certificates."""
    replace = (KEY, f"{KEY}\n{needing(*leaves)}")
    async with open_gate(folder, replace=replace) as (gate, sink):
        await asks(gate, folder, authority)
        yield gate, sink


async def test_a_key_with_pins_logs_in_with_any_of_those_certificates(tmp_path: Path) -> None:
    authority = trustme.CA()
    leaves = [authority.issue_cert("client.example") for _ in range(2)]
    async with asking(tmp_path, authority, *leaves) as (gate, sink):
        for leaf in leaves:
            dialog = await session(gate, leaf)
            assert (await dialog.say(f"AUTH PLAIN {auth_plain()}")).startswith("235")
            assert (await send(dialog)).startswith("250")
        assert len(sink.messages) == 2


@pytest.mark.parametrize("has_another", [False, True])
async def test_without_that_certificate_a_login_is_answered_as_a_wrong_password_is(
    tmp_path: Path, has_another: bool
) -> None:
    authority = trustme.CA()
    leaf, other = (authority.issue_cert("client.example") for _ in range(2))
    async with asking(tmp_path, authority, leaf) as (gate, _):
        dialog = await session(gate, other if has_another else None)
        assert await dialog.say(f"AUTH PLAIN {auth_plain()}") == INVALID
        assert await dialog.say(f"AUTH PLAIN {auth_plain(password='wrong')}") == INVALID
        await dialog.say(f"AUTH LOGIN {b64encode(MAILER.encode()).decode()}")
        assert await dialog.say(b64encode(PASSWORD.encode()).decode()) == INVALID
        assert (await dialog.reply()).startswith("421 4.7.0 Too many errors")
        lines = await log_of(gate, tmp_path, "auth-failed")
        assert [line["reason"] for line in lines] == [
            "certificate-not-allowed",
            "invalid-credentials",
            "certificate-not-allowed",
        ]
        shown = pin(other) if has_another else None
        assert [line.get("certificate") for line in lines] == [shown] * 3
        metrics = gate.metrics.render().decode()
        labels = '{listener="tls",reason="certificate-not-allowed"}'
        assert f"smtpgate_auth_failures_total{labels} 2.0" in metrics


async def test_a_renewed_certificate_with_the_same_key_has_the_same_pin(tmp_path: Path) -> None:
    authority = trustme.CA()
    old = authority.issue_cert("client.example")
    private = load_pem_private_key(old.private_key_pem.bytes(), None)
    issuer_key = load_pem_private_key(authority.private_key_pem.bytes(), None)
    before = x509.load_pem_x509_certificate(old.cert_chain_pems[0].bytes())
    builder = x509.CertificateBuilder(
        before.issuer,
        x509.Name([]),
        private.public_key(),  # type: ignore[arg-type]
        x509.random_serial_number(),
        before.not_valid_before_utc,
        before.not_valid_after_utc,
        [x509.Extension(one.oid, one.critical, one.value) for one in before.extensions],
    )
    renewed = builder.sign(issuer_key, SHA256())  # type: ignore[arg-type]
    file = tmp_path / "renewed.pem"
    file.write_bytes(old.private_key_pem.bytes() + renewed.public_bytes(Encoding.PEM))
    context = client_tls()
    context.load_cert_chain(file)
    async with asking(tmp_path, authority, old) as (gate, _):
        dialog = await Dialog.open(gate.listeners["tls"].port, context)
        await dialog.reply()
        await dialog.say("EHLO client.example")
        assert (await dialog.say(f"AUTH PLAIN {auth_plain()}")).startswith("235")


async def test_a_certificate_of_another_authority_fails_the_handshake(tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    async with open_gate(tmp_path) as (gate, _):
        await asks(gate, tmp_path, authority)
        assert not await is_let_in(gate, stranger.issue_cert("client.example"))
        await until(lambda: '"no-client-certificate"' in (tmp_path / "log").read_text())
        dialog = await session(gate, None)  # of a key without a pin
        assert (await dialog.say(f"AUTH PLAIN {auth_plain()}")).startswith("235")


async def test_optional_and_required_are_changed_by_a_reload(tmp_path: Path) -> None:
    authority = trustme.CA()
    async with open_gate(tmp_path) as (gate, _):
        await asks(gate, tmp_path, authority, "required")
        assert not await is_let_in(gate, None)
        change(tmp_path, '= "required"', '= "optional"')
        answer = await gate.reload()
        assert answer.changed == ("listener.tls.client_certificate",)
        assert await is_let_in(gate, None)
        change(tmp_path, '= "optional"', '= "required"')
        await gate.reload()
        assert not await is_let_in(gate, None)


async def test_a_listener_that_asks_for_no_certificate_lets_no_such_key_in(
    tmp_path: Path,
) -> None:
    leaf = trustme.CA().issue_cert("client.example")
    async with open_gate(tmp_path, replace=(KEY, f"{KEY}\n{needing(leaf)}")) as (gate, _):
        dialog = await Dialog.open(gate.listeners["plain"].port)
        await dialog.reply()
        await dialog.say("EHLO client.example")
        assert await dialog.say(f"AUTH PLAIN {auth_plain()}") == INVALID
        (line,) = await log_of(gate, tmp_path, "auth-failed")
        assert line["reason"] == "certificate-not-allowed"


async def test_the_certificate_may_come_with_starttls(tmp_path: Path) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("client.example")
    async with open_gate(tmp_path, replace=(KEY, f"{KEY}\n{needing(leaf)}")) as (gate, _):
        authority.cert_pem.write_to_path(str(tmp_path / "clients-ca.pem"))
        starttls = 'tls = "starttls"'
        change(tmp_path, starttls, f'{starttls}\nclient_ca_file = "clients-ca.pem"')
        assert (await gate.reload()).problems == ()
        dialog = await Dialog.open(gate.listeners["starttls"].port)
        await dialog.reply()
        await dialog.say("EHLO client.example")
        await dialog.say("MAIL FROM:<marketing@ses-example.com>")  # refused, and described
        await dialog.say("STARTTLS")
        await dialog.start_tls(context_of(leaf))
        await dialog.say("EHLO client.example")
        assert (await dialog.say(f"AUTH PLAIN {auth_plain()}")).startswith("235")
        assert (await send(dialog)).startswith("250")


@pytest.mark.slow
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_resumed_tls_session_has_the_certificate_that_it_began_with(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """The client does not show it again then (RFC 8446 §2.2)."""
    authority = trustme.CA()
    leaf = authority.issue_cert("client.example")
    context = context_of(leaf)
    context.maximum_version = version
    async with asking(tmp_path, authority, leaf) as (gate, _):
        port = gate.listeners["tls"].port

        def login(before: ssl.SSLSession | None) -> tuple[bytes, bool, ssl.SSLSession | None]:
            with (
                socket.create_connection(("127.0.0.1", port), 10) as raw,
                context.wrap_socket(
                    raw, server_hostname="gate.example", session=before
                ) as connection,
                connection.makefile("rb") as lines,
            ):
                lines.readline()
                connection.sendall(b"EHLO client.example\r\n")
                while lines.readline()[3:4] == b"-":
                    pass
                connection.sendall(f"AUTH PLAIN {auth_plain()}\r\n".encode())
                return lines.readline(), bool(connection.session_reused), connection.session

        said, is_resumed, tls = await to_thread(login, None)
        assert (said[:3], is_resumed) == (b"235", False)
        said, is_resumed, _tls = await to_thread(login, tls)
        assert (said[:3], is_resumed) == (b"235", True)


@pytest.mark.parametrize("begins", [[], ["MAIL FROM:<marketing@ses-example.com>"]])
async def test_a_changed_pin_ends_the_sessions_that_it_does_not_allow(
    tmp_path: Path, begins: list[str]
) -> None:
    authority = trustme.CA()
    stays, goes = (authority.issue_cert("client.example") for _ in range(2))
    async with asking(tmp_path, authority, stays, goes) as (gate, _):
        dialogs = [await session(gate, leaf) for leaf in (stays, goes)]
        for dialog in dialogs:
            assert (await dialog.say(f"AUTH PLAIN {auth_plain()}")).startswith("235")
        for command in begins:
            await dialogs[1].say(command)
        accounts = tmp_path / "directory" / "accounts.toml"
        text = accounts.read_text()
        accounts.write_text(text.replace(needing(stays, goes), needing(stays)))
        await gate.reload()
        assert await dialogs[1].reply() == ENDED
        assert await dialogs[1].is_closed()
        assert (await send(dialogs[0])).startswith("250")
        (line,) = await log_of(gate, tmp_path, "sessions-ended")
        assert (line["reason"], line["sessions"]) == ("certificate-not-allowed", 1)


async def test_a_first_pin_ends_the_sessions_without_a_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    async with open_gate(tmp_path) as (gate, _):
        await asks(gate, tmp_path, authority)
        dialog = await session(gate, None)
        assert (await dialog.say(f"AUTH PLAIN {auth_plain()}")).startswith("235")
        declare(tmp_path, KEY, needing(authority.issue_cert("client.example")))
        await gate.reload()
        assert await dialog.reply() == ENDED


async def test_a_token_of_a_key_with_a_pin_needs_the_certificate_too(
    tmp_path: Path, clock: MovableClock
) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("client.example")
    replace = (KEY, f"{KEY}\n{needing(leaf)}")
    async with gate_with_issuer(tmp_path, clock, replace=replace) as ((gate, _), _):
        await asks(gate, tmp_path, authority)
        command = f"AUTH XOAUTH2 {xoauth2(signed(claims_at(clock.now())))}"
        dialog = await session(gate, None)
        assert (await dialog.say(command)).startswith("334")
        assert await dialog.say("") == INVALID
        (line,) = await log_of(gate, tmp_path, "auth-failed")
        assert (line["reason"], line["username"]) == ("certificate-not-allowed", MAILER)
        dialog = await session(gate, leaf)
        assert (await dialog.say(command)).startswith("235")


async def test_the_api_refuses_such_a_key_as_an_unknown_one(tmp_path: Path) -> None:
    leaf = trustme.CA().issue_cert("client.example")
    replace = (KEY, f"{KEY}\n{needing(leaf)}")
    async with open_gate(tmp_path, replace=replace, sections=API) as (gate, _):
        mailer = aws_client("ses", gate.service.apis["ses"].port, MAILER)
        guesser = aws_client("ses", gate.service.apis["ses"].port, MAILER, secret="wrong")
        answers = [await refused(one.get_send_quota) for one in (mailer, guesser)]
        assert [answer[:2] for answer in answers] == [("InvalidClientTokenId", 403)] * 2
        lines = await log_of(gate, tmp_path, "auth-failed")
        assert {(line["listener"], line["username"]) for line in lines} == {("api.ses", MAILER)}
        assert [line["reason"] for line in lines] == [
            "certificate-not-allowed",
            "invalid-credentials",  # without the right secret it says nothing of the key
        ]
