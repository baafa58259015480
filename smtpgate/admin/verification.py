"""An identity verified when somebody asks for it: by the DNS now, or by somebody's word."""

from dataclasses import dataclass, replace
from datetime import datetime

from smtpgate.admin.dns_checks import after_dns_checks
from smtpgate.admin.retry import change_registered
from smtpgate.core.proof.registered import Registered
from smtpgate.core.proof.verification import Verification, begin, vouched
from smtpgate.ports import RegisteredIdentities, Resolver


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Verifies at a moment; ``jitter`` is as in next_check_at."""

    registry: RegisteredIdentities
    now: datetime
    jitter: float

    async def ask_dns(
        self, account_id: str, name: str, resolver: Resolver, label: str
    ) -> Registered:
        """Begin to ask the DNS about a domain, or go on with it, and ask now.

        A domain that is verified without the DNS stays as it is. Raises OvertakenError.
        """

        async def decide(before: Registered) -> Registered:
            verification = _due_now(before.verification, self.now)
            asked = replace(before, verification=verification)
            return await after_dns_checks(asked, resolver, label, self.now, self.jitter)

        return await change_registered(self.registry, account_id, name, decide)

    async def vouch(self, account_id: str, name: str) -> Registered:
        """Take somebody's word for the identity. Raises OvertakenError."""

        async def decide(before: Registered) -> Registered:
            return replace(before, verification=vouched(self.now), code=None)

        return await change_registered(self.registry, account_id, name, decide)


def _due_now(held: Verification, now: datetime) -> Verification:
    """The verification with its question due; the first may have been put off a little."""
    begun = begin(held, now)
    return begun if begun.next_check_at is None else replace(begun, next_check_at=now)
