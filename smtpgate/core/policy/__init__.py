"""The policy engine: documents in, decisions out, with their reasons.

Reads bottom-up: globs, keys and values (``match``, ``keys``, ``values``, ``variables``), the
elements of a document (``operators``, ``conditions``, ``principals``, ``statement``,
``document``), the decision (``decision``, ``evaluate``, ``explain``), and findings about valid
but unwise documents (``lint``, and all together in ``check``).
"""

from smtpgate.core.policy.attachment import (
    attachment_problems,
    is_policy_name,
    user_attachment_problems,
)
from smtpgate.core.policy.check import check_document, error_finding
from smtpgate.core.policy.decision import Decision, NearestMiss, Outcome, Request, Side
from smtpgate.core.policy.document import parse_policy
from smtpgate.core.policy.evaluate import evaluate, names_caller
from smtpgate.core.policy.finding import Finding
from smtpgate.core.policy.lint import lint_policy
from smtpgate.core.policy.lint_regex import corrected
from smtpgate.core.policy.lint_statements import unknown_actions
from smtpgate.core.policy.match import glob_match
from smtpgate.core.policy.principals import Caller
from smtpgate.core.policy.printing import print_policy
from smtpgate.core.policy.problem import PolicyError, Problem
from smtpgate.core.policy.statement import Determining, Policy, PolicyKind
from smtpgate.core.policy.variables import Context

__all__ = [
    "Caller",
    "Context",
    "Decision",
    "Determining",
    "Finding",
    "NearestMiss",
    "Outcome",
    "Policy",
    "PolicyError",
    "PolicyKind",
    "Problem",
    "Request",
    "Side",
    "attachment_problems",
    "check_document",
    "corrected",
    "error_finding",
    "evaluate",
    "glob_match",
    "is_policy_name",
    "lint_policy",
    "names_caller",
    "parse_policy",
    "print_policy",
    "unknown_actions",
    "user_attachment_problems",
]
