"""``smtpgate suppression import`` and ``export``: lists as CSV or as lines of JSON."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Annotated, Final, Literal, TextIO, TypeAlias

import typer

from smtpgate.admin import suppression
from smtpgate.admin.session import Session
from smtpgate.cli.arguments import AccountArgument
from smtpgate.cli.listing import shown
from smtpgate.cli.session import run
from smtpgate.cli.terminal import DEFAULT_CONFIG, ConfigFile, errors, fail, option, output
from smtpgate.clock import SystemClock
from smtpgate.core.suppression.files import (
    BadLine,
    ListFormat,
    list_header,
    list_line,
    read_list,
)
from smtpgate.core.suppression.lists import SuppressedAddress
from smtpgate.core.wording import numbered

_STREAM: Final = "-"
# In one change: so many take a tenth of a second.
_TOGETHER: Final = 2000
_MAX_SHOWN: Final = 50
_MAX_LINE: Final = 4000

_Format: TypeAlias = Annotated[
    Literal["csv", "json"] | None,
    option(
        "--format",
        metavar="csv|json",
        help="The form of the lines. Default: that of the first line, or of the file's name.",
    ),
]


def import_(
    account: AccountArgument,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The file, or - for standard input.")
    ],
    form: _Format = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove the addresses from the list.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check the lines.")] = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Add the addresses of a file to the list of an account: CSV, or one JSON object a line.

    CSV has the columns emailAddress and reason, JSON the members of these names, as files for
    SES have them; lastUpdateTime and messageId may follow. Lines that cannot be read are
    reported and left out; then the exit status is 1. To import a file again does no harm.
    """
    source = _Import(account, "standard input" if file == _STREAM else file, remove=remove)
    with _opened(file, "r") as stream:
        run(
            config,
            lambda session: source.carry(session, stream, form, dry_run=dry_run),
            changes=not dry_run,
        )
    source.print_result(dry_run=dry_run)
    if source.bad:
        raise typer.Exit(1)


class _Import:
    """The import of a file, and what it came to."""

    def __init__(self, account_id: str, name: str, *, remove: bool) -> None:
        self._account_id = account_id
        self._name = name
        self._remove = remove
        self.done = 0
        self.bad = 0

    async def carry(
        self, session: Session, stream: TextIO, form: ListFormat | None, *, dry_run: bool
    ) -> None:
        """Read the file, and import as much at a time as one change takes."""
        first, lines = _with_first(_lines(stream))
        form = form or ("json" if first.lstrip("\ufeff \t").startswith("{") else "csv")
        waiting: list[SuppressedAddress] = []
        for found in read_list(lines, form, SystemClock().now()):
            if isinstance(found, BadLine):
                self._report(found)
                continue
            waiting.append(found)
            if len(waiting) == _TOGETHER:
                await self._write(session, waiting, dry_run=dry_run)
                waiting = []
        if waiting:
            await self._write(session, waiting, dry_run=dry_run)

    async def _write(
        self, session: Session, entries: Sequence[SuppressedAddress], *, dry_run: bool
    ) -> None:
        if dry_run:
            self.done += len(entries)
        elif self._remove:
            addresses = [entry.address for entry in entries]
            self.done += await suppression.remove_all(session, self._account_id, addresses)
        else:
            await suppression.put_all(session, self._account_id, entries, self._name)
            self.done += len(entries)

    def _report(self, line: BadLine) -> None:
        self.bad += 1
        if self.bad <= _MAX_SHOWN:
            errors.print(shown(f"{self._name}:{line.number}: {line.problem}"))

    def print_result(self, *, dry_run: bool) -> None:
        """Print how many addresses and lines there were."""
        if self.bad > _MAX_SHOWN:
            errors.print(f"{self._name}: and {self.bad - _MAX_SHOWN} more lines like these")
        what = "removed" if self._remove else "imported"
        done, bad = numbered(self.done, "addresses"), numbered(self.bad, "lines")
        counts = f"{what}: {done}, left out: {bad}"
        output.print(f"to be {counts}" if dry_run else counts)


def export(
    account: AccountArgument,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="The file, or - for standard output.")
    ] = _STREAM,
    form: _Format = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Write the list of an account as a file that can be imported."""
    form = form or ("json" if Path(file).suffix in (".json", ".jsonl", ".ndjson") else "csv")
    with _opened(file, "w") as stream:
        number = run(config, lambda session: _export(session, account, stream, form))
    if file != _STREAM:
        output.print(f"{numbered(number, 'addresses')} written to {file}")


async def _export(session: Session, account_id: str, stream: TextIO, form: ListFormat) -> int:
    number = 0
    async for page in suppression.pages(session, account_id):
        if not number:
            stream.write(list_header(form))
        stream.writelines(list_line(entry, form) for entry in page)
        number += len(page)
    return number


@contextmanager
def _opened(file: str, mode: Literal["r", "w"]) -> Iterator[TextIO]:
    """The file, or the standard stream. Octets that are no UTF-8 make a bad line of theirs."""
    if file == _STREAM:
        yield sys.stdin if mode == "r" else sys.stdout
        return
    try:
        with Path(file).open(mode, encoding="utf-8", errors="surrogateescape") as stream:
            yield stream
    except OSError as error:
        raise fail(f"{file}: {error.strerror}") from None


def _with_first(lines: Iterator[str]) -> tuple[str, Iterable[str]]:
    """The first line that is not empty, and all lines."""
    before: list[str] = []
    for line in lines:
        before.append(line)
        if line.strip():
            return line, chain(before, lines)
    return "", before


def _lines(stream: TextIO) -> Iterator[str]:
    """The lines; of one that is far too long only the beginning."""
    while line := stream.readline(_MAX_LINE):
        yield line
        while line and not line.endswith("\n"):
            line = stream.readline(_MAX_LINE)
