"""AWS's REST-JSON protocol: paths with labels and JSON in, JSON out.

https://smithy.io/2.0/aws/protocols/aws-restjson1-protocol.html
"""

import base64
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from smtpgate.core.api.json_values import json_value
from smtpgate.core.api.model import Operation, Service, Shape, ShapeKind
from smtpgate.core.api.percent import percent_decoded
from smtpgate.core.api.scalars import (
    ScalarError,
    moment_at,
    moment_of,
    octets_of,
    read_scalar,
    whole_number,
)

_OF_TEXT: Final[Mapping[ShapeKind, Callable[[str], Any]]] = {
    "string": str,
    "blob": octets_of,
    "timestamp": moment_of,
}
_OF_NUMBER: Final[Mapping[ShapeKind, Callable[[float], Any]]] = {
    "double": float,
    "float": float,
    "timestamp": moment_at,
}
_WHOLE: Final = frozenset({"integer", "long"})


class RestError(Exception):
    """A request that is not in the form of its operation (SerializationException)."""


def rest_operation(
    service: Service, method: str, path: bytes
) -> tuple[Operation, dict[str, str]] | None:
    """The operation that a method and a raw path name, with the labels of the path.

    Segments are cut before they are decoded, so a label may have a slash. Raises RestError.
    """
    segments = tuple(_text(segment) for segment in path.split(b"/"))
    for route, operation in service.routes.get((method, len(segments)), ()):
        labels = route.labels(segments)
        if labels is not None:
            return operation, labels
    return None


def rest_input(
    service: Service,
    operation: Operation,
    labels: Mapping[str, str],
    pairs: Iterable[tuple[bytes, bytes]],
    body: bytes,
) -> dict[str, Any]:
    """The values of an operation's input; members that it has not are ignored.

    ``pairs`` are those of the query, decoded. Raises RestError.
    """
    if not operation.input:
        return {}
    shape = service.shapes[operation.input]
    in_query: dict[str, list[str]] = {}
    for key, text in pairs:
        in_query.setdefault(_utf8(key), []).append(_utf8(text))
    document = _document(body)
    found: dict[str, Any] = {}
    for name, member in shape.members.items():
        of_member = service.shapes[member.shape]
        if member.location == "uri":
            found[name] = _scalar_of_text(of_member, labels[member.location_name], name)
        elif member.location == "querystring":
            if member.location_name in in_query:
                texts = in_query[member.location_name]
                found[name] = _from_query(service, of_member, texts, name)
        elif not member.location and document.get(name) is not None:
            found[name] = _value(service, of_member, document[name], name)
    return found


def rest_output(service: Service, operation: Operation, values: Mapping[str, Any]) -> bytes:
    """The document of an answer, in JSON."""
    shape = service.shapes[operation.output]
    document = _plain(service, shape, values)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _text(segment: bytes) -> str:
    return _utf8(percent_decoded(segment))


def _utf8(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise RestError("The path and the query must be UTF-8.") from None


def _document(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        found = json_value(body.decode(), pairs=_once)
    except (ValueError, RecursionError) as error:
        text = str(error) if isinstance(error, _TwiceError) else "The body is not valid JSON."
        raise RestError(text) from None
    if not isinstance(found, dict):
        raise RestError("The body must be a JSON object.")
    return found


class _TwiceError(ValueError):
    """A member that is there twice: readers would differ about its value."""


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _TwiceError("A member is there twice.")
    return found


def _from_query(service: Service, shape: Shape, texts: Sequence[str], where: str) -> Any:  # noqa: ANN401
    if shape.kind == "list":
        item = service.shapes[shape.item]
        return [_scalar_of_text(item, text, where) for text in texts]
    if len(texts) > 1:
        raise RestError(f"{where} is there twice.")
    return _scalar_of_text(shape, texts[0], where)


def _scalar_of_text(shape: Shape, text: str, where: str) -> Any:  # noqa: ANN401 - by its shape
    try:
        return read_scalar(shape.kind, text)
    except ScalarError as error:
        raise RestError(f"{where} {error}.") from None


def _value(service: Service, shape: Shape, given: Any, where: str) -> Any:  # noqa: ANN401 - JSON
    match shape.kind:
        case "structure":
            _must_be(given, dict, where, "an object")
            return {
                name: _value(
                    service, service.shapes[member.shape], given[name], f"{where}.{name}"
                )
                for name, member in shape.members.items()
                if given.get(name) is not None
            }
        case "list":
            _must_be(given, list, where, "an array")
            item = service.shapes[shape.item]
            return [_value(service, item, one, f"{where}[{n}]") for n, one in enumerate(given)]
        case "map":
            _must_be(given, dict, where, "an object")
            of_value = service.shapes[shape.value]
            return {
                k: _value(service, of_value, one, f"{where}.{k}") for k, one in given.items()
            }
        case _:
            try:
                return _scalar(shape, given)
            except ScalarError as error:
                raise RestError(f"{where} {error}.") from None


def _must_be(given: Any, kind: type, where: str, wanted: str) -> None:  # noqa: ANN401 - JSON
    if not isinstance(given, kind):
        raise RestError(f"{where} must be {wanted}.")


def _scalar(shape: Shape, given: Any) -> Any:  # noqa: ANN401 - JSON in, by its shape out
    if isinstance(given, bool):
        if shape.kind == "boolean":
            return given
    elif isinstance(given, str) and shape.kind in _OF_TEXT:
        return _OF_TEXT[shape.kind](given)
    elif isinstance(given, int) and shape.kind in _WHOLE:
        return whole_number(shape.kind, given)
    elif isinstance(given, int | float) and shape.kind in _OF_NUMBER:
        return _OF_NUMBER[shape.kind](given)
    raise ScalarError(f"must be a {shape.kind}")


def _plain(service: Service, shape: Shape, value: Any) -> Any:  # noqa: ANN401 - by its shape
    match shape.kind:
        case "structure":
            return {
                name: _plain(service, service.shapes[member.shape], value[name])
                for name, member in shape.members.items()
                if value.get(name) is not None
            }
        case "list":
            item = service.shapes[shape.item]
            return [_plain(service, item, one) for one in value]
        case "map":
            of_value = service.shapes[shape.value]
            return {key: _plain(service, of_value, one) for key, one in value.items()}
        case "blob":
            return base64.b64encode(value).decode("ascii")
        case "timestamp":
            return _seconds(value)
        case _:
            return value


def _seconds(moment: datetime) -> float | int:
    seconds = round(moment.timestamp(), 3)
    return int(seconds) if math.floor(seconds) == seconds else seconds
