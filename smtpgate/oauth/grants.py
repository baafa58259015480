"""The requests for a token, by grant; secrets are read from their files each time.

Client credentials (RFC 6749 §4.4) and a refresh token (§6), where the client proves itself with
a secret (§2.3.1, HTTP Basic) or an assertion that it signs (RFC 7523 §2.2); and an assertion as
the grant itself (§2.1), by which Google's service accounts act for a mailbox.
"""

import base64
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

from smtpgate.config.oauth import OAuthConfig
from smtpgate.core.secret import Secret
from smtpgate.ports import NoTokenError

_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ASSERTED_S: Final = 300
_MAX_SECRET_OCTETS: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A POST to the token endpoint; ``body`` and ``headers`` have secrets."""

    headers: Sequence[tuple[str, str]]
    body: bytes

    def __repr__(self) -> str:
        return "TokenRequest(***)"


class Grant:
    """Makes the requests of a configuration; ``subject`` is the mailbox to act for by default.

    A server may answer with another refresh token: it replaces that of the file until the file
    changes.
    """

    def __init__(self, config: OAuthConfig, subject: str) -> None:
        self._config = config
        self._subject = config.subject or subject
        self._renewed: tuple[str, Secret] | None = None

    def request(self, now_s: float) -> TokenRequest:
        """The request for a token at that time, in seconds since 1970. Reads files.

        Raises NoTokenError.
        """
        config = self._config
        form = {"grant_type": config.grant.replace("-", "_")}
        headers = [
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Accept", "application/json"),
        ]
        if config.grant == "jwt-bearer":
            form["grant_type"] = _JWT_BEARER
            form["assertion"] = self._assertion(now_s, self._subject, scope=config.scope)
        else:
            if config.grant == "refresh-token":
                form["refresh_token"] = self._refresh_token()
            if config.scope is not None:
                form["scope"] = config.scope
            headers += self._authenticate(form, now_s)
        return TokenRequest(headers, urlencode(form).encode("ascii"))

    def renewed(self, refresh_token: Secret) -> None:
        """Note that the server replaced the refresh token (RFC 6749 §6)."""
        if self._config.refresh_token_file is not None:
            self._renewed = (_read(self._config.refresh_token_file), refresh_token)

    def _refresh_token(self) -> str:
        in_file = _read(self._config.refresh_token_file)
        if self._renewed is not None and self._renewed[0] == in_file:
            return self._renewed[1].value
        return in_file

    def _authenticate(self, form: dict[str, str], now_s: float) -> Sequence[tuple[str, str]]:
        """Prove who the client is, in the form or by the header fields that are returned."""
        config = self._config
        if config.client_secret_file is not None:
            secret = _read(config.client_secret_file)
            # RFC 6749 §2.3.1: both are encoded as in a form, before Base64.
            pair = f"{quote(config.client_id, safe='')}:{quote(secret, safe='')}"
            encoded = base64.b64encode(pair.encode()).decode("ascii")
            return [("Authorization", f"Basic {encoded}")]
        form["client_id"] = config.client_id
        if config.private_key_file is not None:
            form["client_assertion_type"] = _ASSERTION_TYPE
            form["client_assertion"] = self._assertion(now_s, config.client_id)
        return ()

    def _assertion(self, now_s: float, subject: str, *, scope: str | None = None) -> str:
        """A signed statement of the client (RFC 7523 §3)."""
        config = self._config
        # Loaded when it is needed: the other commands should start fast.
        module = importlib.import_module("smtpgate.oauth.assertion")
        claims: dict[str, str | int] = {
            "iss": config.client_id,
            "sub": subject,
            "aud": config.audience or config.token_endpoint,
            "iat": int(now_s),
            "exp": int(now_s) + _ASSERTED_S,
        }
        if scope is not None:
            claims["scope"] = scope
        signed: str = module.signed(
            claims,
            private_key=_octets(config.private_key_file),
            certificate=_octets(config.certificate_file) if config.certificate_file else None,
            key_id=config.key_id,
        )
        return signed


def _octets(path: Path | None) -> bytes:
    if path is None:
        raise NoTokenError("no file is configured")
    try:
        with path.open("rb") as file:
            return file.read(_MAX_SECRET_OCTETS)
    except OSError as error:
        raise NoTokenError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None


def _read(path: Path | None) -> str:
    """The one line of a file."""
    try:
        text = _octets(path).decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise NoTokenError(f"{path} is not UTF-8 text") from None
    if not text.strip() or not text.isprintable():
        raise NoTokenError(f"{path} must have one line")
    return text
