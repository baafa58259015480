"""Delegates: the principals that could send with a From address, and their conditions."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from smtpgate.core.account import Principal
from smtpgate.core.authorization.context import principal_context
from smtpgate.core.authorization.possible import access_as, identities_covering
from smtpgate.core.authorization.roles import Known
from smtpgate.core.identity import Identity
from smtpgate.core.message.author import Author
from smtpgate.core.message.envelope import SEND_RAW_EMAIL
from smtpgate.core.policy import Determining
from smtpgate.core.policy.access import Access, Clause


@dataclass(frozen=True, slots=True)
class Delegate:
    """A principal that could send with an identity.

    All ``conditions``, in words, must be met. ``statements`` are those that would allow it.
    """

    principal: Principal
    identity: Identity
    conditions: tuple[str, ...]
    statements: tuple[Determining, ...]


def delegates(
    principals: Iterable[Principal], known: Known, author: Author, *, region: str
) -> Iterator[Delegate]:
    """The principals for which some message of that author could be allowed.

    ``known`` has the identities in question, and those of the same owners that cover the
    address more closely. MAIL FROM is assumed to be an address that the identity covers.
    """
    identities = list(identities_covering(author, known))
    for principal in principals:
        if principal.account.why_paused is not None:
            continue
        context = principal_context(principal, region)
        for identity in identities:
            access = access_as(
                author, identity, principal, known, action=SEND_RAW_EMAIL, context=context
            )
            if access is not None:
                statements = tuple(c.statement for c in (*access.user, *access.identity))
                yield Delegate(principal, identity, _conditions(access), statements)


def _conditions(access: Access) -> tuple[str, ...]:
    sides = (side for side in (access.user, access.identity) if all(c.left for c in side))
    wanted = (" or ".join(map(_joined, side)) for side in sides if side)
    barred = (f"not: {_joined(clause)}" for clause in access.unless)
    return tuple(dict.fromkeys([*wanted, *barred]))


def _joined(clause: Clause) -> str:
    return " and ".join(clause.left)
