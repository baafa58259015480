"""The test suite that AWS published for signature version 4, from the source of botocore."""

import hashlib
import re
from pathlib import Path

import pytest

from smtpgate.core.api.signing_keys import SigningKeys
from smtpgate.core.api.sigv4 import (
    SignatureError,
    SignedRequest,
    canonical_request,
    must_be_signed_by,
    read_claim,
    string_to_sign,
)
from smtpgate.core.secret import Secret
from tests.support.sdist import botocore_folder

SECRET = Secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
_FOLDED = re.compile(rb"\n[ \t]+")


def signed(case: Path) -> SignedRequest:
    """The request of a case, with the Authorization field that the suite says."""
    head, _, body = (case.with_suffix(".req")).read_bytes().partition(b"\n\n")
    first, *lines = _FOLDED.sub(b" ", head).split(b"\n")
    method, _, rest = first.partition(b" ")
    path, _, query = rest.removesuffix(b" HTTP/1.1").partition(b"?")
    fields = [line.partition(b":") for line in lines]
    headers = [(name.lower(), value.strip()) for name, _, value in fields]
    headers.append((b"authorization", case.with_suffix(".authz").read_bytes()))
    digest = hashlib.sha256(body).hexdigest()
    return SignedRequest(method.decode(), path, query, tuple(headers), digest)


def test_every_request_of_the_suite_is_read_as_the_suite_says() -> None:
    suite = botocore_folder() / "tests/unit/auth/aws4_testsuite"
    cases = sorted(suite.rglob("*.req"))
    tokens = 0
    for case in cases:
        request = signed(case)
        if b"x-amz-security-token" in request.values(b"authorization")[0]:
            # The gate gives out no temporary credentials.
            with pytest.raises(SignatureError, match=r"security[- ]token"):
                read_claim(request)
            tokens += 1
            continue
        claim = read_claim(request)
        wanted = case.with_suffix(".creq").read_bytes()
        assert canonical_request(request, claim) == wanted, case.name
        wanted = case.with_suffix(".sts").read_bytes()
        assert string_to_sign(request, claim) == wanted, case.name
        must_be_signed_by(request, claim, SECRET, SigningKeys())
    assert (len(cases), tokens) == (34, 2)
