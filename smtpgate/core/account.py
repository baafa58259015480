"""Accounts, their users and the access keys that act for them."""

import hmac
from datetime import datetime
from typing import Final, Literal, TypeVar

from msgspec import Struct
from msgspec.structs import force_setattr

from smtpgate.core.arn import root_arn
from smtpgate.core.policy import Caller, Policy
from smtpgate.core.policy.principals import NOBODY
from smtpgate.core.policy.values import NetworkRange, in_network, read_address
from smtpgate.core.reply import reject
from smtpgate.core.secret import Secret, smtp_password

UNLIMITED: Final = -1
# The largest limits that are not unlimited: a quota as far as a database can count.
MAX_QUOTA: Final = 2**63 - 1
MAX_RATE: Final = 1_000_000

N = TypeVar("N", int, float)
KeyRefusal = Literal[
    "access-key-inactive",
    "access-key-expired",
    "network-not-allowed",
    "certificate-not-allowed",
    "access-key-suspended",
]


class TemporaryLimits(Struct, frozen=True, gc=False):
    """Larger limits before a moment; ``None``, and what is less than usual, raises nothing."""

    max_24h_send: int | None
    max_send_rate_per_s: float | None
    until: datetime


class SendingLimits(Struct, frozen=True, gc=False, array_like=True):
    """Sending limits, in recipients; ``-1`` is unlimited."""

    max_24h_send: int
    max_send_rate_per_s: float
    raised: TemporaryLimits | None = None

    def slowed_to(self, rate_per_s: float) -> "SendingLimits":
        """The same at that rate, unless it is lower; a temporary rate does not raise it."""
        own, raised = self.max_send_rate_per_s, self.raised
        if raised is not None:
            raised = TemporaryLimits(raised.max_24h_send, None, raised.until)
        slow = rate_per_s if own == UNLIMITED else min(own, rate_per_s)
        return SendingLimits(self.max_24h_send, slow, raised)

    @property
    def usual(self) -> "SendingLimits":
        """The limits without any temporary ones."""
        return SendingLimits(self.max_24h_send, self.max_send_rate_per_s)

    def at(self, now: datetime) -> "SendingLimits":
        """The limits in force at that moment, without any temporary ones."""
        raised = self.raised
        if raised is None:
            return self
        if now >= raised.until:
            return self.usual
        return SendingLimits(
            _larger(self.max_24h_send, raised.max_24h_send),
            _larger(self.max_send_rate_per_s, raised.max_send_rate_per_s),
        )


def quota(value: int) -> int:
    """A number of recipients in 24 hours. Raises ValueError."""
    if value != UNLIMITED and not 0 <= value <= MAX_QUOTA:
        raise ValueError(f"must be 0 or more, or -1 (unlimited), not {value}")
    return value


def rate(value: float) -> float:
    """A number of recipients a second. Raises ValueError."""
    if value != UNLIMITED and not 0 < value <= MAX_RATE:
        wanted = f"more than 0, at most {MAX_RATE}, or -1 (unlimited)"
        raise ValueError(f"must be {wanted}, not {value}")
    return value


def _larger(usual: N, raised: N | None) -> N:
    if raised is None or usual == UNLIMITED:
        return usual
    return raised if raised == UNLIMITED else max(usual, raised)


class Account(Struct, frozen=True, gc=False):
    """A tenant: owns identities, has limits; ``paused_reason`` is set while it may not send.

    ``organization_id`` is what policies call ``aws:PrincipalOrgID``. ``has_suppressed`` is true
    while its suppression list has any address. ``shutdown_reason`` is set while it may not send
    for its bounces or complaints. ``is_sending`` is the account's own switch.
    """

    id: str
    name: str
    limits: SendingLimits
    paused_reason: str | None = None
    organization_id: str | None = None
    has_suppressed: bool = False
    shutdown_reason: str | None = None
    is_sending: bool = True

    @property
    def why_paused(self) -> str | None:
        """The reason why it may not send, or ``None`` if it may."""
        if self.paused_reason is not None:
            return self.paused_reason
        if self.shutdown_reason is None and not self.is_sending:
            return "it has turned its sending off"
        return self.shutdown_reason


class Principal(Struct, frozen=True, gc=False):
    """A user of an account, or the account's root when ``user_name`` is ``None``.

    Root has no user policies and needs none. ``tags`` are pairs of key and value, which
    policies know as ``aws:PrincipalTag/key``. ``limits`` are the user's own, within the
    account's.
    """

    account: Account
    user_name: str | None
    arn: str
    user_id: str
    policies: tuple[Policy, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    limits: SendingLimits | None = None
    caller: Caller = NOBODY
    """The principal as the caller of a policy request; made of the other fields."""

    def __post_init__(self) -> None:
        force_setattr(self, "caller", Caller(self.account.id, self.arn, self.is_root))

    @classmethod
    def root(cls, account: Account, partition: str = "aws") -> "Principal":
        """The account itself."""
        return cls(account, None, root_arn(account.id, partition), account.id)

    @property
    def is_root(self) -> bool:
        """True if this is the account's root, not a user."""
        return self.user_name is None


class AccessKey(Struct, frozen=True, gc=False):
    """An access key id with its secret, from which the SMTP password of a region is derived.

    It is valid before ``expires_at`` and from its ``networks``; without networks, from
    anywhere. ``limits`` are its own, within those of its principal and account.
    ``is_suspended``: its use differs from before, and has to be confirmed. With
    ``certificates`` a client needs one of these too: pins, see :func:`.naming.certificate_pin`.
    """

    id: str
    secret: Secret
    principal: Principal
    is_active: bool = True
    expires_at: datetime | None = None
    networks: tuple[NetworkRange, ...] = ()
    limits: SendingLimits | None = None
    is_suspended: bool = False
    certificates: tuple[str, ...] = ()

    def has_smtp_password(self, password: bytes, region: str) -> bool:
        """True if that is its SMTP password (in constant time); the key may be inactive."""
        wanted = smtp_password(self.secret, region).value.encode()
        return hmac.compare_digest(wanted, password)

    def refusal(self, address: str, now: datetime, certificate: str = "") -> KeyRefusal | None:
        """The reason that refuses it now to a client at that address, or ``None``.

        ``certificate`` is the pin of the one that the client showed, empty without one.
        """
        if not self.is_active:
            return "access-key-inactive"
        if self.expires_at is not None and now >= self.expires_at:
            return "access-key-expired"
        if self.networks and not self._is_in_allowed_network(address):
            return "network-not-allowed"
        if self.certificates and certificate not in self.certificates:
            return "certificate-not-allowed"
        if self.is_suspended:
            return "access-key-suspended"
        return None

    def _is_in_allowed_network(self, address: str) -> bool:
        client = read_address(address)  # as for aws:SourceIp: IPv4-mapped IPv6 is IPv4
        return client is not None and any(in_network(client, one) for one in self.networks)


def usable_key(
    key: AccessKey | None, address: str, now: datetime, certificate: str = ""
) -> AccessKey:
    """The key as the directory has it now, if a client at that address may send with it.

    ``certificate`` is the pin of the one that the client showed, empty without one. Raises
    Reject; ``None`` stands for a key that was deleted.
    """
    if key is None:
        reject("access-key-inactive")
    refusal = key.refusal(address, now, certificate)
    if refusal is not None:
        reject(refusal, address if refusal == "network-not-allowed" else "")
    account = key.principal.account
    if account.paused_reason is not None:
        reject("account-paused", account.paused_reason)
    if account.shutdown_reason is not None:
        reject("account-shutdown", account.shutdown_reason)
    if not account.is_sending:
        reject("account-sending-off")
    return key
