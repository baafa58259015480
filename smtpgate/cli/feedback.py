"""``smtpgate feedback``: bounces, complaints and delivery reports in files, without a gate."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from smtpgate.bounce_forms import read_any_report
from smtpgate.core.feedback.bounds import MAX_OCTETS
from smtpgate.core.feedback.report import FeedbackReport, ReportedRecipient

feedback_app: Final = typer.Typer(no_args_is_help=True)

_STDIN: Final = Path("-")
# The kinds of events. A delay and an automatic answer are not in them, and have a detail.
_KINDS: Final = {"bounce", "complaint", "delivery"}


@feedback_app.callback()
def _feedback() -> None:
    pass


@feedback_app.command("read", epilog="Example: smtpgate feedback read bounce.eml")
def read(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE...]",
            help="A message each; - or nothing is standard input.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Read messages that came back, and print one JSON object for each file, in order.

    It says if the message is a bounce, a complaint, a notice of delivery or none of these,
    about which recipients, and with which bounce type and subtype in the words of Amazon SES.
    It needs no gate and no configuration. `smtpgate help feedback' describes the fields.

    The exit status is 1 if a file cannot be read.
    """
    failed = False
    for path in files or [_STDIN]:
        try:
            octets = _octets(path)
        except OSError as error:
            typer.echo(f"{str(path)!r}: {error.strerror or error}", err=True)
            failed = True
            continue
        typer.echo(json.dumps({"file": str(path), **report_fields(read_any_report(octets))}))
    if failed:
        raise typer.Exit(1)


def _octets(path: Path) -> bytes:
    """As much of a file as the reader looks at. Raises OSError."""
    if path == _STDIN:
        return sys.stdin.buffer.read(MAX_OCTETS)
    with path.open("rb") as file:
        return file.read(MAX_OCTETS)


def report_fields(report: FeedbackReport) -> dict[str, Any]:
    """A report as JSON has it; texts that the report does not have are left out."""
    is_event = report.kind in _KINDS
    original = report.original
    fields = {
        "kind": report.kind if is_event else "none",
        "recipients": [_recipient_fields(one) for one in report.recipients],
        "message_id": original.message_id,
    }
    texts = {
        "detail": "" if is_event or report.kind == "none" else report.kind,
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
    }
    return fields | dict(_present(texts))


def _present(texts: dict[str, str]) -> Iterator[tuple[str, str]]:
    return ((name, text) for name, text in texts.items() if text)
