"""The model of the API: operations with the shapes of their input and output, as AWS has them.

The shapes are those of botocore's service models. The model is data; codecs and checks read it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from msgspec import Struct
from msgspec.structs import force_setattr

Location = Literal["", "uri", "querystring", "header"]
ShapeKind = Literal[
    "structure", "list", "map", "string", "blob", "boolean", "integer", "long", "double",
    "float", "timestamp",
]  # fmt: skip
_LABEL: Final = re.compile(r"\{([A-Za-z0-9]+)\}")


class StructureMember(Struct, frozen=True, gc=False):
    """A member of a structure: its shape, and its place in a request outside the body."""

    shape: str
    location: Location = ""
    location_name: str = ""


class ErrorShape(Struct, frozen=True, gc=False):
    """The code and the HTTP status of an exception; empty and 0 if the model has none."""

    code: str
    status: int


class Shape(Struct, frozen=True, gc=False):
    """The form of a value.

    ``members`` and ``required`` are of structures, ``item`` is the shape of a list's items,
    ``key`` and ``value`` are those of a map.
    """

    name: str
    kind: ShapeKind
    members: Mapping[str, StructureMember] = {}
    required: frozenset[str] = frozenset()
    item: str = ""
    key: str = ""
    value: str = ""
    enum: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    pattern: re.Pattern[str] | None = None
    error: ErrorShape | None = None


class Route(Struct, frozen=True, gc=False):
    """A method and the segments of a path; a segment in braces is a label.

    ``names`` are those of the labels, with an empty one for each other segment; they are made
    of the segments.
    """

    method: str
    segments: tuple[str, ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        labels = map(_LABEL.fullmatch, self.segments)
        force_setattr(self, "names", tuple(["" if one is None else one[1] for one in labels]))

    def labels(self, segments: tuple[str, ...]) -> dict[str, str] | None:
        """The values of the labels, if as many segments have this route, else ``None``."""
        found: dict[str, str] = {}
        for name, wanted, segment in zip(self.names, self.segments, segments, strict=True):
            if name:
                found[name] = segment
            elif wanted != segment:
                return None
        return found


class Operation(Struct, frozen=True, gc=False):
    """An operation; ``input`` and ``output`` are names of shapes, or empty.

    ``wrapper`` is the element around the output in XML.
    """

    name: str
    routes: tuple[Route, ...]
    input: str = ""
    output: str = ""
    wrapper: str = ""
    errors: tuple[str, ...] = ()


class Service(Struct, frozen=True, gc=False):
    """A service of AWS as far as it is served.

    ``refused`` are the operations that it has and the gate has not. ``routes`` are those of
    all operations by their methods and numbers of segments; they are made of the operations.
    """

    name: str
    version: str
    namespace: str
    operations: Mapping[str, Operation]
    shapes: Mapping[str, Shape]
    refused: frozenset[str]
    routes: Mapping[tuple[str, int], Sequence[tuple[Route, Operation]]] = {}

    def __post_init__(self) -> None:
        found: dict[tuple[str, int], list[tuple[Route, Operation]]] = {}
        for operation in self.operations.values():
            for route in operation.routes:
                key = route.method, len(route.segments)
                found.setdefault(key, []).append((route, operation))
        force_setattr(self, "routes", found)


def read_services(document: Mapping[str, Any]) -> dict[str, Service]:
    """The services of the file that ``tests/support/api_model.py`` writes."""
    return {name: _service(name, given) for name, given in document["services"].items()}


def _service(name: str, given: Mapping[str, Any]) -> Service:
    return Service(
        name=name,
        version=given["version"],
        namespace=given["namespace"],
        operations={one: _operation(one, its) for one, its in given["operations"].items()},
        shapes={one: _shape(one, its) for one, its in given["shapes"].items()},
        refused=frozenset(given["refused"]),
    )


def _operation(name: str, given: Mapping[str, Any]) -> Operation:
    routes = [Route(method, tuple(uri.split("/"))) for method, uri in given["routes"]]
    return Operation(
        name=name,
        routes=tuple(routes),
        input=given.get("input", ""),
        output=given.get("output", ""),
        wrapper=given.get("wrapper", ""),
        errors=tuple(given.get("errors", ())),
    )


def _shape(name: str, given: Mapping[str, Any]) -> Shape:
    error = given.get("error")
    return Shape(
        name=name,
        kind=given["type"],
        members={one: _member(its) for one, its in given.get("members", {}).items()},
        required=frozenset(given.get("required", ())),
        item=given.get("member", ""),
        key=given.get("key", ""),
        value=given.get("value", ""),
        enum=tuple(given.get("enum", ())),
        least=given.get("min"),
        most=given.get("max"),
        pattern=_pattern(given.get("pattern")),
        error=None if error is None else ErrorShape(*error),
    )


def _pattern(text: str | None) -> re.Pattern[str] | None:
    return None if text is None else re.compile(text)


def _member(given: str | list[Any]) -> StructureMember:
    return StructureMember(given) if isinstance(given, str) else StructureMember(*given)
