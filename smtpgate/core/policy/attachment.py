"""The further requirements on a policy that is attached to an identity or to a user.

https://docs.aws.amazon.com/ses/latest/dg/policy-anatomy.html, "Policy requirements";
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from smtpgate.core.policy.problem import Problem, shown
from smtpgate.core.policy.statement import Policy

MAX_POLICIES: Final = 20
MAX_POLICY_OCTETS: Final = 4096
# IAM's limits of one managed policy, and of all inline policies; white space does not count.
MAX_USER_POLICY_CHARACTERS: Final = 6144
_MAX_USER_CHARACTERS: Final = 10_240
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_policy_name(name: str) -> bool:
    """True if it is a valid policy name: 1 to 64 letters, digits, dashes and underscores."""
    return _NAME.fullmatch(name) is not None


def attachment_problems(
    policy: Policy, *, identity_arn: str, source_octets: int, siblings: int
) -> tuple[Problem, ...]:
    """The problems of attaching the policy to the identity; empty if there are none.

    ``source_octets`` is the size of the document as written, ``siblings`` the number of other
    policies that the identity has.
    """
    return tuple(_problems(policy, identity_arn, source_octets, siblings))


def _problems(
    policy: Policy, identity_arn: str, source_octets: int, siblings: int
) -> Iterator[Problem]:
    if source_octets > MAX_POLICY_OCTETS:
        limit = f"{MAX_POLICY_OCTETS} are allowed"
        yield Problem("document", f"has {source_octets} octets, and {limit}")
    if siblings >= MAX_POLICIES:
        yield Problem("document", f"the identity has {siblings} policies, the most it may have")
    if policy.kind != "identity":
        yield Problem("document", "is a user policy and names no principals")
    wanted = f"must be exactly {identity_arn}, the identity that the policy is attached to"
    for statement in policy.statements:
        if statement.is_not_resource:
            yield Problem(
                f"{statement.path}.NotResource", f"is not allowed here: Resource {wanted}"
            )
        elif statement.resources != (identity_arn,):
            seen = ", ".join(map(shown, statement.resources))
            yield Problem(f"{statement.path}.Resource", f"{wanted}, not {seen}")


def characters_of(document: str) -> int:
    """The size of a user policy as IAM counts it: without white space."""
    return len("".join(document.split()))


def user_attachment_problems(document: str, *, siblings: Sequence[str]) -> tuple[Problem, ...]:
    """The problems of attaching a document to a user that also has those policies."""
    return tuple(_user_problems(document, siblings))


def _user_problems(document: str, siblings: Sequence[str]) -> Iterator[Problem]:
    characters = characters_of(document)
    if characters > MAX_USER_POLICY_CHARACTERS:
        limit = f"{MAX_USER_POLICY_CHARACTERS} are allowed"
        yield Problem(
            "document", f"has {characters} characters besides white space, and {limit}"
        )
    together = characters + sum(map(characters_of, siblings))
    if together > _MAX_USER_CHARACTERS:
        limit = f"{_MAX_USER_CHARACTERS} are allowed"
        yield Problem(
            "document",
            f"the user's policies would have {together} characters besides white space in "
            f"total, and {limit}",
        )
    if len(siblings) >= MAX_POLICIES:
        number = len(siblings)
        yield Problem("document", f"the user has {number} policies, the most it may have")
