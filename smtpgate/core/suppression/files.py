"""Files with suppression lists: CSV, or one JSON object a line, in the forms of SES.

SES's import has ``emailAddress`` and ``reason`` in JSON, and in CSV these two columns without a
header; the answers of its API begin with capitals, and add ``LastUpdateTime``. All of these are
read, and a file that was written here is read back as it was.
https://docs.aws.amazon.com/ses/latest/dg/sending-email-suppression-list.html
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple, TypeAlias

from smtpgate.core.message_id import compact_id
from smtpgate.core.suppression.lists import SuppressedAddress, read_address, read_reason

ListFormat: TypeAlias = Literal["csv", "json"]

FIELDS: Final = ("emailAddress", "reason", "lastUpdateTime", "messageId")
_REQUIRED: Final = 2
_MAX_LINE: Final = 2000
_NAMES: Final = {name.lower(): name for name in FIELDS}
_BYTE_ORDER_MARK: Final = "\ufeff"


class BadLine(NamedTuple):
    """A line that has no entry, by its number from 1."""

    number: int
    problem: str


def read_list(
    lines: Iterable[str], form: ListFormat, now: datetime
) -> Iterator[SuppressedAddress | BadLine]:
    """The entries of a file, one a line, and the lines that cannot be read.

    An entry without a time is of ``now``. Empty lines, and the header of a CSV file, are no
    entries.
    """
    read_line = _csv_line if form == "csv" else _json_line
    columns: Sequence[str] = FIELDS
    for number, raw in enumerate(lines, 1):
        line = raw.removeprefix(_BYTE_ORDER_MARK) if number == 1 else raw
        line = line.strip()
        if not line:
            continue
        if len(line) > _MAX_LINE:
            yield BadLine(number, f"the line has more than {_MAX_LINE} characters")
            continue
        try:
            if form == "csv" and number == 1 and _is_header(line):
                columns = _columns(line)
            else:
                yield _entry(read_line(line, columns), now)
        except ValueError as error:
            yield BadLine(number, str(error))


def _is_header(line: str) -> bool:
    """True if the first cell is a name of a column and no address."""
    return "@" not in line


def _columns(line: str) -> Sequence[str]:
    """The names of the columns, in whatever letter case; columns of others are read over."""
    names = [_NAMES.get(cell.strip().lower(), "") for cell in next(csv.reader([line]))]
    missing = [name for name in FIELDS[:_REQUIRED] if name not in names]
    if missing:
        raise ValueError(f"the header has no column {missing[0]}")
    return names


def _csv_line(line: str, columns: Sequence[str]) -> Mapping[str, object]:
    try:
        cells = next(csv.reader([line], strict=True))
    except csv.Error as error:
        raise ValueError(f"no CSV: {error}") from None
    if len(cells) > len(columns):
        raise ValueError(f"{len(cells)} columns, and there are at most {len(columns)}")
    return {
        name: cell.strip() for name, cell in zip(columns, cells, strict=False) if cell.strip()
    }


def _json_line(line: str, _columns: Sequence[str]) -> Mapping[str, object]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 - it is a value of a file
    return {_NAMES.get(name.lower(), ""): value for name, value in found.items()}


def _entry(fields: Mapping[str, object], now: datetime) -> SuppressedAddress:
    address, reason, at, message_id = (_text(fields, name) for name in FIELDS)
    for name, value in zip(FIELDS[:_REQUIRED], (address, reason), strict=True):
        if not value:
            raise ValueError(f"{name} is missing")
    if message_id:
        _ = compact_id(message_id)
    try:
        listed = read_address(address)
    except ValueError as error:
        raise ValueError(f"emailAddress `{address}': {error}") from None
    return SuppressedAddress(listed, read_reason(reason), _moment(at) or now, message_id)


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{name} is no text")  # noqa: TRY004 - it is a value of a file
    return value


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"lastUpdateTime: `{text}' is no time in ISO 8601") from None


def list_header(form: ListFormat) -> str:
    """The first line of a file: the names of the columns, or nothing."""
    return _cells(FIELDS) if form == "csv" else ""


def list_line(entry: SuppressedAddress, form: ListFormat) -> str:
    """The line of an entry, with its line end."""
    return _WRITERS[form](entry)


def _as_csv(entry: SuppressedAddress) -> str:
    return _cells((entry.address, entry.reason, _shown(entry.added_at), entry.message_id))


def _as_json(entry: SuppressedAddress) -> str:
    values = (entry.address, entry.reason, _shown(entry.added_at), entry.message_id)
    return (
        json.dumps({name: value for name, value in zip(FIELDS, values, strict=True) if value})
        + "\n"
    )


_WRITERS: Final[Mapping[ListFormat, Callable[[SuppressedAddress], str]]] = {
    "csv": _as_csv,
    "json": _as_json,
}


def _cells(values: Sequence[str]) -> str:
    return ",".join(map(_cell, values)) + "\n"


def _cell(value: str) -> str:
    """A cell, in quotes where it needs them (RFC 4180 §2)."""
    if any(sign in value for sign in '",'):
        quoted = value.replace('"', '""')
        return f'"{quoted}"'
    return value


def _shown(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
