"""Findings about values that are read in another way than they seem to be."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Network, ip_network
from typing import Final

from smtpgate.core.policy.conditions import Condition
from smtpgate.core.policy.finding import Finding, found
from smtpgate.core.policy.keys import known_key
from smtpgate.core.policy.operators import Family
from smtpgate.core.policy.problem import shown
from smtpgate.core.policy.statement import Statement

# Epoch seconds before that are probably not meant as a moment.
_FIRST_LIKELY: Final = 946_684_800  # 2000-01-01T00:00:00Z
_WHOLE: Final = re.compile(r"[0-9]{1,12}")
_DAY: Final = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})")
_ZERO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAPPED: Final = IPv6Network("::ffff:0:0/96")  # RFC 4291 §2.5.5.2
_KINDS: Final[dict[Family, str]] = {
    "number": "a number",
    "date": "a date",
    "bool": "`true' or `false'",
    "ip": "an IP address",
    "arn": "an ARN",
    "binary": "base64",
}


def value_findings(statement: Statement, condition: Condition, path: str) -> Iterator[Finding]:
    """Findings about the values of one condition, and about the values of its key."""
    key, family = known_key(condition.key), condition.operator.row.family
    if key is None or key.presence == "never":
        return
    for value in condition.values:
        if family == "date" or (family == "number" and key.type == "date"):
            yield from _early(value, path)
        elif family == "ip":
            yield from _mapped(value, path)
    if statement.is_deny and key.type == "string" and family in _KINDS:
        yield found(
            "unreadable-denies",
            path,
            f"{condition.key} can be any text: if it is not {_KINDS[family]}, the Deny applies",
        )


def _early(value: str, path: str) -> Iterator[Finding]:
    """A number that looks like a year or a day, and is seconds since 1970."""
    if not _WHOLE.fullmatch(value) or not 0 < int(value) < _FIRST_LIKELY:
        return
    moment = _ZERO + timedelta(seconds=int(value))
    yield found(
        "number-as-date",
        path,
        f"{shown(value)} is a number of seconds since 1970, so {moment:%Y-%m-%dT%H:%M:%SZ}",
        _as_day(value),
    )


def _as_day(value: str) -> str | None:
    match = _DAY.fullmatch(value if len(value) == 8 else f"{value}0101")
    if match is None:
        return None
    try:
        day = datetime(*map(int, match.groups()), tzinfo=UTC)  # type: ignore[arg-type,misc]
    except ValueError:
        return None
    return f"`{day:%Y-%m-%dT%H:%M:%SZ}'" if day.year >= _ZERO.year else None


def _mapped(value: str, path: str) -> Iterator[Finding]:
    """An IPv6 network that contains IPv4-mapped addresses."""
    network = ip_network(value, strict=False)
    if not isinstance(network, IPv6Network) or not network.overlaps(_MAPPED):
        return
    if network.subnet_of(_MAPPED):
        first = network.network_address.ipv4_mapped
        better = f"{first}/{network.prefixlen - 96}"
        yield found(
            "ipv4-in-ipv6",
            path,
            f"{shown(value)} is read as an IPv4 network",
            f"`{better}'",
        )
    elif network.prefixlen:
        yield found(
            "ipv4-in-ipv6",
            path,
            f"{shown(value)} never matches an IPv4 client: its address is compared as IPv4",
            "the IPv4 network beside it",
        )
