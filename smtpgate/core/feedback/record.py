"""A record of a mail server, read; and how the fields of its JSON object are read.

A record is read strictly, because a program wrote it that can be corrected.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from msgspec import Struct

from smtpgate.core.feedback.bounds import MAX_DIAGNOSTIC
from smtpgate.core.feedback.mime import without_surrogates
from smtpgate.core.feedback.report import Action, FeedbackReport, ReportKind

JsonObject: TypeAlias = Mapping[str, Any]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_SECONDS: Final = 200_000_000_000

ACTION_OF_KIND: Final[dict[ReportKind, Action]] = {
    "bounce": "failed",
    "delay": "delayed",
    "delivery": "delivered",
}


class RecordError(ValueError):
    """A record that is not understood: the field, and what is wrong with it."""


class FeedbackRecord(Struct, frozen=True, gc=False):
    """A record, read: the same as a report, with the time and the id that its server gave it.

    Two records with one ``id`` are the same record, sent twice; without an id it is empty.
    ``sender`` is the envelope's sender as the server had it, empty if the record does not have
    it. ``is_hearsay``: the server repeats what a report of a stranger says.
    """

    report: FeedbackReport
    id: str = ""
    at: datetime | None = None
    sender: str = ""
    is_hearsay: bool = False


def object_of(value: JsonObject, name: str) -> JsonObject:
    """The object that a field has, or an empty one."""
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def text_of(value: JsonObject, name: str, longest: int = MAX_DIAGNOSTIC) -> str:
    """The text that a field has, cut; empty without the field. Raises RecordError."""
    found = value.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise RecordError(f"`{name}' is no text")
    return without_surrogates(found[:longest])


def moment_of(value: JsonObject, name: str) -> datetime | None:
    """The time that a field has: RFC 3339, or seconds since 1970. Raises RecordError."""
    found = value.get(name)
    if found is None:
        return None
    if type(found) is int and 0 <= found <= _MAX_SECONDS:
        return _EPOCH + timedelta(seconds=found)
    if isinstance(found, str):
        try:
            moment = datetime.fromisoformat(found)
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            pass
    raise RecordError(f"`{name}' is no time such as 2027-01-31T12:00:00Z")


def shown(text: str) -> str:
    """A text of the record in an error: short and printable."""
    return text[:40].encode("unicode_escape").decode("ascii")
