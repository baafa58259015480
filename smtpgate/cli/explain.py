"""``smtpgate explain``: what became of a message, and why."""

from datetime import datetime
from typing import Annotated

import typer

from smtpgate.cli.archive import Archive, run
from smtpgate.cli.arguments import AccountOption
from smtpgate.cli.listing import print_json, shown
from smtpgate.cli.record_view import record_fields
from smtpgate.cli.terminal import DEFAULT_CONFIG, AsJson, ConfigFile, fail
from smtpgate.core.history.record import Record
from smtpgate.core.history.story import as_seen_by, story_of


def explain(
    message_id: Annotated[
        str, typer.Argument(metavar="ID", help="The id in the reply, in the log, in `search'.")
    ],
    account: AccountOption = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Explain a message: its sender, what decided, and what to change.

    With --account only what that account may see: its own messages, and those sent with its
    identities.
    """

    async def operation(archive: Archive) -> tuple[Record | None, datetime, int]:
        days = archive.config.journal.max_age_days
        return await archive.reader.get(message_id), archive.now(), days

    record, now, days = run(config, operation)
    if record is not None and account is not None:
        record = as_seen_by(record, account) if record.may_be_seen_by(account) else None
    if record is None:
        raise fail(f"the journal has no {message_id}; it keeps {days} days at most")
    if json:
        told = story_of(record, now).sections
        story = [{"title": one.title, "lines": one.lines} for one in told]
        print_json({**record_fields(record, now), "story": story})
    else:
        typer.echo(shown(str(story_of(record, now))), nl=False)
