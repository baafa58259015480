"""Findings about single conditions: addresses, absent keys, and results that never change."""

from collections.abc import Iterator
from typing import Final

from smtpgate.core.address import AddressError, parse_forward_path, parse_mailbox
from smtpgate.core.policy.conditions import Condition, is_glob
from smtpgate.core.policy.finding import Finding, found
from smtpgate.core.policy.keys import Key, KeyType, is_multivalued, known_key
from smtpgate.core.policy.lint_identity import outside_findings
from smtpgate.core.policy.lint_regex import as_globs
from smtpgate.core.policy.operators import NULL, Family
from smtpgate.core.policy.problem import shown
from smtpgate.core.policy.statement import Statement

# A value of a key of that type can never be read as one of these.
_UNREADABLE: Final[dict[KeyType, frozenset[Family]]] = {
    "address": frozenset({"number", "date", "bool", "ip", "arn"}),
    "arn": frozenset({"number", "date", "bool", "ip"}),
    "bool": frozenset({"number", "date", "ip", "arn"}),
    "date": frozenset({"bool", "ip", "arn"}),
    "ip": frozenset({"number", "date", "bool", "arn"}),
    "number": frozenset({"bool", "ip", "arn"}),
    "string": frozenset(),
}
# The only values of these keys.
_DOMAINS: Final = {"ses:apiversion": ("2",), "aws:principaltype": ("Account", "User")}


def condition_findings(
    statement: Statement, condition: Condition, path: str
) -> Iterator[Finding]:
    """Findings about one condition of a statement."""
    key = known_key(condition.key)
    operator = condition.operator
    if operator.base == NULL:
        yield from _null_findings(condition, key, path)
        return
    if is_multivalued(condition.key) and not operator.set_operator:
        yield found(
            "set-operator-missing",
            path,
            f"{condition.key} has many values, so {operator.text} without a set operator "
            "never holds",
            f"`ForAllValues:{operator.text}' or `ForAnyValue:{operator.text}'",
        )
        return
    if key is None or key.presence == "never":
        yield _never_present(condition, path)
        return
    yield from _decided(statement, condition, key, path)
    yield from _open_when_absent(statement, condition, key, path)
    yield from _one_of_many(statement, condition, path)
    if key.type == "address":
        yield from _address_findings(statement, condition, path)
        yield from outside_findings(statement, condition, path)
    elif operator.row.family == "string":
        yield from _text_findings(condition, path)


def _holds_when_absent(condition: Condition) -> bool:
    return condition.holds({})


def _null_findings(condition: Condition, key: Key | None, path: str) -> Iterator[Finding]:
    wants_absence = _holds_when_absent(condition)
    wants_presence = condition.holds({condition.key.lower(): ("",)})
    if key is None or key.presence == "never":
        if not wants_absence:
            yield found("never-true", path, f"no submission has {condition.key}")
    elif key.presence == "always" and not wants_presence:
        yield found("never-true", path, f"every submission has {condition.key}")


def _never_present(condition: Condition, path: str) -> Finding:
    always = "always" if _holds_when_absent(condition) else "never"
    return found(
        "key-never-present",
        path,
        f"no submission has {condition.key}, so {condition.operator.text} {always} holds",
    )


def _decided(
    statement: Statement, condition: Condition, key: Key, path: str
) -> Iterator[Finding]:
    """Conditions whose result no message can change: they never hold, or always."""
    operator = condition.operator
    if not condition.values and not operator.row.negated:
        yield found("never-true", path, "there is no value that could match")
    elif operator.row.family in _UNREADABLE[key.type] and key.presence == "always":
        cannot = (
            f"{condition.key} is {_ARTICLES.get(key.type, 'a')} {key.type}, which "
            f"{operator.base} cannot compare"
        )
        if statement.is_deny:
            yield found("always-true", path, f"{cannot}, so the Deny applies to all of them")
        else:
            yield found("never-true", path, cannot)
    elif key.name.lower() in _DOMAINS and not any("${" in value for value in condition.values):
        domain = _DOMAINS[key.name.lower()]
        if not any(condition.holds({key.name.lower(): (value,)}) for value in domain):
            only = " or ".join(map(shown, domain))
            yield found("never-true", path, f"{condition.key} is always {only}")
    elif operator.row.family == "arn" and _reaches_across_colons(condition):
        message = "a `*' does not reach across the colons of an ARN: write all six parts"
        yield found("always-true" if operator.row.negated else "never-true", path, message)


def _reaches_across_colons(condition: Condition) -> bool:
    return all(value.count(":") < 5 and "${" not in value for value in condition.values)


_ARTICLES: Final = {"address": "an", "arn": "an", "ip": "an"}


def _open_when_absent(
    statement: Statement, condition: Condition, key: Key, path: str
) -> Iterator[Finding]:
    """A condition of an Allow that holds because the key is absent."""
    if statement.is_deny or not _holds_when_absent(condition):
        return
    name = condition.key.lower()
    others = (other for other in statement.conditions if other is not condition)
    if any(other.key.lower() == name and not _holds_when_absent(other) for other in others):
        return
    guard = f'"Null": {{"{condition.key}": "false"}} as a further condition'
    if condition.operator.set_operator == "ForAllValues":
        yield found(
            "for-all-values-open",
            path,
            f"ForAllValues also holds when the request has no {condition.key}, and this is an "
            "Allow",
            guard,
        )
    elif key.presence != "always":
        yield found(
            "opens-when-absent",
            path,
            f"{condition.operator.text} also holds when the request has no {condition.key}, "
            "and this is an Allow",
            guard,
        )


def _one_of_many(statement: Statement, condition: Condition, path: str) -> Iterator[Finding]:
    """A set operator by which one value of many decides for the others."""
    operator = condition.operator
    if not is_multivalued(condition.key):
        return
    if statement.is_deny and operator.set_operator == "ForAllValues":
        yield found(
            "deny-for-all-values",
            path,
            f"the Deny applies only if every value of {condition.key} matches: one that does "
            "not lets the message pass with all the others",
            f"`{operator.text.replace('ForAllValues', 'ForAnyValue')}'",
        )
    elif operator.set_operator == "ForAnyValue" and not (
        statement.is_deny or _has_all_values(statement, condition.key)
    ):
        yield found(
            "allow-for-any-value",
            path,
            f"the Allow applies if one value of {condition.key} matches, even if the others do "
            "not",
            f"`{operator.text.replace('ForAnyValue', 'ForAllValues')}', and "
            f'"Null": {{"{condition.key}": "false"}}',
        )


def _has_all_values(statement: Statement, key: str) -> bool:
    """True if another condition of the statement tests all values of the key."""
    return any(
        other.key.lower() == key.lower() and other.operator.set_operator == "ForAllValues"
        for other in statement.conditions
    )


def _text_findings(condition: Condition, path: str) -> Iterator[Finding]:
    if condition.key.lower() != "ses:fromdisplayname" or not is_glob(condition.operator.row):
        return
    for value in condition.values:
        if not any(character in value for character in "*?$"):
            yield found(
                "like-without-wildcard",
                path,
                f"{shown(value)} matches only that name, not names that contain it",
                f"`*{value}*' if names that contain it were meant",
            )


def _address_findings(
    statement: Statement, condition: Condition, path: str
) -> Iterator[Finding]:
    row = condition.operator.row
    if row.family != "string":
        return
    # True if a narrower match would allow a message that was meant to be refused.
    is_barrier = statement.is_deny is not row.negated
    for value in condition.values:
        if "${" in value or (is_glob(row) and as_globs(value) is not None):
            continue
        if row.wildcards and ("*" in value or "?" in value):
            yield from _pattern_findings(value, condition, path, is_barrier=is_barrier)
        else:
            yield from _exact_findings(condition, value, path, is_barrier=is_barrier)


def _pattern_findings(
    value: str, condition: Condition, path: str, *, is_barrier: bool
) -> Iterator[Finding]:
    local_part, at, domain = value.rpartition("@")
    if at and is_barrier and _has_letters(value):
        better = "`StringEqualsIgnoreCase' with the addresses written out"
        yield _letter_case(value, path, f"a pattern for each letter case, or {better}")
    if not at or "*" in domain or "?" in domain:
        if not is_barrier and not _ends_in_domain(domain) and value not in ("*", "*@*"):
            yield found(
                "star-reaches-domain",
                path,
                f"a `*' in {shown(value)} also stands for text with an `@' or a dot in it, so "
                "other domains match too",
                "write the domain out after an `@'",
            )
        return
    if domain != domain.lower():
        yield _upper_case(value, f"{local_part}@{domain.lower()}", path)
        return
    if local_part == "*":
        if f"*@*.{domain}" not in condition.values:
            yield _subdomains(value, domain, path, is_barrier=is_barrier)
    elif not is_barrier and local_part[-1:] == "*" and local_part[-2:-1].isalnum():
        begin = local_part[:-1]
        if "*" not in begin and "?" not in begin:
            yield found(
                "star-reaches-mailboxes",
                path,
                f"{shown(value)} matches all mailboxes that begin with {shown(begin)}, and "
                "text with another `@' in it, not only the mailbox and its tags",
                f"`{begin}@{domain}' and `{begin}+*@{domain}'",
            )


def _ends_in_domain(pattern: str) -> bool:
    """True if a pattern such as ``*.example.com`` matches only names in that domain."""
    tail = pattern.replace("?", "*").rpartition("*")[2]
    return tail.startswith(".") and tail.count(".") > 1


def _subdomains(value: str, domain: str, path: str, *, is_barrier: bool) -> Finding:
    message = f"{shown(value)} does not match addresses in subdomains of {domain}"
    code = "subdomains-not-covered"
    if is_barrier:
        code, message = "subdomains-escape", f"{message}, which pass here"
    return found(code, path, message, f"`*@{domain}' and `*@*.{domain}'")


def _upper_case(value: str, better: str, path: str) -> Finding:
    message = f"domains are compared in lower case, so {shown(value)} never matches"
    return found("upper-case-domain", path, message, f"`{better}'")


def _exact_findings(
    condition: Condition, value: str, path: str, *, is_barrier: bool
) -> Iterator[Finding]:
    ignores_case = "IgnoreCase" in condition.operator.base
    if "*" in value or "?" in value:
        yield found(
            "wildcard-in-equals",
            path,
            f"{condition.operator.base} has no wildcards: {shown(value)} matches only that "
            "very text",
            f"`{_like(condition.operator.text)}'",
        )
        return
    try:
        # Recipients have looser forms than other addresses.
        is_recipient = condition.key.lower() == "ses:recipients"
        spelt = str(parse_forward_path(value) if is_recipient else parse_mailbox(value))
    except AddressError as error:
        if not condition.operator.row.negated:
            yield found("never-true", path, f"{shown(value)} is not an address: {error}")
        return
    if spelt.lower() != value.lower() or (spelt != value and not ignores_case):
        local_part, _, domain = value.rpartition("@")
        if f"{local_part}@{domain.lower()}" == spelt:
            yield _upper_case(value, spelt, path)
        else:
            message = (
                f"addresses are compared as {shown(spelt)}, so {shown(value)} never matches"
            )
            yield found("never-true", path, message, f"`{spelt}'")
    elif is_barrier and not ignores_case and _has_letters(spelt):
        yield _letter_case(value, path, "an operator that ends in `IgnoreCase'")


def _letter_case(value: str, path: str, better: str) -> Finding:
    message = f"{shown(value)} matches only in this letter case; the local part in another"
    return found("letter-case-escapes", path, f"{message} passes here", better)


def _has_letters(address: str) -> bool:
    local_part = address.rpartition("@")[0]
    return local_part.lower() != local_part.upper()


def _like(operator: str) -> str:
    return operator.replace("EqualsIgnoreCase", "Like").replace("Equals", "Like")
