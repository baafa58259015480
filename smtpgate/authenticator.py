"""Checks SMTP credentials against the directory."""

from typing import Final

from smtpgate.core.account import AccessKey
from smtpgate.core.secret import Secret, smtp_password
from smtpgate.ports import Directory

__all__ = ["DirectoryAuthenticator"]

_MAX_KEY_ID_OCTETS: Final = 128


class DirectoryAuthenticator:
    """An access key id with the password derived from its secret for this region."""

    def __init__(self, directory: Directory, region: str) -> None:
        self._directory = directory
        self._region = region

    async def authenticate(self, username: bytes, password: bytes) -> AccessKey | None:
        """The active access key whose id and SMTP password these are, or none.

        An unknown id costs the same derivation as a known one, so that the time of the answer
        does not tell which ids exist. Raises DirectoryUnavailableError.
        """
        key = None
        if len(username) <= _MAX_KEY_ID_OCTETS and username.isascii():
            key = await self._directory.access_key(username.decode("ascii"))
        if key is None:
            smtp_password(Secret("no such key"), self._region)
            return None
        return key if key.has_smtp_password(password, self._region) else None
