"""Tables, lines and trees on the terminal, drawn by Rich."""

import sys
from collections.abc import Iterable, Sequence
from typing import Final

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from smtpgate.cli.listing import WIDE

_BORDER: Final = 3  # a line and a blank on each side of a cell


def console(width: int | None = None) -> Console:
    """The console for output; lines for another program are not folded."""
    if width is None and not sys.stdout.isatty():
        width = WIDE
    return Console(highlight=False, width=width)


def draw_table(
    names: Sequence[str],
    cells: Sequence[Sequence[str]],
    *,
    title: str | None = None,
    width: int | None = None,
) -> None:
    """Print cells below the names of their columns, as ``print_table`` says."""
    widths = _widths([names, *cells], console(width).width)
    if widths is None:
        _draw_blocks(names, cells, title)
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


def _draw_blocks(
    names: Sequence[str], rows: Sequence[Sequence[str]], title: str | None
) -> None:
    if title is not None:
        console().print(Text(title, "italic"), soft_wrap=True)
    for number, row in enumerate(rows):
        if number:
            typer.echo()
        draw_lines(zip(names, row, strict=True))


def draw_lines(facts: Iterable[tuple[str, str]]) -> None:
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
    Console(highlight=False, width=WIDE).print(tree, soft_wrap=True)
