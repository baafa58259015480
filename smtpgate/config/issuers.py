"""``[issuer.NAME]`` and ``[[login]]``: logins by tokens, without passwords."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from smtpgate.config.oauth import Text
from smtpgate.config.sound_keys import Problem
from smtpgate.config.toml import Array, ExistingFile, Table
from smtpgate.config.values import Name, Seconds
from smtpgate.core.naming import is_access_key_id
from smtpgate.core.policy.problem import hint

# Asymmetric ones only (RFC 8725 §3.1): with HS256 the public key would be the secret.
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
_NO_URL: Final = "must be a URL such as https://issuer.example.com/keys"
_MAX_CLAIMS: Final = 20


def _https(value: str) -> str:
    try:
        parts = urlsplit(value)
        is_right = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError(_NO_URL) from None
    is_plain = value.isascii() and value.isprintable() and " " not in value
    if not (is_right and is_plain) or "@" in parts.netloc or parts.fragment:
        raise ValueError(_NO_URL)
    if parts.scheme != "https":
        raise ValueError(
            "must begin with https://; who changes the keys on the way could log in"
        )
    return value


def _key_id(value: str) -> str:
    if not is_access_key_id(value):
        raise ValueError("must be the id of an access key")
    return value


def _claims(value: Mapping[str, str]) -> Mapping[str, str]:
    if all(not pattern.strip("*?") for pattern in value.values()):
        raise ValueError("must have a text beside * and ?: else any token of the issuer fits")
    return value


class IssuerConfig(Table):
    """``[issuer.NAME]``: an issuer of tokens (JWT), and where its keys are."""

    written_as: ClassVar[Mapping[str, str | None]] = {"name": None}

    name: Name
    issuer: Text
    audience: Text
    jwks_file: ExistingFile | None = None
    jwks_url: Annotated[Text, AfterValidator(_https)] | None = None
    ca_file: ExistingFile | None = None
    algorithms: Annotated[Array[Algorithm], Field(min_length=1)] = ("RS256", "ES256")
    refresh_s: Annotated[float, Field(ge=60, le=86_400)] = 300
    max_token_age_s: Seconds = 86_400
    leeway_s: Annotated[float, Field(ge=0, le=300)] = 30

    def contradictions(self) -> Iterator[Problem]:
        """The keys come from one place."""
        if self.jwks_file is None and self.jwks_url is None:
            yield ("jwks_url",), "is missing; it or jwks_file has the issuer's keys"
        elif self.jwks_file is not None and self.jwks_url is not None:
            yield ("jwks_file",), "cannot be set together with jwks_url"
        if self.ca_file is not None and self.jwks_url is None:
            yield ("ca_file",), "has no effect without jwks_url"


class LoginConfig(Table):
    """``[[login]]``: the access key that tokens with certain claims stand for."""

    issuer: Name
    claims: Annotated[
        Mapping[str, Text], Field(min_length=1, max_length=_MAX_CLAIMS), AfterValidator(_claims)
    ]
    access_key: Annotated[str, AfterValidator(_key_id)]


def issuer_problems(
    issuers: Sequence[IssuerConfig], logins: Iterable[LoginConfig]
) -> Iterator[Problem]:
    """Two sections for one issuer, and logins of issuers that have no section."""
    named: dict[str, str] = {}
    for one in issuers:
        if one.issuer in named:
            text = f"is that of issuer.{named[one.issuer]} too; one section is for one issuer"
            yield ("issuer", one.name, "issuer"), text
        named.setdefault(one.issuer, one.name)
    names = [one.name for one in issuers]
    for at, login in enumerate(logins):
        if login.issuer not in names:
            near = hint(login.issuer, names)
            text = f"there is no [issuer.{login.issuer}]{near}"
            yield ("login", at, "issuer"), text
