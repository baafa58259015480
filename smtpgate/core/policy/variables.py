"""Policy variables: ``${aws:username}`` in a value, replaced from the request's context.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html
The replacement is literal text: a star in it matches only a star.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from msgspec import Struct

from smtpgate.core.policy.keys import is_key, is_multivalued, key_problem
from smtpgate.core.policy.match import Piece, pieces_of
from smtpgate.core.policy.problem import shown

Context = Mapping[str, tuple[str, ...]]

_ESCAPES: Final = frozenset("*?$")
_VARIABLE: Final = re.compile(r"(?P<key>[^,'{}]+)(?:, '(?P<default>[^']*)')?")


class TemplateError(ValueError):
    """A ``${…}`` that cannot be read."""


class Variable(Struct, frozen=True, gc=False):
    """A condition key that is replaced by its value in the request, or else by the default."""

    key: str
    default: str | None = None

    def value(self, context: Context) -> str | None:
        """The replacement; ``None`` if the request has no value or several."""
        values = context.get(self.key, ())
        if len(values) == 1 and not is_multivalued(self.key):
            return values[0]
        return self.default


class Template(Struct, frozen=True, gc=False):
    """A value of a document: literal texts, wildcards and variables."""

    parts: tuple[Piece | Variable, ...]

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The variables in it, in order."""
        return tuple(part for part in self.parts if isinstance(part, Variable))

    def resolve(self, context: Context) -> tuple[Piece, ...] | None:
        """The value for one request; ``None`` if a variable has no value there."""
        pieces: list[Piece] = []
        for part in self.parts:
            piece = part.value(context) if isinstance(part, Variable) else part
            if piece is None:
                return None
            pieces.append(piece)
        return tuple(pieces)


def parse_template(text: str, *, variables: bool, wildcards: bool) -> Template:
    """Read a value with variables and wildcards, if enabled. Raises TemplateError."""
    parts: list[Piece | Variable] = []
    for part in _cut(text) if variables else (text,):
        if isinstance(part, str) and wildcards:
            parts.extend(pieces_of(part))
        elif isinstance(part, _Escaped):
            parts.append(part.text)
        else:
            parts.append(part)
    return Template(tuple(parts))


@dataclass(frozen=True, slots=True)
class _Escaped:
    text: str


def _cut(text: str) -> Iterator[str | Variable | _Escaped]:
    at = 0
    while (start := text.find("${", at)) >= 0:
        if start > at:
            yield text[at:start]
        end = text.find("}", start)
        if end < 0:
            raise TemplateError(f"the variable {shown(text[start:])} has no closing brace")
        yield _variable(text[start + 2 : end])
        at = end + 1
    if at < len(text):
        yield text[at:]


def _variable(inside: str) -> Variable | _Escaped:
    if inside in _ESCAPES:
        return _Escaped(inside)
    match = _VARIABLE.fullmatch(inside)
    if match is None or not is_key(match["key"]):
        wanted = "a condition key, or a key, a comma, a space and a default in single quotes"
        raise TemplateError(f"the variable {shown(inside)} is not {wanted}")
    problem = key_problem(match["key"])
    if problem is not None:
        raise TemplateError(problem)
    return Variable(match["key"].lower(), match["default"])
