import base64
import hashlib
import re
import tracemalloc
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from smtpgate.core import signing
from smtpgate.core.identity import DkimKey
from smtpgate.core.message.headers import Field, HeaderBlock, split_message
from smtpgate.core.signing import body_hash, keys_for, signature_fields
from smtpgate.demo.verify import verify
from smtpgate.signing.private_keys import load_private_key
from tests.support.cases import load_cases
from tests.support.dkim import DOMAIN, NOW, ed25519_key, ed25519_pem, rsa_key, txt
from tests.support.rows import rows

BODIES = load_cases("signing/10-body.toml")
SIGNED = load_cases("signing/20-signed.toml")
OVERSIGNED = (
    "from:sender:reply-to:subject:date:message-id:to:cc:mime-version:content-type:"
    "content-transfer-encoding:list-unsubscribe:list-unsubscribe-post:in-reply-to:references:"
    "resent-from"
)
# RFC 8463 §A.3
DINNER = (
    b"From: Joe SixPack <joe@football.example.com>\r\n"
    b"To: Suzie Q <suzie@shopping.example.net>\r\n"
    b"Subject: Is dinner ready?\r\n"
    b"Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
    b"Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n"
    b"\r\n"
    b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"
)


class EchoKey:
    """A key whose signature is the digest itself."""

    algorithm = "rsa-sha256"

    def sign(self, digest: bytes) -> bytes:
        return digest


def signed(message: bytes, *keys: DkimKey) -> bytes:
    cut = split_message(message)
    fields = signature_fields(cut.block, cut.body, domain=DOMAIN, keys=keys, now=NOW)
    return b"".join([*cut.block.with_first(*fields).raw_parts, b"\r\n", cut.body])


def tags_of(field: Field) -> dict[str, str]:
    text = re.sub(r"\s", "", field.value.decode("ascii"))
    return dict(part.split("=", 1) for part in text.split(";"))


def test_a_server_that_takes_one_signature_gets_the_rsa_one() -> None:
    rsa, ed = rsa_key(), ed25519_key()
    assert list(keys_for([ed, rsa], None)) == [ed, rsa]
    assert list(keys_for([ed, rsa], 2)) == [ed, rsa]
    assert list(keys_for([ed, rsa], 1)) == [rsa]
    assert list(keys_for([ed], 1)) == [ed]


@rows("size", [1, 2, 3, 5, 8, 256 * 1024])
@rows("case", BODIES, ids=lambda case: case["note"])
def test_a_body_is_canonicalized_whatever_the_slices(
    monkeypatch: pytest.MonkeyPatch, case: dict[str, Any], size: int
) -> None:
    monkeypatch.setattr(signing, "_SLICE", size)
    body = case["body"].encode()
    wanted = base64.b64encode(hashlib.sha256(case["want"].encode()).digest())
    assert body_hash(body) == wanted
    assert body_hash(memoryview(body)) == wanted


def test_the_body_hashes_are_those_of_the_rfcs() -> None:
    # RFC 8463 §A.3, and RFC 6376 §3.4.4 for a body of nothing.
    dinner = split_message(DINNER)
    assert body_hash(dinner.body) == b"2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="
    assert body_hash(b"") == b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


@pytest.mark.parametrize("case", SIGNED, ids=lambda case: case["note"])
def test_the_fields_of_the_table_are_signed_bottom_up(case: dict[str, Any]) -> None:
    block = split_message("\r\n".join(case["fields"]).encode()).block
    (field,) = signature_fields(
        block, b"", domain=DOMAIN, keys=[DkimKey("s", EchoKey())], now=NOW
    )
    assert tags_of(field)["h"] == f"{case['want']}:{OVERSIGNED}"


def test_the_signature_field_says_what_was_signed_and_how() -> None:
    cut = split_message(DINNER)
    (field,) = signature_fields(
        cut.block, cut.body, domain=DOMAIN, keys=[DkimKey("one.two", EchoKey())], now=NOW
    )
    tags = tags_of(field)
    assert list(tags) == ["v", "a", "c", "d", "s", "t", "h", "bh", "b"]
    assert tags["v"] == "1"
    assert tags["a"] == "rsa-sha256"
    assert tags["c"] == "relaxed/relaxed"
    assert tags["d"] == "ses-example.com"
    assert tags["s"] == "one.two"
    assert tags["t"] == "1767323045"
    assert field.name == b"dkim-signature"
    assert field.raw.startswith(b"DKIM-Signature: v=1;")
    assert field.raw.endswith(b"\r\n")
    assert max(map(len, field.raw.split(b"\r\n"))) <= 78


def test_the_digest_is_over_relaxed_fields_and_the_signature_without_its_value() -> None:
    # The first three lines are the example of RFC 6376 §3.4.5 under names that are signed.
    block = split_message(b"To: X\r\nCc : Y\t\r\n\tZ  \r\nFROM:\ta@example.com \r\n").block
    (field,) = signature_fields(
        block, b"", domain=DOMAIN, keys=[DkimKey("s", EchoKey())], now=NOW
    )
    canonical = (
        b"from:a@example.com\r\ncc:Y Z\r\nto:X\r\n"
        b"dkim-signature:v=1; a=rsa-sha256; c=relaxed/relaxed; d=ses-example.com; s=s; "
        b"t=1767323045; h=from:cc:to: "
        b"from:sender:reply-to:subject:date:message-id:to:cc:mime-version: "
        b"content-type:content-transfer-encoding:list-unsubscribe: "
        b"list-unsubscribe-post:in-reply-to:references:resent-from; "
        b"bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b="
    )
    assert base64.b64decode(tags_of(field)["b"]) == hashlib.sha256(canonical).digest()


def test_dkimpy_verifies_each_of_several_signatures() -> None:
    message = signed(DINNER, rsa_key(), rsa_key())
    assert verify(message, txt)
    assert verify(message, txt, signature_index=1)


def test_what_was_signed_does_not_verify_when_it_was_changed() -> None:
    message = signed(DINNER, rsa_key())
    for before, after in [
        (b"We lost", b"We won"),
        (b"Is dinner", b"Was dinner"),
        (b"joe@football", b"jim@football"),
        (b"Joe.\r\n", b"Joe.\r\nPS.\r\n"),
        (b"\r\nTo: Suzie", b"\r\nFrom: x@example.org\r\nTo: Suzie"),
        (b"d=ses-example.com", b"d=example.com"),
        (b"t=1767323045", b"t=1767323044"),
    ]:
        assert message.count(before) == 1
        assert not verify(message.replace(before, after), txt)
    assert not verify(b"From: x@example.org\r\n" + message, txt)


@rows("name", OVERSIGNED.split(":"))
def test_a_field_added_on_the_way_breaks_the_signature(name: str) -> None:
    added = f"{name.title()}: x\r\n".encode()
    without = signed(b"From: a@ses-example.com\r\n\r\nHi.\r\n", rsa_key())
    # Resent-From may stand more than once, and then all of them are signed.
    twice = added * (2 if name == "resent-from" else 1)
    rest = b"" if name == "from" else b"From: a@ses-example.com\r\n"
    having = signed(twice + rest + b"\r\nHi.\r\n", rsa_key())
    for message in (without, having):
        head, _, body = message.partition(b"\r\n\r\n")
        assert verify(message, txt)
        assert not verify(added + message, txt)
        assert not verify(head + b"\r\n" + added + b"\r\n" + body, txt)


@pytest.mark.parametrize("others", [0, 62, 200])
@pytest.mark.parametrize(
    "twice", [b"", b"List-Id: <a.example.com>\r\nlist-id:  <b.example.com>\r\n"]
)
def test_a_header_of_any_size_is_signed(others: int, twice: bytes) -> None:
    fields = [b"X-Number-%d: %d\r\n" % (number, number) for number in range(others)]
    fields.insert(others // 2, b"From: a@ses-example.com\r\n" + twice)
    raw = b"".join(fields) + b"Subject: x\r\n\r\nHi.\r\n"
    for message in (signed(raw, rsa_key()), signed(raw, rsa_key())):
        assert verify(message, txt)
        assert verify(message.replace(b"X-Number-1: 1", b"X-Number-1: 2"), txt)
        for before in (b"Subject: x", b"a@ses", *((b"<a.", b"<b.") if twice else ())):
            assert not verify(message.replace(before, before + b"x"), txt)


@pytest.mark.parametrize(("octets", "is_kept"), [(2048, True), (2049, False)])
def test_names_that_are_long_in_all_are_not_kept(octets: int, is_kept: bool) -> None:
    names = [b"a" * 500, b"b" * 500, b"c" * 500]
    names.append(b"d" * (octets - sum(map(len, (*names, b"from")))))
    raw = b"".join(b"%b: %s\r\n" % (name, b"x") for name in (*names, b"From"))
    signing._to_sign_again.cache_clear()
    signed(raw + b"\r\nHi.\r\n", rsa_key())
    assert signing._to_sign_again.cache_info().currsize == is_kept


def test_what_relays_may_change_still_verifies() -> None:
    message = signed(DINNER, rsa_key())
    changed = (
        b"Received: from a by b\r\n"
        + message.replace(b"\r\nSubject: Is ", b"\r\nSUBJECT:   Is\r\n\t").replace(
            b"lost the game.  Are", b"lost  the game. Are"
        )
        + b" \r\n\r\n"
    )
    assert verify(changed, txt)


def test_an_ed25519_signature_is_over_the_digest() -> None:
    key = load_private_key(ed25519_pem())
    cut = split_message(DINNER)
    keys = [DkimKey("s", key), DkimKey("s", EchoKey())]
    ed, _ = signature_fields(cut.block, cut.body, domain=DOMAIN, keys=keys, now=NOW)
    tags = tags_of(ed)
    assert tags["a"] == "ed25519-sha256"
    digest = digest_of(cut.block, cut.body)
    private = serialization.load_pem_private_key(ed25519_pem(), None)
    assert isinstance(private, ed25519.Ed25519PrivateKey)
    private.public_key().verify(base64.b64decode(tags["b"]), digest)


def digest_of(block: HeaderBlock, body: bytes | memoryview) -> bytes:
    """The octets that an Ed25519 key signs for selector s."""

    class Ed25519Echo(EchoKey):
        algorithm = "ed25519-sha256"

    (field,) = signature_fields(
        block, body, domain=DOMAIN, keys=[DkimKey("s", Ed25519Echo())], now=NOW
    )
    return base64.b64decode(tags_of(field)["b"])


@pytest.mark.parametrize("selector", ["", "a;b", "a b", "a\r\nBcc: x", ".a", "a.", "ä"])
def test_a_selector_that_could_break_out_of_its_tag_is_refused(selector: str) -> None:
    block = split_message(b"From: a@example.com\r\n").block
    with pytest.raises(ValueError, match="no domain or selector"):
        signature_fields(
            block, b"", domain=DOMAIN, keys=[DkimKey(selector, EchoKey())], now=NOW
        )
    with pytest.raises(ValueError, match="no domain or selector"):
        signature_fields(block, b"", domain=selector, keys=[DkimKey("s", EchoKey())], now=NOW)


@pytest.mark.parametrize(
    "line",
    [b"words with  two spaces \t\r\n", b"b64" * 25 + b"\r\n", b"no line end"],
    ids=["prose", "base64", "one long line"],
)
def test_a_large_body_is_hashed_without_a_second_copy_of_it(line: bytes) -> None:
    body = memoryview(line * (4 * 1024 * 1024 // len(line)))
    tracemalloc.start()
    try:
        body_hash(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * 1024 * 1024


def test_dkimpy_verifies_the_signatures_of_both_algorithms() -> None:
    block = split_message(b"From: a@ses-example.com\r\nSubject: two keys\r\n\r\n").block
    body = b"Hello.\r\n"
    fields = signature_fields(
        block, body, domain=DOMAIN, keys=[rsa_key(), ed25519_key()], now=NOW
    )
    message = b"".join(field.raw for field in (*fields, *block.fields)) + b"\r\n" + body
    assert verify(message, txt, signature_index=0)
    assert verify(message, txt, signature_index=1)
    assert not verify(message.replace(b"Hello", b"Hallo"), txt, signature_index=1)
