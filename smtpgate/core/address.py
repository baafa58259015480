"""Mailboxes and paths: the addresses of the envelope and of the header, parsed once.

Two spellings of one mailbox must compare equal and one spelling must never be read as two
mailboxes, because policies are matched against the printed form. So the domain is kept in
lower-case A-label form, needless quotes are taken off the local part, and whatever is
ambiguous (source routes, comments, unbalanced quotes, unstable Unicode) is refused.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

__all__ = [
    "MAX_DOMAIN_OCTETS",
    "AddressError",
    "Mailbox",
    "ReversePath",
    "domain_of",
    "parse_domain",
    "parse_mailbox",
    "parse_path",
]

_MAX_LOCAL_PART_OCTETS: Final = 64  # RFC 5321 §4.5.3.1.1
MAX_DOMAIN_OCTETS: Final = 253  # RFC 1035 §2.3.4, written without the root's octet
_MAX_PATH_OCTETS: Final = 254  # RFC 5321 §4.5.3.1.3, less the two angle brackets

_ATEXT: Final = r"A-Za-z0-9!#$%&'*+\-/=?^_`{|}~"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# The fast path: an ASCII dot-string at an ASCII domain (RFC 5321 §4.1.2).
_PLAIN: Final = re.compile(rf"([{_ATEXT}]+(?:\.[{_ATEXT}]+)*)@({_LABEL}(?:\.{_LABEL})*)")
_DOT_STRING: Final = re.compile(
    rf"[{_ATEXT}\u0080-\U0010ffff]+(?:\.[{_ATEXT}\u0080-\U0010ffff]+)*"
)
_QUOTED: Final = re.compile(
    r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e\u0080-\U0010ffff]|\\[\x20-\x7e])*"'
)
_QUOTED_PAIR: Final = re.compile(r"\\(.)")
_ASCII_LABEL: Final = re.compile(_LABEL)
_LITERAL: Final = re.compile(r"\[(?:IPv6:[0-9A-Fa-f:.]{2,45}|[0-9]{1,3}(?:\.[0-9]{1,3}){3})\]")
# RFC 5892 §2.1: what may stand in an internationalised label, hyphen aside.
_LETTER_DIGITS: Final = frozenset({"Ll", "Lo", "Lm", "Mn", "Mc", "Nd"})


class AddressError(ValueError):
    """An address that cannot be read, or could be read in two ways."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One mailbox: local part without needless quotes, domain in lower-case A-label form."""

    local_part: str
    domain: str

    def __str__(self) -> str:
        if _DOT_STRING.fullmatch(self.local_part):
            return f"{self.local_part}@{self.domain}"
        escaped = self.local_part.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"@{self.domain}'

    @property
    def is_ascii(self) -> bool:
        """Whether it can be named to a server without SMTPUTF8 (RFC 6531 §3.2)."""
        return self.local_part.isascii()

    def without_label(self) -> "Mailbox | None":
        """The mailbox without its ``+label``, or ``None`` when it has none."""
        base, plus, _ = self.local_part.partition("+")
        return Mailbox(base, self.domain) if plus and base else None


@dataclass(frozen=True, slots=True)
class ReversePath:
    """The argument of MAIL FROM: a mailbox, or nobody (RFC 5321 §4.5.5)."""

    mailbox: Mailbox | None

    @property
    def is_null(self) -> bool:
        """Whether bounces go nowhere."""
        return self.mailbox is None

    def __str__(self) -> str:
        return "" if self.mailbox is None else str(self.mailbox)


def parse_mailbox(text: str) -> Mailbox:
    """Read one bare ``local-part@domain`` (RFC 5321 §4.1.2, RFC 6531 §3.3).

    Raises AddressError.
    """
    plain = _PLAIN.fullmatch(text)
    if plain is not None and len(text) <= _MAX_PATH_OCTETS:
        local_part, domain = plain.groups()
        domain = domain.lower()
        if len(local_part) <= _MAX_LOCAL_PART_OCTETS and "xn--" not in domain:
            return Mailbox(local_part, domain)
    return _parse_mailbox_strictly(text)


def _parse_mailbox_strictly(text: str) -> Mailbox:
    at = text.rfind("@")
    if at < 0:
        raise AddressError("missing final '@domain'")
    local_part, domain = _parse_local_part(text[:at]), parse_domain(text[at + 1 :])
    mailbox = Mailbox(local_part, domain)
    if len(str(mailbox).encode()) > _MAX_PATH_OCTETS:
        raise AddressError(f"address is longer than {_MAX_PATH_OCTETS} octets")
    return mailbox


def _parse_local_part(text: str) -> str:
    if _QUOTED.fullmatch(text):
        local_part = _QUOTED_PAIR.sub(r"\1", text[1:-1])
        if not local_part:
            raise AddressError("local part is empty")
    elif _DOT_STRING.fullmatch(text):
        local_part = text
    else:
        raise AddressError("local part is neither a dot-string nor a quoted string")
    if unicodedata.normalize("NFC", local_part) != local_part:  # RFC 6532 §3.1
        raise AddressError("local part is not in Unicode normalization form C")
    if any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in local_part):
        raise AddressError("local part holds a control character")
    if len(local_part.encode()) > _MAX_LOCAL_PART_OCTETS:
        raise AddressError(f"local part is longer than {_MAX_LOCAL_PART_OCTETS} octets")
    return local_part


def parse_domain(text: str) -> str:
    """Read a domain or address literal into lower-case A-label form (RFC 5890 §2.3.2.1).

    Raises AddressError.
    """
    if _LITERAL.fullmatch(text):
        return text.lower()
    domain = ".".join(_a_label(label) for label in text.split("."))
    if len(domain) > MAX_DOMAIN_OCTETS:
        raise AddressError(f"domain is longer than {MAX_DOMAIN_OCTETS} octets")
    return domain


def _a_label(label: str) -> str:
    if label.isascii():
        if not _ASCII_LABEL.fullmatch(label):
            raise AddressError(f"domain label {label!r} is empty, too long or ill-formed")
        label = label.lower()
        if label.startswith("xn--") and _a_label(_decoded(label)) != label:
            raise AddressError(f"domain label {label!r} is not a canonical A-label")
        return label
    label = unicodedata.normalize("NFC", label.lower())
    # RFC 5892 §2.2: a code point that changes under case folding and NFKC stands for another.
    if unicodedata.normalize("NFKC", label.casefold()) != label:
        raise AddressError(f"domain label {label!r} could be read as another label")
    if any(c != "-" and unicodedata.category(c) not in _LETTER_DIGITS for c in label):
        raise AddressError(f"domain label {label!r} holds a character that domains cannot have")
    if label.startswith("-") or label.endswith("-") or label[2:4] == "--":  # RFC 5891 §4.2.3.1
        raise AddressError(f"domain label {label!r} has a hyphen where none may be")
    encoded = "xn--" + label.encode("punycode").decode("ascii")
    if len(encoded) > 63:  # RFC 1035 §2.3.4
        raise AddressError(f"domain label {label!r} is too long")
    return encoded


def _decoded(a_label: str) -> str:
    try:
        decoded = a_label[4:].encode("ascii").decode("punycode")
    except UnicodeError:
        raise AddressError(f"domain label {a_label!r} is not a canonical A-label") from None
    if decoded.isascii():
        raise AddressError(f"domain label {a_label!r} is not a canonical A-label")
    return decoded


def parse_path(text: str) -> Mailbox | None:
    """Read the argument of MAIL FROM or RCPT TO: ``<mailbox>``, ``mailbox`` or ``<>``.

    A bare mailbox is taken because clients of Amazon SES send it (its own samples do).
    Source routes are refused (RFC 5321 §C: servers may). Raises AddressError.
    """
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1]
        if not text:
            return None
    if text.startswith("@"):
        raise AddressError("source routes are not accepted")
    return parse_mailbox(text)


def domain_of(name: str) -> str:
    """The domain of an identity's name: itself, or what follows the last ``@``."""
    return name.rpartition("@")[2]
