import base64
import hashlib
import string
from typing import Final

import pytest
from dkim.canonicalization import Relaxed
from hypothesis import given
from hypothesis import strategies as st

from smtpgate.core import signing
from smtpgate.core.message.headers import split_message
from smtpgate.core.signing import SIGNED, body_hash, signature_fields
from smtpgate.demo.verify import verify
from tests.support.dkim import DOMAIN, NOW, rsa_key, txt

OTHERS: Final = [b"X-Any", b"Received", b"Return-Path", b"DKIM-Signature-Other", b"Comments"]
bodies = st.lists(
    st.sampled_from([b"a", b" ", b"  ", b"\t", b"\r\n", b"\r\n\r\n", b".", b"\xff", b"long"]),
    max_size=40,
).map(b"".join)

# dkimpy strips a vertical tab or form feed off a value as white space; RFC 5234 does not.
text = st.text(
    st.sampled_from(string.ascii_letters + string.digits + ";=:<>@\"'()., \tüß"), max_size=30
)
values = st.lists(text, min_size=1, max_size=3).map("\r\n ".join)
names = st.sampled_from(sorted(SIGNED - {b"from"}) + OTHERS)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    fields = [
        name + b":" + value.encode()
        for name, value in draw(st.lists(st.tuples(names, values), max_size=8))
    ]
    place = draw(st.integers(0, len(fields)))
    fields.insert(place, b"From: " + draw(text).encode() + b" <a@ses-example.com>")
    return b"\r\n".join([*fields, b"", draw(bodies)])


def signed(message: bytes) -> bytes:
    cut = split_message(message)
    fields = signature_fields(cut.block, cut.body, domain=DOMAIN, keys=[rsa_key()], now=NOW)
    octets = b"".join([*cut.block.with_first(*fields).raw_parts, b"\r\n", cut.body])
    return octets if octets.endswith(b"\r\n") else octets + b"\r\n"  # as SMTP does


@given(bodies, st.sampled_from([1, 2, 3, 7, 64, 256 * 1024]), st.sampled_from([1, 5, 4096]))
def test_the_hash_is_of_dkimpys_relaxed_body(body: bytes, size: int, window: int) -> None:
    # SMTP ends the last line; dkimpy is given what arrives.
    arrived = body if not body or body.endswith(b"\r\n") else body + b"\r\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signing, "_SLICE", size)
        patch.setattr(signing, "_WINDOW_OCTETS", window)
        ours = body_hash(body)
    theirs: bytes = Relaxed.canonicalize_body(arrived)
    assert ours == base64.b64encode(hashlib.sha256(theirs).digest())


@given(messages())
def test_dkimpy_verifies_what_was_signed(message: bytes) -> None:
    assert verify(signed(message), txt)


@given(messages(), st.data())
def test_a_changed_octet_of_the_body_breaks_the_signature(
    message: bytes, data: st.DataObject
) -> None:
    octets = bytearray(signed(message + b"x"))
    body_at = octets.index(b"\r\n\r\n") + 4
    seen = [at for at in range(body_at, len(octets)) if octets[at] not in b" \t\r\n"]
    place = data.draw(st.sampled_from(seen))
    octets[place] = data.draw(st.sampled_from([o for o in b"ab.\xff" if o != octets[place]]))
    assert not verify(bytes(octets), txt)


@given(messages(), st.data())
def test_a_changed_signed_field_breaks_the_signature(
    message: bytes, data: st.DataObject
) -> None:
    block = split_message(signed(message)).block
    body = message.partition(b"\r\n\r\n")[2]
    fields = list(block.raw_parts)
    candidates = [at for at, field in enumerate(block.fields) if field.name in SIGNED]
    at = data.draw(st.sampled_from(candidates))
    fields[at] = fields[at][:-2] + b"x\r\n"
    assert not verify(b"".join([*fields, b"\r\n", body]), txt)
