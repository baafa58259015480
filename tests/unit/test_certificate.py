"""Certificates of listeners: what is wrong with one, and a newer one without a restart."""

import os
import re
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from trustme import KeyType

from smtpgate.config.sections import ListenerConfig
from smtpgate.config.tls_port import CertificateConfig
from smtpgate.smtp.certificate import CertificateFiles, ServerTls
from tests.support.rows import rows

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


def not_loaded(tls: ServerTls) -> float:
    (value,) = (one.value for one in tls.readings() if one.metric.endswith("_not_loaded"))
    return value


def handshake(tls: ServerTls, server_name: str | None, sigalgs: str | None = None) -> list[str]:
    """The names in the certificate that a client gets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    AUTHORITY.configure_trust(context)
    context.check_hostname = False
    if sigalgs is not None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(sigalgs)
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
    assert tls.update(NOW) == (True, ())
    assert handshake(tls, server_name) == ["new.example.com"]
    assert tls.not_after == NOW + timedelta(days=30)


@pytest.mark.parametrize(
    ("spoilt", "content", "problem"),
    [
        ("tls.crt", "nonsense", "cert_file holds no certificate in PEM"),
        ("tls.crt", "another", "the key is not that of the first certificate in cert_file"),
        ("tls.crt", None, "No such file or directory"),
        ("tls.key", "of a kind", "the key is not that of the first certificate in cert_file"),
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
    elif content == "of a kind":
        other = ed25519.Ed25519PrivateKey.generate()
        plain = NoEncryption()
        file.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, plain))
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
    update = tls.update(NOW)
    assert not update.is_changed
    (problem,) = update.problems
    assert re.match(r"listener\.submission: cert_file .*tls\.crt with key_file", problem)
    assert handshake(tls, "gate.example.com") == ["old.example.com"]
    assert not_loaded(tls) == 1
    assert tls.update(NOW, always=False) == (False, ()), "it is reported once"
    assert not_loaded(tls) == 1
    write(tmp_path, "new.example.com")
    assert tls.update(NOW, always=False) == (True, ())
    assert handshake(tls, "gate.example.com") == ["new.example.com"]
    assert not_loaded(tls) == 0


# -- several certificates ----------------------------------------------------------------------


def several(folder: Path, *names: tuple[str, ...], kinds: str = "") -> ServerTls:
    """A listener with a certificate for each of these; ``kinds`` are of their keys."""
    for number, one in enumerate(names):
        write_pair(folder, str(number), *one, kind=kinds[number : number + 1])
    files = [CertificateConfig(**pair(folder, str(number))) for number in range(len(names))]
    config = ListenerConfig(name="submission", port=0, certificates=tuple(files))
    return loaded(config)


def pair(folder: Path, stem: str) -> dict[str, Path]:
    return {"cert_file": folder / f"{stem}.crt", "key_file": folder / f"{stem}.key"}


def write_pair(
    folder: Path,
    stem: str,
    *names: str,
    kind: str = "",
    not_after: datetime = NOW + timedelta(days=90),
) -> None:
    leaf = AUTHORITY.issue_cert(
        *names,
        not_before=NOW - timedelta(days=90),
        not_after=not_after,
        key_type=KeyType.RSA if kind == "r" else KeyType.ECDSA,
    )
    files = pair(folder, stem)
    files["cert_file"].write_bytes(b"".join(one.bytes() for one in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(str(files["key_file"]))
    files["key_file"].chmod(0o600)


@rows(
    "asked,got",
    [
        ("a.example.com", "a.example.com"),
        ("B.example.COM", "b.example.com"),
        ("x.example.net", "*.example.net"),
        ("y.x.example.net", "a.example.com"),
        ("special.example.net", "special.example.net"),
        ("stranger.example.org", "a.example.com"),
        (None, "a.example.com"),
    ],
)
def test_the_name_that_a_client_asks_for_chooses_the_certificate(
    tmp_path: Path, asked: str | None, got: str
) -> None:
    names = [("a.example.com",), ("b.example.com",), ("*.example.net",)]
    tls = several(tmp_path, *names, ("special.example.net",))
    assert handshake(tls, asked) == [got]
    assert not tls.warnings("b.example.com", NOW)


def test_one_of_several_is_replaced_and_another_that_is_spoilt_stays(tmp_path: Path) -> None:
    tls = several(tmp_path, ("a.example.com",), ("b.example.com",))
    write_pair(tmp_path, "0", "new.example.com")
    (tmp_path / "1.key").write_text("nonsense")
    update = tls.update(NOW)
    assert update.is_changed
    (problem,) = update.problems
    assert problem.startswith("listener.submission: certificates[1]: cert_file ")
    for asked, got in (
        ("new.example.com", "new.example.com"),
        ("b.example.com", "b.example.com"),
        ("a.example.com", "new.example.com"),
    ):
        assert handshake(tls, asked) == [got]
    ends = {one.labels[1] for one in tls.readings() if one.metric.endswith("_seconds")}
    assert ends == {"new.example.com", "b.example.com"}


def test_keys_of_two_kinds_for_the_same_names_are_offered_together(tmp_path: Path) -> None:
    names = ("gate.example.com",)
    tls = several(tmp_path, names, names, kinds="er")
    for ciphers in ("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"):
        assert handshake(tls, "gate.example.com", ciphers) == ["gate.example.com"]
    assert not tls.warnings("gate.example.com", NOW)


def test_a_certificate_that_is_never_used_is_warned_of(tmp_path: Path) -> None:
    names = ("gate.example.com",)
    (warning,) = several(tmp_path, names, names).warnings("gate.example.com", NOW)
    assert warning.endswith(
        "1.crt is never used: another one has the same names and the same kind of key"
    )


# -- renewals ----------------------------------------------------------------------------------


def test_a_newer_certificate_that_has_expired_is_not_taken(tmp_path: Path) -> None:
    tls = several(tmp_path, ("old.example.com",))
    write_pair(tmp_path, "0", "new.example.com", not_after=NOW - timedelta(days=1))
    update = tls.update(NOW)
    assert not update.is_changed
    assert update.problems[0].endswith(": expired on 2026-11-22")
    assert handshake(tls, None) == ["old.example.com"]
    later = NOW + timedelta(days=100)
    assert tls.update(later).is_changed, "neither is valid then"


def test_links_to_a_newer_pair_are_followed_and_a_half_renewal_is_not_taken(
    tmp_path: Path,
) -> None:
    """As certbot's live/: each file is a link, and they are replaced one after the other."""
    for stem in ("archive1", "archive2"):
        write_pair(tmp_path, stem, f"{stem}.example.com")
    files = pair(tmp_path, "live")

    def link(key: str, stem: str) -> None:
        unfinished = tmp_path / "unfinished"
        unfinished.symlink_to(pair(tmp_path, stem)[key].name)
        unfinished.rename(files[key])

    for key in files:
        link(key, "archive1")
    config = ListenerConfig(
        name="submission", port=0, cert_file=files["cert_file"], key_file=files["key_file"]
    )
    tls = loaded(config)
    assert tls.update(NOW, always=False) == (False, ())
    link("cert_file", "archive2")
    (problem,) = tls.update(NOW, always=False).problems
    assert problem.endswith("the key is not that of the first certificate in cert_file")
    assert handshake(tls, None) == ["archive1.example.com"]
    link("key_file", "archive2")
    assert tls.update(NOW, always=False) == (True, ())
    assert handshake(tls, None) == ["archive2.example.com"]


def test_a_process_uses_what_another_one_has_read(tmp_path: Path) -> None:
    tls = several(tmp_path, ("old.example.com",))
    other = several(tmp_path, ("old.example.com",))
    write_pair(tmp_path, "0", "new.example.com")
    assert tls.update(NOW).is_changed
    (tmp_path / "0.crt").write_text("nonsense")
    other.use(tls.octets)
    assert handshake(other, None) == ["new.example.com"]


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    tls = several(tmp_path, ("old.example.com",))
    before = len(os.listdir("/proc/self/fd"))
    for number in range(3):
        write_pair(tmp_path, "0", f"new{number}.example.com")
        assert tls.update(NOW).is_changed
    assert len(os.listdir("/proc/self/fd")) == before
