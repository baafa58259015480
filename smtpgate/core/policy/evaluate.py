"""The decision: a Deny that applies is final; without an Allow that applies the answer is no.

There are two sides: the caller's user policies, and the policies of the identity. Within an
account the user policies decide, and an Allow of the identity that names the user itself, or
everyone, suffices; across accounts both sides must allow. The account's root needs no user
policies.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic-cross-account.html
"""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Final

from msgspec.structs import replace

from smtpgate.core.policy.decision import Decision, Request, Side
from smtpgate.core.policy.explain import nearest_miss
from smtpgate.core.policy.principals import Caller, Who, who_is
from smtpgate.core.policy.statement import Determining, Policy, PolicyKind, Statement, Topic
from smtpgate.core.policy.variables import Context

_CITED: Final = attrgetter("cited")
# The keys of a request's context about the caller itself.
_ABOUT_CALLER: Final = ("aws:principal", "aws:userid", "aws:username")


def evaluate(
    request: Request,
    *,
    identity_policies: Sequence[Policy],
    user_policies: Sequence[Policy],
    more_specific: Sequence[tuple[str, Sequence[Policy]]] = (),
) -> Decision:
    """Decide a request.

    ``more_specific`` are other identities of the same owner, by ARN, that cover the address
    more closely: only the Deny statements of their policies count, with that ARN as the
    resource.
    """
    caller = request.caller
    who = who_is(caller)
    context, resource = request.context, request.resource
    topic = Topic(
        caller.arn, caller.account_id, caller.is_root, request.action.lower(), resource
    )
    user_denies, user_allows = _applying(user_policies, topic, who, context)
    denies, allows = _applying(identity_policies, topic, who, context)
    for arn, policies in more_specific:
        denies += _applying(policies, topic.about(arn), who, context)[0]
    is_own = caller.account_id == _owner_of(resource)
    # Within an account, an Allow that names the user itself, or everyone, suffices; one that
    # names the whole account leaves the decision to the account's user policies.
    direct = [s for s in allows if is_own and s.principals and s.principals.suffices_alone(who)]
    user = _side(
        "user",
        user_denies,
        user_allows,
        is_needed=not caller.is_root and not (direct and not user_allows),
    )
    identity = _side("identity", denies, allows, is_needed=not is_own or bool(direct))
    if user_denies or denies:
        cited = _cited([*user_denies, *denies])
        return Decision("explicit-deny", cited, user, identity)
    passes_user_half = caller.is_root or bool(user_allows)
    if (passes_user_half or direct) if is_own else (passes_user_half and allows):
        counting = _cited(direct) if is_own else identity.cited
        return Decision("allow", user.cited + counting, user, identity)
    if is_own and _could_suffice(identity_policies, who):
        identity = replace(identity, is_needed=True)
    user = _explained(user, user_policies, request, who)
    identity = _explained(identity, identity_policies, request, who)
    return Decision("implicit-deny", (), user, identity, user.miss or identity.miss)


def names_caller(policies: Iterable[Policy], caller: Caller, context: Context) -> bool:
    """True if an Allow names the caller, even for another action or under other conditions.

    Conditions about the caller itself must hold: an Allow for everyone of one organization does
    not name a caller outside it.
    """
    who = who_is(caller)
    return any(
        not statement.is_deny
        and (statement.principals is None or statement.principals.admits(who, denies=False))
        and all(
            condition.holds(context)
            for condition in statement.conditions
            if condition.key.lower().startswith(_ABOUT_CALLER)
        )
        for policy in policies
        for statement in policy.statements
    )


def _could_suffice(policies: Iterable[Policy], who: Who) -> bool:
    """True if an Allow would suffice in the caller's own account, if it applied."""
    return any(
        not one.is_deny and one.principals is not None and one.principals.suffices_alone(who)
        for policy in policies
        for one in policy.statements
    )


def _owner_of(resource: str) -> str:
    """The account field of an ARN."""
    parts = resource.split(":", 5)
    return parts[4] if len(parts) == 6 else ""


def _applying(
    policies: Iterable[Policy], topic: Topic, who: Who, context: Context
) -> tuple[list[Statement], list[Statement]]:
    """The Deny and the Allow statements that apply to the request."""
    denies: list[Statement] = []
    allows: list[Statement] = []
    for policy in policies:
        for statement in policy.applicable(topic, who):
            if statement.is_met_by(context, topic.resource):
                (denies if statement.is_deny else allows).append(statement)
    return denies, allows


def _side(
    name: PolicyKind,
    denies: Sequence[Statement],
    allows: Sequence[Statement],
    *,
    is_needed: bool,
) -> Side:
    if denies:
        return Side(name, "explicit-deny", is_needed, _cited(denies))
    if allows:
        return Side(name, "allow", is_needed, _cited(allows))
    return Side(name, "implicit-deny", is_needed)


def _cited(statements: Iterable[Statement]) -> tuple[Determining, ...]:
    return tuple(map(_CITED, statements))


def _explained(side: Side, policies: Sequence[Policy], request: Request, who: Who) -> Side:
    if side.outcome == "allow" or not side.is_needed:
        return side
    miss = nearest_miss(side.name, policies, request, who)
    return replace(side, miss=miss, has_policies=bool(policies))
