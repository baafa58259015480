"""Identities: verified domains and addresses, and which addresses each of them covers."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Protocol

from msgspec import Struct, field

from smtpgate.core.account import SendingLimits
from smtpgate.core.address import Mailbox, domain_of
from smtpgate.core.arn import IdentityArn
from smtpgate.core.policy import Policy


class PrivateKey(Protocol):
    """A parsed private key; the core knows neither its storage nor its arithmetic."""

    @property
    def algorithm(self) -> str:
        """The DKIM algorithm tag, such as ``rsa-sha256`` (RFC 6376 §3.3)."""

    def sign(self, digest: bytes) -> bytes:
        """The signature over a SHA-256 digest (32 octets)."""


class DkimKey(Struct, frozen=True, gc=False):
    """One DKIM key of a domain identity: its selector and the private key (RFC 6376 §3.1)."""

    selector: str
    private_key: PrivateKey


class MailFrom(Struct, frozen=True, gc=False):
    """The MAIL FROM domain of an identity, see :mod:`smtpgate.core.proof.mail_from`."""

    domain: str
    has_mx: bool
    must_have_mx: bool


class Identity(Struct, frozen=True, gc=False):
    """A domain or address that one account registered, with its policies, caps and DKIM keys.

    ``paused_reason`` is set while the identity is paused. ``caps`` are the limits that its
    owner sets for other accounts, by account id; an account without an entry has no cap.
    ``configuration_set`` is the one that its mail has by default, of its owner.
    ``suppresses_delegates``: its owner's suppression list is for all mail with it.
    ``paused_delegates`` are other accounts that may not send by it now, with the reasons.
    """

    arn: IdentityArn
    is_verified: bool
    policies: tuple[Policy, ...] = ()
    dkim_keys: tuple[DkimKey, ...] = ()
    paused_reason: str | None = None
    caps: Mapping[str, SendingLimits] = field(default_factory=dict)
    configuration_set: str = ""
    mail_from: MailFrom | None = None
    suppresses_delegates: bool = False
    paused_delegates: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The domain or address."""
        return self.arn.name

    @property
    def owner_id(self) -> str:
        """The account id of the identity owner."""
        return self.arn.account_id

    @property
    def is_domain(self) -> bool:
        """True if it is a domain, False if it is an address."""
        return "@" not in self.arn.name


@lru_cache(maxsize=512)  # each stage asks for the few mailboxes of a message
def names_covering(mailbox: Mailbox) -> tuple[str, ...]:
    """The names of the identities that cover a mailbox, most specific first.

    The address itself, the address without its ``+label``, its domain, then each parent
    domain (https://docs.aws.amazon.com/ses/latest/dg/creating-identities.html).
    """
    names = [mailbox.text]
    unlabelled = mailbox.without_label()
    if unlabelled is not None:
        names.append(unlabelled.text)
    domain = mailbox.domain
    names.append(domain)
    while domain.count(".") > 1 and not domain.startswith("["):
        domain = domain.partition(".")[2]
        names.append(domain)
    return tuple(names)


def covers(name: str, mailbox: Mailbox) -> bool:
    """True if an identity of that name covers the mailbox."""
    if "@" in name and domain_of(name) != mailbox.domain:
        return False
    return name in names_covering(mailbox)
