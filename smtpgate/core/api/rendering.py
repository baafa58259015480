"""Templates of messages, written with values: bounded in time and in size.

https://docs.aws.amazon.com/ses/latest/dg/send-personalized-email-advanced.html

As at Amazon SES, values are written as they are given, without any escape for HTML: callers
escape what they got from others. A value that the data has not is a failure; in a block it is
no value.
"""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct

from smtpgate.core.api.handlebars import Block, Node, Path, Value, parse_template
from smtpgate.core.api.json_values import json_value

MAX_TEMPLATE_OCTETS: Final = 500 * 1024
_MAX_STEPS: Final = 100_000
_MISSING: Final = object()


class MissingValueError(ValueError):
    """A value that the data has not; the text is SES's."""


class RenderingError(ValueError):
    """Data or a result that cannot be used; the text says why."""


class Parts(Struct, frozen=True, gc=False):
    """The parts of a template, or of a message made of one; ``None`` where there is none."""

    subject: str | None = None
    text: str | None = None
    html: str | None = None

    @property
    def octets(self) -> int:
        """The size of all parts."""
        return sum(len(one.encode()) for one in (self.subject, self.text, self.html) if one)


def check_parts(parts: Parts) -> None:
    """Read each part of a template. Raises TemplateSyntaxError."""
    for one in (parts.subject, parts.text, parts.html):
        if one is not None:
            _ = parse_template(one)


def read_data(*texts: str) -> dict[str, Any]:
    """The values in JSON; those of a later text replace those before. Raises RenderingError."""
    found: dict[str, Any] = {}
    for text in texts:
        if not text:
            continue
        try:
            data = json_value(text)
        except (ValueError, RecursionError):
            raise RenderingError("The template data is not valid JSON.") from None
        if not isinstance(data, dict):
            raise RenderingError("The template data must be a JSON object.")
        found.update(data)
    return found


def render(parts: Parts, data: dict[str, Any], max_octets: int) -> Parts:
    """The parts with their values.

    Raises TemplateSyntaxError, MissingValueError or RenderingError.
    """
    writer = _Writer(data, max_octets)
    return Parts(
        *(
            None if one is None else writer.write(parse_template(one))
            for one in (parts.subject, parts.text, parts.html)
        )
    )


class _Scope(Struct, frozen=True, gc=False):
    """A context, and the names that ``each`` gives."""

    this: Any
    data: dict[str, Any]


class _Writer:
    """Writes nodes, within bounds that hold for all parts of a message together."""

    def __init__(self, root: dict[str, Any], max_octets: int) -> None:
        self._root = root
        self._left = max_octets
        self._steps = _MAX_STEPS

    def write(self, nodes: Sequence[Node]) -> str:
        """The text of nodes in the context of all data."""
        out: list[str] = []
        self._write(nodes, (_Scope(self._root, {}),), out)
        return "".join(out)

    def _write(self, nodes: Sequence[Node], scopes: tuple[_Scope, ...], out: list[str]) -> None:
        for node in nodes:
            self._step()
            if isinstance(node, Block):
                self._block(node, scopes, out)
                continue
            text = self._value(node, scopes) if isinstance(node, Value) else node
            self._left -= len(text.encode("utf-8", "surrogatepass"))
            if self._left < 0:
                raise RenderingError("The rendered message is too large.")
            out.append(text)

    def _step(self) -> None:
        self._steps -= 1
        if self._steps < 0:
            raise RenderingError("The template has too many repetitions.")

    def _value(self, node: Value, scopes: tuple[_Scope, ...]) -> str:
        found = self._found(node.path, scopes)
        if found is _MISSING:
            text = f"Attribute '{node.path.text}' is not present in the rendering data."
            raise MissingValueError(text)
        match found:
            case str():
                return found
            case None:
                return ""
            case bool():
                return "true" if found else "false"
            case int() | float():
                return str(found)
        raise RenderingError(
            f"Attribute '{node.path.text}' is a list or an object: name a value in it."
        )

    def _block(self, block: Block, scopes: tuple[_Scope, ...], out: list[str]) -> None:
        value = self._found(block.path, scopes)
        is_set = value is not _MISSING and bool(value)
        if block.kind == "unless":
            is_set = not is_set
        if not is_set:
            self._write(block.otherwise, scopes, out)
        elif block.kind == "each":
            self._each(block, value, scopes, out)
        elif block.kind == "with":
            self._write(block.then, (*scopes, _Scope(value, {})), out)
        else:
            self._write(block.then, scopes, out)

    def _each(
        self,
        block: Block,
        value: Any,  # noqa: ANN401 - of JSON
        scopes: tuple[_Scope, ...],
        out: list[str],
    ) -> None:
        if isinstance(value, dict):
            pairs: list[tuple[Any, Any]] = list(value.items())
        elif isinstance(value, list):
            pairs = list(enumerate(value))
        else:
            raise RenderingError(f"Attribute '{block.path.text}' is no list and no object.")
        for index, (key, this) in enumerate(pairs):
            self._step()
            names = {
                "@index": index,
                "@key": key,
                "@first": index == 0,
                "@last": index == len(pairs) - 1,
            }
            self._write(block.then, (*scopes, _Scope(this, names)), out)

    def _found(self, path: Path, scopes: tuple[_Scope, ...]) -> Any:  # noqa: ANN401 - of JSON
        """The value of a path, or ``_MISSING``.

        A name that the context has not is looked for in those around it.
        """
        level = len(scopes) - 1 - path.up
        if level < 0:
            return _MISSING
        if not path.names:
            return scopes[level].this
        first, *rest = path.names
        if first == "this" and rest:
            found = scopes[level].this
        elif first == "@root":
            found = self._root
        elif first.startswith("@"):
            around = (one.data[first] for one in scopes[level::-1] if first in one.data)
            return next(around, _MISSING)
        else:
            around = (_member(one.this, first) for one in scopes[level::-1])
            found = next((one for one in around if one is not _MISSING), _MISSING)
        for name in rest:
            found = _member(found, name)
        return found


def _member(value: Any, name: str) -> Any:  # noqa: ANN401 - of JSON
    if isinstance(value, dict):
        return value.get(name, _MISSING)
    if isinstance(value, list) and name.isascii() and name.isdigit() and len(name) < 10:
        return value[int(name)] if int(name) < len(value) else _MISSING
    return _MISSING
