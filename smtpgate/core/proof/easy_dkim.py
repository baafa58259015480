"""Easy DKIM: a domain has three keys of the gate, and signs once a record of them is found.

A token is the selector of a key. The domain's owner publishes the key's record itself, or a
CNAME to the token in the operator's zone, where the operator publishes it. Verifiers, and the
checks here, follow the CNAME.
https://docs.aws.amazon.com/ses/latest/dg/send-email-authentication-dkim-easy.html
"""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from smtpgate.core.proof.dkim_stages import KeyOrigin, StagedKey
from smtpgate.core.proof.dns_record import DnsRecord
from smtpgate.core.proof.verification import GRACE, PATIENCE, VerificationStatus

TOKENS: Final = 3
TOKEN_LENGTH: Final = 32
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz234567"
# Of BYODKIM: one label, 63 characters at most (RFC 1035 §2.3.4).
_SELECTOR: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")


class SelectorError(ValueError):
    """A text that cannot be the selector of a domain's own key."""


def new_dkim_token(random_octets: Callable[[int], bytes]) -> str:
    """A token of 160 random bits: 32 lower-case letters and digits, as SES's are."""
    return "".join(_LETTERS[octet & 31] for octet in random_octets(TOKEN_LENGTH))


def signing_selector(text: str) -> str:
    """The selector of a domain's own key, in lower case. Raises SelectorError."""
    if _SELECTOR.fullmatch(text) is None:
        raise SelectorError(
            "The selector has to have 1 to 63 characters: letters, digits, and hyphens inside."
        )
    return text.lower()


def hosted_record(token: str, zone: str, record: str) -> DnsRecord:
    """The record that the operator publishes in the zone, for CNAMEs to it."""
    return DnsRecord(f"{token}.{zone}", record)


def its_keys(keys: Sequence[StagedKey], origin: KeyOrigin | None) -> tuple[StagedKey, ...]:
    """The keys that the domain's state depends on: those of its origin, without a retired one.

    A key that was brought is replaced by the next at once; what is asked for is the next.
    """
    found = tuple(
        key for key in keys if key.origin == (origin or "manual") and key.is_published
    )
    if origin == "external":
        return tuple(key for key in found if key.stage == "pending") or tuple(
            key for key in found if key.signs
        )
    return found


def signing_status(
    keys: Sequence[StagedKey], origin: KeyOrigin | None, now: datetime
) -> VerificationStatus:
    """The status of a domain's DKIM in the terms of Amazon SES.

    A success is a key that signs. It fails when its record has been missing for 72 hours, and
    keys that are not published fail 72 hours after they were made; until then, and while there
    is no answer of the DNS, the failure is a temporary one. A record that is found later ends
    a failure too.
    """
    found = its_keys(keys, origin)
    signing = [key for key in found if key.signs]
    if signing:
        missing = [key.alarm_since for key in signing if key.alarm_since is not None]
        if len(missing) < len(signing):
            return "success"
        return "failed" if now - max(missing) >= GRACE else "temporary-failure"
    waiting = [key for key in found if key.stage == "pending"]
    if not waiting:
        return "not-started"
    if any(now - key.since < PATIENCE for key in waiting):
        return "pending"
    return "failed" if any(key.problem for key in waiting) else "temporary-failure"


def is_over(key: StagedKey, now: datetime) -> bool:
    """True if the key has waited 72 hours for its record; a new request begins them again."""
    return key.stage == "pending" and now - key.since >= PATIENCE
