"""Signature version 4: whatever botocore signs is accepted, and nothing raises but refusals."""

import hashlib
from datetime import UTC, datetime
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from smtpgate.core.api.signing_keys import SigningKeys
from smtpgate.core.api.sigv4 import (
    SignatureError,
    SignedRequest,
    must_be_current,
    must_be_signed_by,
    read_claim,
)
from smtpgate.core.secret import Secret

KEY_ID, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SEGMENT = st.text(st.sampled_from("abcXYZ019-._~%40%2F%3A"), max_size=8) | st.sampled_from(
    ["", ".", "..", "user%2Bx%40example.com", "a b"]
)
NAME = st.text(st.sampled_from("abcXYZ019-._~"), min_size=1, max_size=8)
VALUE = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)


def encoded(text: str) -> str:
    return "".join(
        chr(octet)
        if (chr(octet).isalnum() and octet < 128) or chr(octet) in "-._~"
        else f"%{octet:02X}"
        for octet in text.encode()
    )


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    segments=st.lists(SEGMENT, max_size=5),
    query=st.lists(st.tuples(NAME, VALUE), max_size=4),
    fields=st.dictionaries(
        st.sampled_from(["Content-Type", "X-Amz-Target", "X-Other", "Accept"]),
        st.text(st.sampled_from("ab ;=,/"), max_size=12),
    ),
    body=st.binary(max_size=64),
    in_query=st.booleans(),
)
def test_requests_of_botocore_are_accepted(
    method: str,
    segments: list[str],
    query: list[tuple[str, str]],
    fields: dict[str, str],
    body: bytes,
    in_query: bool,
) -> None:
    if in_query:
        body = b""  # botocore would move it into the query
    path = "/" + "/".join(segments)
    text = "&".join(f"{encoded(name)}={encoded(value)}" for name, value in query)
    url = f"https://email.us-east-1.amazonaws.com{path}" + (f"?{text}" if text else "")
    made = AWSRequest(method, url, headers=dict(fields), data=body)
    signer = SigV4QueryAuth if in_query else SigV4Auth
    signer(Credentials(KEY_ID, SECRET), "ses", "us-east-1").add_auth(made)
    parts = urlsplit(made.url)
    headers = [(name.lower().encode(), value.encode()) for name, value in made.headers.items()]
    signed = SignedRequest(
        method,
        path.encode(),
        parts.query.encode(),
        (*headers, (b"host", parts.netloc.encode())),
        hashlib.sha256(body).hexdigest(),
    )
    claim = read_claim(signed)
    must_be_current(claim, datetime.now(UTC))
    must_be_signed_by(signed, claim, Secret(SECRET), SigningKeys())


@given(
    query=st.binary(max_size=80),
    value=st.binary(max_size=120),
    date=st.binary(max_size=20),
)
def test_octets_of_any_kind_are_refused_and_nothing_else(
    query: bytes, value: bytes, date: bytes
) -> None:
    headers = ((b"host", b"x"), (b"x-amz-date", date), (b"authorization", value))
    signed = SignedRequest("POST", b"/", query, headers, "0" * 64)
    try:
        must_be_signed_by(signed, read_claim(signed), None, SigningKeys())
    except SignatureError:
        return
    raise AssertionError(value)
