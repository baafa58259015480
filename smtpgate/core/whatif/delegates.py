"""Delegates: who of a directory could send with a From address, and under which conditions."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from smtpgate.core.account import Principal
from smtpgate.core.authorization.context import author_context, principal_context
from smtpgate.core.authorization.roles import Known, more_specific
from smtpgate.core.identity import Identity, covers, names_covering
from smtpgate.core.message.author import Author
from smtpgate.core.message.envelope import SEND_RAW_EMAIL
from smtpgate.core.policy import Caller, Context, Determining, Request
from smtpgate.core.policy.access import Access, Clause, possible_access


@dataclass(frozen=True, slots=True)
class Delegate:
    """Somebody who could send with an identity.

    All ``conditions`` must be so; they are told in words. ``statements`` are those that would
    let it through.
    """

    principal: Principal
    identity: Identity
    conditions: tuple[str, ...]
    statements: tuple[Determining, ...]


def delegates(
    principals: Iterable[Principal], known: Known, author: Author, *, region: str
) -> Iterator[Delegate]:
    """Everybody for whom some message of that author could be allowed.

    ``known`` has the identities that are asked about, and those of the same owners that cover
    the address more closely. MAIL FROM is taken to be such that the identity serves it too.
    """
    mailbox = author.mailbox
    names = [name for name in names_covering(mailbox) if covers(name, mailbox)]
    identities = [identity for name in names for identity in known.get(name, ())]
    for principal in principals:
        if principal.account.paused_reason is not None:
            continue
        for identity in identities:
            if not identity.is_verified:
                continue
            access = _access(principal, identity, known, author, region)
            if access is not None:
                statements = tuple(c.statement for c in (*access.user, *access.identity))
                yield Delegate(principal, identity, _conditions(access), statements)


def _access(
    principal: Principal, identity: Identity, known: Known, author: Author, region: str
) -> Access | None:
    specific = more_specific(known, identity, author.mailbox)
    caller = Caller(principal.account.id, principal.arn, principal.is_root)
    context = _context(principal, identity, author, region)
    return possible_access(
        Request(caller, SEND_RAW_EMAIL, str(identity.arn), context),
        identity_policies=identity.policies,
        user_policies=principal.policies,
        more_specific=[(str(other.arn), other.policies) for other in specific],
    )


def _context(principal: Principal, identity: Identity, author: Author, region: str) -> Context:
    """What is known of any message by the principal with that From."""
    context = {
        **principal_context(principal, region),
        "aws:resourceaccount": (identity.owner_id,),
    }
    return author_context(context, author)


def _conditions(access: Access) -> tuple[str, ...]:
    sides = (side for side in (access.user, access.identity) if all(c.left for c in side))
    wanted = (" or ".join(map(_joined, side)) for side in sides if side)
    barred = (f"not: {_joined(clause)}" for clause in access.unless)
    return tuple(dict.fromkeys([*wanted, *barred]))


def _joined(clause: Clause) -> str:
    return " and ".join(clause.left)
