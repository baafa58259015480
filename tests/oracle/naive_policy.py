"""A second reading of the IAM documentation, for comparison; it shares no code with the engine.

Works on parsed JSON, statement by statement, with regular expressions for globs, and without
any thought of speed. Documents are taken to be well-formed.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements.html
"""

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from functools import cache
from typing import Any

Document = Mapping[str, Any]
Values = Mapping[str, Sequence[str]]

MULTIVALUED = {
    "ses:recipients",
    "aws:principalorgpaths",
    "aws:tagkeys",
    "aws:principalservicenameslist",
    "smtpgate:messagetagkeys",
}


def has_many(key: str) -> bool:
    """True for a key that may have several values, a tag of a message among them."""
    name = key.lower()
    return name in MULTIVALUED or name.startswith("smtpgate:messagetag/")


# Stand in for wildcards that are meant literally while a pattern is put together.
LITERAL = {"*": "\ue000", "?": "\ue001", "$": "\ue002"}


def as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def glob_as_regex(pattern: str, text: str) -> bool:
    """True if the glob matches, as a regular expression."""
    return _expression(pattern).fullmatch(text) is not None


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    expression = "".join(
        {"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern
    )
    return re.compile(expression, re.DOTALL)


def filled_in(text: str, values: Values, *, has_variables: bool) -> str | None:
    """The text with its variables replaced, their wildcards made literal."""
    if not has_variables:
        return text
    result, rest = "", text
    while "${" in rest:
        before, _, rest = rest.partition("${")
        inside, _, rest = rest.partition("}")
        if inside in LITERAL:
            result += before + LITERAL[inside]
            continue
        key, comma, default = inside.partition(", ")
        found = list(values.get(key.lower(), ()))
        if has_many(key) or len(found) != 1:
            if not comma:
                return None
            found = [default.strip("'")]
        escaped = "".join(LITERAL.get(c, c) if c in "*?" else c for c in found[0])
        result += before + escaped
    return result + rest


def restored(text: str) -> str:
    for character, stand_in in LITERAL.items():
        text = text.replace(stand_in, character)
    return text


def like(pattern: str, text: str) -> bool:
    hidden = "".join(LITERAL.get(c, c) if c in "*?" else c for c in text)
    pattern = pattern.replace(LITERAL["$"], "$")
    expression = "".join(
        {"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern
    )
    return re.fullmatch(expression, hidden, re.DOTALL) is not None


def arn_like(pattern: str, text: str) -> bool | None:
    parts = text.split(":", 5)
    if len(parts) < 6 or parts[0] != "arn":
        return None
    wanted = pattern.split(":", 5)
    if len(wanted) < 6:
        # One with a wildcard in it matches nothing; another is no pattern of ARNs.
        could_be = like(wanted[0], "arn") and ("*" in pattern or "?" in pattern)
        return False if could_be else None
    if not like(wanted[0], "arn"):
        return None
    return all(like(one, other) for one, other in zip(wanted, parts, strict=True))


def number(text: str) -> Fraction | None:
    try:
        return Fraction(text) if "/" not in text and "_" not in text else None
    except ValueError:
        return None


def instant(text: str) -> Fraction | None:
    whole = number(text)
    if whole is not None:
        return whole
    if re.fullmatch(r"\d{4}-\d{2}", text):
        text += "-01"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return Fraction(since.days * 86400 + since.seconds) + Fraction(since.microseconds, 10**6)


def plain(text: str) -> str:
    """An address or network without the `::ffff:` by which IPv6 writes IPv4."""
    address, slash, length = text.partition("/")
    try:
        mapped = ipaddress.IPv6Address(address).ipv4_mapped
    except ValueError:
        return text
    bits = int(length) - 96 if slash else 32
    return text if mapped is None or bits < 0 else f"{mapped}/{bits}"


def in_network(network: str, address: str) -> bool | None:
    try:
        one = ipaddress.ip_address(plain(address).removesuffix("/32"))
    except ValueError:
        return None
    return one in ipaddress.ip_network(plain(network), strict=False)


RELATIONS: Mapping[str, Callable[[Fraction, Fraction], bool]] = {
    "Equals": lambda a, b: a == b,
    "LessThan": lambda a, b: a < b,
    "LessThanEquals": lambda a, b: a <= b,
    "GreaterThan": lambda a, b: a > b,
    "GreaterThanEquals": lambda a, b: a >= b,
}


def compare(base: str, wanted: str, seen: str) -> bool | None:
    """One positive comparison; ``None`` when what was seen is not of the kind."""
    if base in ("StringEquals", "StringLike", "StringEqualsIgnoreCase"):
        if base == "StringLike":
            return like(wanted, seen)
        wanted = restored(wanted)
        return wanted == seen if base == "StringEquals" else wanted.lower() == seen.lower()
    if base.startswith("Arn"):
        return arn_like(wanted, seen)
    if base == "IpAddress":
        return in_network(wanted, seen)
    if base == "Bool":
        return wanted.lower() == seen.lower() if seen.lower() in ("true", "false") else None
    read = number if base.startswith("Numeric") else instant
    relation = RELATIONS[base.removeprefix("Numeric").removeprefix("Date")]
    one, other = read(seen), read(wanted)
    return None if one is None or other is None else relation(one, other)


def positive(name: str) -> tuple[str, bool]:
    """An operator without its negation."""
    if name == "NotIpAddress":
        return "IpAddress", True
    for family in ("String", "Numeric", "Date", "Arn"):
        if name.startswith(f"{family}Not"):
            return family + name.removeprefix(f"{family}Not"), True
    return name, False


def condition_holds(
    operator: str,
    key: str,
    raw: Sequence[Any],
    values: Values,
    *,
    effect: str,
    has_variables: bool,
) -> bool:
    seen = list(values.get(key.lower(), ()))
    wanted = [str(v).lower() if isinstance(v, bool) else str(v) for v in raw]
    if operator == "Null":
        return any((not seen) == (text.lower() == "true") for text in wanted)
    quantifier, _, name = operator.rpartition(":")
    base, negated = positive(name.removesuffix("IfExists"))
    if not quantifier and has_many(key):
        return False
    if not seen:
        on_absence = {"ForAllValues": True, "ForAnyValue": False}.get(quantifier, negated)
        return on_absence or name.endswith("IfExists")
    filled = [filled_in(text, values, has_variables=has_variables) for text in wanted]
    ready = [text for text in filled if text is not None]
    answers = [value_holds(base, ready, text, effect=effect, negated=negated) for text in seen]
    if quantifier == "ForAllValues":
        return all(answers)
    return any(answers) and (quantifier == "ForAnyValue" or len(seen) == 1)


def value_holds(
    base: str, wanted: Sequence[str], text: str, *, effect: str, negated: bool
) -> bool:
    """An unreadable value keeps an Allow from applying, and never a Deny."""
    parts = text.split(":")
    if base.startswith("Arn") and (len(parts) < 6 or parts[0] != "arn"):
        return effect == "Deny"
    answers = [compare(base, one, text) for one in wanted]
    if True not in answers and None in answers:
        return effect == "Deny"
    return any(answers) is not negated


def principal_names(block: object) -> list[str]:
    if not isinstance(block, dict):
        return ["*"]
    return [name for names in block.values() for name in as_list(names)]


def principal_matches(statement: Document, account: str, arn: str) -> bool:
    if "Principal" not in statement and "NotPrincipal" not in statement:
        return True
    names = principal_names(statement.get("Principal", statement.get("NotPrincipal")))
    is_account_listed = bool({"*", account, f"arn:aws:iam::{account}:root"} & set(names))
    is_user_listed = "*" in names or arn in names
    if "Principal" in statement:
        return is_account_listed or is_user_listed
    if statement["Effect"] == "Allow":
        return not (is_account_listed or is_user_listed)
    is_root = arn == f"arn:aws:iam::{account}:root"
    return not (is_account_listed and (is_user_listed or is_root))


def resource_matches(
    statement: Document, resource: str, values: Values, *, has_variables: bool
) -> bool:
    patterns = as_list(statement.get("Resource", statement.get("NotResource")))
    is_user = "Principal" not in statement and "NotPrincipal" not in statement
    answers = []
    for pattern in patterns:
        text = pattern
        if is_user and text != "*":
            text += ":*" * max(0, 5 - text.count(":"))
        ready = filled_in(text, values, has_variables=has_variables)
        answers.append(ready is not None and (ready == "*" or bool(arn_like(ready, resource))))
    return any(answers) is ("Resource" in statement)


def naive_statement_applies(
    statement: Document, request: Document, resource: str, *, has_variables: bool
) -> bool:
    """True if principal, action, resource and every condition match."""
    values: Values = request["context"]
    actions = as_list(statement.get("Action", statement.get("NotAction")))
    named = any(glob_as_regex(a.lower(), request["action"].lower()) for a in actions)
    return (
        principal_matches(statement, request["account"], request["arn"])
        and named is ("Action" in statement)
        and resource_matches(statement, resource, values, has_variables=has_variables)
        and all(
            condition_holds(
                operator,
                key,
                as_list(raw),
                values,
                effect=statement["Effect"],
                has_variables=has_variables,
            )
            for operator, keys in statement.get("Condition", {}).items()
            for key, raw in keys.items()
        )
    )


def effects(documents: Sequence[Document], request: Document, resource: str) -> list[Document]:
    return [
        statement
        for document in documents
        for statement in as_list(document["Statement"])
        if naive_statement_applies(
            statement,
            request,
            resource,
            has_variables=document.get("Version") == "2012-10-17",
        )
    ]


def naive_outcome(
    request: Document,
    identity_policies: Sequence[Document],
    user_policies: Sequence[Document],
    more_specific: Sequence[tuple[str, Sequence[Document]]] = (),
) -> str:
    """``allow``, ``explicit-deny`` or ``implicit-deny``."""
    identity = effects(identity_policies, request, request["resource"])
    user = effects(user_policies, request, request["resource"])
    closer = [s for arn, documents in more_specific for s in effects(documents, request, arn)]
    if any(statement["Effect"] == "Deny" for statement in [*identity, *user, *closer]):
        return "explicit-deny"
    is_root = request["arn"].endswith(":root")
    user_half = is_root or bool(user)
    if request["resource"].split(":")[4] == request["account"]:
        by_grant = not is_root and any(
            {request["arn"], "*"} & set(principal_names(s.get("Principal", {})))
            for s in identity
        )
        return "allow" if user_half or by_grant else "implicit-deny"
    return "allow" if user_half and identity else "implicit-deny"
