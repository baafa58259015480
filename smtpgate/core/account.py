"""Accounts, their users and the access keys that act for them."""

import hmac
from dataclasses import dataclass, field
from typing import Final

from smtpgate.core.arn import root_arn
from smtpgate.core.policy import Policy
from smtpgate.core.secret import Secret, smtp_password

__all__ = ["UNLIMITED", "AccessKey", "Account", "Principal", "SendingLimits"]

UNLIMITED: Final = -1


@dataclass(frozen=True, slots=True)
class SendingLimits:
    """What one account may send, in recipients; ``-1`` is unlimited."""

    max_24h_send: int
    max_send_rate_per_s: float


@dataclass(frozen=True, slots=True)
class Account:
    """A tenant: owns identities, has limits; ``paused_reason`` is set while it may not send.

    ``organization_id`` is what policies call ``aws:PrincipalOrgID``.
    """

    id: str
    name: str
    limits: SendingLimits
    paused_reason: str | None = None
    organization_id: str | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts: a user of an account, or the account's root when ``user_name`` is ``None``.

    Root has no user policies and passes that half of an authorization. ``tags`` are pairs of
    key and value, which policies know as ``aws:PrincipalTag/key``.
    """

    account: Account
    user_name: str | None
    arn: str
    user_id: str
    policies: tuple[Policy, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()

    @classmethod
    def root(cls, account: Account, partition: str = "aws") -> "Principal":
        """The account itself."""
        return cls(account, None, root_arn(account.id, partition), account.id)

    @property
    def is_root(self) -> bool:
        """Whether this is the account itself and no user of it."""
        return self.user_name is None


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key id with its secret, from which its SMTP password is derived per region."""

    id: str
    secret: Secret = field(repr=False)
    principal: Principal
    is_active: bool = True

    def has_smtp_password(self, password: bytes, region: str) -> bool:
        """Whether that is its SMTP password, compared in constant time."""
        wanted = smtp_password(self.secret, region).value.encode()
        return hmac.compare_digest(wanted, password) and self.is_active
