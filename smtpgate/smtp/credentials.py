"""SMTP credentials: an access key id with the password that its secret gives."""

from typing import Final

from smtpgate.core.account import AccessKey, Account, Principal, SendingLimits
from smtpgate.core.events import AuthReason
from smtpgate.core.secret import Secret
from smtpgate.ports import Clock, Directory

_MAX_KEY_ID_OCTETS: Final = 128
# Stands in for a key that there is not: its password is derived and compared all the same.
_NO_KEY: Final = AccessKey(
    "", Secret("no such key"), Principal.root(Account("", "", SendingLimits(0, 0))), False
)


class Authenticator:
    """Checks credentials against the directory: the password is derived for this region."""

    def __init__(self, directory: Directory, region: str, clock: Clock) -> None:
        self._directory = directory
        self._region = region
        self._clock = clock

    async def authenticate(
        self, username: bytes, password: bytes, address: str
    ) -> AccessKey | AuthReason:
        """The access key of that id and SMTP password, if it may be used from there now.

        Otherwise why not, which is for the log and never for the client. Every check is made in
        each case, so that the time of the answer shows neither which ids exist nor whether the
        password was right. Raises DirectoryUnavailableError.
        """
        key = None
        if len(username) <= _MAX_KEY_ID_OCTETS and username.isascii():
            key = await self._directory.access_key(username.decode("ascii"))
        claimed = _NO_KEY if key is None else key
        is_right = claimed.has_smtp_password(password, self._region)
        refusal = claimed.refusal(address, self._clock.now())
        if key is None or not is_right:
            return "invalid-credentials"
        return refusal or key
