"""Mailboxes and paths: the addresses of the envelope and of the header, parsed once.

Two spellings of one mailbox must compare equal and one spelling must never be read as two
mailboxes, because policies are matched against the printed form. So the domain is kept in
lower-case A-label form, needless quotes are removed from the local part, and an ambiguous
address (source routes, comments, unbalanced quotes, unstable Unicode) is refused.

Paths of the envelope may be looser than other addresses, as far as there is only one way to
read them: a local part with misplaced dots stands for itself in quotes, and the domain of a
recipient is for the next server to judge.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Struct
from msgspec.structs import force_setattr

from smtpgate.core.idna import LabelError, as_a_label, from_a_label, to_a_label

MAX_DOMAIN_OCTETS: Final = 253  # RFC 1035 §2.3.4, written without the root's octet
# RFC 5321 §4.5.3.1.3, less the two angle brackets. It bounds the local part too: §4.5.3.1.1 has
# 64 octets for it, which VERP and SRS do not keep, and §4.5.3.1 asks to impose no limit.
_MAX_PATH_OCTETS: Final = 254
# A longer text is not read: needless quotes and letters beyond ASCII take more octets than the
# address that they make, and reading them takes quadratic time.
_MAX_READ: Final = 2 * _MAX_PATH_OCTETS

# RFC 5321 §4.1.2; `!' and `%' are signs of routes.
_UNROUTED: Final = r"A-Za-z0-9#$&'*+\-/=?^_`{|}~"
_ATEXT: Final = _UNROUTED + "!%"
# ASCII that is neither `_ATEXT` nor a dot. Classes with all beyond ASCII (RFC 6532 §3.2) name
# what they lack: one up to the end of Unicode takes milliseconds to compile.
_SPECIALS: Final = r'\x00-\x20"(),:;<>@\[\\\]\x7f'
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_NO_DOMAIN: Final = "Missing final '@domain'"  # Amazon SES's words, with its capital
# The fast path: an ASCII dot-string at an ASCII domain (RFC 5321 §4.1.2), and a path with one.
_ASCII_DOMAIN: Final = rf"{_LABEL}(?:\.{_LABEL})*"
_PLAIN: Final = re.compile(rf"([{_ATEXT}]+(?:\.[{_ATEXT}]+)*)@({_ASCII_DOMAIN})")
_PLAIN_PATH: Final = re.compile(rf"<([{_UNROUTED}]+(?:\.[{_UNROUTED}]+)*)@({_ASCII_DOMAIN})>")
_DOT_STRING: Final = re.compile(rf"[^.{_SPECIALS}]+(?:\.[^.{_SPECIALS}]+)*")
_QUOTED: Final = re.compile(r'"(?:[^\x00-\x1f"\\\x7f]|\\[\x20-\x7e])*"')
_QUOTED_PAIR: Final = re.compile(r"\\(.)")
# The signs of a route in a local part (RFC 1123 §5.3.16, RFC 976).
_ROUTE_MARK: Final = re.compile("[@%!]")
_MAX_ROUTE_MARKS: Final = 5
# Mailboxes with misplaced dots exist: `us..er', `user.'.
_ANY_DOTS: Final = re.compile(rf"[^{_SPECIALS}]+")
_ASCII_LABEL: Final = re.compile(_LABEL)
# For recipients: some hosts have an underscore in their name.
_HOST_LABEL: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_LITERAL: Final = re.compile(r"\[(?:IPv6:[0-9A-Fa-f:.]{2,45}|[0-9]{1,3}(?:\.[0-9]{1,3}){3})\]")


class AddressError(ValueError):
    """An address that cannot be read, or could be read in two ways."""


class Mailbox(Struct, frozen=True, gc=False, cache_hash=True):
    """One mailbox: local part without needless quotes, domain in lower-case A-label form.

    ``POSTMASTER`` alone has no domain. ``text`` is the address as it is written; it is made of
    the others.
    """

    local_part: str
    domain: str
    text: str = ""

    def __post_init__(self) -> None:
        local_part = self.local_part
        if not (local_part.isalnum() or not self.domain or _DOT_STRING.fullmatch(local_part)):
            escaped = local_part.replace("\\", "\\\\").replace('"', '\\"')
            local_part = f'"{escaped}"'
        force_setattr(
            self, "text", f"{local_part}@{self.domain}" if self.domain else local_part
        )

    def __str__(self) -> str:
        return self.text

    @property
    def is_ascii(self) -> bool:
        """True if it can be named to a server without SMTPUTF8 (RFC 6531 §3.2)."""
        return self.local_part.isascii()

    def without_label(self) -> "Mailbox | None":
        """The mailbox without its ``+label``, or ``None`` when it has none."""
        base, plus, _ = self.local_part.partition("+")
        return Mailbox(base, self.domain) if plus and base else None

    def routes(self) -> Iterator["Mailbox"]:
        """The mailboxes to which a server of the domain may route it instead.

        ``jane%b.example@a.example``, ``b.example!jane@a.example`` and, as Postfix reads it,
        ``"jane@b.example"@a.example`` may all go to jane at b.example.
        """
        text, start = self.local_part, 0
        for match in _ROUTE_MARK.finditer(text):
            at, end = match.span()
            if match[0] == "!":
                domain, whole = text[start:at], text[end:]
            else:
                domain, whole = _ROUTE_MARK.split(text[end:], 1)[0], text[:at]
            start = end
            bare = _ROUTE_MARK.split(whole.rpartition("!")[2], 1)[0]
            for local_part in dict.fromkeys((whole, bare)):
                if domain and local_part:
                    yield Mailbox(local_part, domain.lower())


# The postmaster of the server itself (RFC 5321 §4.5.1).
POSTMASTER: Final = Mailbox("Postmaster", "")


class ReversePath(Struct, frozen=True, gc=False, cache_hash=True):
    """The argument of MAIL FROM: a mailbox, or null (RFC 5321 §4.5.5).

    ``text`` is the address as it is written, and is made of the mailbox.
    """

    mailbox: Mailbox | None
    text: str = ""

    def __post_init__(self) -> None:
        force_setattr(self, "text", "" if self.mailbox is None else self.mailbox.text)

    @property
    def is_null(self) -> bool:
        """True if it is the null reverse-path: bounces are sent nowhere."""
        return self.mailbox is None

    def __str__(self) -> str:
        return self.text


def parse_mailbox(text: str) -> Mailbox:
    """Read one bare ``local-part@domain`` (RFC 5321 §4.1.2, RFC 6531 §3.3).

    Raises AddressError.
    """
    return _plain(_PLAIN.fullmatch(text)) or _mailbox(text, _parse_local_part, parse_domain)


def _plain(match: re.Match[str] | None) -> Mailbox | None:
    """The fast path: a dot-string in ASCII at a domain without A-labels."""
    if match is None:
        return None
    local_part, domain = match.groups()
    domain = domain.lower()
    if "xn--" in domain or len(local_part) + len(domain) >= _MAX_PATH_OCTETS:
        return None
    return Mailbox(local_part, domain)


def _mailbox(
    text: str, read_local_part: Callable[[str], str], read_domain: Callable[[str], str]
) -> Mailbox:
    if len(text) > _MAX_READ:
        raise AddressError(f"address is longer than {_MAX_PATH_OCTETS} octets")
    at = text.rfind("@")
    if at < 0:
        raise AddressError(_NO_DOMAIN)
    mailbox = Mailbox(read_local_part(text[:at]), read_domain(text[at + 1 :]))
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
    if not local_part.isascii() or not local_part.isprintable():
        for character in local_part:
            category = unicodedata.category(character)
            if category in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
                raise AddressError("local part holds a control character")
            if category == "Zs" and character != " ":
                # Some programs take it off, and find another mailbox.
                raise AddressError("local part holds a space of another script")
    return local_part


def _parse_path_local_part(text: str) -> str:
    """Of a path: dots may be anywhere, as Japanese phone mailboxes have them."""
    if _ANY_DOTS.fullmatch(text) and not _DOT_STRING.fullmatch(text):
        text = f'"{text}"'
    local_part = _parse_local_part(text)
    if "> " in local_part:
        # Right by RFC 5321 §4.1.2, and to a server that looks for the first `>' another
        # address, with parameters behind it.
        raise AddressError("local part holds what could be read as the end of the path")
    return local_part


def parse_domain(text: str) -> str:
    """Read a domain or address literal into lower-case A-label form (RFC 5890 §2.3.2.1).

    Raises AddressError.
    """
    return _domain(text, _a_label)


def _domain(text: str, read_label: Callable[[str], str]) -> str:
    if _LITERAL.fullmatch(text):
        return text.lower()
    domain = ".".join(read_label(label) for label in text.split("."))
    if len(domain) > MAX_DOMAIN_OCTETS:
        raise AddressError(f"domain is longer than {MAX_DOMAIN_OCTETS} octets")
    return domain


def _a_label(label: str) -> str:
    label = _label(label, _ASCII_LABEL)
    if label.startswith("xn--"):
        try:
            from_a_label(label)
        except LabelError as error:
            raise AddressError(f"domain label {label!r} {error}") from None
    return label


def _label(label: str, grammar: re.Pattern[str]) -> str:
    """A label in A-label form; one in ASCII by that grammar."""
    if label.isascii():
        if not grammar.fullmatch(label):
            raise AddressError(f"domain label {label!r} is empty, too long or ill-formed")
        return label.lower()
    try:
        return to_a_label(label)
    except LabelError as error:
        raise AddressError(f"domain label {as_a_label(label[:63])!r} {error}") from None


def _recipient_domain(text: str) -> str:
    """The domain of a recipient. An A-label is not decoded: to a relay it is a plain label."""
    return _domain(text, lambda label: _label(label, _HOST_LABEL))


def plain_path(text: str) -> Mailbox | None:
    """Read ``<mailbox>`` as nearly all paths are: in ASCII, without quotes and routes.

    ``None`` of others, which may be paths too.
    """
    return _plain(_PLAIN_PATH.fullmatch(text))


def parse_reverse_path(text: str) -> Mailbox | None:
    """Read the argument of MAIL FROM: ``<mailbox>``, ``mailbox`` or ``<>``.

    A bare mailbox is accepted because clients of Amazon SES send it (its own samples do).
    Source routes are refused (RFC 5321 §C: servers may). Raises AddressError.
    """
    if (mailbox := plain_path(text)) is not None:
        return mailbox
    text = _without_brackets(text)
    return _mailbox(text, _parse_path_local_part, parse_domain) if text else None


def parse_forward_path(text: str) -> Mailbox:
    """Read the argument of RCPT TO: ``<mailbox>``, ``mailbox`` or ``<Postmaster>``.

    Raises AddressError.
    """
    if (mailbox := plain_path(text)) is not None:
        return mailbox
    text = _without_brackets(text)
    if text.lower() == "postmaster":  # RFC 5321 §4.1.1.3
        return POSTMASTER
    if not text:
        raise AddressError("a recipient cannot be null")
    mailbox = _mailbox(text, _parse_path_local_part, _recipient_domain)
    if sum(map(mailbox.local_part.count, "@%!")) > _MAX_ROUTE_MARKS:
        raise AddressError("local part names too many routes")
    return mailbox


def _without_brackets(text: str) -> str:
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1]
    elif not text:
        raise AddressError(_NO_DOMAIN)
    if text.startswith("@"):
        raise AddressError("source routes are not accepted")
    return text


def shown_path(text: str) -> str:
    """A path for people to read, in ASCII: the domain with A-labels, without brackets."""
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1]
    if not text.isascii() and len(text) <= _MAX_PATH_OCTETS:
        local_part, at, domain = text.rpartition("@")
        text = local_part + at + ".".join(map(as_a_label, domain.split(".")))
    return text.encode("ascii", "backslashreplace").decode("ascii")


def domain_of(name: str) -> str:
    """The domain of an identity's name: itself, or what follows the last ``@``."""
    return name.rpartition("@")[2]
