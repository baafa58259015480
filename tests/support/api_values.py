"""Strategies of values for the shapes of the API's model."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from smtpgate.core.api.model import Service, Shape

_TEXT = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFFFD, exclude_categories=["Cs"]),
    max_size=8,
)
_MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001
    lambda moment: moment.replace(microsecond=0)
)
_SCALARS: Mapping[str, st.SearchStrategy[Any]] = {
    "blob": st.binary(max_size=12),
    "boolean": st.booleans(),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "double": st.integers(-10_000, 10_000).map(lambda number: number / 4),
    "timestamp": _MOMENTS,
}
_MAX_DEPTH = 5


def values(service: Service, name: str, depth: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    """Values of a structure: each member may be absent, but not one that is in the path."""
    shape = service.shapes[name]
    required = {m for m, its in shape.members.items() if its.location == "uri"}
    members = {
        member: _value(service, service.shapes[its.shape], depth + 1)
        for member, its in shape.members.items()
        if depth < _MAX_DEPTH or service.shapes[its.shape].kind not in {"structure", "list"}
    }
    in_path = {m: strategy.filter(bool) for m, strategy in members.items() if m in required}
    others = {m: strategy for m, strategy in members.items() if m not in required}
    return st.fixed_dictionaries(in_path, optional=others)


def _value(service: Service, shape: Shape, depth: int) -> st.SearchStrategy[Any]:
    match shape.kind:
        case "structure":
            return values(service, shape.name, depth)
        case "list":
            item = _value(service, service.shapes[shape.item], depth + 1)
            return st.lists(item, min_size=1, max_size=3)
        case "map":
            value = _value(service, service.shapes[shape.value], depth + 1)
            return st.dictionaries(_TEXT.filter(bool), value, min_size=1, max_size=3)
        case "string":
            return st.sampled_from(shape.enum) if shape.enum else _TEXT
        case kind:
            return _SCALARS[kind]
