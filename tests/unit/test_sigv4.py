"""Signature version 4: vectors, and requests that are refused."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from smtpgate.core.api.signing_keys import SigningKeys, signing_key
from smtpgate.core.api.sigv4 import (
    SES_SERVICES,
    SignatureError,
    SignatureFault,
    SignedRequest,
    canonical_request,
    must_be_current,
    must_be_for,
    must_be_signed_by,
    read_claim,
    string_to_sign,
)
from smtpgate.core.api.sigv4 import authorization as written
from smtpgate.core.secret import Secret
from tests.support.rows import rows

SECRET = Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOST = b"email.us-east-1.amazonaws.com"
SCOPE = "AKIAIOSFODNN7EXAMPLE/20260102/us-east-1/ses/aws4_request"
FORM = b"application/x-www-form-urlencoded; charset=utf-8"


def authorization(
    signature: str, signed: str = "content-type;host;x-amz-date", scope: str = SCOPE
) -> bytes:
    text = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={signed}, Signature={signature}"
    return text.encode()


def request(
    method: str = "POST",
    path: bytes = b"/",
    query: bytes = b"",
    body: bytes = b"",
    *fields: tuple[bytes, bytes],
) -> SignedRequest:
    headers = ((b"host", HOST), (b"x-amz-date", b"20260102T030405Z"), *fields)
    return SignedRequest(method, path, query, headers, hashlib.sha256(body).hexdigest())


QUOTA = request(
    "POST",
    b"/",
    b"",
    b"Action=GetSendQuota&Version=2010-12-01",
    (b"content-type", FORM),
    (
        b"authorization",
        authorization("8ddf6a1239ebd6f27e16bfb26506bf0a7e8fcc8d29ceb81c7efa78fe3fa144c8"),
    ),
)
POLICY = request(
    "POST",
    b"/v2/email/identities/user%2Bx%40example.com/policies/p_1",
    b"",
    b'{"Policy": "{}"}',
    (b"content-type", b"application/json"),
    (
        b"authorization",
        authorization("f35c14f31c61f0edbbc086967e83aa6539667a6248ffe1fb0a4ba2e24c745d83"),
    ),
)
LIST = request(
    "GET",
    b"/v2/email/identities",
    b"PageSize=10&NextToken=zz",
    b"",
    (
        b"authorization",
        authorization(
            "9554f3bd66b0fdf585216468074802f7705fd84690a0ceacd327919368f48da6",
            "host;x-amz-date",
        ),
    ),
)


@pytest.mark.parametrize(
    ("signed", "digest"),
    [
        (QUOTA, "b61833621f586113aa5a32d1a89c3305dd04c7e69759e3f8a00cc7360a28870a"),
        (POLICY, "d676fbfacbcf8c35bd90b7a0a2cd8141e2e6141888d8bd67060c996dc21be9a7"),
        (LIST, "d2930fa5f8e81cba07a4a1aecfa29f1096d705c7930132e5dfd98fe68ec32431"),
    ],
    ids=["form", "json", "query"],
)
def test_requests_that_botocore_signed_are_accepted(signed: SignedRequest, digest: str) -> None:
    claim = read_claim(signed)
    assert hashlib.sha256(canonical_request(signed, claim)).hexdigest() == digest
    must_be_for(claim, {"us-east-1"}, SES_SERVICES)
    must_be_current(claim, NOW)
    must_be_signed_by(signed, claim, SECRET, SigningKeys())


def fault(
    signed: SignedRequest, secret: Secret | None = SECRET, keys: SigningKeys | None = None
) -> SignatureFault | None:
    """The fault that refuses it, or ``None``."""
    try:
        claim = read_claim(signed)
        must_be_for(claim, {"us-east-1"}, SES_SERVICES)
        must_be_current(claim, NOW)
        must_be_signed_by(signed, claim, secret, SigningKeys() if keys is None else keys)
    except SignatureError as error:
        return error.fault
    return None


def test_an_unknown_key_and_another_secret_are_refused() -> None:
    assert fault(QUOTA) is None
    assert fault(QUOTA, None) == "unknown-key"
    assert fault(QUOTA, Secret("another")) == "mismatch"


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "GET"},
        {"path": b"/x"},
        {"query": b"Action=DeleteIdentity"},
        {"body_sha256": hashlib.sha256(b"other").hexdigest()},
        {
            "headers": tuple(
                (n, b"text/plain" if n == b"content-type" else v) for n, v in QUOTA.headers
            )
        },
        {"headers": (*QUOTA.headers, (b"host", b"other.example.com"))},
        {"headers": (*QUOTA.headers, (b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD"))},
    ],
    ids=["method", "path", "query", "body", "field", "field-twice", "unsigned-payload"],
)
def test_whatever_is_signed_cannot_change(changed: dict[str, object]) -> None:
    assert fault(replace(QUOTA, **changed)) == "mismatch"


def with_authorization(value: bytes) -> SignedRequest:
    others = [field for field in QUOTA.headers if field[0] != b"authorization"]
    return replace(QUOTA, headers=(*others, (b"authorization", value)))


GOOD = "8" * 64


@rows(
    "value, wanted",
    [
        (b"", "incomplete"),
        (b"Basic dTpw", "incomplete"),
        (b"AWS4-HMAC-SHA256", "incomplete"),
        (b"AWS4-HMAC-SHA256 Credential=a", "incomplete"),
        (authorization(GOOD) + b", Signature=" + GOOD.encode(), "incomplete"),
        (authorization("8" * 63), "incomplete"),
        (authorization("A" * 64), "incomplete"),
        (authorization(GOOD, "content-type;x-amz-date"), "incomplete"),
        (authorization(GOOD, "content-type;host"), "incomplete"),
        (authorization(GOOD, "host;content-type;x-amz-date"), "incomplete"),
        (authorization(GOOD, "Host;x-amz-date"), "incomplete"),
        (authorization(GOOD, "host;host;x-amz-date"), "incomplete"),
        (authorization(GOOD, "host;x-amz-date;x-other"), "incomplete"),
        (authorization(GOOD, scope="A/20260102/us-east-1/ses"), "incomplete"),
        (
            authorization(GOOD, scope="A/B/20260102/us-east-1/ses/aws4_request"),
            "incomplete",
        ),
        (authorization(GOOD, scope="A/20260103/us-east-1/ses/aws4_request"), "scope"),
        (authorization(GOOD, scope="A/20260102/eu-west-1/ses/aws4_request"), "scope"),
        (authorization(GOOD, scope="A/20260102/us-east-1/s3/aws4_request"), "scope"),
        (authorization(GOOD).replace(b"AWS4", b"AWS5"), "incomplete"),
        (authorization(GOOD).replace(b"AKIA", b"\xff"), "incomplete"),
        (authorization(GOOD), "mismatch"),
    ],
)
def test_a_header_that_is_wrong_is_refused(value: bytes, wanted: SignatureFault) -> None:
    assert fault(with_authorization(value)) == wanted


def test_a_request_without_a_signature_and_one_with_two_are_refused() -> None:
    assert fault(request()) == "missing"
    twice = replace(QUOTA, headers=(*QUOTA.headers, QUOTA.headers[-1]))
    assert fault(twice) == "incomplete"
    assert fault(replace(QUOTA, query=b"X-Amz-Signature=a")) == "incomplete"
    token = replace(QUOTA, headers=(*QUOTA.headers, (b"x-amz-security-token", b"t")))
    assert fault(token) == "token"


PRESIGNED = (
    f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={SCOPE}&X-Amz-Date=20260102T030405Z"
    f"&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature={GOOD}"
)


@rows(
    "old, new, wanted",
    [
        ("", "", "mismatch"),
        ("X-Amz-Expires=60", "X-Amz-Expires=60&X-Amz-Expires=60", "incomplete"),
        ("X-Amz-Expires=60&", "", "incomplete"),
        ("X-Amz-Expires=60", "X-Amz-Expires=0", "incomplete"),
        ("X-Amz-Expires=60", "X-Amz-Expires=604801", "incomplete"),
        ("X-Amz-Expires=60", "X-Amz-Expires=x", "incomplete"),
        ("X-Amz-Expires=60", "X-Amz-Expires=60&X-Amz-Security-Token=t", "token"),
        ("X-Amz-Expires=60", "X-Amz-Expires=60&Other=1", "mismatch"),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=x-amz-date", "incomplete"),
    ],
)
def test_a_query_that_is_wrong_is_refused(old: str, new: str, wanted: SignatureFault) -> None:
    query = PRESIGNED.replace(old, new) if old else PRESIGNED
    assert fault(replace(request(), query=query.encode())) == wanted


def test_a_date_is_there_once_and_is_signed() -> None:
    others = tuple(field for field in QUOTA.headers if field[0] != b"x-amz-date")
    assert fault(replace(QUOTA, headers=others)) == "incomplete"
    date = (b"x-amz-date", b"20260102T030405Z")
    assert fault(replace(QUOTA, headers=(*others, date, date))) == "incomplete"
    by_date = (b"authorization", authorization(GOOD, "content-type;date;host"))
    without = tuple(field for field in others if field[0] != b"authorization")
    both = (*without, date, (b"date", date[1]), by_date)
    assert fault(replace(QUOTA, headers=both)) == "incomplete"


def test_a_claim_is_written_as_the_field_that_it_was_read_from() -> None:
    claim = read_claim(QUOTA)
    unsigned = replace(claim, signature=GOOD)
    assert unsigned.signed(QUOTA, SECRET) == claim
    assert written(claim).encode() == dict(QUOTA.headers)[b"authorization"]


@pytest.mark.parametrize("minutes", [-15, 0, 15])
def test_a_clock_may_be_a_quarter_of_an_hour_wrong(minutes: int) -> None:
    claim = read_claim(QUOTA)
    must_be_current(claim, NOW + timedelta(minutes=minutes))
    further = timedelta(minutes=minutes, seconds=1 if minutes > 0 else -1)
    if minutes:
        with pytest.raises(SignatureError, match=r"not yet current|expired"):
            must_be_current(claim, NOW + further)


@pytest.mark.parametrize(
    "date", [b"2026-01-02T03:04:05Z", b"20260102T0304Z", b"20261302T030405Z"]
)
def test_a_date_in_another_form_is_refused(date: bytes) -> None:
    headers = tuple((n, date if n == b"x-amz-date" else v) for n, v in QUOTA.headers)
    assert fault(replace(QUOTA, headers=headers)) == "incomplete"


# -- keys that were derived before -------------------------------------------------------------


@pytest.fixture
def derived(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The keys of all HMACs that are computed from now on."""
    found: list[bytes] = []

    def digest(key: bytes, text: bytes, method: str) -> bytes:
        found.append(key)
        return real(key, text, method)

    real = hmac.digest
    monkeypatch.setattr(hmac, "digest", digest)
    return found


def test_the_next_request_of_a_secret_needs_no_new_key(derived: list[bytes]) -> None:
    keys = SigningKeys()
    assert fault(QUOTA, keys=keys) is None
    first = len(derived)
    derived.clear()
    assert fault(QUOTA, keys=keys) is None
    assert len(derived) == 1 < first


def test_each_refusal_costs_the_same(derived: list[bytes]) -> None:
    keys = SigningKeys()
    assert fault(QUOTA, keys=keys) is None
    wrong = with_authorization(authorization(GOOD))
    costs = set[int]()
    for secret, wanted in (
        (SECRET, "mismatch"),  # its key is known
        (Secret("another"), "mismatch"),
        (None, "unknown-key"),
    ):
        derived.clear()
        assert fault(wrong, secret, keys) == wanted
        costs.add(len(derived))
    assert costs == {6}


def test_a_known_key_is_of_one_secret_and_one_scope() -> None:
    keys = SigningKeys()
    assert fault(QUOTA, keys=keys) is None
    assert fault(QUOTA, Secret("another"), keys) == "mismatch"
    assert fault(QUOTA, None, keys) == "unknown-key"
    claim = read_claim(QUOTA)
    assert keys.get(SECRET, claim.scope) == signing_key(SECRET, claim.scope)
    assert keys.get(SECRET, claim.scope.replace("20260102", "20260103")) is None


def test_the_key_of_a_wrong_signature_is_not_kept() -> None:
    keys = SigningKeys()
    wrong = with_authorization(authorization(GOOD))
    assert fault(wrong, SECRET, keys) == "mismatch"
    assert fault(wrong, None, keys) == "unknown-key"
    assert len(keys) == 0


def test_the_stand_in_for_a_key_that_is_not_known_signs_nothing() -> None:
    claim = read_claim(QUOTA)
    forged = hmac.new(bytes(32), string_to_sign(QUOTA, claim), hashlib.sha256).hexdigest()
    request_of_forger = with_authorization(authorization(forged))
    assert fault(request_of_forger) == "mismatch"
    assert fault(request_of_forger, None) == "unknown-key"


def test_so_many_keys_are_kept_and_no_more() -> None:
    keys = SigningKeys(most=3)
    for number in range(5):
        keys.keep(SECRET, f"2026010{number}/us-east-1/ses/aws4_request", b"key")
    assert len(keys) == 3
    assert keys.get(SECRET, "20260101/us-east-1/ses/aws4_request") is None
    assert keys.get(SECRET, "20260104/us-east-1/ses/aws4_request") == b"key"
