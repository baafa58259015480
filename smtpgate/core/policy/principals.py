"""Principals: the accounts and users that a statement names, and the test of a caller.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html
An account, by its id or its root ARN, stands for all its users. A role stands for its sessions.
Groups are never principals, and no wildcard is allowed inside an ARN. Services, federated
identities and canonical users are principals too, but never send through this gate.
"""

import re
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from msgspec import Struct
from msgspec.structs import force_setattr

from smtpgate.core.policy.match import lookup
from smtpgate.core.policy.problem import hint, shown
from smtpgate.core.policy.strict_json import Json, kind_of

Report = Callable[[str, str], None]

_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_ROOT: Final = re.compile(r"arn:aws[a-z-]{0,20}:iam::(?P<account>[0-9]{12}):root")
_PATH: Final = r"(?:[\x21-\x29\x2b-\x2e\x30-\x3e\x40-\x7e]+/)*"
_NAME: Final = r"[A-Za-z0-9_+=,.@-]{1,64}"
_USER: Final = re.compile(
    rf"arn:aws[a-z-]{{0,20}}:iam::(?P<account>[0-9]{{12}}):user/{_PATH}{_NAME}"
)
_ROLE: Final = re.compile(
    rf"arn:(?P<partition>aws[a-z-]{{0,20}}):iam::(?P<account>[0-9]{{12}}):role/"
    rf"{_PATH}(?P<name>{_NAME})"
)
_SESSION: Final = re.compile(
    r"arn:(?P<partition>aws[a-z-]{0,20}):sts::(?P<account>[0-9]{12}):assumed-role/"
    rf"(?P<name>{_NAME})/{_NAME}"
)
_FEDERATED_USER: Final = re.compile(
    rf"arn:aws[a-z-]{{0,20}}:sts::(?P<account>[0-9]{{12}}):federated-user/{_NAME}"
)
_FEDERATED: Final = re.compile(
    r"arn:aws[a-z-]{0,20}:iam::[0-9]{12}:(?:saml|oidc)-provider/[\x21-\x29\x2b-\x3e\x40-\x7e]+"
    r"|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"
)
_CANONICAL_USER: Final = re.compile(r"[0-9a-fA-F]{64}")
_SERVICE: Final = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")
_FORMS: Final = "an account id, the ARN of an account's root, of a user or of a role, or `*'"


class Caller(Struct, frozen=True, gc=False):
    """The caller of a request: a user, or the account itself if ``is_root``."""

    account_id: str
    arn: str
    is_root: bool


NOBODY: Final = Caller("", "", is_root=False)


@dataclass(frozen=True, slots=True)
class Who:
    """A caller with the values that principals are compared with."""

    caller: Caller
    account_id: str
    arn: str
    root_arn: str
    role: str | None


@lru_cache(1024)
def who_is(caller: Caller) -> Who:
    """Prepare a caller for comparison."""
    partition = [*caller.arn.split(":", 2), ""][1] or "aws"
    session = _SESSION.fullmatch(caller.arn) if ":assumed-role/" in caller.arn else None
    role = _role(session) if session else None
    root_arn = f"arn:{partition}:iam::{caller.account_id}:root"
    return Who(caller, caller.account_id, caller.arn, root_arn, role)


def _role(match: re.Match[str]) -> str:
    """A role, whatever its path: a session's ARN does not have it."""
    return f"{match['partition']}:{match['account']}:{match['name']}"


class Principals(Struct, frozen=True, gc=False):
    """The principals of one statement; ``is_not`` for a ``NotPrincipal``."""

    aws: tuple[str, ...]
    services: tuple[str, ...] = ()
    federated: tuple[str, ...] = ()
    canonical_users: tuple[str, ...] = ()
    is_not: bool = False
    # Made of the other fields.
    anyone: bool = False
    _accounts: Container[str] = ()
    _arns: Container[str] = ()
    _roles: Container[str] = ()

    def __post_init__(self) -> None:
        roles = (_ROLE.fullmatch(text) for text in self.aws)
        force_setattr(self, "anyone", "*" in self.aws)
        force_setattr(self, "_accounts", lookup(filter(_ACCOUNT.fullmatch, self.aws)))
        force_setattr(self, "_arns", lookup((*self.aws, *self.services)))
        force_setattr(self, "_roles", lookup(_role(match) for match in roles if match))

    def accounts(self) -> frozenset[str] | None:
        """The ids of the accounts that a caller can belong to; ``None`` for any account."""
        if self.anyone or self.is_not or self.services:
            return None
        forms = (_ROOT, _USER, _ROLE, _SESSION, _FEDERATED_USER)
        matches = (form.fullmatch(text) for form in forms for text in self.aws)
        listed = filter(_ACCOUNT.fullmatch, self.aws)
        return frozenset((*listed, *(match["account"] for match in matches if match)))

    def strangers(self) -> tuple[str, ...]:
        """The principals that never send here: only users and accounts have access keys."""
        forms = (_ROLE, _SESSION, _FEDERATED_USER)
        others = (text for text in self.aws if any(form.fullmatch(text) for form in forms))
        return (*others, *self.services, *self.federated, *self.canonical_users)

    @property
    def has_senders(self) -> bool:
        """True if some of the principals can send here."""
        listed = (*self.aws, *self.services, *self.federated, *self.canonical_users)
        return len(self.strangers()) < len(listed)

    def accounts_named(self) -> frozenset[str]:
        """The ids of the accounts that are named as a whole."""
        roots = (_ROOT.fullmatch(text) for text in self.aws)
        listed = filter(_ACCOUNT.fullmatch, self.aws)
        return frozenset((*listed, *(match["account"] for match in roots if match)))

    def _names_account(self, who: Who) -> bool:
        return self.anyone or who.account_id in self._accounts or who.root_arn in self._arns

    def suffices_alone(self, who: Who) -> bool:
        """True if an Allow needs no user policy beside it, for a caller of the same account.

        That is so if it names the caller's own ARN, its role's, or everyone. An Allow that
        names the account leaves the decision to the account's user policies.
        """
        if self.is_not or who.caller.is_root:
            return False
        return self.anyone or self._names_own(who)

    def _names_own(self, who: Who) -> bool:
        return who.arn in self._arns or (who.role is not None and who.role in self._roles)

    def admits(self, who: Who, *, denies: bool) -> bool:
        """True if the statement applies to the caller."""
        if not self.is_not:
            return self._names_account(who) or self._names_own(who)
        return not self._spares(who) if denies else not self._names_any(who)

    def _names_any(self, who: Who) -> bool:
        return self._names_account(who) or self._names_own(who)

    def _spares(self, who: Who) -> bool:
        """True if a Deny with NotPrincipal exempts the caller.

        Every principal of the caller must be listed: its account as well as the user, or the
        role as well as its session
        (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_notprincipal.html).
        """
        if self.anyone:
            return True
        if not self._names_account(who):
            return False
        has_role = who.role is None or who.role in self._roles
        return who.caller.is_root or (has_role and who.arn in self._arns)


def read_principals(value: Json, path: str, report: Report, *, is_not: bool) -> Principals:
    """Read the element's value, and report its problems."""
    if value == "*":
        return Principals(("*",), is_not=is_not)
    if not isinstance(value, dict):
        wanted = '`"*"\' or an object such as `{"AWS": "111122223333"}\''
        report(path, f"must be {wanted}, not {kind_of(value)}")
        return Principals((), is_not=is_not)
    if not value:
        report(path, "names no principal")
    names: dict[str, tuple[str, ...]] = {}
    for kind, member in value.items():
        problem_of = _PROBLEMS.get(kind)
        if problem_of is None:
            known = hint(kind, _PROBLEMS)
            report(f"{path}.{kind}", f"principals of kind {shown(kind)} are not known{known}")
            continue
        found = _names(member, f"{path}.{kind}", report)
        names[kind] = tuple(text for _, text in found)
        for where, text in found:
            problem = problem_of(text)
            if problem is not None:
                report(where, problem)
    return Principals(
        names.get("AWS", ()),
        names.get("Service", ()),
        names.get("Federated", ()),
        names.get("CanonicalUser", ()),
        is_not=is_not,
    )


def _names(value: Json, path: str, report: Report) -> list[tuple[str, str]]:
    values: Iterable[tuple[str, Json]] = [(path, value)]
    if isinstance(value, list):
        values = [(f"{path}[{at}]", member) for at, member in enumerate(value)]
        if not value:
            report(path, "the list is empty")
    found: list[tuple[str, str]] = []
    for where, member in values:
        if isinstance(member, str):
            found.append((where, member))
        else:
            report(where, f"must be a string, not {kind_of(member)}")
    return found


def _aws_problem(text: str) -> str | None:
    forms = (_ACCOUNT, _ROOT, _USER, _ROLE, _SESSION, _FEDERATED_USER)
    if text == "*" or any(form.fullmatch(text) for form in forms):
        return None
    if "*" in text or "?" in text:
        return f"{shown(text)} has a wildcard, which never matches inside a principal"
    if ":group/" in text:
        return f"{shown(text)} is a group, and a group cannot be a principal"
    return f"{shown(text)} is not a principal: expected {_FORMS}"


def _service_problem(text: str) -> str | None:
    if _SERVICE.fullmatch(text):
        return None
    return f"{shown(text)} is not a service such as `ses.amazonaws.com'"


def _federated_problem(text: str) -> str | None:
    if _FEDERATED.fullmatch(text):
        return None
    wanted = "`cognito-identity.amazonaws.com' or a SAML or OIDC provider's ARN"
    return f"{shown(text)} is not an identity provider such as {wanted}"


def _canonical_user_problem(text: str) -> str | None:
    if _CANONICAL_USER.fullmatch(text):
        return None
    return f"{shown(text)} is not a canonical user id of 64 hexadecimal digits"


# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
_PROBLEMS: Final = {
    "AWS": _aws_problem,
    "Service": _service_problem,
    "Federated": _federated_problem,
    "CanonicalUser": _canonical_user_problem,
}
