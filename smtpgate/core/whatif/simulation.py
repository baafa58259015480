"""Simulation: one JSON request on a line in, one JSON decision on a line out.

A request that contains policies is complete: nothing is derived or added, and an absent key is
absent. Its policies are named ``identity-0``, ``identity-1``, … and ``user-0``, …, in order. A
request without policies is about the directory (:mod:`smtpgate.core.whatif.trial`).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from smtpgate.core.arn import ArnError, IdentityArn, is_account_id, root_arn, user_arn
from smtpgate.core.message.envelope import SEND_RAW_EMAIL
from smtpgate.core.policy import (
    Caller,
    Context,
    Decision,
    Determining,
    Policy,
    PolicyError,
    PolicyKind,
    Request,
    evaluate,
    parse_policy,
)
from smtpgate.core.policy.problem import hint, shown
from smtpgate.core.policy.strict_json import (
    Json,
    JsonObject,
    Number,
    kind_of,
    parse_json,
    print_json,
)

SimulationOutcome = Literal["allow", "explicit-deny", "implicit-deny", "invalid"]
Id: TypeAlias = "str | Number | bool | None"

_MEMBERS: Final = (
    "id", "sender", "identity_arn", "action", "identity_policies", "user_policies", "context",
)  # fmt: skip
_SENDER: Final = ("account", "user", "user_arn")
_MAX_REMEMBERED: Final = 1024
_PLAIN: Final = json.JSONEncoder(ensure_ascii=False)


class SimulationError(ValueError):
    """A request that cannot be read, with all its problems and its id, if it has one."""

    def __init__(self, problems: Iterable[str], request_id: Id = None) -> None:
        self.problems = tuple(problems)
        self.id = request_id
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class Simulated:
    """A request as read; ``identity_policies`` and ``user_policies`` are texts of documents.

    Both are ``None`` if the request is about the directory. ``context`` has its keys in lower
    case; those in ``absent`` were null.
    """

    id: Id
    caller: Caller
    user_name: str | None
    identity_arn: str
    action: str
    identity_policies: tuple[str, ...] | None
    user_policies: tuple[str, ...] | None
    context: Context
    absent: frozenset[str]

    @property
    def is_complete(self) -> bool:
        """True if the request contains policies."""
        return self.identity_policies is not None or self.user_policies is not None


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """The decision on one request."""

    id: Id
    outcome: SimulationOutcome
    determining: tuple[Determining, ...] = ()
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line of JSON; its keys and their order never change."""
        # The id is printed as it was written: a number keeps its digits.
        request_id = print_json(self.id) if isinstance(self.id, Number) else json.dumps(self.id)
        rest = {
            "outcome": self.outcome,
            "determining": [
                {"policy": cited.policy, "sid": cited.sid, "index": cited.index}
                for cited in self.determining
            ],
            "reasons": self.reasons,
        }
        return f'{{"id": {request_id}, {json.dumps(rest)[1:]}'


def answer_of(request_id: Id, decision: Decision) -> SimulationResult:
    """The result for a decision of the policies."""
    outcome: SimulationOutcome = decision.outcome
    return SimulationResult(request_id, outcome, decision.determining, decision.reasons)


class Simulator:
    """Decides complete requests; a document that occurs again is not parsed again."""

    def __init__(self) -> None:
        self._known: dict[tuple[PolicyKind, str, str], Policy | PolicyError] = {}

    def decide(self, simulated: Simulated) -> SimulationResult:
        """Decide with the request's own policies; an invalid document makes it invalid."""
        problems: list[str] = []
        identity_policies = self._read("identity", simulated.identity_policies or (), problems)
        user_policies = self._read("user", simulated.user_policies or (), problems)
        if problems:
            return SimulationResult(simulated.id, "invalid", reasons=tuple(problems))
        request = Request(
            simulated.caller, simulated.action, simulated.identity_arn, simulated.context
        )
        decision = evaluate(
            request, identity_policies=identity_policies, user_policies=user_policies
        )
        return answer_of(simulated.id, decision)

    def _read(
        self, kind: PolicyKind, texts: Sequence[str], problems: list[str]
    ) -> list[Policy]:
        policies: list[Policy] = []
        for number, text in enumerate(texts):
            name = f"{kind}-{number}"
            policy = self._policy(kind, name, text)
            if isinstance(policy, PolicyError):
                problems += (f"{name}: {problem}" for problem in policy.problems)
            else:
                policies.append(policy)
        return policies

    def _policy(self, kind: PolicyKind, name: str, text: str) -> Policy | PolicyError:
        key = (kind, name, text)
        known = self._known.get(key)
        if known is None:
            try:
                known = parse_policy(text, kind=kind, name=name)
            except PolicyError as error:
                known = error
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            self._known[key] = known
        return known


def read_simulation(line: str | bytes) -> Simulated:
    """Read one line. Raises SimulationError."""
    try:
        value, repeated = parse_json(line)
    except PolicyError as error:
        raise SimulationError(map(str, error.problems)) from None
    reader = _Reader([str(problem) for problem in repeated])
    if not isinstance(value, dict):
        raise SimulationError([f"the request must be an object, not {kind_of(value)}"])
    return reader.request(value)


class _Reader:
    """Reads one request and collects its problems."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        self.id: Id = None

    def request(self, value: JsonObject) -> Simulated:
        """The whole request."""
        self.id = self._id(value.get("id"))
        self._check_names(value, _MEMBERS, "")
        identity_arn = self._identity_arn(value.get("identity_arn"))
        partition = identity_arn.split(":", 2)[1] if identity_arn else "aws"
        caller, user_name = self._sender(value.get("sender"), partition)
        context, absent = self._context(value.get("context"))
        simulated = Simulated(
            self.id,
            caller,
            user_name,
            identity_arn,
            self._text(value.get("action"), "action") or SEND_RAW_EMAIL,
            self._documents(value.get("identity_policies"), "identity_policies"),
            self._documents(value.get("user_policies"), "user_policies"),
            context,
            absent,
        )
        if self.problems:
            raise SimulationError(self.problems, self.id)
        return simulated

    def _id(self, value: Json) -> Id:
        if isinstance(value, list | dict):
            self.problems.append(f"id: must be a string or a number, not {kind_of(value)}")
            return None
        return value

    def _check_names(self, value: JsonObject, known: Sequence[str], path: str) -> None:
        """Unknown members are allowed, unless they look like a misspelt name."""
        for name in value:
            if name not in known and (near := hint(name, known)):
                self.problems.append(f"{path}{name}: unknown member {shown(name)}{near}")

    def _text(self, value: Json, path: str) -> str | None:
        if value is None or (isinstance(value, str) and value):
            return value
        what = "empty" if value == "" else kind_of(value)
        self.problems.append(f"{path}: must be a string, not {what}")
        return None

    def _identity_arn(self, value: Json) -> str:
        text = self._text(value, "identity_arn")
        if text is None:
            if value is None:
                self.problems.append("identity_arn: is missing")
            return ""
        try:
            IdentityArn.parse(text)
        except ArnError as error:
            self.problems.append(f"identity_arn: {error}")
            return ""
        return text

    def _sender(self, value: Json, partition: str) -> tuple[Caller, str | None]:
        nobody = Caller("", "", is_root=False), None
        if not isinstance(value, dict):
            what = "is missing" if value is None else f"must be an object, not {kind_of(value)}"
            self.problems.append(f"sender: {what}")
            return nobody
        self._check_names(value, _SENDER, "sender.")
        account = self._text(value.get("account"), "sender.account")
        if account is None or not is_account_id(account):
            self.problems.append("sender.account: must be the 12 digits of an account id")
            return nobody
        user = self._text(value.get("user"), "sender.user")
        arn = self._text(value.get("user_arn"), "sender.user_arn")
        root = root_arn(account, partition)
        if arn is None:
            arn = root if user is None else user_arn(account, user, partition=partition)
        parts = arn.split(":", 5)
        if len(parts) != 6 or parts[0] != "arn" or parts[4] != account:
            self.problems.append(f"sender.user_arn: {shown(arn)} is no ARN of {account}")
        return Caller(account, arn, is_root=user is None and arn == root), user

    def _documents(self, value: Json, path: str) -> tuple[str, ...] | None:
        """The texts of documents, which may be objects or strings."""
        if value is None:
            return None
        if not isinstance(value, list):
            self.problems.append(f"{path}: must be a list of policies, not {kind_of(value)}")
            return None
        return tuple(member if isinstance(member, str) else _dumped(member) for member in value)

    def _context(self, value: Json) -> tuple[Context, frozenset[str]]:
        if value is None:
            return {}, frozenset()
        if not isinstance(value, dict):
            self.problems.append(f"context: must be an object, not {kind_of(value)}")
            return {}, frozenset()
        context: dict[str, tuple[str, ...]] = {}
        absent: set[str] = set()
        for key, member in value.items():
            folded = key.lower()
            if folded in context or folded in absent:
                self.problems.append(f"context.{key}: occurs twice, as keys ignore letter case")
            elif member is None:
                absent.add(folded)
            else:
                context[folded] = self._values(member, f"context.{key}")
        return context, frozenset(absent)

    def _values(self, value: Json, path: str) -> tuple[str, ...]:
        if isinstance(value, str):
            return (value,)
        members = value if isinstance(value, list) else [value]
        return tuple(self._value(member, path) for member in members)

    def _value(self, member: Json, path: str) -> str:
        match member:
            case str():
                return member
            case bool():
                return "true" if member else "false"
            case Number(text):
                return text
        wanted = "a string, number or boolean, or a list of them"
        self.problems.append(f"{path}: must be {wanted}, not {kind_of(member)}")
        return ""


def _dumped(value: Json) -> str:
    """The text of a document; numbers as they were written."""
    try:
        return _PLAIN.encode(value)
    except TypeError:  # it contains a Number
        return print_json(value)
