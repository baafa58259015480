"""``smtpgate feedback``: bounces, complaints and delivery reports in files, without a gate."""

import json
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer

from smtpgate.bounce_forms import read_any_report
from smtpgate.core.feedback.bounds import MAX_OCTETS
from smtpgate.core.feedback.record import RecordError
from smtpgate.core.feedback.records import MAX_RECORD_OCTETS, read_record
from smtpgate.core.feedback.report import FeedbackReport, ReportedRecipient, ReportKind

feedback_app: Final = typer.Typer(no_args_is_help=True)

_STDIN: Final = Path("-")
_SHOWN: Final = 5  # problems of one file
# A delay is a transient bounce so far, and an automatic answer none: a detail tells them apart.
_KINDS: Final[dict[ReportKind, str]] = {"delay": "bounce", "answer": "none"}


@feedback_app.callback()
def _feedback() -> None:
    pass


@feedback_app.command("read", epilog="Example: smtpgate feedback read bounce.eml")
def read(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE...]",
            help="A message, or records; - or nothing is standard input.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Read messages that came back, and print one JSON object for each file, in order.

    It says if the message is a bounce, a complaint, a notice of delivery or none of these,
    about which recipients, and with which bounce type and subtype in the words of Amazon SES.
    It needs no gate and no configuration. `smtpgate help feedback' describes the fields.

    A file may also have JSON records, one a line: then each has an object.

    The exit status is 1 if a file or a record cannot be read.
    """
    failed = False
    for path in files or [_STDIN]:
        try:
            with _opened(path) as file:
                for line in _lines(path, file):
                    typer.echo(line)
        except (OSError, _UnreadError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            typer.echo(f"{str(path)!r}: {reason or error}", err=True)
            failed = True
    if failed:
        raise typer.Exit(1)


class _UnreadError(Exception):
    """Records of a file were not understood."""


def _opened(path: Path) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if path == _STDIN else path.open("rb")


def _lines(path: Path, file: BinaryIO) -> Iterator[str]:
    """The JSON texts about a file. Raises OSError and _UnreadError."""
    first = file.readline(MAX_RECORD_OCTETS)
    if not first.lstrip().startswith(b"{"):
        report = read_any_report(first + file.read(MAX_OCTETS))
        yield json.dumps({"file": str(path), **report_fields(report)})
        return
    problems: list[str] = []
    for number, line in enumerate(_records(first, file), 1):
        if not line.strip():
            continue
        try:
            record = read_record(line)
        except RecordError as error:
            problems.append(f"line {number} {error}")
            continue
        named = {"id": record.id} if record.id else {}
        at = {"at": f"{record.at:%Y-%m-%dT%H:%M:%SZ}"} if record.at else {}
        yield json.dumps({"file": str(path), **named, **at, **report_fields(record.report)})
    if problems:
        more = f", and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise _UnreadError("; ".join(problems[:_SHOWN]) + more)


def _records(first: bytes, file: BinaryIO) -> Iterator[bytes]:
    """The records of a file: one a line, or one on all lines if the first does not end it."""
    if first.rstrip().endswith(b"}"):
        yield first
        yield from iter(partial(file.readline, MAX_RECORD_OCTETS + 1), b"")
    else:
        yield first + file.read(MAX_RECORD_OCTETS)


def report_fields(report: FeedbackReport) -> dict[str, Any]:
    """A report as JSON has it; texts that the report does not have are left out."""
    original = report.original
    fields = {
        "kind": _KINDS.get(report.kind, report.kind),
        "recipients": [_recipient_fields(one) for one in report.recipients],
        "message_id": original.message_id,
    }
    texts = {
        "detail": report.kind if report.kind in _KINDS else "",
        "envelope_id": original.envelope_id,
        "original_message_id": original.header_message_id,
        "reporting_mta": report.reporting_mta,
        "arrival_date": report.arrival_date,
        "feedback_type": report.feedback_type,
        "user_agent": report.user_agent,
    }
    return fields | dict(_present(texts))


def _recipient_fields(one: ReportedRecipient) -> dict[str, Any]:
    fields = {
        "address": one.address,
        "action": one.action,
        "status": one.status or None,
        "reply": one.reply or None,
        "type": one.kind.type if one.kind else None,
        "subtype": one.kind.subtype if one.kind else None,
    }
    texts = {
        "original": one.original,
        "diagnostic": one.diagnostic,
        "remote_mta": one.remote_mta,
        "retry_until": f"{one.retry_until:%Y-%m-%dT%H:%M:%SZ}" if one.retry_until else "",
    }
    return fields | dict(_present(texts))


def _present(texts: dict[str, str]) -> Iterator[tuple[str, str]]:
    return ((name, text) for name, text in texts.items() if text)
