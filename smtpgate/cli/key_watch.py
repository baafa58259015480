"""``smtpgate key watch``: access keys whose use differs from before."""

from typing import Annotated, Final

import typer

from smtpgate.admin import key_watch
from smtpgate.admin.journal import JournalSession
from smtpgate.admin.key_watch import PastReport
from smtpgate.cli.journal_session import run
from smtpgate.cli.listing import View, print_pages
from smtpgate.cli.moments import Since, moment_option
from smtpgate.cli.terminal import DEFAULT_CONFIG, AsJson, ConfigFile, example

watch_app: Final = typer.Typer(
    name="watch", help="Access keys whose use differs from before.", no_args_is_help=True
)

_PAST: Final[View[PastReport]] = View(
    columns={
        "when": lambda one: one.at,
        "access key": lambda one: one.key_id,
        "account": lambda one: one.account_id,
        "level": lambda one: one.assessment.level,
        "score": lambda one: one.assessment.score,
        "what differs": lambda one: [finding.text for finding in one.assessment.findings],
    },
    fields=lambda one: {
        "at": one.at,
        "access_key": one.key_id,
        "account": one.account_id,
        "user": one.user_arn,
        "message": one.message_id,
        "level": one.assessment.level,
        "score": one.assessment.score,
        "findings": [
            {
                "signal": finding.signal,
                "weight": finding.weight,
                "figure": finding.figure,
                "usual": finding.usual,
                "text": finding.text,
            }
            for finding in one.assessment.findings
        ],
    },
    nothing="nothing would have been reported",
)


@watch_app.command(epilog=example("key watch replay --since 30d"))
def replay(
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Of this access key alone.", show_default=False),
    ] = None,
    since: Since = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Show what would have been reported about the journal's records, oldest first.

    The watch begins there without a history: nothing is reported in the first days.
    """
    begin = moment_option(since, "--since")

    async def operation(session: JournalSession) -> None:
        found = key_watch.replay(session, since=begin, key_id=key)
        await print_pages(found, _PAST, as_json=json)

    run(config, operation)
