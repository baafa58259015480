"""Listings: tables for people, JSON for programs; page by page, never all at once.

What is shown was often written by others. Nothing of it reaches a terminal as a control
character.
"""

import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Generic, TypeVar

import typer

T = TypeVar("T")
P = TypeVar("P")

WIDE: Final = 4096  # lines are folded for people only
_READABLE: Final = 120  # for people where there is no terminal to ask
_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class View(Generic[T]):
    """The view of things of one kind: columns for people, fields for programs."""

    columns: Mapping[str, Callable[[T], object]]
    fields: Callable[[T], Mapping[str, object]]
    nothing: str


def shown(value: object) -> str:
    """A value as people read it: times in UTC, nothing as a dash."""
    if isinstance(value, Mapping):
        value = [f"{key}={shown(one)}" for key, one in value.items()]
    if value is None or value in ("", (), []):
        return "-"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
    if isinstance(value, list | tuple):
        return "\n".join(map(shown, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _printable(f"{value:.15g}" if isinstance(value, float) else str(value))


def _printable(text: str) -> str:
    """The text with escapes in the place of control characters; line ends stay."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode()
        for one in text
    )


def to_json(value: object, *, indent: int | None = 2) -> str:
    """JSON with times in ISO 8601, in UTC."""
    return json.dumps(value, indent=indent, default=_json_value)


def _json_value(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"no JSON for {type(value).__name__}")


def print_json(value: object) -> None:
    """Print one JSON value."""
    typer.echo(to_json(value))


def width_of_rows(*, is_wide: bool) -> int | None:
    """The width for rows that are too long to be read as one line, unless that is wanted."""
    if is_wide:
        return WIDE
    return None if sys.stdout.isatty() else _READABLE


def print_table(
    rows: Sequence[T], view: View[T], *, title: str | None = None, width: int | None = None
) -> None:
    """Print rows: as one table, or a block a row where the terminal is too narrow for it.

    ``width`` is used instead of the terminal's. Text is wrapped between words. A word, such as
    an id, an ARN or an address, is never cut: it has to be there whole for the next command.
    """
    from smtpgate.cli.tables import draw_table  # noqa: PLC0415 - Rich; JSON does without

    cells = [[shown(cell_of(row)) for cell_of in view.columns.values()] for row in rows]
    draw_table(tuple(view.columns), cells, title=title, width=width)


def print_rows(rows: Sequence[T], view: View[T], *, as_json: bool) -> None:
    """Print all rows there are: one table, or one JSON list."""
    if as_json:
        print_json([view.fields(row) for row in rows])
    elif rows:
        print_table(rows, view)
    else:
        typer.echo(view.nothing)


def print_card(facts: Mapping[str, object]) -> None:
    """Print what is known of one thing, a line each."""
    from smtpgate.cli.tables import draw_lines  # noqa: PLC0415 - Rich; JSON does without

    draw_lines((name.replace("_", " "), shown(value)) for name, value in facts.items())


def print_facts(facts: Mapping[str, object], *, as_json: bool) -> None:
    """Print what is known of one thing: a line each, or one JSON object."""
    if as_json:
        print_json(facts)
    else:
        print_card(facts)


async def print_pages(
    pages: AsyncIterator[Sequence[T]],
    view: View[T],
    *,
    as_json: bool,
    width: int | None = None,
) -> None:
    """Print pages as they come: a table a page, or one JSON list."""
    if as_json:
        await _print_list(pages, view)
        return
    is_empty = True
    async for rows in pages:
        print_table(rows, view, width=width)
        is_empty = False
    if is_empty:
        typer.echo(view.nothing)


async def _print_list(pages: AsyncIterator[Sequence[T]], view: View[T]) -> None:
    """One JSON list, an element a line."""
    before = "[\n"
    async for rows in pages:
        for row in rows:
            typer.echo(f"{before}  {to_json(view.fields(row), indent=None)}", nl=False)
            before = ",\n"
    typer.echo("[]" if before == "[\n" else "\n]")
