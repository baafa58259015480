"""``smtpgate outbox``: events and reports that wait, were delivered, or were given up."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeAlias, get_args

import typer

from smtpgate.admin import outbox
from smtpgate.admin.journal import JournalSession
from smtpgate.cli.arguments import AccountOption
from smtpgate.cli.journal_session import run
from smtpgate.cli.listing import View, print_facts, print_pages
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    Limit,
    Yes,
    argument,
    confirmed,
    example,
    misused,
    one_of,
    option,
)
from smtpgate.core.outbox.event import EventKind
from smtpgate.core.outbox.task import TaskState
from smtpgate.core.wording import numbered
from smtpgate.outbox.kept import KeptTask, TaskFilter

outbox_app: Final = typer.Typer(no_args_is_help=True)


def _fields(one: KeptTask) -> Mapping[str, Any]:
    event, to = one.task.event, one.task.destination
    return {
        "id": one.id,
        "state": one.state,
        "kind": event.kind,
        "event": event.id,
        "message": event.mail.message_id,
        "recipients": [recipient.address for recipient in event.recipients],
        "destination_kind": to.kind,
        "destination": to.name,
        "account": to.account_id,
        "created_at": one.created_at,
        "due_at": one.due_at if one.state == "waiting" else None,
        "done_at": one.done_at,
        "attempts": one.attempts,
        "answer": one.answer,
    }


_VIEW: Final[View[KeptTask]] = View(
    columns={
        "when": lambda one: one.created_at,
        "task": lambda one: one.id,
        "state": lambda one: one.state,
        "event": lambda one: one.task.event.kind,
        "message": lambda one: one.task.event.mail.message_id,
        "to": lambda one: one.task.destination.name,
        "attempts": lambda one: one.attempts,
        "answer": lambda one: one.answer,
    },
    fields=_fields,
    nothing="no tasks were found",
)

_State: TypeAlias = Annotated[
    TaskState | None,
    option(
        metavar="STATE",
        case_sensitive=False,
        help=f"In this state: {one_of(get_args(TaskState))}.",
    ),
]
_Kind: TypeAlias = Annotated[
    EventKind | None,
    option(
        metavar="KIND",
        case_sensitive=False,
        help=f"Events of this kind: {one_of(get_args(EventKind))}.",
    ),
]
_Message: TypeAlias = Annotated[
    str | None, option(metavar="ID", help="About this message, by its whole id.")
]
_Destination: TypeAlias = Annotated[
    str | None, option("--to", metavar="ARN|ADDRESS", help="To this subscription or address.")
]
_Task: TypeAlias = Annotated[
    str, typer.Argument(metavar="TASK", help="Its id, or a unique beginning of it.")
]
_OptionalTask: TypeAlias = Annotated[
    str | None, argument(metavar="TASK", help="Its id, or a unique beginning of it.")
]


@outbox_app.command("list", epilog=example("outbox list --state dead"))
def list_(
    account: AccountOption = None,
    state: _State = None,
    kind: _Kind = None,
    message: _Message = None,
    to: _Destination = None,
    limit: Limit = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """List tasks, the newest first: each is the delivery of an event to one destination.

    With --account only those that follow from its own settings.
    """
    wanted = TaskFilter(
        account_id=account, message_id=message, state=state, kind=kind, destination=to
    )

    async def operation(session: JournalSession) -> None:
        await print_pages(outbox.tasks(session, wanted, limit=limit), _VIEW, as_json=json)

    run(config, operation)


@outbox_app.command(epilog=example("outbox show 5d41402a"))
def show(task: _Task, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Show a task: its event, its destination, the last answer."""
    found = run(config, lambda session: outbox.get(session, task))
    print_facts(_fields(found), as_json=json)


@outbox_app.command(epilog=example("outbox retry --dead --to arn:aws:sns:…"))
def retry(
    task: _OptionalTask = None,
    dead: Annotated[bool, typer.Option("--dead", help="All that were given up.")] = False,
    to: _Destination = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Try a task again, for as long as a new one; or with --dead all that were given up."""
    if (task is None) is not dead:
        raise misused("give a task or --dead")
    if task is not None:
        if to is not None:
            raise misused("--to is for --dead")
        found = run(config, lambda session: outbox.retry(session, task))
        _print_change(found, "will be tried again", as_json=json)
        return
    wanted = TaskFilter(state="dead", destination=to)
    number = run(config, lambda session: outbox.retry_all(session, wanted))
    if json:
        print_facts({"retried": number}, as_json=True)
    else:
        typer.echo(f"{numbered(number, 'tasks')} will be tried again")


@outbox_app.command(epilog=example("outbox drop 5d41402a"))
def drop(
    task: _Task,
    yes: Yes = False,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Delete a task that is not delivered: its destination never gets the event."""
    confirmed(f"drop task {task}", yes=yes)
    found = run(config, lambda session: outbox.drop(session, task))
    _print_change(found, "was deleted", as_json=json)


def _print_change(task: KeptTask, what: str, *, as_json: bool) -> None:
    if as_json:
        print_facts(_fields(task), as_json=True)
        return
    event, to = task.task.event, task.task.destination
    typer.echo(f"task {task.id}, {event.kind} of {event.mail.message_id} to {to.name}, {what}")
