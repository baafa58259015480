"""Findings about From addresses that the policy's own identity never serves."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Final

from smtpgate.core.arn import ArnError, IdentityArn
from smtpgate.core.policy.conditions import Condition
from smtpgate.core.policy.finding import Finding, found
from smtpgate.core.policy.lint_regex import as_globs
from smtpgate.core.policy.problem import shown
from smtpgate.core.policy.statement import Statement

_KEY: Final = "ses:fromaddress"
_HOST: Final = re.compile(r"[A-Za-z0-9.-]+")
_WILD: Final = ("*", "?", "${")


def outside_findings(
    statement: Statement, condition: Condition, path: str
) -> Iterator[Finding]:
    """Values of ``ses:FromAddress`` that the identity in Resource does not cover."""
    if condition.key.lower() != _KEY or condition.operator.row.family != "string":
        return
    name = _identity_of(statement)
    if name is None:
        return
    for value in condition.values:
        if as_globs(value) is None and _is_outside(value, name):
            yield found(
                "from-outside-identity",
                path,
                f"{shown(value)} is not a From address that identity {shown(name)} covers",
                _proposal(value, name),
            )


def _identity_of(statement: Statement) -> str | None:
    """The name of the one identity that the statement is about."""
    if statement.is_not_resource or len(statement.resources) != 1:
        return None
    try:
        return IdentityArn.parse(statement.resources[0]).name
    except ArnError:
        return None


def _is_outside(value: str, name: str) -> bool:
    """True if the identity covers no address that the value matches."""
    local_part, at, domain = value.rpartition("@")
    host = domain.removeprefix("*.").lower()
    if not at or not _HOST.fullmatch(host):
        return False  # it has another wildcard or a variable, or is not an address
    own_local, _, own_domain = name.rpartition("@")
    if domain.startswith("*."):
        is_below = f".{host}".endswith(f".{own_domain}") and not own_local
        return not is_below and not own_domain.endswith(f".{host}")
    domain = host
    if not own_local:
        return domain != own_domain and not domain.endswith(f".{own_domain}")
    if any(sign in local_part for sign in _WILD):
        return domain != own_domain
    return domain != own_domain or local_part.partition("+")[0] != own_local


def _proposal(value: str, name: str) -> str | None:
    """The same in the identity's domain, if it looks misspelt."""
    local_part, _, domain = value.rpartition("@")
    own = name.rpartition("@")[2]
    is_near = bool(get_close_matches(domain.lower(), [own], n=1, cutoff=0.8))
    return f"`{local_part}@{own}'" if is_near and "@" not in name else None
