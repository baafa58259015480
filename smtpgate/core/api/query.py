"""AWS's Query protocol: forms with dotted names in, XML out.

https://smithy.io/2.0/aws/protocols/aws-query-protocol.html
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from msgspec import Struct

from smtpgate.core.api.model import Operation, Service, Shape
from smtpgate.core.api.scalars import ScalarError, read_scalar, scalar_text

Node: TypeAlias = "Tree | str"
Tree: TypeAlias = "dict[str, Node]"

MAX_PARAMETERS: Final = 10_000
_MAX_DEPTH: Final = 12
_MAX_INDEX: Final = 10_000
_INDEX: Final = re.compile(r"[1-9][0-9]{0,4}")
_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#xD;"}
# All that is not written as it is.
_SPECIAL: Final = re.compile('[&<>"]|[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]')


class QueryError(Exception):
    """A form that is refused, with AWS's code."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Query(Struct, frozen=True, gc=False):
    """The action, the version and the other parameters of a form."""

    action: str
    version: str
    parameters: Mapping[str, str]


def read_query(pairs: Iterable[tuple[str, str]]) -> Query:
    """The query of a form's names and values. Raises QueryError."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise QueryError("MalformedQueryString", f"Parameter {name[:100]} is there twice.")
        found[name] = value
        if len(found) > MAX_PARAMETERS:
            raise QueryError("MalformedQueryString", f"More than {MAX_PARAMETERS} parameters.")
    action = found.pop("Action", "")
    if not action:
        raise QueryError("MissingAction", "The request must contain the parameter Action.")
    return Query(action, found.pop("Version", ""), found)


def query_input(service: Service, operation: Operation, query: Query) -> dict[str, Any]:
    """The values of an operation's input; parameters that it has not are ignored.

    Raises QueryError.
    """
    if not operation.input:
        return {}
    shape = service.shapes[operation.input]
    tree: Tree = {}
    for name, value in query.parameters.items():
        parts = name.split(".")
        if parts[0] in shape.members:
            _plant(tree, parts, value)
    found = _structure(service, shape, tree, "")
    return {} if found is None else found


def _plant(tree: Tree, parts: list[str], value: str) -> None:
    if len(parts) > _MAX_DEPTH:
        raise QueryError("MalformedQueryString", "A parameter has too many parts.")
    for part in parts[:-1]:
        below = tree.setdefault(part, {})
        if isinstance(below, str):
            raise _malformed(".".join(parts))
        tree = below
    if tree.setdefault(parts[-1], value) is not value:
        raise _malformed(".".join(parts))


def _malformed(name: str) -> QueryError:
    text = f"Parameter {name[:100]} is a value and has parts."
    return QueryError("MalformedQueryString", text)


def _value(service: Service, shape: Shape, given: "Node", where: str) -> Any:  # noqa: ANN401
    if shape.kind in {"structure", "list", "map"}:
        if isinstance(given, str):
            if given:
                raise QueryError("MalformedInput", f"{where} is no text")
            return None  # an empty list or structure, as botocore writes it
        if shape.kind == "structure":
            return _structure(service, shape, given, where)
        return (_list if shape.kind == "list" else _map)(service, shape, given, where)
    if not isinstance(given, str):
        raise QueryError("MalformedInput", f"{where} has no parts")
    try:
        return read_scalar(shape.kind, given)
    except ScalarError as error:
        raise QueryError("MalformedInput", f"{where} {error}") from None


def _structure(
    service: Service, shape: Shape, given: Tree, where: str
) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for name, part in given.items():
        member = shape.members.get(name)
        if member is None:
            continue
        below = f"{where}.{name}" if where else name
        value = _value(service, service.shapes[member.shape], part, below)
        if value is not None:
            found[name] = value
    return found


def _list(service: Service, shape: Shape, given: Tree, where: str) -> list[Any]:
    item = service.shapes[shape.item]
    entries = _numbered(given, "member", where)
    found = [_value(service, item, one, f"{where}.member.{number}") for number, one in entries]
    return ["" if one is None else one for one in found]


def _map(service: Service, shape: Shape, given: Tree, where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, entry in _numbered(given, "entry", where):
        below = f"{where}.entry.{number}"
        key = entry.get("key") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(key, str):
            raise QueryError("MalformedInput", f"{below} must have a key and a value")
        if key in found:
            raise QueryError("MalformedInput", f"{where} has {key[:100]!r} twice")
        value = _value(service, service.shapes[shape.value], entry.get("value", ""), below)
        found[key] = "" if value is None else value
    return found


def _numbered(given: Tree, word: str, where: str) -> list[tuple[int, Node]]:
    """The entries ``WORD.N`` in the order of their numbers, which may have gaps."""
    below = given.get(word)
    if not isinstance(below, dict) or len(given) > 1:
        raise QueryError("MalformedInput", f"{where} must be a list: {where}.{word}.1, …")
    found: list[tuple[int, Node]] = []
    for number, one in below.items():
        if not _INDEX.fullmatch(number) or int(number) > _MAX_INDEX:
            raise QueryError("MalformedInput", f"{where}.{word} has no number {number[:100]!r}")
        found.append((int(number), one))
    return sorted(found, key=lambda entry: entry[0])


def query_output(
    service: Service, operation: Operation, values: Mapping[str, Any], request_id: str
) -> str:
    """The document of an answer, in XML."""
    result = ""
    if operation.wrapper:
        inner = _members(service, service.shapes[operation.output], values)
        result = f"<{operation.wrapper}>{inner}</{operation.wrapper}>"
    name = f"{operation.name}Response"
    metadata = (
        f"<ResponseMetadata><RequestId>{escaped(request_id)}</RequestId></ResponseMetadata>"
    )
    return f'<{name} xmlns="{service.namespace}">{result}{metadata}</{name}>\n'


def query_error(namespace: str, code: str, text: str, status: int, request_id: str) -> str:
    """The document of an error, in XML."""
    kind = "Receiver" if status >= 500 else "Sender"
    return (
        f'<ErrorResponse xmlns="{namespace}"><Error><Type>{kind}</Type>'
        f"<Code>{escaped(code)}</Code><Message>{escaped(text)}</Message></Error>"
        f"<RequestId>{escaped(request_id)}</RequestId></ErrorResponse>\n"
    )


def _members(service: Service, shape: Shape, values: Mapping[str, Any]) -> str:
    return "".join(
        _element(service, service.shapes[member.shape], name, values[name])
        for name, member in shape.members.items()
        if values.get(name) is not None
    )


def _element(service: Service, shape: Shape, name: str, value: Any) -> str:  # noqa: ANN401
    match shape.kind:
        case "structure":
            inner = _members(service, shape, value)
        case "list":
            item = service.shapes[shape.item]
            inner = "".join(_element(service, item, "member", one) for one in value)
        case "map":
            key, of_value = service.shapes[shape.key], service.shapes[shape.value]
            entries = (
                _element(service, key, "key", one) + _element(service, of_value, "value", its)
                for one, its in value.items()
            )
            inner = "".join(f"<entry>{entry}</entry>" for entry in entries)
        case _:
            inner = escaped(scalar_text(shape.kind, value))
    return f"<{name}>{inner}</{name}>"


def escaped(text: str) -> str:
    """The text as XML has it; characters that XML cannot have become U+FFFD."""
    return _SPECIAL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    # XML 1.0 has no other control characters, not even escaped.
    return _ESCAPES.get(found[0], "\ufffd")
