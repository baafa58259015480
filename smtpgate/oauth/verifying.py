"""Tokens of others: JWTs, verified against the keys of their issuer (RFC 7519, RFC 8725).

A token says by itself which issuer and which key it wants; both are only used to choose among
what is configured. ``jku``, ``x5u``, ``jwk`` and ``x5c`` are never looked at, and a token with
``crit`` is refused, since no extension is understood here.
"""

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, OKPKey, RSAKey, import_key
from joserfc.jws import JWSRegistry

from smtpgate.core.policy.match import glob_match

MAX_TOKEN_OCTETS: Final = 8 * 1024
_MAX_KEYS: Final = 100
_RSA_BITS: Final = range(2048, 8193)  # RFC 7518 §3.3; a longer one takes over a millisecond
_PART: Final = re.compile(r"[A-Za-z0-9_-]+")
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt", "application/jwt"})
_MAX_TIME_S: Final = 2**40
_EC_CURVES: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


class _Registry(JWSRegistry):
    """The one algorithm of a token; joserfc warns of EdDSA, which RFC 9864 only renames."""

    def get_alg(self, name: str) -> Any:  # noqa: ANN401 - joserfc exports no type for it
        """The algorithm, if it is the one that is allowed."""
        if name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


PublicKey = RSAKey | ECKey | OKPKey


class BadTokenError(Exception):
    """A token that is refused; the text says why, without the token."""


class BadKeysError(Exception):
    """A set of keys that cannot be read."""


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """The parts of a token, before its signature is verified."""

    text: str
    algorithm: str
    key_id: str | None
    claims: Mapping[str, Any]

    @property
    def issuer(self) -> str:
        """The issuer that it names; empty if it names none."""
        issuer = self.claims.get("iss")
        return issuer if isinstance(issuer, str) else ""


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """A public key of an issuer, and the algorithm that it is for, if its set says so."""

    key: PublicKey
    key_id: str | None
    algorithm: str | None

    def fits(self, algorithm: str) -> bool:
        """True if signatures by that algorithm can be of this key."""
        if self.algorithm not in (None, algorithm):
            return False
        if isinstance(self.key, RSAKey):
            return algorithm[:2] in ("RS", "PS")
        if isinstance(self.key, ECKey):
            return _EC_CURVES.get(algorithm) == self.key.curve_name
        return algorithm == "EdDSA"


@dataclass(frozen=True, slots=True)
class Expected:
    """The claims that a token must have; times in seconds."""

    issuer: str
    audience: str
    max_age_s: float
    leeway_s: float


def read_token(text: str) -> UnverifiedToken:
    """The parts of a token. Raises BadTokenError."""
    if len(text) > MAX_TOKEN_OCTETS:
        raise BadTokenError(f"the token has more than {MAX_TOKEN_OCTETS} octets")
    parts = text.split(".")
    if len(parts) != 3 or not all(_PART.fullmatch(part) for part in parts):
        raise BadTokenError("the token is no signed JWT")
    header, claims = (_json(_octets(part)) for part in parts[:2])
    if "crit" in header or "b64" in header or "zip" in header:
        raise BadTokenError("the token needs an extension that is not supported")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise BadTokenError("the token is of another type than JWT")
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or not (key_id is None or isinstance(key_id, str)):
        raise BadTokenError("the token's header has no proper alg and kid")
    return UnverifiedToken(text, algorithm, key_id, claims)


def verify(
    token: UnverifiedToken, keys: Iterable[IssuerKey], expected: Expected, now_s: float
) -> float:
    """When the token ends, if it has a key's signature and what is expected.

    The time is in seconds since 1970. The keys are those that the token may be of. Raises
    BadTokenError.
    """
    if not any(_is_signed(token, key) for key in keys):
        raise BadTokenError("the token's signature does not verify")
    claims = token.claims
    if token.issuer != expected.issuer:
        raise BadTokenError("the token is of another issuer")
    audience = claims.get("aud")
    if expected.audience not in (audience if isinstance(audience, list) else [audience]):
        raise BadTokenError("the token is for another audience")
    ends_at = _time(claims, "exp")
    if now_s >= ends_at + expected.leeway_s:
        raise BadTokenError("the token has expired")
    issued_at = _time(claims, "iat")
    begins_at = _time(claims, "nbf") if "nbf" in claims else issued_at
    if max(issued_at, begins_at) > now_s + expected.leeway_s:
        raise BadTokenError("the token is not valid yet")
    if now_s - issued_at >= expected.max_age_s + expected.leeway_s:
        raise BadTokenError("the token is older than max_token_age_s")
    return min(ends_at, issued_at + expected.max_age_s) + expected.leeway_s


def keys_for(token: UnverifiedToken, keys: Iterable[IssuerKey]) -> tuple[IssuerKey, ...]:
    """The keys that a token may be of: by its ``kid``, or the only one that fits without it."""
    fitting = tuple(key for key in keys if key.fits(token.algorithm))
    if token.key_id is not None:
        return tuple(key for key in fitting if key.key_id == token.key_id)
    return fitting if len(fitting) == 1 else ()


def read_keys(octets: bytes) -> tuple[IssuerKey, ...]:
    """The public keys of a JWK Set (RFC 7517 §5) that can be of use. Raises BadKeysError.

    Keys of unknown kinds, and those that are not for signatures, are left out.
    """
    try:
        found = _json(octets)
    except BadTokenError:
        raise BadKeysError("it is no JSON object") from None
    listed = found.get("keys")
    if not isinstance(listed, list) or len(listed) > _MAX_KEYS:
        raise BadKeysError(f"it has no list of at most {_MAX_KEYS} keys")
    keys = tuple(key for one in listed if (key := _key(one)) is not None)
    if not keys:
        raise BadKeysError("it has no key of a kind that is supported")
    return keys


def has_claims(claims: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    """True if each wanted claim is there as a text that fits its pattern (``*`` and ``?``)."""
    return all(
        isinstance(found := claims.get(name), str) and glob_match(pattern, found)
        for name, pattern in wanted.items()
    )


def _key(one: object) -> IssuerKey | None:
    """A key of a set; ``None`` if it is of no use here."""
    if not isinstance(one, dict):
        return None
    public: dict[str, str | list[str]] = {
        name: text
        for name in ("kty", "n", "e", "crv", "x", "y")
        if isinstance(text := one.get(name), str)
    }
    if not (_is_for_signatures(one) and _is_supported(public)):
        return None
    try:
        key = import_key(public)
        _ = key.public_key
    except (JoseError, ValueError, KeyError, TypeError):
        return None
    if not isinstance(key, RSAKey | ECKey | OKPKey):
        return None
    return IssuerKey(key, one.get("kid"), one.get("alg"))


def _is_for_signatures(one: Mapping[str, Any]) -> bool:
    operations = one.get("key_ops", ["verify"])
    return (
        one.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
        and all(isinstance(one.get(name), str | None) for name in ("kid", "alg"))
    )


def _is_supported(public: Mapping[str, object]) -> bool:
    """True if the kind and the length of a key are."""
    match public.get("kty"):
        case "RSA":
            try:
                modulus = _octets(str(public.get("n", "")))
            except BadTokenError:
                return False
            return int.from_bytes(modulus).bit_length() in _RSA_BITS
        case "EC":
            return public.get("crv") in _EC_CURVES.values()
        case "OKP":
            return public.get("crv") == "Ed25519"
        case _:
            return False


def _is_signed(token: UnverifiedToken, key: IssuerKey) -> bool:
    if not key.fits(token.algorithm):
        return False
    try:
        # Issuers have header fields of their own; those that matter were looked at before.
        registry = _Registry(algorithms=[token.algorithm], strict_check_header=False)
        _ = jws.deserialize_compact(token.text, key.key, registry=registry)
    except (JoseError, ValueError, TypeError):
        return False
    return True


def _time(claims: Mapping[str, Any], name: str) -> float:
    """A moment in seconds since 1970 (RFC 7519 §2, NumericDate)."""
    value: Any = claims.get(name)
    if type(value) not in (int, float) or not 0 <= value < _MAX_TIME_S:
        raise BadTokenError(f"the token has no proper {name}")
    return float(value)


def _octets(part: str) -> bytes:
    try:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        raise BadTokenError("the token is not in Base64url") from None


def _json(octets: bytes) -> dict[str, Any]:
    """An object in which no name stands twice: readers differ about which of them counts."""
    try:
        found = json.loads(
            octets.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_number
        )
    except (ValueError, RecursionError):
        raise BadTokenError("the token has no proper JSON") from None
    if not isinstance(found, dict):
        raise BadTokenError("the token has no JSON object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")
