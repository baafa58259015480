"""Evaluates SPF for one address and one domain (RFC 7208), as far as that is possible here.

There is no message, so macros cannot be expanded, and ``ptr`` is not looked up. A term with
either may match or not: the result is then "unknown", unless it does not depend on that term.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final, Literal

from smtpgate.core.proof.observation import excerpt
from smtpgate.ports import HostResolver, ResolverError

SpfResult = Literal[
    "pass", "fail", "softfail", "neutral", "none", "permerror", "temperror", "unknown"
]
IpAddress = IPv4Address | IPv6Address

_VERSION: Final = b"v=spf1"
_MAX_LOOKUPS: Final = 10  # RFC 7208 §4.6.4
_MAX_MX: Final = 10
_QUALIFIERS: Final[dict[str, SpfResult]] = {
    "+": "pass",
    "-": "fail",
    "~": "softfail",
    "?": "neutral",
}
_ASKING: Final = frozenset({"include", "a", "mx", "ptr", "exists"})
_WITHOUT_ASKING: Final = frozenset({"all", "ip4", "ip6"})


@dataclass(frozen=True, slots=True)
class SpfVerdict:
    """The result, and the term or the problem that it comes from."""

    result: SpfResult
    why: str


class _BadRecordError(Exception):
    """A record that is an error for every receiver."""


class _Budget:
    """The terms that ask the DNS, over a record and all that it includes."""

    def __init__(self) -> None:
        self.left = _MAX_LOOKUPS

    def spend(self) -> None:
        """Count one term. Raises _BadRecordError."""
        self.left -= 1
        if self.left < 0:
            raise _BadRecordError(
                f"it needs more than {_MAX_LOOKUPS} terms that ask the DNS (RFC 7208 §4.6.4)"
            )


async def spf_verdict(address: IpAddress, domain: str, hosts: HostResolver) -> SpfVerdict:
    """The result that a receiver has for a connection from that address."""
    try:
        return await _check_host(address, domain, hosts, _Budget())
    except _BadRecordError as error:
        return SpfVerdict("permerror", str(error))
    except ResolverError as error:
        return SpfVerdict("temperror", str(error))


async def _check_host(
    address: IpAddress, domain: str, hosts: HostResolver, budget: _Budget
) -> SpfVerdict:
    words = await _words_of(domain, hosts)
    if words is None:
        return SpfVerdict("none", f"{domain} has no SPF record")
    terms = [_Term.parse(word) for word in words if not _is_modifier(word)]
    target, is_unsure = _redirect(words), False
    for term in terms:
        matches = await _matches(term, address, domain, hosts, budget)
        result = _QUALIFIERS[term.qualifier]
        if matches:
            return _verdict(result, f"{domain}: {term.text}", is_unsure=is_unsure)
        if matches is None and result != "pass":
            return SpfVerdict("unknown", f"{domain}: {term.text} cannot be evaluated here")
        is_unsure |= matches is None
    if target is None:
        return _verdict("neutral", f"{domain}: no term matches", is_unsure=is_unsure)
    verdict = await _redirected(target, address, hosts, budget)
    return _verdict(verdict.result, verdict.why, is_unsure=is_unsure)


async def _words_of(domain: str, hosts: HostResolver) -> list[str] | None:
    """The words of the record; ``None`` if there is none. Raises _BadRecordError."""
    published = await hosts.txt(domain)
    records = [one for one in published if one.lower().split(b" ")[0] == _VERSION]
    if len(records) > 1:
        raise _BadRecordError(f"{domain} has several SPF records")
    try:
        return records[0].decode("ascii").split()[1:] if records else None
    except UnicodeDecodeError:
        raise _BadRecordError(f"the record of {domain} is not ASCII") from None


async def _redirected(
    target: str, address: IpAddress, hosts: HostResolver, budget: _Budget
) -> SpfVerdict:
    budget.spend()
    if "%" in target:
        return SpfVerdict("unknown", f"redirect={target} cannot be evaluated here")
    verdict = await _check_host(address, target, hosts, budget)
    if verdict.result == "none":  # RFC 7208 §6.1
        raise _BadRecordError(f"redirect={target}, which has no SPF record")
    return verdict


def _verdict(result: SpfResult, why: str, *, is_unsure: bool) -> SpfVerdict:
    """An earlier term of unknown outcome could only have given a pass."""
    return SpfVerdict("unknown" if is_unsure and result != "pass" else result, why)


@dataclass(frozen=True, slots=True)
class _Term:
    """A mechanism: ``-a:example.com/24`` is qualifier, name, value and prefix lengths."""

    text: str
    qualifier: str
    name: str
    value: str
    lengths: tuple[int | None, int | None]

    @classmethod
    def parse(cls, text: str) -> "_Term":
        """Raises _BadRecordError."""
        qualifier, rest = (text[0], text[1:]) if text[0] in _QUALIFIERS else ("+", text)
        name, colon, value = rest.partition(":")
        lengths: tuple[int | None, int | None] = (None, None)
        if colon and name.lower() in {"ip4", "ip6"}:
            return cls(text, qualifier, name.lower(), value, lengths)
        head, slash, tail = (value if colon else name).partition("/")
        if slash:
            lengths = _lengths(tail, text)
        name, value = (name, head) if colon else (head, "")
        name = name.lower()
        if name not in _ASKING | _WITHOUT_ASKING:
            raise _BadRecordError(f"{excerpt(text.encode())} is no mechanism")
        if name in {"include", "exists", "ip4", "ip6"} and not value:
            raise _BadRecordError(f"{excerpt(text.encode())} lacks its value")
        return cls(text, qualifier, name, value, lengths)


def _lengths(tail: str, text: str) -> tuple[int | None, int | None]:
    """The lengths of ``/24``, ``//64`` or ``/24//64`` (RFC 7208 §5.6)."""
    four, _, six = tail.partition("//") if not tail.startswith("/") else ("", "", tail[1:])
    try:
        found = (int(four) if four else None, int(six) if six else None)
    except ValueError:
        raise _BadRecordError(f"{excerpt(text.encode())} has no prefix length") from None
    if not 0 <= (found[0] or 0) <= 32 or not 0 <= (found[1] or 0) <= 128:
        raise _BadRecordError(f"{excerpt(text.encode())} has no prefix length")
    return found


def _is_modifier(word: str) -> bool:
    name, equals, _ = word.partition("=")
    return bool(equals) and ":" not in name and "/" not in name


def _redirect(words: list[str]) -> str | None:
    """The target of ``redirect``; raises _BadRecordError if it stands twice."""
    found = [word.partition("=")[2] for word in words if word.lower().startswith("redirect=")]
    if len(found) > 1:
        raise _BadRecordError("redirect= stands twice")
    return found[0] if found else None


async def _matches(
    term: _Term, address: IpAddress, domain: str, hosts: HostResolver, budget: _Budget
) -> bool | None:
    """True if the term matches; ``None`` if that cannot be known here."""
    if term.name in _WITHOUT_ASKING:
        return term.name == "all" or _is_in(term, address)
    budget.spend()
    if "%" in term.value or term.name == "ptr":
        return None
    target = term.value or domain
    if term.name == "include":
        return await _is_included(target, address, hosts, budget)
    if term.name == "exists":
        return any(one.version == 4 for one in await hosts.addresses(target))
    return await _is_host(term, target, address, hosts)


async def _is_host(term: _Term, target: str, address: IpAddress, hosts: HostResolver) -> bool:
    """True if the target, or a host of its MX records, has the address or is near it."""
    names = [target]
    if term.name == "mx":
        names = [one.host for one in await hosts.mx(target)]
        if len(names) > _MAX_MX:
            raise _BadRecordError(f"{term.text}: more than {_MAX_MX} MX records")
    for name in names:
        for found in await hosts.addresses(name):
            if found.version == address.version and _is_near(found, address, term.lengths):
                return True
    return False


async def _is_included(
    target: str, address: IpAddress, hosts: HostResolver, budget: _Budget
) -> bool | None:
    verdict = await _check_host(address, target, hosts, budget)
    if verdict.result in {"none", "permerror"}:  # RFC 7208 §5.2
        raise _BadRecordError(f"include:{target}: {verdict.why}")
    return None if verdict.result == "unknown" else verdict.result == "pass"


def _is_in(term: _Term, address: IpAddress) -> bool:
    try:
        network = ip_network(term.value, strict=False)
    except ValueError:
        raise _BadRecordError(f"{excerpt(term.text.encode())} has no address") from None
    if network.version != int(term.name[2]):
        raise _BadRecordError(f"{excerpt(term.text.encode())} has an address of another kind")
    return network.version == address.version and address in network


def _is_near(
    found: IpAddress, address: IpAddress, lengths: tuple[int | None, int | None]
) -> bool:
    length = lengths[0 if found.version == 4 else 1]
    if length is None:
        return found == address
    return address in ip_network(f"{found}/{length}", strict=False)
