"""Policies printed as text, in one form for all ways of writing them."""

from collections.abc import Sequence

from smtpgate.core.policy.principals import Principals
from smtpgate.core.policy.statement import Policy, Statement
from smtpgate.core.policy.strict_json import Json, JsonObject, print_json


def print_policy(policy: Policy) -> str:
    """The policy as an indented JSON document, which reads back as the same policy."""
    document: JsonObject = {}
    if policy.version is not None:
        document["Version"] = policy.version
    if policy.id is not None:
        document["Id"] = policy.id
    document["Statement"] = [_statement(statement) for statement in policy.statements]
    return print_json(document) + "\n"


def _statement(statement: Statement) -> JsonObject:
    members: JsonObject = {}
    if statement.sid is not None:
        members["Sid"] = statement.sid
    members["Effect"] = statement.effect
    if statement.principals is not None:
        name = "NotPrincipal" if statement.principals.is_not else "Principal"
        members[name] = _principals(statement.principals)
    action = "NotAction" if statement.is_not_action else "Action"
    members[action] = _one_or_many(statement.actions)
    resource = "NotResource" if statement.is_not_resource else "Resource"
    members[resource] = _one_or_many(statement.resources)
    if statement.conditions:
        block: dict[str, JsonObject] = {}
        for condition in statement.conditions:
            keys = block.setdefault(condition.operator.text, {})
            keys[condition.key] = _one_or_many(condition.values)
        members["Condition"] = dict(block)
    return members


def _principals(principals: Principals) -> Json:
    kinds = {
        "AWS": principals.aws,
        "Service": principals.services,
        "Federated": principals.federated,
        "CanonicalUser": principals.canonical_users,
    }
    if [names for names in kinds.values() if names] == [("*",)] and principals.anyone:
        return "*"
    return {kind: _one_or_many(names) for kind, names in kinds.items() if names}


def _one_or_many(values: Sequence[str]) -> Json:
    return values[0] if len(values) == 1 else list(values)
