"""Logins by token: which access key the token of an issuer stands for.

Verified tokens are remembered by their digest until they end, since clients log in for each
message. What is remembered ends with the keys that it was verified with.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from smtpgate.config.issuers import IssuerConfig, LoginConfig
from smtpgate.core.secret import Secret
from smtpgate.oauth.issuer_keys import IssuerKeys
from smtpgate.oauth.verifying import (
    BadTokenError,
    Expected,
    UnverifiedToken,
    has_claims,
    read_token,
    verify,
)
from smtpgate.ports import Clock, Reading, TokenLogin, TokenRefusedError

_MAX_REMEMBERED: Final = 10_000
_MAX_SUBJECT: Final = 200


@dataclass(frozen=True, slots=True)
class _Verified:
    """The claims that verified: by which version of the issuer's keys, and until when."""

    version: int
    ends_at_s: float
    claims: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Remembered:
    """The login of a token that verified with that version of the keys."""

    version: int
    ends_at_s: float
    login: TokenLogin


class IssuedLogins:
    """Implements the TokenLogins port for the issuers of a configuration."""

    def __init__(
        self,
        issuers: Sequence[IssuerConfig],
        logins: Sequence[LoginConfig],
        keys: Mapping[str, IssuerKeys],
        clock: Clock,
    ) -> None:
        self.keys = keys
        self._issuers = {one.issuer: one for one in issuers}
        self._logins = {
            one.name: tuple(login for login in logins if login.issuer == one.name)
            for one in issuers
        }
        self._clock = clock
        self._verified: OrderedDict[bytes, _Remembered] = OrderedDict()

    def readings(self) -> Iterator[Reading]:
        """The state of the keys of all issuers, for a scrape."""
        for name, keys in self.keys.items():
            yield from keys.readings(name)

    def start(self) -> None:
        """Fetch the keys of all issuers, and again from time to time."""
        for keys in self.keys.values():
            keys.start()

    def close(self, others: Iterable["IssuedLogins"] = ()) -> None:
        """Fetch no more keys but those that others have too."""
        kept = {id(keys) for other in others for keys in other.keys.values()}
        for keys in self.keys.values():
            if id(keys) not in kept:
                keys.close()

    def keys_of(self, issuer: IssuerConfig) -> IssuerKeys | None:
        """The keys of an issuer that is configured alike here, as far as its keys go."""
        own = self._issuers.get(issuer.issuer)
        if own is None or _source(own) != _source(issuer):
            return None
        return self.keys[own.name]

    async def login(self, token: Secret) -> TokenLogin:
        """The login that a token stands for. Raises TokenRefusedError or NoIssuerKeysError."""
        digest = sha256(token.value.encode()).digest()
        if (known := self._remembered(digest)) is not None:
            return known
        try:
            issuer, verified = await self._verify(read_token(token.value))
        except BadTokenError as error:
            raise TokenRefusedError("invalid-token", str(error)) from None
        login = self._made(issuer, verified)
        self._verified[digest] = _Remembered(verified.version, verified.ends_at_s, login)
        if len(self._verified) > _MAX_REMEMBERED:
            _ = self._verified.popitem(last=False)
        return login

    def allows(self, login: TokenLogin) -> bool:
        """True if the login may go on: its token has not ended, and its rule is still there."""
        if self._clock.now() >= login.ends_at:
            return False
        if login.made_by is self:
            return True
        issuer = self._issuers.get(login.issuer)
        return issuer is not None and self._access_keys(issuer, login.claims) == {
            login.access_key_id
        }

    async def _verify(self, read: UnverifiedToken) -> tuple[IssuerConfig, _Verified]:
        """The issuer of a token, and what verified. Raises BadTokenError."""
        issuer = self._issuers.get(read.issuer)
        if issuer is None:
            raise BadTokenError("the token's issuer is not configured")
        if read.algorithm not in issuer.algorithms:
            raise BadTokenError("the token's algorithm is not among the issuer's algorithms")
        keys = self.keys[issuer.name]
        found = await keys.of(read)
        if not found:
            raise BadTokenError("the issuer has no such key as the token names")
        ends_at_s = verify(read, found, _expected(issuer), self._now_s())
        return issuer, _Verified(keys.version, ends_at_s, read.claims)

    def _now_s(self) -> float:
        return self._clock.now().timestamp()

    def _remembered(self, digest: bytes) -> TokenLogin | None:
        known = self._verified.get(digest)
        if known is None:
            return None
        keys = self.keys[self._issuers[known.login.issuer].name]
        if known.version != keys.version or self._now_s() >= known.ends_at_s:
            del self._verified[digest]
            return None
        return known.login

    def _made(self, issuer: IssuerConfig, verified: _Verified) -> TokenLogin:
        subject = _name(issuer, verified.claims)
        found = self._access_keys(issuer, verified.claims)
        if len(found) != 1:
            why = "matches more than one access key" if found else "matches no [[login]]"
            raise TokenRefusedError("token-without-login", f"the token {why}", subject)
        return TokenLogin(
            access_key_id=found.pop(),
            issuer=issuer.issuer,
            subject=subject,
            ends_at=datetime.fromtimestamp(verified.ends_at_s, UTC),
            claims=verified.claims,
            made_by=self,
        )

    def _access_keys(self, issuer: IssuerConfig, claims: Mapping[str, Any]) -> set[str]:
        """The access keys that the claims stand for: with more than one it is ambiguous."""
        return {
            login.access_key
            for login in self._logins[issuer.name]
            if has_claims(claims, login.claims)
        }


def _source(issuer: IssuerConfig) -> tuple[object, ...]:
    """All that decides about where its keys come from, and when."""
    return (
        issuer.name,
        issuer.jwks_file,
        issuer.jwks_url,
        issuer.ca_file,
        issuer.refresh_s,
    )


def _expected(issuer: IssuerConfig) -> Expected:
    return Expected(issuer.issuer, issuer.audience, issuer.max_token_age_s, issuer.leeway_s)


def _name(issuer: IssuerConfig, claims: Mapping[str, Any]) -> str:
    """A name for the log: that of the issuer's section, and the subject."""
    subject = claims.get("sub")
    text = subject if isinstance(subject, str) else ""
    shown = "".join(one if one.isprintable() else "?" for one in text[:_MAX_SUBJECT])
    return f"{issuer.name}:{shown}"
