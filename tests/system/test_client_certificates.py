"""A listener that asks clients for a certificate, in the handshake."""

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from smtpgate.config.file import ConfigError
from smtpgate.gate.gate import Gate
from tests.support.dialog import Dialog
from tests.support.inprocess import auth_plain, client_tls, open_gate, send
from tests.support.waiting import until
from tests.system.test_reload import change
from tests.system.test_revocation import log_of

CA: Final = 'client_ca_file = "clients-ca.pem"'
OPEN: Final = 'port = 0\ntls = "implicit"'


async def opened(gate: Gate, authority: trustme.CA | None, **facts: Any) -> Dialog:  # noqa: ANN401
    context = client_tls()
    if authority is not None:
        authority.issue_cert("client.example", **facts).configure_cert(context)
    dialog = await Dialog.open(gate.listeners["tls"].port, context)
    await dialog.reply()
    return dialog


async def is_let_in(gate: Gate, authority: trustme.CA | None, **facts: Any) -> bool:  # noqa: ANN401
    """With TLS 1.3 the handshake of the client is over before the gate refuses it."""
    try:
        dialog = await opened(gate, authority, **facts)
        return (await dialog.say("NOOP")).startswith("250")
    except (ssl.SSLError, OSError):
        return False


async def with_authority(gate: Gate, folder: Path, authority: trustme.CA) -> None:
    """Have the TLS listener ask for certificates of that authority."""
    authority.cert_pem.write_to_path(str(folder / "clients-ca.pem"))
    change(folder, OPEN, f"{OPEN}\n{CA}")
    answer = await gate.reload()
    assert (answer.changed, answer.problems) == (("listener.tls.client_ca_file",), ())


async def test_only_clients_with_a_certificate_of_the_authority_are_let_in(
    tmp_path: Path,
) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    async with open_gate(tmp_path) as (gate, sink):
        assert await is_let_in(gate, None)
        await with_authority(gate, tmp_path, authority)
        assert not await is_let_in(gate, None)
        assert not await is_let_in(gate, stranger)
        dialog = await opened(gate, authority)
        await dialog.say("EHLO client.example")
        said = await dialog.say("MAIL FROM:<marketing@ses-example.com>")
        assert said.startswith("530")  # the certificate is no login
        assert (await dialog.say(f"AUTH PLAIN {auth_plain()}")).startswith("235")
        assert (await send(dialog)).startswith("250")
        assert len(sink.messages) == 1
        await until(lambda: len(_reasons(tmp_path)) == 2)
        lines = await log_of(gate, tmp_path, "handshake-failed")
    assert {line["reason"] for line in lines} == {"no-client-certificate"}


def _reasons(folder: Path) -> list[str]:
    lines = (folder / "log").read_text().splitlines()
    return [line for line in lines if "handshake-failed" in line]


async def test_an_expired_certificate_is_none(tmp_path: Path) -> None:
    authority = trustme.CA()
    async with open_gate(tmp_path) as (gate, _):
        await with_authority(gate, tmp_path, authority)
        old = datetime(2020, 1, 1, tzinfo=UTC)
        assert not await is_let_in(gate, authority, not_after=old)
        assert await is_let_in(gate, authority)


async def test_another_authority_in_the_file_is_in_use_after_a_reload(tmp_path: Path) -> None:
    before, after = trustme.CA(), trustme.CA()
    async with open_gate(tmp_path) as (gate, _):
        await with_authority(gate, tmp_path, before)
        after.cert_pem.write_to_path(str(tmp_path / "clients-ca.pem"))
        assert (await gate.reload()).problems == ()
        assert not await is_let_in(gate, before)
        assert await is_let_in(gate, after)
        (tmp_path / "clients-ca.pem").write_text("no PEM")
        (problem,) = (await gate.reload()).problems
        assert problem.startswith("listener.tls.client_ca_file")
        assert problem.endswith("holds no certificate in PEM")
        assert await is_let_in(gate, after)


async def test_a_file_without_certificates_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "clients-ca.pem").write_text("no PEM")
    async with open_gate(tmp_path) as (gate, _):
        change(tmp_path, OPEN, f"{OPEN}\n{CA}")
        answer = await gate.reload()
        assert answer.is_refused
        assert "client_ca_file" in answer.problems[0]
        assert await is_let_in(gate, None)


async def test_without_tls_a_client_has_no_certificate(tmp_path: Path) -> None:
    (tmp_path / "clients-ca.pem").write_text("PEM")
    with pytest.raises(ConfigError, match='has no effect with tls = "none"'):
        async with open_gate(tmp_path, listener=CA):
            pass
