"""The contradictions between sound keys of a file in which other keys are wrong.

The file is read once more without the wrong keys. Their defaults must not make problems that
the file does not have, so these keys are then taken out of the models: a check that needs one
of them ends there, and the problems that it found before are of sound keys.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, Final, Protocol

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_MOST_TRIES: Final = 4

Location = tuple[int | str, ...]
# A key, relative to the model, and its problem.
Problem = tuple[Location, str]
Check = Callable[[], Iterator[Problem]]


class CheckedTable(Protocol):
    """A table of a file that knows how its keys go together."""

    def checks(self) -> Sequence[Check]:
        """The checks; one that needs a key which is absent raises AttributeError."""


def location_of(details: ErrorDetails) -> Location:
    """The place of an error of pydantic, in the tables of the file."""
    return tuple(part for part in details["loc"] if part != "[key]")


def problems_of_sound_keys(
    model: type[BaseModel],
    data: Mapping[str, Any],
    errors: Sequence[ErrorDetails],
    context_with: Callable[[Callable[[CheckedTable], None]], object],
) -> list[Problem]:
    """The contradictions between the keys of a file that have no error, as far as checked.

    Tables without a wrong key have been checked already, except the whole file.
    ``context_with`` makes the context of a reading in which a function looks at the tables.
    """
    left_out, found = set(_wrong_keys(errors)), list[Problem]()

    def look(table: CheckedTable) -> None:
        if isinstance(table, model):
            found.extend(_contradictions(table, left_out))

    context = context_with(look)
    for _ in range(_MOST_TRIES):
        if () in left_out:
            break
        try:
            _ = model.model_validate(_without(data, left_out), context=context)
        except ValidationError as error:
            # A table that cannot do without the key is left out, with all of its section.
            more = {location_of(one)[:1] for one in error.errors()}
            if more <= left_out:
                return []
            left_out |= more
        else:
            return found
    return []


def _wrong_keys(errors: Sequence[ErrorDetails]) -> Iterator[Location]:
    """The places that no check may rely on.

    A key that is not known may be meant for any other one of its table, so that goes whole, and
    of numbered tables all.
    """
    for one in errors:
        location = location_of(one)
        if one["type"] == "problems":
            yield from ((*location, *key) for key, _ in one["ctx"]["problems"])
        elif one["type"] == "extra_forbidden":
            table = location[:-1]
            yield table[:-1] if table and isinstance(table[-1], int) else table
        else:
            yield location


def _without(data: Mapping[str, Any], left_out: set[Location]) -> dict[str, Any]:
    """The tables without the keys at these places; an array with a wrong value goes whole."""
    pruned = deepcopy(dict(data))
    for location in left_out:
        at, names = pruned, list[Any](data)
        for number, part in enumerate(location):
            name = part if isinstance(part, str) else names[part]
            value = at.get(name)
            if number == len(location) - 1 or not isinstance(value, dict):
                _ = at.pop(name, None)
                break
            # Models number tables that have a name.
            at, names = value, _names_at(data, location[: number + 1])
    return pruned


def _names_at(data: Mapping[str, Any], location: Location) -> list[str]:
    """The names in the table at that place of the whole file."""
    at: Any = data
    for part in location:
        at = at[list(at)[part] if isinstance(part, int) else part]
    return list(at)


def _contradictions(root: CheckedTable, left_out: set[Location]) -> Iterator[Problem]:
    """The problems that checks of the root and of tables with wrong keys have without these."""
    # A section that is left out is the default one, which all models of the process share.
    root = deepcopy(root)
    tables: dict[Location, Any] = {(): root}
    absent: list[tuple[Any, str]] = []
    for location in left_out:
        where, table, name = _nearest_table(root, location)
        if not name:
            return  # a key that the file has by another name: nothing is sure
        tables[where] = table
        absent.append((table, name))
    for table, name in absent:
        _ = table.__dict__.pop(name, None)
    names = {name for _, name in absent}
    for where, table in tables.items():
        for check in table.checks():
            for key, text in _until_absent(check, names):
                yield (*where, *key), text


def _nearest_table(root: CheckedTable, location: Location) -> tuple[Location, Any, str]:
    """The innermost table on the way to a key, its place, and its field on that way."""
    found: tuple[Location, Any, str] = (), root, ""
    at: Any = root
    for number, part in enumerate(location):
        if isinstance(at, BaseModel):
            name = _field_of(type(at), part)
            found = location[:number], at, name
            at = at.__dict__.get(name)
        elif isinstance(at, tuple) and isinstance(part, int) and part < len(at):
            at = at[part]
        else:
            break
    return found


def _field_of(table: type[BaseModel], part: int | str) -> str:
    fields = table.model_fields.items()
    return next((name for name, field in fields if part in (name, field.alias)), "")


def _until_absent(check: Check, names: set[str]) -> Iterator[Problem]:
    """The problems until a check needs a key that is absent."""
    try:
        yield from check()
    except AttributeError as error:
        if not any(f"attribute {name!r}" in str(error) for name in names):
            raise
