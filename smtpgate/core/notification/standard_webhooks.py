"""The signature of Standard Webhooks, for subscriptions that get SES's JSON as it is.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hashlib
import hmac
from datetime import datetime
from typing import Final

from smtpgate.core.secret import Secret

SECRET_OCTETS: Final = 32
CONTENT_TYPE: Final = "application/json"
_PREFIX: Final = "whsec_"
_LEAST_OCTETS: Final = 24  # the specification: from 24 to 64
_MOST_OCTETS: Final = 64


def webhook_secret(octets: bytes) -> Secret:
    """The secret that those octets make, in its one spelling."""
    return Secret(_PREFIX + base64.b64encode(octets).decode("ascii"))


def read_webhook_secret(text: str) -> Secret:
    """Check a secret that the receiver chose. Raises ValueError."""
    try:
        octets = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except ValueError:  # also of a text that is not ASCII
        octets = b""
    if not text.startswith(_PREFIX) or not _LEAST_OCTETS <= len(octets) <= _MOST_OCTETS:
        size = f"{_LEAST_OCTETS} to {_MOST_OCTETS}"
        raise ValueError(f"a secret is `{_PREFIX}' and the base64 form of {size} octets")
    return webhook_secret(octets)


def signed_headers(
    secret: Secret, *, webhook_id: str, at: datetime, body: bytes
) -> tuple[tuple[str, str], ...]:
    """The header fields of a signed call; the id stays the same when it is tried again."""
    seconds = str(int(at.timestamp()))
    key = base64.b64decode(secret.value.removeprefix(_PREFIX))
    content = b".".join((webhook_id.encode(), seconds.encode(), body))
    signature = base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode("ascii")
    return (
        ("webhook-id", webhook_id),
        ("webhook-timestamp", seconds),
        ("webhook-signature", f"v1,{signature}"),
        ("Content-Type", CONTENT_TYPE),
    )
