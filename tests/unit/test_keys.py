import base64

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import KeySerializationEncryption

from smtpgate.core.identity import PrivateKey
from smtpgate.signing.private_keys import (
    KeyFileError,
    dns_record,
    generate_private_key,
    load_private_key,
    pem_of_base64,
)
from tests.support.dkim import ed25519_pem, rsa_key
from tests.support.rows import rows

DIGEST = bytes(range(32))


def pem_of(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    *,
    form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8,
    encryption: KeySerializationEncryption | None = None,
) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, form, encryption or serialization.NoEncryption()
    )


def test_a_generated_key_is_rsa_2048_and_signs() -> None:
    pem = generate_private_key()
    key = load_private_key(pem)
    assert key.algorithm == "rsa-sha256"
    assert len(key.sign(DIGEST)) == 256


def test_a_generated_key_is_ed25519_when_asked_for() -> None:
    key = load_private_key(generate_private_key("ed25519"))
    assert key.algorithm == "ed25519-sha256"
    assert len(key.sign(DIGEST)) == 64


def test_a_key_in_the_older_rsa_form_is_taken() -> None:
    private = rsa.generate_private_key(65537, 2048)
    older = pem_of(private, form=serialization.PrivateFormat.TraditionalOpenSSL)
    assert older.startswith(b"-----BEGIN RSA PRIVATE KEY-----")
    newer = pem_of(private)
    assert load_private_key(older).sign(DIGEST) == load_private_key(newer).sign(DIGEST)


def test_a_key_that_was_checked_before_signs_the_same_without_the_check() -> None:
    pem = generate_private_key()
    assert load_private_key(pem, is_checked=True).sign(DIGEST) == load_private_key(pem).sign(
        DIGEST
    )


def refused_keys() -> list[tuple[str, bytes, str]]:
    large = rsa.generate_private_key(65537, 2048)
    return [
        ("small", pem_of(rsa.generate_private_key(65537, 1024)), "RSA key of 1024 bits"),
        (
            "encrypted",
            pem_of(large, encryption=serialization.BestAvailableEncryption(b"x")),
            "encrypted",
        ),
        ("elliptic", pem_of(ec.generate_private_key(ec.SECP256R1())), "neither an RSA nor an"),
        (
            "public",
            large.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
            "not a private key in PEM",
        ),
        ("cut short", pem_of(large)[:600], "not a private key in PEM"),
        ("empty", b"", "not a private key in PEM"),
        ("octets", b"\xff\0\xfe", "not a private key in PEM"),
    ]


def test_what_dkim_cannot_use_is_refused_with_a_reason() -> None:
    for note, pem, says in refused_keys():
        with pytest.raises(KeyFileError) as caught:
            load_private_key(pem)
        assert says in str(caught.value), note


def test_the_record_of_an_rsa_key_publishes_its_public_half() -> None:
    record = dns_record(rsa_key().private_key)
    assert record.startswith("v=DKIM1; k=rsa; p=")
    public = serialization.load_der_public_key(base64.b64decode(record.partition("p=")[2]))
    assert isinstance(public, rsa.RSAPublicKey)
    assert public.key_size == 2048


def test_the_record_of_an_ed25519_key_is_the_bare_key() -> None:
    # RFC 8463 §A.2
    assert dns_record(load_private_key(ed25519_pem())) == (
        "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    )


def test_a_record_is_made_of_keys_of_this_package_only() -> None:
    class Other:
        algorithm = "rsa-sha256"

        def sign(self, digest: bytes) -> bytes:
            return digest

    other: PrivateKey = Other()
    with pytest.raises(TypeError):
        dns_record(other)


def test_a_key_does_not_print_itself() -> None:
    pem = generate_private_key()
    assert pem.splitlines()[1].decode() not in repr(load_private_key(pem))


def base64_of(key: rsa.RSAPrivateKey, form: serialization.PrivateFormat) -> str:
    der = key.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption())
    return base64.b64encode(der).decode()


def test_a_key_as_clients_of_ses_bring_it() -> None:
    key = rsa.generate_private_key(65537, 1024)
    for form in (
        serialization.PrivateFormat.PKCS8,
        serialization.PrivateFormat.TraditionalOpenSSL,
    ):
        pem = pem_of_base64(base64_of(key, form), 1024)
        assert load_private_key(pem, min_rsa_bits=1024).sign(DIGEST)
        with pytest.raises(KeyFileError, match="1024 bits; 2048 or more"):
            pem_of_base64(base64_of(key, form))


def numbers_that_do_not_fit() -> list[tuple[str, int]]:
    names = ("d", "p", "q", "dmp1", "dmq1", "iqmp", "n")
    return [(name, step) for name in names for step in (1, 2)]


def der(*numbers: int) -> bytes:
    """RSAPrivateKey (RFC 8017 A.1.2)."""

    def item(tag: int, octets: bytes) -> bytes:
        length = len(octets)
        size = length.to_bytes((length.bit_length() + 7) // 8 or 1, "big")
        head = bytes([length]) if length < 128 else bytes([128 + len(size)]) + size
        return bytes([tag]) + head + octets

    integers = (item(2, one.to_bytes(one.bit_length() // 8 + 1, "big")) for one in numbers)
    return item(48, b"".join(integers))


@rows("name, step", numbers_that_do_not_fit())
def test_numbers_that_do_not_fit_are_no_key(name: str, step: int) -> None:
    of = rsa.generate_private_key(65537, 2048).private_numbers()
    numbers = {
        "n": of.public_numbers.n,
        "e": of.public_numbers.e,
        **{one: getattr(of, one) for one in ("d", "p", "q", "dmp1", "dmq1", "iqmp")},
    }
    good = der(0, *numbers.values())
    assert pem_of_base64(base64.b64encode(good).decode())
    bad = der(0, *(numbers | {name: numbers[name] + step}).values())
    with pytest.raises(KeyFileError, match=r"do not fit|not the base64"):
        pem_of_base64(base64.b64encode(bad).decode())


def brought_badly() -> list[tuple[str, str]]:
    good = base64_of(rsa.generate_private_key(65537, 2048), serialization.PrivateFormat.PKCS8)
    elliptic = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return [
        ("", "not the base64"),
        (f"{good[:64]}\n{good[64:]}", "not the base64"),
        (f"-----BEGIN PRIVATE KEY-----{good}", "not the base64"),
        (good[:-4], "not the base64"),
        (base64.b64encode(elliptic).decode(), "not an RSA key"),
    ]


@rows("text, words", brought_badly())
def test_what_nobody_can_bring_as_a_key(text: str, words: str) -> None:
    with pytest.raises(KeyFileError, match=words):
        pem_of_base64(text)
