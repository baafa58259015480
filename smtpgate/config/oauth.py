"""The login at an upstream, and ``[upstream.NAME.oauth]``, the source of its access tokens."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from smtpgate.config.sound_keys import Problem
from smtpgate.config.toml import ExistingFile, ExistingPrivateFile, Table
from smtpgate.config.values import is_loopback
from smtpgate.core.sasl_mechanism import WITH_PASSWORD, WITH_TOKEN, Mechanism

_NO_ENDPOINT: Final = "must be a URL such as https://login.example.com/token"
Auth = Literal["plain", "login", "xoauth2", "oauthbearer"]
MECHANISMS: Final[Mapping[Auth, Mechanism]] = {
    "plain": "PLAIN",
    "login": "LOGIN",
    "xoauth2": "XOAUTH2",
    "oauthbearer": "OAUTHBEARER",
}


def _endpoint(value: str) -> str:
    """A URL to POST to: https, so that nobody else gets the secret, or this machine."""
    try:
        parts = urlsplit(value)
        host, is_right = parts.hostname or "", parts.port != 0
    except ValueError:
        raise ValueError(_NO_ENDPOINT) from None
    is_plain = value.isascii() and value.isprintable() and " " not in value
    if not (host and is_right and is_plain) or "@" in parts.netloc or parts.fragment:
        raise ValueError(_NO_ENDPOINT)
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    if not is_safe:
        raise ValueError("must begin with https://; http:// would show the secret")
    return value


Text = Annotated[str, Field(min_length=1, max_length=1000)]
Endpoint = Annotated[Text, AfterValidator(_endpoint)]


class OAuthConfig(Table):
    """``[upstream.NAME.oauth]``: the server that has the tokens, and what it is shown.

    Files with secrets are read again for each token, so that a secret can be replaced.
    """

    token_endpoint: Endpoint
    grant: Literal["client-credentials", "refresh-token", "jwt-bearer"] = "client-credentials"
    client_id: Text
    client_secret_file: ExistingPrivateFile | None = None
    private_key_file: ExistingPrivateFile | None = None
    certificate_file: ExistingFile | None = None
    key_id: Text | None = None
    refresh_token_file: ExistingPrivateFile | None = None
    scope: Text | None = None
    subject: Text | None = None
    audience: Text | None = None
    ca_file: ExistingFile | None = None

    def contradictions(self) -> Iterator[Problem]:
        """The keys that a grant lacks, and those that have no effect with it."""
        has_refresh_token = self.refresh_token_file is not None
        if has_refresh_token != (self.grant == "refresh-token"):
            text = 'goes together with grant = "refresh-token"'
            yield (
                ("refresh_token_file",),
                text if has_refresh_token else f"is missing; it {text}",
            )
        if self.subject is not None and self.grant != "jwt-bearer":
            yield ("subject",), 'has no effect without grant = "jwt-bearer"'
        yield from self._about_keys()

    def _about_keys(self) -> Iterator[Problem]:
        if self.client_secret_file is not None and self.private_key_file is not None:
            text = (
                "cannot be set with private_key_file; the client proves itself by one of them"
            )
            yield ("client_secret_file",), text
        if self.grant == "jwt-bearer" and self.private_key_file is None:
            yield ("private_key_file",), 'is missing; grant = "jwt-bearer" is signed with it'
        if (
            self.grant == "client-credentials"
            and self.private_key_file is None
            and self.client_secret_file is None
        ):
            text = "is missing; client-credentials needs it, or private_key_file"
            yield ("client_secret_file",), text
        if self.private_key_file is None:
            for key in ("certificate_file", "key_id", "audience"):
                if getattr(self, key) is not None:
                    yield (key,), "has no effect without private_key_file"


def login_problems(
    *,
    username: str | None,
    has_password: bool,
    has_oauth: bool,
    auth: Auth | None,
    tls: str,
    is_local: bool,
) -> Iterator[Problem]:
    """The problems of the keys of an upstream by which the gate logs in."""
    if has_password and has_oauth:
        yield ("password_file",), "cannot be set with a section oauth; use one of the two"
    elif username is None and has_oauth:
        yield ("username",), "is missing; it is the mailbox that the access tokens are for"
    elif (username is None) != (not (has_password or has_oauth)):
        lacking = "username" if username is None else "password_file"
        yield (lacking,), "is missing; username and password_file go together"
    if auth is not None:
        fitting = WITH_TOKEN if has_oauth else WITH_PASSWORD if has_password else ()
        if MECHANISMS[auth] not in fitting:
            needed = (
                "[upstream.NAME.oauth]" if MECHANISMS[auth] in WITH_TOKEN else "password_file"
            )
            yield ("auth",), f'"{auth}" needs {needed}'
    if username is not None and not is_local:
        what = "access token" if has_oauth else "password"
        if tls == "off":
            yield ("tls",), f'"off" would send the {what} to another machine in clear text'
        elif tls == "opportunistic":
            text = f"verifies no certificate: the {what} would go to any machine that answers"
            yield ("tls",), f'"opportunistic" {text}; use "required"'
