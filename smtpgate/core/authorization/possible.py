"""Possible access: the identities with which a principal could send as an author."""

from collections.abc import Iterator

from smtpgate.core.account import Principal
from smtpgate.core.authorization.context import identity_request
from smtpgate.core.authorization.roles import (
    Known,
    all_covering,
    more_specific,
    policies_by_arn,
)
from smtpgate.core.identity import Identity
from smtpgate.core.message.author import Author
from smtpgate.core.policy import Context
from smtpgate.core.policy.access import Access, possible_access


def identities_covering(author: Author, known: Known) -> Iterator[Identity]:
    """The verified identities that cover the author, the most specific first."""
    return (one for one in all_covering(known, author.mailbox) if one.is_verified)


def access_as(
    author: Author,
    identity: Identity,
    principal: Principal,
    known: Known,
    *,
    action: str,
    context: Context,
) -> Access | None:
    """The principal's possible access to an identity as that author.

    ``context`` has the known keys of the request without those of the author.
    """
    specific = more_specific(identity, all_covering(known, author.mailbox))
    return possible_access(
        identity_request(principal.caller, action, identity, author, context),
        identity_policies=identity.policies,
        user_policies=principal.policies,
        more_specific=policies_by_arn(specific),
    )
