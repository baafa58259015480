"""Secrets that do not print, and the SMTP password that is derived from one."""

import base64
import hashlib
import hmac
from typing import Final

from msgspec import Struct

# https://docs.aws.amazon.com/ses/latest/dg/smtp-credentials.html
_DATE: Final = b"11111111"
_SERVICE: Final = b"ses"
_TERMINAL: Final = b"aws4_request"
_MESSAGE: Final = b"SendRawEmail"
_VERSION: Final = b"\x04"


class Secret(Struct, frozen=True, gc=False):
    """A text that prints as ``***`` in logs, tracebacks and debuggers."""

    value: str

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__


def smtp_password(secret_key: Secret, region: str) -> Secret:
    """Derive the SMTP password of a secret access key for one region."""
    digest = ("AWS4" + secret_key.value).encode()
    for part in (_DATE, region.encode(), _SERVICE, _TERMINAL, _MESSAGE):
        digest = hmac.digest(digest, part, hashlib.sha256)
    return Secret(base64.b64encode(_VERSION + digest).decode("ascii"))
