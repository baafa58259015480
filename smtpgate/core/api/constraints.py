"""The constraints of a model: what a caller's values must hold, in AWS's words.

https://docs.aws.amazon.com/ses/latest/APIReference/CommonErrors.html (ValidationError)
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from smtpgate.core.api.model import Service, Shape

Values = Mapping[str, Any]
# Operations refuse other values of these by themselves, with a text of their own.
_CHECKED_LATER: Final = frozenset({"notificationType"})
# A private key is not written into an error.
_HIDDEN: Final = "PrivateKey"
_MAX_SHOWN: Final = 10
_MAX_SHOWN_CHARACTERS: Final = 80


def violations(service: Service, shape_name: str, values: Values) -> list[str]:
    """A sentence for each value that breaks a constraint; empty if all hold."""
    return list(_of_structure(service, service.shapes[shape_name], values, ""))


def violation_text(found: list[str]) -> str:
    """The sentences as one message."""
    count = len(found)
    errors = "1 validation error" if count == 1 else f"{count} validation errors"
    return f"{errors} detected: {'; '.join(found[:_MAX_SHOWN])}"


def _of_structure(service: Service, shape: Shape, values: Values, path: str) -> Iterator[str]:
    for name, member in shape.members.items():
        where = f"{path}.{_camel(name)}" if path else _camel(name)
        value = values.get(name)
        if value is not None:
            yield from _of(service, service.shapes[member.shape], value, where)
        elif name in shape.required:
            yield (
                f"Value null at '{where}' failed to satisfy constraint: Member must not be null"
            )


def _of(service: Service, shape: Shape, value: Any, where: str) -> Iterator[str]:  # noqa: ANN401
    match shape.kind:
        case "structure":
            yield from _of_structure(service, shape, value, where)
        case "list":
            yield from _length(shape, value, where)
            item = service.shapes[shape.item]
            for number, one in enumerate(value, 1):
                yield from _of(service, item, one, f"{where}.{number}.member")
        case "map":
            yield from _length(shape, value, where)
            for key, one in value.items():
                yield from _of(service, service.shapes[shape.value], one, f"{where}.{key}")
        case "string":
            yield from _of_text(shape, value, where)
        case "blob":
            yield from _length(shape, value, where)
        case "integer" | "long" | "double" | "float":
            yield from _of_number(shape, value, where)
        case _:
            return


def _of_text(shape: Shape, value: str, where: str) -> Iterator[str]:
    yield from _length(shape, value, where)
    if shape.enum and value not in shape.enum and where not in _CHECKED_LATER:
        known = ", ".join(shape.enum)
        yield _failed(value, where, f"satisfy enum value set: [{known}]")
    if shape.pattern is not None and not shape.pattern.fullmatch(value):
        wanted = shape.pattern.pattern
        yield _failed(value, where, f"satisfy regular expression pattern: {wanted}")


def _length(shape: Shape, value: Any, where: str) -> Iterator[str]:  # noqa: ANN401 - has a length
    count = len(value)
    if shape.least is not None and count < shape.least:
        yield _failed(value, where, f"have length greater than or equal to {shape.least:g}")
    if shape.most is not None and count > shape.most:
        yield _failed(value, where, f"have length less than or equal to {shape.most:g}")


def _of_number(shape: Shape, value: float, where: str) -> Iterator[str]:
    if shape.least is not None and value < shape.least:
        yield _failed(value, where, f"have value greater than or equal to {shape.least:g}")
    if shape.most is not None and value > shape.most:
        yield _failed(value, where, f"have value less than or equal to {shape.most:g}")


def _failed(value: Any, where: str, constraint: str) -> str:  # noqa: ANN401 - any value
    shown = ""
    if isinstance(value, str | int | float) and not where.endswith(_HIDDEN):
        text = str(value)
        cut = text if len(text) <= _MAX_SHOWN_CHARACTERS else f"{text[:_MAX_SHOWN_CHARACTERS]}…"
        shown = f" '{cut}'"
    return f"Value{shown} at '{where}' failed to satisfy constraint: Member must {constraint}"


def _camel(name: str) -> str:
    return name[:1].lower() + name[1:]
