"""The findings of lint: one row a code."""

from dataclasses import dataclass
from typing import Final, Literal

Severity = Literal["error", "warning", "info"]

CODES: Final[dict[str, Severity]] = {
    # patterns and values
    "regex-as-glob": "warning",
    "dot-before-star": "info",
    "star-reaches-domain": "warning",
    "star-reaches-mailboxes": "info",
    "upper-case-domain": "error",
    "subdomains-not-covered": "info",
    "subdomains-escape": "warning",
    "letter-case-escapes": "info",
    "wildcard-in-equals": "warning",
    "like-without-wildcard": "info",
    "variables-need-version": "warning",
    "number-as-date": "warning",
    "ipv4-in-ipv6": "warning",
    "from-outside-identity": "warning",
    # conditions
    "set-operator-missing": "error",
    "never-true": "error",
    "always-true": "error",
    "unreadable-denies": "warning",
    "deny-for-all-values": "warning",
    "allow-for-any-value": "warning",
    "for-all-values-open": "warning",
    "opens-when-absent": "warning",
    "key-never-present": "warning",
    "empty-condition": "warning",
    # statements
    "open-to-anyone": "warning",
    "allow-not-principal": "warning",
    "principal-matches-nobody": "warning",
    "action-not-checked": "warning",
    "unknown-action": "warning",
    "resource-not-an-identity": "warning",
    "shadowed-by-deny": "warning",
    # documents
    "near-size-limit": "warning",
    "over-size-limit": "error",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: its code, severity, path and message, and a proposal for the document."""

    code: str
    severity: Severity
    path: str
    message: str
    proposal: str | None = None


def found(code: str, path: str, message: str, proposal: str | None = None) -> Finding:
    """A finding with its code's severity."""
    return Finding(code, CODES[code], path, message, proposal)
