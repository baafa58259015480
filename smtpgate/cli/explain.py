"""``smtpgate explain``: what became of a message, and why."""

from datetime import datetime
from typing import Annotated

import typer

from smtpgate.admin import journal
from smtpgate.admin.journal import JournalSession
from smtpgate.cli.arguments import AccountOption
from smtpgate.cli.journal_session import run
from smtpgate.cli.listing import print_json, shown
from smtpgate.cli.record_view import record_fields
from smtpgate.cli.terminal import DEFAULT_CONFIG, AsJson, ConfigFile
from smtpgate.core.history.record import Record
from smtpgate.core.history.story import story_of


def explain(
    message_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="Its id in the reply, the log or `search', or the beginning."
        ),
    ],
    account: AccountOption = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Explain a message: its sender, what decided, and what to change.

    With --account only what that account may see: its own messages, and those sent with its
    identities.
    """

    async def operation(session: JournalSession) -> tuple[Record, datetime]:
        return await journal.get(session, message_id, account), session.now()

    record, now = run(config, operation)
    story = story_of(record, now)
    if json:
        sections = [{"title": one.title, "lines": one.lines} for one in story.sections]
        print_json({**record_fields(record, now), "story": sections})
    else:
        typer.echo(shown(str(story)), nl=False)
