"""Addresses in reports, as servers of all ages write them."""

import re
from typing import Final

from smtpgate.core.feedback.bounds import MAX_ADDRESS

# Looser than RFC 5321, since the address was accepted before; without what surrounds addresses.
_LOCAL: Final = r"(?:[^\s<>()\[\]\\,;:@\"']{1,256}|\"[^\"\n]{1,128}\")"
_DOMAIN: Final = r"(?:[^\s<>()\[\]\\,;:@\"'/=|]{1,255}|\[[0-9A-Fa-f:.IPv]{3,60}\])"
# Tried at the beginning of a word only, so that a long word costs no more than its length.
ADDRESS: Final = re.compile(
    r"(?<![^\s<>()\[\]\\,;:@\"'])"
    rf"(?:mailto:|smtp[:=]|rfc822;)?({_LOCAL}@{_DOMAIN})",
    re.IGNORECASE,
)
_TYPED: Final = re.compile(
    r"\s*(rfc822|utf-8|smtp|local|unknown|x500)?\s*;\s*(.*)", re.IGNORECASE | re.DOTALL
)
# RFC 6533 §3: a character in an address of the type utf-8, and one of xtext (RFC 3461 §4).
_EMBEDDED: Final = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_XTEXT: Final = re.compile(r"\+([0-9A-F]{2})")


def typed_address(value: str) -> str:
    """The address of a field such as ``rfc822; jane@example.net`` (RFC 3464 §2.3.2)."""
    value = value[:MAX_ADDRESS]
    typed = _TYPED.fullmatch(value)
    kind, text = (typed[1] or "", typed[2]) if typed else ("", value)
    if kind.lower() == "utf-8":
        text = _EMBEDDED.sub(_embedded, text)
    return address_in(text) or _bare(text)


def address_in(text: str) -> str:
    """The first address in a text, or an empty text."""
    text = text[:MAX_ADDRESS]
    if "@" not in text:
        return ""
    match = ADDRESS.search(text)
    return normal(match[1]) if match else ""


def addresses_in(text: str) -> tuple[str, ...]:
    """Every address in a text, in order."""
    if "@" not in text:
        return ()
    return tuple([normal(match[1]) for match in ADDRESS.finditer(text)])


def normal(address: str) -> str:
    """The address with its domain in lower case, and without marks behind it."""
    local, _, domain = address.rpartition("@")
    return f"{local}@{domain.rstrip('.!?*').lower()}"


def same_key(address: str) -> str:
    """A text that is equal for two spellings of one address."""
    return address.casefold()


def _embedded(match: re.Match[str]) -> str:
    number = int(match[1], 16)
    is_character = number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF
    return chr(number) if is_character else match[0]


def _bare(text: str) -> str:
    """A recipient without a domain: the name of a local mailbox."""
    text = text.strip().removeprefix("<").partition(">")[0]
    return text.partition(" ")[0][:MAX_ADDRESS]


def from_xtext(text: str) -> str:
    """A value of RFC 3461 §4's xtext, decoded; one that is not in that form as it is."""
    return _XTEXT.sub(lambda match: chr(int(match[1], 16)), text)
