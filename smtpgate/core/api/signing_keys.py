"""The keys that sign requests, derived from a secret access key: one for each day and service.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
from collections import OrderedDict
from typing import Final

from smtpgate.core.secret import Secret

_MOST: Final = 4096


def signing_key(secret: Secret, scope: str) -> bytes:
    """The key of a scope, ``DAY/REGION/SERVICE/aws4_request``, derived from a secret."""
    key = ("AWS4" + secret.value).encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), hashlib.sha256)
    return key


class SigningKeys:
    """The signing keys that were derived last, up to ``most``.

    A key that is here permits nothing: each call asks whether its access key may be used.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._keys: OrderedDict[tuple[Secret, str], bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, secret: Secret, scope: str) -> bytes | None:
        """The key that was kept, or ``None``."""
        return self._keys.get((secret, scope))

    def keep(self, secret: Secret, scope: str, key: bytes) -> None:
        """Keep a key, and forget the one that was kept first if there are too many."""
        self._keys[secret, scope] = key
        if len(self._keys) > self._most:
            _ = self._keys.popitem(last=False)
