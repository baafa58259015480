"""``smtpgate explain``: what became of a message, and why."""

from datetime import datetime
from typing import Annotated

import typer

from smtpgate.admin.explained import Explained, explained
from smtpgate.admin.journal import JournalSession
from smtpgate.cli.arguments import AccountOption
from smtpgate.cli.journal_session import run
from smtpgate.cli.later_view import later_fields
from smtpgate.cli.listing import print_json, shown
from smtpgate.cli.record_view import record_fields
from smtpgate.cli.terminal import DEFAULT_CONFIG, AsJson, ConfigFile
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
    """Explain a message: its sender, what decided, what to change, and what came later.

    With --account only what that account may see: its own messages, and those sent with its
    identities; of the notifications those of its own settings.
    """

    async def operation(session: JournalSession) -> tuple[Explained, datetime]:
        return await explained(session, message_id, account), session.now()

    (record, later), now = run(config, operation)
    story = story_of(record, now, later)
    if json:
        sections = [{"title": one.title, "lines": one.lines} for one in story.sections]
        fields = {**record_fields(record, now), **later_fields(later)}
        print_json({**fields, "story": sections})
    else:
        typer.echo(shown(str(story)), nl=False)
