"""JSON, read strictly (RFC 8259) and with the position of every error.

The standard library's reader keeps the last of two equal keys, accepts ``NaN``, and does not
know the position of a key. In a policy, a key that is silently dropped can be a permission that
nobody granted. Numbers keep the text that was written.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from smtpgate.core.policy.problem import PolicyError, Problem, shown

_MAX_DEPTH: Final = 24
_SPACE: Final = re.compile(r"[ \t\r\n]*+")
_STRING: Final = re.compile(
    r'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4}))*+"'
)  # RFC 8259 §7
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?")
_WORD: Final = re.compile(r"-?[A-Za-z]++")
_WORDS: Final = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was written."""

    text: str


Json: TypeAlias = "str | Number | bool | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = dict[str, Json]


def kind_of(value: Json) -> str:
    """The type of a value, in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case Number():
            return "a number"
        case list():
            return "a list"
    return "an object"


def parse_json(text: str | bytes) -> tuple[Json, tuple[Problem, ...]]:
    """The value, and the keys that occur twice. Raises PolicyError for other errors."""
    text = _decoded(text)
    quick = _quickly(text)
    if quick is not None:
        return quick, ()
    reader = _Reader(text)
    try:
        value = reader.whole()
    except PolicyError as error:
        raise PolicyError([*reader.repeated, *error.problems]) from None
    return value, tuple(reader.repeated)


def _quickly(text: str) -> Json:
    """The value as the standard library reads it, much faster; ``None`` if in doubt.

    An error, or a text that the standard library accepts wrongly, is left to the reader that
    knows the position.
    """
    if "\\u" in text:
        return None
    try:
        value: Json = _QUICK.decode(text)
    except (ValueError, RecursionError):
        return None
    # As many brackets as levels are allowed cannot go deeper.
    if text.count("[") + text.count("{") <= _MAX_DEPTH or _is_shallow(value, _MAX_DEPTH):
        return value
    return None


def _unrepeated(pairs: list[tuple[str, Json]]) -> JsonObject:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a key occurs twice")
    return members


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")


_QUICK: Final = json.JSONDecoder(
    object_pairs_hook=_unrepeated,
    parse_int=Number,
    parse_float=Number,
    parse_constant=_no_constant,
)


def _is_shallow(value: Json, depth: int) -> bool:
    if isinstance(value, dict):
        return depth > 0 and all(_is_shallow(member, depth - 1) for member in value.values())
    if isinstance(value, list):
        return depth > 0 and all(_is_shallow(member, depth - 1) for member in value)
    return True


def _decoded(text: str | bytes) -> str:
    if isinstance(text, bytes):
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError as error:
            before = text[: error.start].decode("utf-8")
            raise PolicyError([Problem(_place(before, len(before)), "not UTF-8")]) from None
    for at, character in enumerate("" if text.isascii() else text):
        if "\ud800" <= character <= "\udfff":
            raise PolicyError([Problem(_place(text, at), "not Unicode")])
    return text


def _place(text: str, at: int) -> str:
    line = text.count("\n", 0, at) + 1
    column = at - text.rfind("\n", 0, at)
    return f"line {line} column {column}"


@dataclass(slots=True)
class _Reader:
    text: str
    at: int = 0
    repeated: list[Problem] = field(default_factory=list)

    def error(self, message: str) -> PolicyError:
        """An error at this position."""
        return PolicyError([Problem(_place(self.text, self.at), message)])

    def whole(self) -> Json:
        """The one value of the document."""
        if self.text.startswith("\ufeff"):
            raise self.error("a byte order mark is not allowed")  # RFC 8259 §8.1
        value = self.read(0)
        if self.peek():
            raise self.error("there is text after the end of the document")
        return value

    def skip_space(self) -> None:
        """Go to the next token."""
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def take(self, token: re.Pattern[str]) -> str | None:
        """Read the token at this position; ``None`` if it is another."""
        match = token.match(self.text, self.at)
        if match is None:
            return None
        self.at = match.end()
        return match[0]

    def peek(self) -> str:
        """The next character that is not white space; empty at the end."""
        self.skip_space()
        return self.text[self.at : self.at + 1]

    def read(self, depth: int) -> Json:
        """The value at this position."""
        if depth > _MAX_DEPTH:
            raise self.error(f"nested more than {_MAX_DEPTH} deep")
        match self.peek():
            case "{":
                return self.read_object(depth)
            case "[":
                return self.read_list(depth)
            case '"':
                return self.read_string()
        start = self.at
        number = self.take(_NUMBER)
        if number is not None:
            return Number(number)
        word = self.take(_WORD)
        if word in _WORDS:
            return _WORDS[word]
        self.at = start
        if word is None:
            raise self.error("expected a value")
        raise self.error(f"{shown(word)} is not a JSON value")

    def read_string(self) -> str:
        """The string at this position."""
        raw = self.take(_STRING)
        if raw is None:
            raise self.error(
                "a string is not closed, or contains a control character or a bad escape"
            )
        text: str = json.loads(raw)
        if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
            self.at -= len(raw)
            raise self.error("a string contains half of a surrogate pair")
        return text

    def read_list(self, depth: int) -> list[Json]:
        """The list at this position."""
        self.at += 1
        values: list[Json] = []
        if self.peek() == "]":
            self.at += 1
            return values
        while True:
            values.append(self.read(depth + 1))
            if self.close("]"):
                return values

    def read_object(self, depth: int) -> JsonObject:
        """The object at this position."""
        self.at += 1
        members: JsonObject = {}
        if self.peek() == "}":
            self.at += 1
            return members
        while True:
            if self.peek() != '"':
                raise self.error("expected a key in double quotes")
            place = _place(self.text, self.at)
            key = self.read_string()
            if self.peek() != ":":
                raise self.error("expected a colon")
            self.at += 1
            value = self.read(depth + 1)
            if key in members:
                self.repeated.append(Problem(place, f"the key {shown(key)} occurs twice"))
            members.setdefault(key, value)
            if self.close("}"):
                return members

    def close(self, bracket: str) -> bool:
        """Read a comma or the closing bracket; true for the bracket."""
        found = self.peek()
        if found not in (",", bracket) or not found:
            raise self.error(f"expected a comma or `{bracket}'")
        self.at += 1
        return found == bracket


def print_json(value: Json, indent: str = "") -> str:
    """The value as indented JSON text; numbers as they were written."""
    inner = indent + "  "
    match value:
        case Number(text):
            return text
        case dict() if value:
            members = (
                f"{inner}{json.dumps(key, ensure_ascii=False)}: {print_json(member, inner)}"
                for key, member in value.items()
            )
            return "{\n" + ",\n".join(members) + f"\n{indent}}}"
        case list() if any(isinstance(member, list | dict) for member in value):
            members = (inner + print_json(member, inner) for member in value)
            return "[\n" + ",\n".join(members) + f"\n{indent}]"
        case list():
            return "[" + ", ".join(print_json(member) for member in value) + "]"
    return json.dumps(value, ensure_ascii=False)
