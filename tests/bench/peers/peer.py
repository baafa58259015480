"""A peer is a mail server that takes submissions, signs them, and relays them to the sink."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from smtpgate.signing.private_keys import (
    Algorithm,
    dns_record,
    generate_private_key,
    load_private_key,
)
from tests.support.authority import Authority
from tests.support.daemons import Lab
from tests.support.gate import Login

DOMAIN: Final = "perf.example"
HOSTNAME: Final = f"gw.{DOMAIN}"
SENDER: Final = f"user1@{DOMAIN}"
"""The load's default sender."""


@dataclass(frozen=True)
class SigningKey:
    """A DKIM key of the senders' domain."""

    algorithm: Algorithm

    @property
    def selector(self) -> str:
        """The name of its record."""
        return f"{self.algorithm}1"

    @cached_property
    def pem(self) -> bytes:
        """The private key."""
        return generate_private_key(self.algorithm)

    @cached_property
    def record(self) -> bytes:
        """The TXT record."""
        return dns_record(load_private_key(self.pem)).encode("ascii")


@dataclass(frozen=True, slots=True)
class Setup:
    """The settings that every peer is started with."""

    lab: Lab
    sink_port: int
    keys: tuple[SigningKey, ...]
    authority: Authority | None = None  # with one, TLS is used on both sides
    connections: int = 100  # that clients may have open at a time


@dataclass(frozen=True, slots=True)
class Running:
    """A running peer; leaving its lab stops it."""

    port: int
    login: Login | None = None
    has_tls: bool = False


@dataclass(frozen=True, slots=True)
class Peer:
    """A kind of mail server: its name, and a function that starts it.

    The function skips (``pytest.skip``) with the reason when something is not installed, or
    when the server cannot do what the setup wants.
    """

    name: str
    start: Callable[[Setup], Running]
    is_ours: bool = False
    signs: bool = True
    packages: tuple[str, ...] = ()
    """The Debian packages whose versions a result names."""
