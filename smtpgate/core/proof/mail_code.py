"""Codes that are mailed to an address, for whoever reads its mail to enter.

A code has 60 random bits, is valid for 24 hours (as the links of Amazon SES are) and for five
attempts. Only its digest is kept. The digest is bound to a subject, so that a code is worth
nothing for another identity or account.
"""

import hashlib
import hmac
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from smtpgate.core.secret import Secret

VALID: Final = timedelta(hours=24)
MAX_ATTEMPTS: Final = 5

CodeResult = Literal["right", "wrong", "expired", "too-many-attempts"]

# No letter that looks like a digit, and no U, so that few words come about. There are 32, so
# five bits of an octet choose one.
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH: Final = 12
_GROUP: Final = 4
_MAX_TYPED: Final = 64
_MISREAD: Final = str.maketrans("OIL", "011", " -\t\r\n")


@dataclass(frozen=True, slots=True)
class MailCode:
    """What is kept of a code that was sent."""

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
    """The digest (32 octets) of a code as it was sent or as somebody typed it.

    Case, spaces and hyphens do not count, nor O for 0 and I or L for 1. ``subject`` is what the
    code is for, such as an identity's ARN.
    """
    symbols = code.value[:_MAX_TYPED].upper().translate(_MISREAD)
    return hmac.digest(symbols.encode("utf-8", "replace"), subject.encode(), hashlib.sha256)


def mail_code(code: Secret, subject: str, now: datetime) -> MailCode:
    """What to keep of a code that is sent now."""
    return MailCode(code_digest(code, subject), now)


def tried(
    held: MailCode, typed: Secret, subject: str, now: datetime
) -> tuple[CodeResult, MailCode]:
    """Whether it is the code, and what to keep after the attempt.

    Who keeps it must do so before telling the answer, and forget a code that was right.
    """
    if held.wrong_attempts >= MAX_ATTEMPTS:
        return "too-many-attempts", held
    # Also one that was sent a day after now: its clock was wrong, and it would hold for ever.
    if abs(now - held.sent_at) >= VALID:
        return "expired", held
    if hmac.compare_digest(code_digest(typed, subject), held.digest):
        return "right", held
    return "wrong", replace(held, wrong_attempts=held.wrong_attempts + 1)
