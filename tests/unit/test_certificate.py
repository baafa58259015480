"""Certificates of listeners: what is wrong with one, and a newer one without a restart."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from smtpgate.config.sections import ListenerConfig
from smtpgate.smtp.certificate import CertificateFiles, ServerTls

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
AUTHORITY = trustme.CA()


def write(
    folder: Path,
    *names: str,
    not_before: datetime = NOW - timedelta(days=1),
    not_after: datetime = NOW + timedelta(days=90),
) -> ListenerConfig:
    """Put a certificate into the listener's files."""
    leaf = AUTHORITY.issue_cert(*names, not_before=not_before, not_after=not_after)
    both = leaf.private_key_and_cert_chain_pem
    for file in (folder / "tls.crt", folder / "tls.key"):
        both.write_to_path(str(file))
        file.chmod(0o600)
    return ListenerConfig(
        name="submission",
        port=0,
        tls="starttls",
        cert_file=folder / "tls.crt",
        key_file=folder / "tls.key",
    )


def loaded(config: ListenerConfig) -> ServerTls:
    return ServerTls(CertificateFiles.of(config))


def handshake(tls: ServerTls, server_name: str | None) -> list[str]:
    """The names in the certificate that a client gets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    AUTHORITY.configure_trust(context)
    context.check_hostname = False
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=server_name)
    server = tls.context.wrap_bio(to_server, to_client, server_side=True)
    done = set[ssl.SSLObject]()
    for end in (client, server) * 3:
        try:
            end.do_handshake()
            done.add(end)
        except ssl.SSLWantReadError:
            pass
    assert done == {client, server}
    peer = client.getpeercert()
    assert peer
    return [str(entry[1]) for entry in peer["subjectAltName"]]


@pytest.mark.parametrize(
    "names",
    [
        ["gate.example.com"],
        ["Gate.Example.COM", "mail.example.com"],
        ["mail.example.com", "*.example.com"],
    ],
)
def test_nothing_is_said_of_a_certificate_that_names_the_gate(
    tmp_path: Path, names: list[str]
) -> None:
    assert not loaded(write(tmp_path, *names)).warnings("gate.example.com", NOW)


@pytest.mark.parametrize(
    ("names", "starts", "ends", "said"),
    [
        (["mail.example.com"], -1, 90, "is for mail.example.com and not for gate.hostname"),
        (["*.gate.example.com"], -1, 90, "is for *.gate.example.com and not for"),
        (["example.com", "192.0.2.1"], -1, 90, "is for example.com, 192.0.2.1 and not for"),
        (["gate.example.com"], -90, -1, "expired on 2026-11-22"),
        (["gate.example.com"], -90, 0, "expired on 2026-11-23"),
        (["gate.example.com"], -90, 13, "expires on 2026-12-06"),
        (["gate.example.com"], 1, 90, "is valid only from 2026-11-24 10:00 UTC on"),
    ],
)
def test_a_certificate_that_clients_refuse_now_or_soon_is_warned_of(
    tmp_path: Path, names: list[str], starts: int, ends: int, said: str
) -> None:
    config = write(
        tmp_path,
        *names,
        not_before=NOW + timedelta(days=starts),
        not_after=NOW + timedelta(days=ends),
    )
    (warning,) = loaded(config).warnings("gate.example.com", NOW)
    assert warning.startswith(
        f"listener.submission: the certificate in {tmp_path / 'tls.crt'} {said}"
    )


@pytest.mark.parametrize("server_name", ["gate.example.com", None])
def test_handshakes_after_a_reload_get_the_newer_certificate(
    tmp_path: Path, server_name: str | None
) -> None:
    tls = loaded(write(tmp_path, "old.example.com"))
    assert handshake(tls, server_name) == ["old.example.com"]
    write(tmp_path, "new.example.com", not_after=NOW + timedelta(days=30))
    assert handshake(tls, server_name) == ["old.example.com"]
    tls.reload()
    assert handshake(tls, server_name) == ["new.example.com"]
    assert tls.not_after == NOW + timedelta(days=30)


@pytest.mark.parametrize(
    ("spoilt", "content", "problem"),
    [
        ("tls.crt", "nonsense", "cert_file holds no certificate in PEM"),
        ("tls.crt", "another", "the key is not that of the first certificate in cert_file"),
        ("tls.crt", None, "No such file or directory"),
        ("tls.key", "nonsense", "key_file holds no private key in PEM without a passphrase"),
        ("tls.key", "sealed", "key_file holds no private key in PEM without a passphrase"),
    ],
)
def test_the_error_says_which_of_the_two_files_is_wrong(
    tmp_path: Path, spoilt: str, content: str | None, problem: str
) -> None:
    config, file = write(tmp_path, "gate.example.com"), tmp_path / spoilt
    if content is None:
        file.unlink()
    elif content == "another":
        AUTHORITY.issue_cert("gate.example.com").cert_chain_pems[0].write_to_path(str(file))
    elif content == "sealed":
        key = ec.generate_private_key(ec.SECP256R1())
        sealed = BestAvailableEncryption(b"a passphrase")
        file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed))
    else:
        file.write_text(content)
    with pytest.raises(OSError, match=problem):
        loaded(config)


@pytest.mark.parametrize(
    ("spoilt", "content"),
    [
        ("tls.crt", "nonsense"),
        ("tls.crt", ""),
        ("tls.key", "nonsense"),
        ("tls.crt", None),
        ("tls.key", None),
        ("tls.crt", "another"),
    ],
)
def test_a_certificate_that_cannot_be_used_leaves_the_old_one_in_use(
    tmp_path: Path, spoilt: str, content: str | None
) -> None:
    tls = loaded(write(tmp_path, "old.example.com"))
    file = tmp_path / spoilt
    if content is None:
        file.unlink()
    elif content == "another":  # whose key is not in key_file
        leaf = AUTHORITY.issue_cert("new.example.com")
        leaf.cert_chain_pems[0].write_to_path(str(file))
    else:
        file.write_text(content)
    with pytest.raises(
        OSError, match=r"listener\.submission: cert_file .*tls\.crt with key_file"
    ):
        tls.reload()
    assert handshake(tls, "gate.example.com") == ["old.example.com"]
