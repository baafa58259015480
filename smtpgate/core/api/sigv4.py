"""Signature version 4 of AWS, as a server reads and checks it.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html

A client signs the method, the path, the query, some header fields and the body with a key that
is derived from its secret, the day, the region and the service. The body is always part of it.
"""

import hashlib
import hmac
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from msgspec import Struct, structs
from msgspec.structs import force_setattr

from smtpgate.core.api.percent import percent_encoded, query_pairs
from smtpgate.core.api.signing_keys import SigningKeys, signing_key
from smtpgate.core.secret import Secret

ALGORITHM: Final = "AWS4-HMAC-SHA256"
# SES's clients name either in the scope of a credential.
SES_SERVICES: Final = frozenset({"ses", "email"})
WINDOW: Final = timedelta(minutes=15)
_TERMINATOR: Final = "aws4_request"
_TIME_FORM: Final = "%Y%m%dT%H%M%SZ"
_TIME: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_SCOPE_PART: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_MAX_SIGNED_HEADERS: Final = 64
_MAX_EXPIRES_S: Final = 604_800  # a week, as AWS allows
_PAYLOAD_HASH: Final = b"x-amz-content-sha256"
_QUERY_NAMES: Final = {
    b"X-Amz-Algorithm": "algorithm",
    b"X-Amz-Credential": "Credential",
    b"X-Amz-SignedHeaders": "SignedHeaders",
    b"X-Amz-Signature": "Signature",
    b"X-Amz-Date": "date",
    b"X-Amz-Expires": "expires",
}
_TOKEN_QUERY: Final = b"X-Amz-Security-Token"
_TOKEN_HEADER: Final = b"x-amz-security-token"
_NO_SECRET: Final = Secret("no access key has this secret")
_NO_KEY: Final = bytes(32)

SignatureFault = Literal[
    "missing", "incomplete", "expired", "scope", "unknown-key", "token", "mismatch"
]


# Amazon's text for an access key that there is not.
UNKNOWN_KEY: Final = "The security token included in the request is invalid."


class SignatureError(Exception):
    """A request whose signature is refused; ``fault`` says which way."""

    def __init__(self, fault: SignatureFault, text: str) -> None:
        super().__init__(text)
        self.fault: SignatureFault = fault


class SignedRequest(Struct, frozen=True, gc=False):
    """An HTTP request as it came over the wire: a signature is of all of it.

    ``path`` and ``query`` are still percent-encoded. ``headers`` have lower-case names, one
    entry a field, in order. ``body_sha256`` is the SHA-256 of the body, in hexadecimal digits.
    ``fields`` are the values by name, made of the headers.
    """

    method: str
    path: bytes
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body_sha256: str
    fields: Mapping[bytes, Sequence[bytes]] = {}

    def __post_init__(self) -> None:
        fields: dict[bytes, list[bytes]] = {}
        for name, value in self.headers:
            fields.setdefault(name, []).append(value)
        force_setattr(self, "fields", fields)

    def values(self, name: bytes) -> Sequence[bytes]:
        """The values of all header fields of that name."""
        return self.fields.get(name, ())

    def with_body(self, body: bytes) -> "SignedRequest":
        """The request with the digest of its body."""
        return structs.replace(self, body_sha256=hashlib.sha256(body).hexdigest())


class Claim(Struct, frozen=True, gc=False):
    """The signature that a request says it has, before it is checked.

    ``time`` is the text of ``at``, which it is made of.
    """

    access_key_id: str
    at: datetime
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    expires: timedelta
    in_query: bool
    time: str = ""

    def __post_init__(self) -> None:
        force_setattr(self, "time", self.at.strftime(_TIME_FORM))

    def signed(self, request: SignedRequest, secret: Secret) -> "Claim":
        """The claim with the signature of a request by a secret."""
        return structs.replace(self, signature=signature(request, self, secret))

    @property
    def day(self) -> str:
        """The day of its scope."""
        return self.time[:8]

    @property
    def scope(self) -> str:
        """The scope of the key that signs."""
        return f"{self.day}/{self.region}/{self.service}/{_TERMINATOR}"


def read_claim(request: SignedRequest) -> Claim:
    """Read the signature of a request, from its header or its query.

    Raises SignatureError.
    """
    in_header = request.values(b"authorization")
    in_query = query_pairs(request.query)
    is_presigned = any(name in _QUERY_NAMES for name, _ in in_query)
    if in_header and is_presigned:
        raise SignatureError("incomplete", "A signature is in the header and in the query.")
    if is_presigned:
        return _claim_in_query(request, in_query)
    if not in_header:
        raise SignatureError("missing", "Request is missing Authentication Token")
    if len(in_header) > 1:
        raise SignatureError("incomplete", "Authorization header is there twice.")
    return _claim_in_header(request, in_header[0])


def _claim_in_header(request: SignedRequest, value: bytes) -> Claim:
    algorithm, _, rest = _text(value, "Authorization header").partition(" ")
    parts: dict[str, str] = {"algorithm": algorithm}
    for part in rest.split(","):
        name, _, text = part.strip(" ").partition("=")
        if name in parts:
            raise SignatureError("incomplete", f"Authorization header has {name!r} twice.")
        parts[name] = text
    _must_have(parts, ("Credential", "SignedHeaders", "Signature"), "Authorization header")
    parts["date"] = _date_field(request)
    if request.values(_TOKEN_HEADER):
        raise SignatureError("token", "The security token included in the request is invalid")
    return _claim(request, parts, timedelta(0), in_query=False)


def _claim_in_query(request: SignedRequest, pairs: list[tuple[bytes, bytes]]) -> Claim:
    parts: dict[str, str] = {}
    for name, value in pairs:
        if name == _TOKEN_QUERY:
            text = "The security token included in the request is invalid"
            raise SignatureError("token", text)
        known = _QUERY_NAMES.get(name)
        if known is None:
            continue
        if known in parts:
            raise SignatureError("incomplete", f"Query has {name.decode()} twice.")
        parts[known] = _text(value, f"query parameter {name.decode()}")
    _must_have(parts, tuple(_QUERY_NAMES.values()), "query")
    expires = parts["expires"]
    if not (expires.isascii() and expires.isdigit() and 0 < int(expires[:9]) <= _MAX_EXPIRES_S):
        text = f"X-Amz-Expires must be from 1 to {_MAX_EXPIRES_S} seconds."
        raise SignatureError("incomplete", text)
    return _claim(request, parts, timedelta(seconds=int(expires)), in_query=True)


def _claim(
    request: SignedRequest, parts: Mapping[str, str], expires: timedelta, *, in_query: bool
) -> Claim:
    if parts["algorithm"] != ALGORITHM:
        raise SignatureError("incomplete", f"Unsupported algorithm; use {ALGORITHM}.")
    access_key_id, day, region, service = _credential(parts["Credential"])
    at = _time(parts["date"])
    if day != parts["date"][:8]:
        text = f"Date in Credential scope does not match {parts['date'][:8]}."
        raise SignatureError("scope", text)
    if not _HEX.fullmatch(parts["Signature"]):
        raise SignatureError(
            "incomplete", "Signature must be 64 lower-case hexadecimal digits."
        )
    signed = _signed_headers(request, parts["SignedHeaders"], in_query=in_query)
    return Claim(
        access_key_id, at, region, service, signed, parts["Signature"], expires, in_query
    )


def _credential(text: str) -> tuple[str, str, str, str]:
    parts = text.split("/")
    if len(parts) != 5 or parts[4] != _TERMINATOR or not all(map(_SCOPE_PART.fullmatch, parts)):
        wanted = f"KEY/YYYYMMDD/REGION/SERVICE/{_TERMINATOR}"
        raise SignatureError("incomplete", f"Credential must have the form {wanted}.")
    access_key_id, day, region, service, _ = parts
    return access_key_id, day, region, service


def _signed_headers(request: SignedRequest, text: str, *, in_query: bool) -> tuple[str, ...]:
    """The names of the signed fields; they are sorted, and those that matter are there."""
    names = tuple(text.split(";"))
    is_canonical = list(names) == sorted(set(names)) and text == text.lower()
    if not is_canonical or len(names) > _MAX_SIGNED_HEADERS:
        raise SignatureError("incomplete", "SignedHeaders must be lower-case names in order.")
    dates = {"x-amz-date", "date"}
    if "host" not in names or not (in_query or dates & set(names)):
        raise SignatureError("incomplete", "'host' and 'x-amz-date' must be signed.")
    for name in names:
        if not request.values(name.encode()):
            raise SignatureError("incomplete", f"The signed header {name!r} is not there.")
    if "x-amz-date" not in names and request.values(b"x-amz-date") and not in_query:
        raise SignatureError("incomplete", "'x-amz-date' must be signed.")
    return names


def _date_field(request: SignedRequest) -> str:
    found = request.values(b"x-amz-date") or request.values(b"date")
    if not found:
        text = "Authorization requires a 'X-Amz-Date' or a 'Date' header."
        raise SignatureError("incomplete", text)
    if len(found) > 1:
        raise SignatureError("incomplete", "The date is there twice.")
    return _text(found[0], "date")


def _time(text: str) -> datetime:
    if _TIME.fullmatch(text):
        try:
            date = int(text[:4]), int(text[4:6]), int(text[6:8])
            return datetime(
                *date, int(text[9:11]), int(text[11:13]), int(text[13:15]), tzinfo=UTC
            )
        except ValueError:
            pass
    raise SignatureError("incomplete", "Date must be in ISO-8601 'basic format'.")


def _text(octets: bytes, where: str) -> str:
    try:
        return octets.decode("ascii")
    except UnicodeDecodeError:
        raise SignatureError("incomplete", f"The {where} must be ASCII.") from None


def _must_have(parts: Mapping[str, str], names: tuple[str, ...], where: str) -> None:
    lacking = [name for name in names if not parts.get(name)]
    if lacking:
        raise SignatureError("incomplete", f"The {where} lacks {', '.join(lacking)}.")


def authorization(claim: Claim) -> str:
    """The Authorization field of a claim."""
    credential = f"{claim.access_key_id}/{claim.scope}"
    names = ";".join(claim.signed_headers)
    return (
        f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, "
        f"Signature={claim.signature}"
    )


def must_be_current(claim: Claim, now: datetime) -> None:
    """Raise SignatureError if the request was signed too long ago, or is of the future."""
    if claim.at > now + WINDOW:
        text = f"Signature not yet current: {claim.time} is still later than"
        raise SignatureError("expired", f"{text} {now.strftime(_TIME_FORM)} + 15 min.")
    if now > claim.at + (claim.expires if claim.in_query else WINDOW):
        text = f"Signature expired: {claim.time} is now earlier than"
        raise SignatureError("expired", f"{text} {now.strftime(_TIME_FORM)} - 15 min.")


def must_be_for(claim: Claim, regions: Collection[str], services: Collection[str]) -> None:
    """Raise SignatureError if the key was derived for another region or service."""
    if claim.region not in regions:
        text = f"Credential should be scoped to a valid region, not '{claim.region}'."
        raise SignatureError("scope", f"{text} Use '{min(regions)}'.")
    if claim.service not in services:
        wanted = "' or '".join(sorted(services))
        raise SignatureError("scope", f"Credential should be scoped to service '{wanted}'.")


def must_have_stated_body(request: SignedRequest) -> None:
    """Raise SignatureError if the request names the hash of another body than it has."""
    stated = request.values(_PAYLOAD_HASH)
    if stated and stated != [request.body_sha256.encode()]:
        text = "The provided 'x-amz-content-sha256' header does not match what was computed."
        raise SignatureError("mismatch", text)


def must_be_signed_by(
    request: SignedRequest, claim: Claim, secret: Secret | None, keys: SigningKeys
) -> None:
    """Raise SignatureError if the signature is not by that secret; in constant time.

    ``None`` is the secret of a key that there is not: it costs the same, and always raises.
    ``keys`` has the keys of earlier requests, which spare a right signature the derivation. All
    refusals cost the same, so their time does not show whether the access key exists.
    """
    must_have_stated_body(request)
    text_to_sign, scope = string_to_sign(request, claim), claim.scope
    known = keys.get(secret or _NO_SECRET, scope)
    is_right = hmac.compare_digest(_signed(known or _NO_KEY, text_to_sign), claim.signature)
    if is_right and known is not None and secret is not None:
        return
    key = signing_key(secret or _NO_SECRET, scope)
    is_right = hmac.compare_digest(_signed(key, text_to_sign), claim.signature)
    if secret is None:
        raise SignatureError("unknown-key", UNKNOWN_KEY)
    if not is_right:
        text = (
            "The request signature we calculated does not match the signature you provided. "
            "Check your AWS Secret Access Key and signing method. Consult the service "
            "documentation for details."
        )
        raise SignatureError("mismatch", text)
    keys.keep(secret, scope, key)


def signature(request: SignedRequest, claim: Claim, secret: Secret) -> str:
    """The signature of a request by a secret, for what a claim says of its key."""
    return _signed(signing_key(secret, claim.scope), string_to_sign(request, claim))


def _signed(key: bytes, text: bytes) -> str:
    return hmac.digest(key, text, hashlib.sha256).hex()


def string_to_sign(request: SignedRequest, claim: Claim) -> bytes:
    """The text that the signature is of."""
    digest = hashlib.sha256(canonical_request(request, claim)).hexdigest()
    return f"{ALGORITHM}\n{claim.time}\n{claim.scope}\n{digest}".encode()


def canonical_request(request: SignedRequest, claim: Claim) -> bytes:
    """The request in the one form that both sides hash."""
    names = [name.encode() for name in claim.signed_headers]
    fields = [
        name + b":" + b",".join(map(_trimmed, request.values(name))) + b"\n" for name in names
    ]
    return b"\n".join(
        [
            request.method.encode(),
            canonical_path(request.path),
            canonical_query(request.query),
            b"".join(fields),
            b";".join(names),
            request.body_sha256.encode(),
        ]
    )


def canonical_path(path: bytes) -> bytes:
    """The path without empty and dot segments, each segment encoded once more.

    So it is done for every service but S3.
    """
    kept: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            del kept[-1:]
        elif segment not in {b"", b"."}:
            kept.append(percent_encoded(segment))
    ends = b"/" if kept and path.endswith(b"/") else b""
    return b"/" + b"/".join(kept) + ends


def canonical_query(query: bytes) -> bytes:
    """The names and values of a query, encoded and sorted, without a signature."""
    pairs = [
        (percent_encoded(name), percent_encoded(value))
        for name, value in query_pairs(query)
        if name != b"X-Amz-Signature"
    ]
    return b"&".join([name + b"=" + value for name, value in sorted(pairs)])


def _trimmed(value: bytes) -> bytes:
    return b" ".join(value.split())
