"""Policy documents: strict JSON in, a compiled policy or all of its problems out.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
https://docs.aws.amazon.com/ses/latest/dg/policy-anatomy.html
A document is either understood completely or refused; nothing is skipped in an evaluation.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from smtpgate.core.policy.conditions import (
    Condition,
    ConditionError,
    OperatorName,
    compile_condition,
    read_operator,
)
from smtpgate.core.policy.keys import key_problem
from smtpgate.core.policy.principals import Principals, read_principals
from smtpgate.core.policy.problem import PolicyError, Problem, hint, printable, shown
from smtpgate.core.policy.statement import (
    ANYTHING,
    Determining,
    Effect,
    Policy,
    PolicyKind,
    Statement,
    globs_of_actions,
    resources_of,
)
from smtpgate.core.policy.strict_json import (
    Json,
    JsonObject,
    Number,
    kind_of,
    parse_json,
    print_json,
)
from smtpgate.core.policy.variables import Template, TemplateError, parse_template

VERSIONS: Final = ("2012-10-17", "2008-10-17")
WITH_VARIABLES: Final = "2012-10-17"
_TOP: Final = ("Version", "Id", "Statement")
_ELEMENTS: Final = (
    "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource",
    "NotResource", "Condition",
)  # fmt: skip
_SID: Final = re.compile(r"[A-Za-z0-9]*")
_ACTION: Final = re.compile(r"\*|[A-Za-z0-9*?-]+:[A-Za-z0-9*?]+")


def parse_policy(
    text: str | bytes, *, kind: PolicyKind, name: str, address_tag_idiom: bool = False
) -> Policy:
    """Read a policy document. Raises PolicyError with every problem.

    ``address_tag_idiom`` reads ``+.*@`` in patterns of ``StringLike`` and ``StringNotLike`` as
    the announcement of sending authorization describes it: the mailbox without a tag, and all
    its ``+tag`` addresses.
    """
    value, repeated = parse_json(text)
    reader = _Reader(kind, name, address_tag_idiom, list(repeated))
    policy = reader.policy(value)
    if policy is None or reader.problems:
        raise PolicyError(reader.problems)
    return policy


@dataclass(slots=True)
class _Reader:
    """Reads one document and collects its problems."""

    kind: PolicyKind
    name: str
    address_tag_idiom: bool
    problems: list[Problem]
    has_variables: bool = False
    sids: set[str] = field(default_factory=set)

    def report(self, path: str, message: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(printable(path), message))

    def policy(self, value: Json) -> Policy | None:
        """The whole document."""
        if not isinstance(value, dict):
            self.report("document", f"must be an object, not {kind_of(value)}")
            return None
        self._check_elements(value, "", _TOP)
        version = self._optional_text(value, "Version", "")
        if version is not None and version not in VERSIONS:
            known = " or ".join(map(shown, VERSIONS))
            self.report("Version", f"unknown version {shown(version)}: expected {known}")
        self.has_variables = version == WITH_VARIABLES
        identifier = self._optional_text(value, "Id", "")
        statements = self._statements(value)
        if self.problems:
            return None
        return Policy(self.name, self.kind, version, identifier, tuple(statements))

    def _check_elements(self, value: JsonObject, path: str, known: Sequence[str]) -> None:
        for key in value:
            if key not in known:
                self.report(path + key, f"unknown element {shown(key)}{hint(key, known)}")

    def _optional_text(self, value: JsonObject, key: str, path: str) -> str | None:
        text = value.get(key)
        if key in value and not isinstance(text, str):
            self.report(path + key, f"must be a string, not {kind_of(text)}")
        return text if isinstance(text, str) else None

    def _statements(self, value: JsonObject) -> list[Statement]:
        if "Statement" not in value:
            self.report("Statement", "is missing")
            return []
        statements = value["Statement"]
        pairs = [("Statement", statements)]
        if isinstance(statements, list):
            pairs = [(f"Statement[{at}]", member) for at, member in enumerate(statements)]
            if not pairs:
                self.report("Statement", "the list is empty")
        read = [
            self._statement(member, index, path) for index, (path, member) in enumerate(pairs)
        ]
        return [statement for statement in read if statement is not None]

    def _statement(self, value: Json, index: int, path: str) -> Statement | None:
        if not isinstance(value, dict):
            self.report(path, f"must be an object, not {kind_of(value)}")
            return None
        before = len(self.problems)
        dot = f"{path}."
        self._check_elements(value, dot, _ELEMENTS)
        sid = self._sid(value, dot)
        effect = self._effect(value, dot)
        principals = self._principals(value, dot)
        actions, is_not_action = self._actions(value, dot)
        templates, resources, is_not_resource = self._resources(value, dot)
        conditions = self._conditions(value, dot, denies=effect == "Deny")
        if len(self.problems) > before:
            return None
        return Statement(
            index,
            sid,
            effect,
            principals,
            actions,
            is_not_action,
            resources,
            is_not_resource,
            conditions,
            cited=Determining(self.kind, self.name, sid, index, print_json(value)),
            action_globs=globs_of_actions(actions),
            covering=resources_of(templates, is_not=is_not_resource),
            path=path,
        )

    def _sid(self, value: JsonObject, path: str) -> str | None:
        sid = self._optional_text(value, "Sid", path)
        if not sid:
            return None
        if not _SID.fullmatch(sid):
            self.report(f"{path}Sid", f"{shown(sid)} is not made of letters and digits alone")
        elif sid in self.sids:
            self.report(f"{path}Sid", f"{shown(sid)} is the name of another statement too")
        self.sids.add(sid)
        return sid

    def _effect(self, value: JsonObject, path: str) -> Effect:
        effect = value.get("Effect")
        if effect == "Allow":
            return "Allow"
        if effect == "Deny":
            return "Deny"
        if "Effect" not in value:
            self.report(f"{path}Effect", "is missing")
        elif isinstance(effect, str):
            known = hint(effect, ("Allow", "Deny"))
            self.report(f"{path}Effect", f"{shown(effect)} is not `Allow' or `Deny'{known}")
        else:
            self.report(f"{path}Effect", f"must be a string, not {kind_of(effect)}")
        return "Deny"

    def _which(self, value: JsonObject, element: str, path: str) -> tuple[str, ...]:
        """The element or its ``Not…`` form: a statement must have exactly one of them."""
        found = tuple(name for name in (element, f"Not{element}") if name in value)
        if not found:
            self.report(path + element, "is missing")
        elif len(found) > 1:
            self.report(path + found[1], f"contradicts `{element}': only one may be given")
        return found

    def _principals(self, value: JsonObject, path: str) -> Principals | None:
        if self.kind == "user":
            for element in ("Principal", "NotPrincipal"):
                if element in value:
                    self.report(path + element, "a user policy must not name principals")
            return None
        principals: Principals | None = None
        for element in self._which(value, "Principal", path):
            is_not = element == "NotPrincipal"
            principals = read_principals(
                value[element], path + element, self.report, is_not=is_not
            )
        return principals

    def _texts(self, value: Json, path: str) -> list[tuple[str, str]]:
        """One string, or a list of at least one, each with its path."""
        if isinstance(value, str):
            return [(path, value)]
        if not isinstance(value, list):
            self.report(path, f"must be a string or a list of strings, not {kind_of(value)}")
            return []
        if not value:
            self.report(path, "the list is empty")
        found: list[tuple[str, str]] = []
        for at, member in enumerate(value):
            if isinstance(member, str):
                found.append((f"{path}[{at}]", member))
            else:
                self.report(f"{path}[{at}]", f"must be a string, not {kind_of(member)}")
        return found

    def _actions(self, value: JsonObject, path: str) -> tuple[tuple[str, ...], bool]:
        elements = self._which(value, "Action", path)
        texts = [pair for e in elements for pair in self._texts(value[e], path + e)]
        for where, text in texts:
            if not _ACTION.fullmatch(text):
                self.report(where, f"{shown(text)} is not an action such as `ses:SendRawEmail'")
        return tuple(text for _, text in texts), "NotAction" in elements

    def _resources(
        self, value: JsonObject, path: str
    ) -> tuple[list[Template], tuple[str, ...], bool]:
        elements = self._which(value, "Resource", path)
        texts = [pair for e in elements for pair in self._texts(value[e], path + e)]
        templates = [self._resource(text, where) for where, text in texts]
        return templates, tuple(text for _, text in texts), "NotResource" in elements

    def _resource(self, text: str, path: str) -> Template:
        full = text
        parts = text.split(":", 5)
        if text != ANYTHING and len(parts) < 6 and self.kind == "user" and parts[0] == "arn":
            # IAM completes an ARN with fewer parts in a user policy with stars.
            full = ":".join(parts + ["*"] * (6 - len(parts)))
        elif text != ANYTHING and (parts[0] != "arn" or len(parts) < 6):
            wanted = "`arn:aws:ses:us-east-1:111122223333:identity/example.com'"
            self.report(path, f"{shown(text)} is neither `*' nor an ARN such as {wanted}")
        if self.has_variables and any("${" in part for part in full.split(":", 5)[:5]):
            self.report(path, "variables may stand only after the fifth colon of an ARN")
            return Template(())
        try:
            return parse_template(full, variables=self.has_variables, wildcards=True)
        except TemplateError as error:
            self.report(path, str(error))
            return Template(())

    def _conditions(
        self, value: JsonObject, path: str, *, denies: bool
    ) -> tuple[Condition, ...]:
        block = value.get("Condition", {})
        path += "Condition"
        if not isinstance(block, dict):
            self.report(path, f"must be an object, not {kind_of(block)}")
            return ()
        found: list[Condition] = []
        for text, keys in block.items():
            where = f"{path}.{text}"
            try:
                operator = read_operator(text)
            except ConditionError as error:
                self.report(where, str(error))
                continue
            if isinstance(keys, dict):
                found += self._tests(operator, keys, where, denies=denies)
            else:
                self.report(where, f"must be an object of keys, not {kind_of(keys)}")
        return tuple(found)

    def _tests(
        self, operator: OperatorName, keys: JsonObject, path: str, *, denies: bool
    ) -> list[Condition]:
        found: list[Condition] = []
        seen: dict[str, str] = {}
        for key, value in keys.items():
            where = f"{path}.{key}"
            problem = key_problem(key)
            twin = seen.setdefault(key.lower(), key)
            if problem is None and twin != key:
                problem = f"is the same key as {shown(twin)}, as keys ignore letter case"
            if problem is not None:
                self.report(where, problem)
                continue
            before = len(self.problems)
            values = self._values(value, where)
            if len(self.problems) > before:
                continue
            try:
                found.append(
                    compile_condition(
                        operator,
                        key,
                        values,
                        denies=denies,
                        variables=self.has_variables,
                        address_tag_idiom=self.address_tag_idiom,
                    )
                )
            except ConditionError as error:
                for message in error.problems:
                    self.report(where, message)
        return found

    def _values(self, value: Json, path: str) -> tuple[str, ...]:
        """The values of a condition; numbers and booleans need no quotes."""
        members = value if isinstance(value, list) else [value]
        found: list[str] = []
        for at, member in enumerate(members):
            match member:
                case str():
                    found.append(member)
                case bool():
                    found.append("true" if member else "false")
                case Number(text):
                    found.append(text)
                case _:
                    where = f"{path}[{at}]" if isinstance(value, list) else path
                    wanted = "a string, number or boolean"
                    self.report(where, f"must be {wanted}, not {kind_of(member)}")
        return tuple(found)
