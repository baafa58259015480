"""The way to an upstream: the addresses that connections come from, and the keys about TLS."""

from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Annotated

from pydantic import AfterValidator

from smtpgate.config.sound_keys import Problem
from smtpgate.config.toml import Array


def _sources(values: tuple[str, ...]) -> tuple[str, ...]:
    """One address of this machine a family, in its usual form."""
    try:
        found = [ip_address(value) for value in values]
    except ValueError:
        raise ValueError('must be addresses such as "192.0.2.10" and "2001:db8::10"') from None
    if any(one.is_unspecified or one.is_multicast for one in found):
        raise ValueError("must be addresses of this machine")
    if len({one.version for one in found}) < len(found):
        raise ValueError("must be at most one IPv4 and one IPv6 address")
    return tuple(map(str, found))


Sources = Annotated[Array[str], AfterValidator(_sources)]


def tls_problems(tls: str, given: Sequence[str]) -> Iterator[Problem]:
    """The keys about TLS that have no effect, or lack another."""
    if tls == "off":
        for key in given:
            yield (key,), 'has no effect with tls = "off"'
        return
    if "key_file" in given and "cert_file" not in given:
        yield ("cert_file",), "is missing; cert_file and key_file go together"
    if "cert_file" in given and "key_file" not in given:
        yield ("key_file",), "is missing; cert_file and key_file go together"
    if tls == "opportunistic" and "min_tls" in given:
        text = 'has no effect with tls = "opportunistic", which goes on in clear text'
        yield ("min_tls",), text
