"""The sending limits that a message is counted against.

They are made in one place, so that every stage charges the same. The sending account is always
charged, never the identity's owner. Further limits lie within the account's: those of its user,
of the access key, and the cap that the owner of an identity set for the account. The ledger
counts all of them together or none.
"""

from collections.abc import Iterable
from datetime import datetime

from smtpgate.core.account import Principal, SendingLimits
from smtpgate.core.identity import Identity
from smtpgate.core.limits import Charge, Subject


def charges_of(
    principal: Principal,
    access_key_id: str,
    key_limits: SendingLimits | None,
    now: datetime,
    identities: Iterable[Identity] = (),
) -> tuple[Charge, ...]:
    """The charges of a message of that principal and access key, the account's first.

    ``identities`` are the known ones whose owners' caps count, each once.
    """
    account = principal.account
    account_id = account.id
    charges = [Charge(Subject(account_id), account.limits.at(now))]
    if principal.limits is not None and principal.user_name is not None:
        subject = Subject(account_id, "user", principal.user_name)
        charges.append(Charge(subject, principal.limits.at(now)))
    if key_limits is not None:
        subject = Subject(account_id, "access-key", access_key_id)
        charges.append(Charge(subject, key_limits.at(now)))
    for identity in identities:
        cap = identity.caps.get(account_id)
        if cap is not None:
            subject = Subject(account_id, "identity", identity.arn.text)
            charges.append(Charge(subject, cap.at(now)))
    return tuple(charges)
