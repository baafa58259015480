"""How things are shown: tables for people, JSON for programs; page by page, never all at once.

What is shown was often written by others. Nothing of it reaches a terminal as a control
character.
"""

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Generic, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = [
    "View",
    "console",
    "in_pages",
    "pages_of",
    "print_card",
    "print_facts",
    "print_json",
    "print_pages",
    "print_rows",
    "print_table",
    "shown",
    "to_json",
]

T = TypeVar("T")
P = TypeVar("P")

_WIDE: Final = 4096  # lines are folded for people only
_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class View(Generic[T]):
    """How things of one kind are shown: columns for people, fields for programs."""

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


def console() -> Console:
    """Where people read; what another program reads keeps its lines."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)


def print_table(rows: Sequence[T], view: View[T], *, title: str | None = None) -> None:
    """Print one table of rows."""
    table = Table(*view.columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(Text(shown(cell(row))) for cell in view.columns.values()))
    console().print(table)


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
    grid = Table.grid("", "", padding=(0, 2))
    for name, value in facts.items():
        grid.add_row(Text(name.replace("_", " "), "bold"), Text(shown(value)))
    console().print(grid)


def print_facts(facts: Mapping[str, object], *, as_json: bool) -> None:
    """Print what is known of one thing: a line each, or one JSON object."""
    if as_json:
        print_json(facts)
    else:
        print_card(facts)


async def in_pages(things: AsyncIterator[T], size: int) -> AsyncIterator[Sequence[T]]:
    """Things that come one by one, so many at a time."""
    page: list[T] = []
    async for thing in things:
        page.append(thing)
        if len(page) == size:
            yield page
            page = []
    if page:
        yield page


async def pages_of(
    read: Callable[[P, int], Awaitable[Sequence[T]]],
    first: P,
    place_of: Callable[[T], P],
    limit: int | None,
) -> AsyncIterator[Sequence[T]]:
    """Everything that a paged question answers, at most ``limit``.

    ``read`` has the place to read behind, and how many.
    """
    place, left = first, sys.maxsize if limit is None else limit
    while left > 0:
        size = min(_PAGE, left)
        rows = await read(place, size)
        if rows:
            yield rows
        if len(rows) < size:
            return
        place, left = place_of(rows[-1]), left - size


async def print_pages(
    pages: AsyncIterator[Sequence[T]], view: View[T], *, as_json: bool
) -> None:
    """Print pages as they come: a table a page, or one JSON list."""
    if as_json:
        await _print_list(pages, view)
        return
    is_empty = True
    async for rows in pages:
        print_table(rows, view)
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
