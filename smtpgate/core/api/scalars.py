"""Texts of single values: numbers, truth, octets and times, as AWS's protocols write them."""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from smtpgate.core.api.model import ShapeKind

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,19}(\.[0-9]{1,19})?([eE][+-]?[0-9]{1,3})?")
_MOST: Final[Mapping[ShapeKind, int]] = {"integer": 2**31 - 1, "long": 2**63 - 1}


class ScalarError(ValueError):
    """A text or a JSON value that is none of its shape."""


def octets_of(text: str) -> bytes:
    """The octets of a text in base64. Raises ScalarError."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ScalarError("is not valid base64") from None


def moment_of(text: str) -> datetime:
    """The moment of a text, in ISO 8601 or in seconds since 1970. Raises ScalarError."""
    if _NUMBER.fullmatch(text):
        return moment_at(float(text))
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ScalarError("is no time in ISO 8601") from None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def moment_at(seconds: float) -> datetime:
    """The moment so many seconds after the start of 1970. Raises ScalarError."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise ScalarError("is no time") from None


def whole_number(kind: ShapeKind, number: int) -> int:
    """The number, if it fits its kind. Raises ScalarError."""
    most = _MOST[kind]
    if not -most - 1 <= number <= most:
        raise ScalarError(f"is no {kind}")
    return number


def _whole(kind: ShapeKind) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not _INTEGER.fullmatch(text):
            raise ScalarError(f"is no {kind}")
        return whole_number(kind, int(text))

    return read


def _number(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ScalarError("is no number")
    return float(text)


def _truth(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ScalarError("is neither true nor false")
    return text.lower() == "true"


def _same(text: str) -> str:
    return text


_READERS: Final[Mapping[ShapeKind, Callable[[str], Any]]] = {
    "string": _same,
    "blob": octets_of,
    "boolean": _truth,
    "integer": _whole("integer"),
    "long": _whole("long"),
    "double": _number,
    "float": _number,
    "timestamp": moment_of,
}


def read_scalar(kind: ShapeKind, text: str) -> Any:  # noqa: ANN401 - by the kind
    """The value of a text. Raises ScalarError."""
    return _READERS[kind](text)


def scalar_text(kind: ShapeKind, value: Any) -> str:  # noqa: ANN401 - by the kind
    """The text of a value in XML."""
    match kind:
        case "blob":
            return base64.b64encode(value).decode("ascii")
        case "boolean":
            return "true" if value else "false"
        case "timestamp":
            return iso_text(value)
        case _:
            return str(value)


def iso_text(moment: datetime) -> str:
    """The moment in UTC, with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
