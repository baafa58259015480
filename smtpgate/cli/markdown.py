"""Markdown on a terminal: nothing is cut, and commands can be copied.

Rich wraps blocks of code and cuts wide tables. Here a block keeps its lines, and a table that
is wider than the terminal becomes a list.
"""

import re
from collections.abc import Callable
from typing import ClassVar, Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import CodeBlock, Markdown
from rich.text import Text

_TABLE: Final = re.compile(r"(?:^\|.*\|\n)+", re.MULTILINE)
_CELL_END: Final = re.compile(r"(?<!\\)\|")
# A link to another page leads nowhere on a terminal; its text names the topic.
_LINK: Final = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)\n]+\)")


class _Code(CodeBlock):
    """A block of code, whose long lines the terminal wraps by itself."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in str(self.text).rstrip().splitlines():
            yield Text(f"    {line}", no_wrap=True, overflow="ignore", end="\n")


class _Page(Markdown):
    elements: ClassVar = {**Markdown.elements, "fence": _Code, "code_block": _Code}


def print_markdown(text: str) -> None:
    """Print a page."""
    console = Console(highlight=False)
    fitted = _TABLE.sub(_fitting(console.width), _LINK.sub(r"\1", text))
    console.print(_Page(fitted, hyperlinks=False), soft_wrap=False, crop=False)


def _fitting(width: int) -> Callable[[re.Match[str]], str]:
    """Leave a table as it is, or make it a list when it is wider than that."""

    def fitted(table: re.Match[str]) -> str:
        rows = [
            [cell.strip() for cell in _CELL_END.split(line[1:-1])]
            for line in table[0].splitlines()
        ]
        widths = (max(map(len, column)) for column in zip(*rows, strict=True))
        is_narrow = sum(widths) + 3 * len(rows[0]) <= width
        return table[0] if is_narrow else "".join(map(_item, rows[2:]))

    return fitted


def _item(row: list[str]) -> str:
    """A row as an item of a list: the first cell, and below it the others."""
    first, *middle, last = (cell.replace("\\|", "|") for cell in row)
    aside = "; ".join(filter(None, middle))
    return f"- {first}{f' ({aside})' if aside else ''}  \n  {last}\n"
