"""A registered identity with the data for its verification and its DKIM keys."""

from dataclasses import dataclass, replace

from smtpgate.core.proof.dkim_stages import KeyOrigin, StagedKey
from smtpgate.core.proof.mail_code import MailCode
from smtpgate.core.proof.mail_from import MailFromDomain
from smtpgate.core.proof.verification import Verification


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredKey:
    """A DKIM key with its stage, and the record that has to be published for it."""

    staged: StagedKey
    record: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """An identity with its proof: the token for the DNS, or the code that was mailed.

    ``soa`` is the start of authority of a domain as the last check found it, as a text.
    """

    account_id: str
    name: str
    arn: str
    token: str
    verification: Verification
    code: MailCode | None = None
    keys: tuple[RegisteredKey, ...] = ()
    dkim_origin: KeyOrigin | None = None
    mail_from: MailFromDomain | None = None
    soa: str = ""

    @property
    def is_domain(self) -> bool:
        """True if it is a domain, False if it is an address."""
        return "@" not in self.name

    @property
    def staged(self) -> tuple[StagedKey, ...]:
        """The stages of its keys."""
        return tuple(key.staged for key in self.keys)

    def with_staged(self, staged: tuple[StagedKey, ...]) -> "Registered":
        """The identity with its keys in those stages, in the order of its keys."""
        pairs = zip(self.keys, staged, strict=True)
        return replace(self, keys=tuple(replace(key, staged=stage) for key, stage in pairs))


@dataclass(frozen=True, slots=True)
class IdentityTroubles:
    """The numbers of verified identities and of active keys whose record is missing."""

    identities_missing: int = 0
    dkim_alarms: int = 0
