"""Whose sending limits a message is counted against.

It is one place, so that every door and every stage charges the same. The sending account is
always charged, never the identity's owner. Limits of its users, of their access keys, or of
what an identity's owner lets the account send are further charges behind it: the ledger counts
all of them together or none.
"""

from smtpgate.core.account import Principal
from smtpgate.core.limits import Charge, Subject

__all__ = ["charges_of"]


def charges_of(principal: Principal) -> tuple[Charge, ...]:
    """The charges of a message by that principal, the account's first."""
    account = principal.account
    return (Charge(Subject(account.id), account.limits),)
