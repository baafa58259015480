"""Templates of messages: the part of Handlebars that Amazon SES describes, read strictly.

https://docs.aws.amazon.com/ses/latest/dg/send-personalized-email-advanced.html

Values (``{{name}}``, ``{{{name}}}``), paths (``a.b``, ``this``, ``../a``, ``@index``), blocks
(``#if``, ``#unless``, ``#each``, ``#with``, ``else``, ``else if``) and comments. Helpers,
partials and control of white space are refused. A template is data: nothing of it is executed.
"""

import re
from collections.abc import Iterator
from typing import Final, Literal, NoReturn, TypeAlias, cast

from msgspec import Struct

BlockKind = Literal["if", "unless", "each", "with"]
_KINDS: Final = ("if", "unless", "each", "with")
_DATA: Final = ("@index", "@key", "@first", "@last", "@root")
_MAX_DEPTH: Final = 32
_MAX_SHOWN: Final = 60
_MAX_TAG: Final = 1000
# The first that fits counts.
_CLOSED_BY: Final = {"{{!--": "--}}", "{{!": "}}", "{{{": "}}}", "{{": "}}"}
_SEGMENT: Final = re.compile(
    r"\[([^\]\[]{1,200})\]|([^\s!\"#%&'()*+,./;<=>@\[\\\]^`{|}~]{1,200})"
)
_BLANK: Final = " \t"


class TemplateSyntaxError(ValueError):
    """A template that cannot be read; the text has the place and the reason."""


class Path(Struct, frozen=True, gc=False):
    """A value by its names, from the context that is ``up`` levels above."""

    text: str
    up: int
    names: tuple[str, ...]


class Value(Struct, frozen=True, gc=False):
    """The place of a value."""

    path: Path


class Block(Struct, frozen=True, gc=False):
    """A part that is written if, or as often as, its value says."""

    kind: BlockKind
    path: Path
    then: "tuple[Node, ...]"
    otherwise: "tuple[Node, ...]"


Node: TypeAlias = str | Value | Block


class _Open:
    """A block that has begun. ``is_chained``: it was begun by ``else if``, and ends as that."""

    def __init__(self, kind: BlockKind, path: Path, *, is_chained: bool = False) -> None:
        self.kind, self.path, self.is_chained = kind, path, is_chained
        self.then: list[Node] = []
        self.otherwise: list[Node] | None = None

    @property
    def nodes(self) -> list[Node]:
        return self.then if self.otherwise is None else self.otherwise

    def closed(self) -> Block:
        return Block(self.kind, self.path, tuple(self.then), tuple(self.otherwise or ()))


class _Tag(Struct, frozen=True, gc=False):
    text: str
    line: int

    def fail(self, why: str) -> NoReturn:
        shown = self.text[:_MAX_SHOWN]
        raise TemplateSyntaxError(f"line {self.line}: {{{{{shown}}}}}: {why}")


def parse_template(text: str) -> tuple[Node, ...]:
    """The nodes of a template. Raises TemplateSyntaxError."""
    whole: list[Node] = []
    stack: list[_Open] = []
    for token in _tokens(text):
        nodes = stack[-1].nodes if stack else whole
        if isinstance(token, str):
            nodes.append(token)
        elif token.text.startswith("#"):
            _begin(token, stack)
        elif token.text.startswith("/"):
            _end(token, stack, whole)
        elif token.text == "else" or token.text.startswith("else "):
            _otherwise(token, stack)
        else:
            nodes.append(Value(_path(token, token.text)))
    if stack:
        raise TemplateSyntaxError(
            f"{{{{#{stack[-1].kind} {stack[-1].path.text}}}}} is not closed"
        )
    return tuple(whole)


def _begin(tag: _Tag, stack: list[_Open]) -> None:
    kind, _, value = tag.text[1:].strip().partition(" ")
    if kind not in _KINDS:
        tag.fail(f"there is no such block; there are {', '.join(_KINDS)}")
    if len(stack) == _MAX_DEPTH:
        tag.fail(f"more than {_MAX_DEPTH} blocks are in each other")
    stack.append(_Open(cast("BlockKind", kind), _path(tag, value.strip())))


def _end(tag: _Tag, stack: list[_Open], whole: list[Node]) -> None:
    if not stack:
        tag.fail("no block is open")
    while (block := stack.pop()).is_chained:
        stack[-1].nodes.append(block.closed())
    (stack[-1].nodes if stack else whole).append(block.closed())
    if tag.text[1:].strip() != block.kind:
        tag.fail(f"the open block is {{{{#{block.kind} {block.path.text}}}}}")


def _otherwise(tag: _Tag, stack: list[_Open]) -> None:
    if not stack or stack[-1].otherwise is not None:
        tag.fail("no block is open that it belongs to")
    stack[-1].otherwise = []
    words = tag.text.split(None, 2)
    if len(words) == 1:
        return
    if words[1] not in _KINDS or len(words) != 3:
        tag.fail("`else' is followed by nothing, or by a block and its value")
    if len(stack) == _MAX_DEPTH:
        tag.fail(f"more than {_MAX_DEPTH} blocks are in each other")
    path = _path(tag, words[2].strip())
    stack.append(_Open(cast("BlockKind", words[1]), path, is_chained=True))


# -- tags --------------------------------------------------------------------------------------


def _tokens(text: str) -> Iterator[str | _Tag]:
    """The texts and tags in order. A line with nothing but a block's tag on it is left out."""
    at, line = 0, 1
    while (begin := text.find("{{", at)) >= 0:
        line += text.count("\n", at, begin)
        tag, end = _tag(text, begin, line)
        before = text[at:begin]
        is_block = tag is None or tag.text.startswith(("#", "/")) or tag.text == "else"
        left, right = _line_around(text, at, begin, end) if is_block else (begin, end)
        if before := text[at:left]:
            yield before
        if tag is not None:
            yield tag
        line += text.count("\n", begin, right)
        at = right
    if rest := text[at:]:
        yield rest


def _tag(text: str, begin: int, line: int) -> tuple[_Tag | None, int]:
    """The tag that begins there, ``None`` for a comment, and its end.

    Raises TemplateSyntaxError.
    """
    opening = next(one for one in _CLOSED_BY if text.startswith(one, begin))
    closing = _CLOSED_BY[opening]
    end = text.find(closing, begin + len(opening))
    inner = text[begin + len(opening) : end].strip()
    tag = _Tag(inner, line)
    if end < 0:
        _Tag(text[begin + 2 : begin + 20], line).fail("the tag is not closed")
    if opening.startswith("{{!"):
        return None, end + len(closing)
    if opening == "{{{" and inner.startswith(("#", "/", "else ")):
        tag.fail("a block has two braces")
    if len(inner) > _MAX_TAG:
        tag.fail(f"has more than {_MAX_TAG} characters")
    if not inner or "{" in inner or "~" in inner or inner[0] in ">&^*":
        tag.fail("is not supported")
    return tag, end + len(closing)


def _line_around(text: str, least: int, begin: int, end: int) -> tuple[int, int]:
    """The begin and end of the line that a tag has to itself, or else of the tag."""
    left = begin
    while left > least and text[left - 1] in _BLANK:
        left -= 1
    if left and text[left - 1] != "\n":
        return begin, end
    right = end
    while right < len(text) and text[right] in _BLANK:
        right += 1
    for line_end in ("\r\n", "\n"):
        if text.startswith(line_end, right):
            return left, right + len(line_end)
    return (left, right) if right == len(text) else (begin, end)


def _path(tag: _Tag, text: str) -> Path:
    """The path in a tag. Raises TemplateSyntaxError."""
    rest, up = text, 0
    while rest.startswith("../"):
        rest, up = rest[3:], up + 1
    if rest in ("this", ".", ".."):
        return Path(text, up + (rest == ".."), ())
    data, dot, after = rest.partition(".")
    if data.startswith("@"):
        if data not in _DATA or (dot and data != "@root"):
            tag.fail(f"there is no such value; there are {', '.join(_DATA)}")
        return Path(text, up, (data, *(_names(tag, after) if dot else ())))
    if rest.startswith(("this.", "this/")):
        return Path(text, up, ("this", *_names(tag, rest[5:])))
    return Path(text, up, _names(tag, rest))


def _names(tag: _Tag, text: str) -> tuple[str, ...]:
    """The names of a path, which are separated by full stops. Raises TemplateSyntaxError."""
    names: list[str] = []
    at = -1
    while at < len(text):
        match = _SEGMENT.match(text, at + 1)
        if match is None or text[match.end() : match.end() + 1] not in ("", "."):
            tag.fail("is no path to a value; helpers are not supported")
        names.append(match.group(1) or match.group(2))
        at = match.end()
    return tuple(names)
