"""Listings: tables for people, JSON for programs; page by page, never all at once.

What is shown was often written by others. Nothing of it reaches a terminal as a control
character.
"""

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Generic, TypeVar

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

T = TypeVar("T")
P = TypeVar("P")

_WIDE: Final = 4096  # lines are folded for people only
_READABLE: Final = 120  # for people where there is no terminal to ask
_PAGE: Final = 500
_BORDER: Final = 3  # a line and a blank on each side of a cell


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


def console(width: int | None = None) -> Console:
    """The console for output; lines for another program are not folded."""
    if width is None and not sys.stdout.isatty():
        width = _WIDE
    return Console(highlight=False, width=width)


def width_of_rows(*, is_wide: bool) -> int | None:
    """The width for rows that are too long to be read as one line, unless that is wanted."""
    if is_wide:
        return _WIDE
    return None if sys.stdout.isatty() else _READABLE


def print_table(
    rows: Sequence[T], view: View[T], *, title: str | None = None, width: int | None = None
) -> None:
    """Print rows: as one table, or a block a row where the terminal is too narrow for it.

    ``width`` is used instead of the terminal's. Text is wrapped between words. A word, such as
    an id, an ARN or an address, is never cut: it has to be there whole for the next command.
    """
    names = tuple(view.columns)
    cells = [[shown(cell_of(row)) for cell_of in view.columns.values()] for row in rows]
    widths = _widths([names, *cells], console(width).width)
    if widths is None:
        _print_blocks(names, cells, title)
        return
    table = Table(title=title, title_justify="left")
    for name, room in zip(names, widths, strict=True):
        table.add_column(_wrapped(name, room), no_wrap=True)
    for row in cells:
        table.add_row(*(Text(_wrapped(*one)) for one in zip(row, widths, strict=True)))
    console(width).print(table)


def _widths(lines: Sequence[Sequence[str]], available: int) -> list[int] | None:
    """The width of each column; ``None`` when the longest words do not fit side by side."""
    columns = list(zip(*lines, strict=True))
    least = [max(cell_len(word) for cell in one for word in cell.split()) for one in columns]
    most = [max(cell_len(line) for cell in one for line in cell.split("\n")) for one in columns]
    left = available - sum(least) - _BORDER * len(columns) - 1
    if left < 0:
        return None
    wanted = sum(most) - sum(least)
    if wanted <= left:
        return most
    return [low + (high - low) * left // wanted for low, high in zip(least, most, strict=True)]


def _wrapped(cell: str, width: int) -> str:
    """The cell in lines of that width, broken between words. Rich would cut wide characters."""
    lines: list[str] = []
    for line in cell.split("\n"):
        if cell_len(line) <= width:
            lines.append(line)
            continue
        first, *words = line.split() or [""]
        lines.append(first)
        for word in words:
            if cell_len(lines[-1]) + 1 + cell_len(word) <= width:
                lines[-1] += f" {word}"
            else:
                lines.append(word)
    return "\n".join(lines)


def _print_blocks(
    names: Sequence[str], rows: Sequence[Sequence[str]], title: str | None
) -> None:
    if title is not None:
        console().print(Text(title, "italic"), soft_wrap=True)
    for number, row in enumerate(rows):
        if number:
            typer.echo()
        _print_lines(zip(names, row, strict=True))


def _print_lines(facts: Iterable[tuple[str, str]]) -> None:
    """A fact a line, below each other; the terminal wraps a line that is too long for it."""
    facts = tuple(facts)
    indent = max((cell_len(name) for name, _ in facts), default=0) + 2
    lines: list[Text] = []
    for name, value in facts:
        first, *more = value.split("\n")
        lines.append(Text.assemble((name, "bold"), " " * (indent - cell_len(name)), first))
        lines += (Text(f"{' ' * indent}{rest}") for rest in more)
    console().print(Text("\n").join(lines), soft_wrap=True)


def print_tree(tree: Tree) -> None:
    """Print a tree, a node a line; the terminal wraps a line that is too long for it."""
    # At the terminal's own width Rich would cut the line.
    Console(highlight=False, width=_WIDE).print(tree, soft_wrap=True)


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
    _print_lines((name.replace("_", " "), shown(value)) for name, value in facts.items())


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
