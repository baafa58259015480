"""Patterns written like regular expressions, which policies do not have.

The announcement of sending authorization itself has one: ``marketing+.*@ses-example.com`` is
described as the mailbox with any address tag. ``StringLike`` compares with a glob, where ``+``
and ``.`` stand for themselves, so it covers ``marketing+.spring@`` and neither ``marketing@``
nor ``marketing+spring@``.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from smtpgate.core.policy.conditions import Condition, ConditionError, is_glob, read_operator
from smtpgate.core.policy.finding import Finding, found
from smtpgate.core.policy.keys import known_key
from smtpgate.core.policy.match import glob_match
from smtpgate.core.policy.problem import PolicyError, shown
from smtpgate.core.policy.strict_json import Json, JsonObject, parse_json, print_json

_TAG_IDIOM: Final = "+.*@"
_ESCAPED_TAG: Final = "\\+.*@"
_SIGNS: Final = ("\\", ".+@", _TAG_IDIOM)
_GROUPS: Final = "[](){}|"
_SAMPLE: Final = "spring"


def as_globs(pattern: str, *, is_address: bool = True) -> tuple[str, ...] | None:
    """The globs with the meaning of a pattern when it is read as a regular expression.

    ``None`` if it is not written like one; no globs if no glob has the same meaning.
    """
    if not _looks_like_regex(pattern, is_address=is_address):
        return None
    text = pattern.removeprefix("^").removesuffix("$").replace(_ESCAPED_TAG, "+*@")
    before, idiom, after = text.partition(_TAG_IDIOM)
    left, right = _translated(before), _translated(after)
    if left is None or right is None or _TAG_IDIOM in after:
        return ()
    return (f"{left}@{right}", f"{left}+*@{right}") if idiom else (left,)


def _looks_like_regex(pattern: str, *, is_address: bool) -> bool:
    if '"' in pattern:
        return False
    if pattern.startswith(("^", ".*")) or any(sign in pattern for sign in _SIGNS):
        return True
    if not is_address or "@[" in pattern or "${" in pattern:
        return False
    # No address contains these outside quotes, except the brackets of an address literal.
    return pattern.endswith("$") or any(character in pattern for character in _GROUPS)


def _translated(pattern: str) -> str | None:
    """A part of a regular expression as a glob; ``None`` if no glob has the same meaning."""
    glob = ""
    at = 0
    while at < len(pattern):
        character, following = pattern[at], pattern[at + 1 : at + 2]
        if character + following in (".*", ".+"):
            glob = glob.removesuffix("*") + ("*" if following == "*" else "?*")
            at += 2
        elif (
            character == "\\"
            and following
            and following not in "*?"
            and not following.isalnum()
        ):
            glob += following
            at += 2
        elif character in _GROUPS or character == "\\":
            return None
        else:
            glob += character
            at += 1
    return glob


def regex_findings(condition: Condition, path: str) -> Iterator[Finding]:
    """Findings about the patterns of one condition."""
    if not is_glob(condition.operator.row):
        return
    key = known_key(condition.key)
    is_address = key is not None and key.type == "address"
    for pattern in condition.values:
        globs = as_globs(pattern, is_address=is_address)
        if _TAG_IDIOM in pattern and condition.reads_tag_idiom:
            continue
        if globs is not None:
            yield _as_regex(condition, pattern, globs, path)
        elif is_address and ".*" in pattern:
            yield found(
                "dot-before-star",
                path,
                f"{shown(pattern)} needs a dot before the text that `*' matches; `.*' means "
                "`anything' only in a regular expression",
                f"if anything was meant: `{pattern.replace('.*', '*')}'",
            )


def _as_regex(condition: Condition, pattern: str, globs: Sequence[str], path: str) -> Finding:
    operator = condition.operator.base
    message = (
        f"{shown(pattern)} is written like a regular expression, but {operator} compares with "
        "a glob: only `*' and `?' are wild, `+', `.' and all others stand for themselves"
    )
    message += f"; it matches {_listed(_samples([pattern], ('', _SAMPLE)))}"
    misses = [text for text in _samples(globs, (_SAMPLE,)) if not glob_match(pattern, text)]
    if misses:
        message += f" and does not match {_listed(misses)}"
    proposal = " and ".join(f"`{glob}'" for glob in globs)
    return found("regex-as-glob", path, message, proposal or None)


def _samples(patterns: Sequence[str], fillings: Sequence[str]) -> list[str]:
    filled = (p.replace("*", text) for p in patterns for text in fillings)
    return list(dict.fromkeys(text.replace("?", "x") for text in filled))


def _listed(texts: Sequence[str]) -> str:
    return " or ".join(f"`{text}'" for text in texts)


def corrected(source: str) -> str:
    """The document with globs in place of patterns that are written like regular expressions.

    The rest stays as it is, except for white space. Raises PolicyError if it is not JSON.
    """
    document, repeated = parse_json(source)
    if repeated:
        raise PolicyError(repeated)
    if isinstance(document, dict):
        statements = document.get("Statement")
        for statement in statements if isinstance(statements, list) else [statements]:
            if isinstance(statement, dict):
                _correct_conditions(statement.get("Condition"))
    return print_json(document) + "\n"


def _correct_conditions(block: Json) -> None:
    for text, keys in block.items() if isinstance(block, dict) else ():
        try:
            has_globs = is_glob(read_operator(text).row)
        except ConditionError:
            continue
        if has_globs and isinstance(keys, dict):
            _correct_keys(keys)


def _correct_keys(keys: JsonObject) -> None:
    for name, value in keys.items():
        key = known_key(name)
        is_address = key is not None and key.type == "address"
        before = value if isinstance(value, list) else [value]
        after: list[Json] = []
        for member in before:
            globs = as_globs(member, is_address=is_address) if isinstance(member, str) else None
            after += [glob for glob in globs or (member,) if glob not in after]
        if after != before:
            keys[name] = after[0] if len(after) == 1 else after
