"""Codes that are mailed to an address, and entered by a person who reads its mail.

A code has 60 random bits, is valid for 24 hours (as the links of Amazon SES are) and for five
attempts. Only its digest is stored. The digest is bound to a subject, so that a code is not
valid for another identity or account.
"""

import hashlib
import hmac
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from smtpgate.core.secret import Secret

VALID: Final = timedelta(hours=24)
MAX_ATTEMPTS: Final = 5
_PAUSE: Final = timedelta(minutes=1)

CodeResult = Literal["right", "wrong", "expired", "too-many-attempts"]

# No letter that looks like a digit, and no U, so that codes rarely spell words. There are 32,
# so five bits of an octet choose one.
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH: Final = 12
_GROUP: Final = 4
_MAX_TYPED: Final = 64
_MISREAD: Final = str.maketrans("OIL", "011", " -\t\r\n")


@dataclass(frozen=True, slots=True)
class MailCode:
    """The stored data of a code that was sent."""

    digest: bytes
    sent_at: datetime
    wrong_attempts: int = 0


def new_code(random_octets: bytes) -> Secret:
    """A code of 12 random octets, in groups of four: ``7KQ2-M0XZ-94TB``."""
    if len(random_octets) != _LENGTH:
        raise ValueError(f"a code is made of {_LENGTH} octets, not {len(random_octets)}")
    symbols = "".join(_ALPHABET[octet % len(_ALPHABET)] for octet in random_octets)
    return Secret("-".join(symbols[at : at + _GROUP] for at in range(0, _LENGTH, _GROUP)))


def code_digest(code: Secret, subject: str) -> bytes:
    """The digest (32 octets) of a code as it was sent or typed.

    Letter case, spaces and hyphens are ignored; O is read as 0, I and L as 1. ``subject`` is
    the thing that the code proves, such as an identity's ARN.
    """
    symbols = code.value[:_MAX_TYPED].upper().translate(_MISREAD)
    return hmac.digest(symbols.encode("utf-8", "replace"), subject.encode(), hashlib.sha256)


def mail_code(code: Secret, subject: str, now: datetime) -> MailCode:
    """The data to store for a code that is sent now."""
    return MailCode(code_digest(code, subject), now)


def was_just_sent(sent_at: datetime, now: datetime) -> bool:
    """True if it is too early for another code to the same address."""
    return abs(now - sent_at) < _PAUSE


def check_code(
    stored: MailCode, typed: Secret, subject: str, now: datetime
) -> tuple[CodeResult, MailCode]:
    """Check a typed code; return the result and the data to store after the attempt.

    The caller must store them before it shows the result, and delete a code that was right.
    """
    if stored.wrong_attempts >= MAX_ATTEMPTS:
        return "too-many-attempts", stored
    # Also a code sent a day after now: the clock was wrong, and it would be valid for ever.
    if abs(now - stored.sent_at) >= VALID:
        return "expired", stored
    if hmac.compare_digest(code_digest(typed, subject), stored.digest):
        return "right", stored
    return "wrong", replace(stored, wrong_attempts=stored.wrong_attempts + 1)
