"""SMTP credentials: an access key id with the password that its secret gives, or a token."""

from typing import Final, NamedTuple

from smtpgate.core.account import AccessKey, Account, Principal, SendingLimits
from smtpgate.core.events import AuthReason
from smtpgate.core.secret import Secret
from smtpgate.ports import Clock, Directory, TokenLogin, TokenLogins, TokenRefusedError
from smtpgate.smtp.sasl import TokenCredentials

_MAX_KEY_ID_OCTETS: Final = 128
# Stands in for a key that there is not: its password is derived and compared all the same.
_NO_KEY: Final = AccessKey(
    "", Secret("no such key"), Principal.root(Account("", "", SendingLimits(0, 0))), False
)


class TokenFailure(NamedTuple):
    """A refused login by token: whose it was as far as that is known, and why."""

    username: str
    reason: AuthReason
    detail: str = ""


class Authenticator:
    """Checks credentials against the directory: the password is derived for this region."""

    def __init__(
        self,
        directory: Directory,
        region: str,
        clock: Clock,
        tokens: TokenLogins | None = None,
    ) -> None:
        self._directory = directory
        self._region = region
        self._clock = clock
        self._tokens = tokens

    async def authenticate(
        self, username: bytes, password: bytes, address: str, certificate: str = ""
    ) -> AccessKey | AuthReason:
        """The access key of that id and SMTP password, if it may be used from there now.

        ``certificate`` is the pin of the one that the client showed, empty without one.
        Otherwise why not, which is for the log and never for the client. Every check is made in
        each case, so that the time of the answer shows neither which ids exist nor whether the
        password was right. Raises DirectoryUnavailableError.
        """
        key = None
        if len(username) <= _MAX_KEY_ID_OCTETS and username.isascii():
            key = await self._directory.access_key(username.decode("ascii"))
        claimed = _NO_KEY if key is None else key
        is_right = claimed.has_smtp_password(password, self._region)
        refusal = claimed.refusal(address, self._clock.now(), certificate)
        if key is None or not is_right:
            return "invalid-credentials"
        return refusal or key

    @property
    def takes_tokens(self) -> bool:
        """True if the tokens of an issuer are logins."""
        return self._tokens is not None

    async def authenticate_token(
        self, credentials: TokenCredentials, address: str, certificate: str = ""
    ) -> tuple[AccessKey, TokenLogin] | TokenFailure:
        """The access key that a token stands for, if it may be used from there now.

        Raises NoIssuerKeysError or DirectoryUnavailableError.
        """
        claimed = credentials.username[:_MAX_KEY_ID_OCTETS].decode("utf-8", "replace")
        if self._tokens is None:
            return TokenFailure(claimed, "invalid-token", "no issuer is configured")
        try:
            login = await self._tokens.login(credentials.token)
        except TokenRefusedError as error:
            return TokenFailure(error.subject or claimed, error.reason, str(error))
        if claimed not in ("", login.access_key_id):
            detail = f"the token of {login.subject} stands for {login.access_key_id}"
            return TokenFailure(claimed, "other-identity", detail)
        key = await self._directory.access_key(login.access_key_id)
        if key is None:
            detail = f"there is no access key {login.access_key_id}"
            return TokenFailure(login.subject, "token-without-login", detail)
        refusal = key.refusal(address, self._clock.now(), certificate)
        if refusal is not None:
            return TokenFailure(key.id, refusal, f"the token is of {login.subject}")
        return key, login

    def allows(self, login: TokenLogin) -> bool:
        """True if a session with that login may begin another transaction."""
        return self._tokens is not None and self._tokens.allows(login)
