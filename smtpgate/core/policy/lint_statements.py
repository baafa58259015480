"""Findings about whole statements: their principals, their actions, and overriding Denies."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Final

from smtpgate.core.arn import ArnError, IdentityArn
from smtpgate.core.policy.finding import Finding, found
from smtpgate.core.policy.match import glob_match
from smtpgate.core.policy.principals import Principals
from smtpgate.core.policy.problem import shown
from smtpgate.core.policy.statement import ANYTHING, PolicyKind, Statement

_CHECKED: Final = "ses:SendRawEmail"
_SENDING: Final = {
    name.lower(): name
    for name in (
        "ses:SendBounce",
        "ses:SendBulkEmail",
        "ses:SendBulkTemplatedEmail",
        "ses:SendCustomVerificationEmail",
        "ses:SendEmail",
        "ses:SendRawEmail",
        "ses:SendTemplatedEmail",
    )
}
_MAX_LISTED: Final = 3
# Keys that say something about the caller, so that a Principal of everybody is narrowed.
_ABOUT_CALLER: Final = ("aws:principal", "aws:user", "aws:source")


def statement_findings(
    kind: PolicyKind, statement: Statement, denials: Sequence[Statement]
) -> Iterator[Finding]:
    """Findings about one statement of a policy that has these Deny statements."""
    yield from _principal_findings(statement)
    yield from _action_findings(statement)
    if kind == "identity":
        yield from _resource_findings(statement)
    if not statement.is_deny:
        yield from _shadow_findings(statement, denials)


def is_about_others(statement: Statement, all_statements: Sequence[Statement]) -> bool:
    """True if a statement of a user policy is about other services, and another about mail.

    A user policy may also have statements about other services; they make no finding.
    """
    return (
        not statement.is_not_action
        and not any(_may_be_ses(action) for action in statement.actions)
        and any(other.covers_action(_CHECKED.lower()) for other in all_statements)
    )


def _may_be_ses(action: str) -> bool:
    return glob_match(action.lower().partition(":")[0], "ses")


def _stranger_findings(statement: Statement, principals: Principals) -> Iterator[Finding]:
    """Findings about principals that no sender of this gate can be."""
    strangers = principals.strangers()
    if not strangers:
        return
    element = "NotPrincipal" if principals.is_not else "Principal"
    listed = ", ".join(map(shown, strangers[:_MAX_LISTED]))
    left = len(strangers) - _MAX_LISTED
    listed += f" and {left} more" if left > 0 else ""
    message = f"only accounts and their users send here, and none of them is {listed}"
    if not principals.has_senders and not principals.is_not:
        message += f", so this {statement.effect} never applies"
    yield found(
        "principal-matches-nobody",
        f"{statement.path}.{element}",
        message,
        "the account's id, or the ARN of one of its users",
    )


def _principal_findings(statement: Statement) -> Iterator[Finding]:
    principals = statement.principals
    if principals is None:
        return
    yield from _stranger_findings(statement, principals)
    if statement.is_deny:
        return
    if principals.is_not:
        yield found(
            "allow-not-principal",
            f"{statement.path}.NotPrincipal",
            "everyone except the named principals is allowed",
            "an Allow with `Principal', and a Deny for those who must not",
        )
    elif principals.anyone and not _is_narrowed(statement):
        yield found(
            "open-to-anyone",
            f"{statement.path}.Principal",
            "every account is allowed, and no condition restricts the accounts; users of the "
            "identity's own account need no user policy",
            "name the accounts, or add a condition such as `aws:PrincipalAccount'",
        )


def _is_narrowed(statement: Statement) -> bool:
    return any(
        condition.key.lower().startswith(_ABOUT_CALLER) and not condition.holds({})
        for condition in statement.conditions
    )


def unknown_actions(statement: Statement) -> Iterator[Finding]:
    """Actions that do not exist, but are almost written as one that sends."""
    path = _action_path(statement)
    for action in statement.actions:
        near = get_close_matches(action.lower(), _SENDING, n=1, cutoff=0.8)
        if near and action.lower() not in _SENDING and not _has_wildcard(action):
            meant = f"`{_SENDING[near[0]]}'"
            yield found("unknown-action", path, f"{shown(action)} is not an action", meant)


def _action_findings(statement: Statement) -> Iterator[Finding]:
    yield from unknown_actions(statement)
    if not statement.covers_action(_CHECKED.lower()):
        yield found(
            "action-not-checked",
            _action_path(statement),
            f"submissions are checked against `{_CHECKED}', which the statement does not cover",
            f"`{_CHECKED}'",
        )


def _action_path(statement: Statement) -> str:
    return f"{statement.path}.{'NotAction' if statement.is_not_action else 'Action'}"


def _has_wildcard(text: str) -> bool:
    return "*" in text or "?" in text


def _resource_findings(statement: Statement) -> Iterator[Finding]:
    element = "NotResource" if statement.is_not_resource else "Resource"
    path = f"{statement.path}.{element}"
    if statement.is_not_resource or len(statement.resources) != 1:
        wanted = "the Resource must be the one identity that the policy is attached to"
        yield found("resource-not-an-identity", path, wanted)
        return
    (resource,) = statement.resources
    try:
        spelt = None if _has_wildcard(resource) else str(IdentityArn.parse(resource))
    except ArnError:
        spelt = None
    if spelt != resource:
        yield found(
            "resource-not-an-identity",
            path,
            f"{shown(resource)} is not the ARN of one identity; a policy is attached to one "
            "identity only",
            f"`{spelt}'" if spelt else None,
        )


def _shadow_findings(allow: Statement, denials: Sequence[Statement]) -> Iterator[Finding]:
    for deny in denials:
        if _shadows(deny, allow):
            yield found(
                "shadowed-by-deny",
                allow.path,
                f"it has no effect: {deny.path} denies everything that it allows",
            )
            return


def _shadows(deny: Statement, allow: Statement) -> bool:
    same_actions = deny.is_not_action is allow.is_not_action
    same_resources = deny.is_not_resource is allow.is_not_resource
    return (
        _covers_principals(deny.principals, allow.principals)
        and set(deny.conditions) <= set(allow.conditions)
        and same_actions
        and same_resources
        and _covers(deny.actions, allow.actions, is_not=deny.is_not_action, folds=True)
        and _covers(deny.resources, allow.resources, is_not=deny.is_not_resource)
    )


def _covers(
    wide: Sequence[str], narrow: Sequence[str], *, is_not: bool, folds: bool = False
) -> bool:
    """True if the wide patterns match everything that the narrow ones match."""
    if folds:
        wide, narrow = [w.lower() for w in wide], [n.lower() for n in narrow]
    if is_not:
        wide, narrow = narrow, wide
    return all(any(_is_wider(w, n) for w in wide) for n in narrow)


def _is_wider(wide: str, narrow: str) -> bool:
    # A star of the narrow pattern is matched like a letter by a star of the wide one; a
    # question mark could not take its place.
    return wide in (narrow, ANYTHING) or ("?" not in wide and glob_match(wide, narrow))


def _covers_principals(wide: Principals | None, narrow: Principals | None) -> bool:
    if wide is None or narrow is None:
        return True
    if wide.is_not or narrow.is_not:
        return wide == narrow
    if wide.anyone:
        return True
    accounts = wide.accounts_named()
    others = set(narrow.strangers()) - set(narrow.aws)
    return others <= set(wide.strangers()) and all(
        name in wide.aws
        or any(f"::{account}:" in name for account in accounts)
        or name in accounts
        for name in narrow.aws
    )
