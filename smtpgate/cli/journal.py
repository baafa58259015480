"""``smtpgate journal``: what was submitted, what came of it, and the database it is kept in."""

import asyncio
from datetime import datetime
from typing import Annotated, Final, TypeAlias, get_args

import typer

from smtpgate.admin import journal
from smtpgate.admin.journal import JournalSession
from smtpgate.admin.session import OPERATOR, CallerSession
from smtpgate.cli.arguments import AccountOption
from smtpgate.cli.journal_session import JOURNAL_SESSION_ERRORS, run
from smtpgate.cli.listing import View, print_facts, print_pages, shown, to_json, width_of_rows
from smtpgate.cli.moments import Since, Until, moment_option
from smtpgate.cli.notation import user_ref
from smtpgate.cli.record_view import record_fields
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    example,
    fail,
    loaded_config,
    misused,
    one_of,
    option,
    print_upgrade,
)
from smtpgate.clock import SystemClock
from smtpgate.core.address import AddressError, parse_forward_path
from smtpgate.core.arn import identity_arn, identity_name
from smtpgate.core.history.record import Record, RecordOutcome
from smtpgate.core.history.search import Search
from smtpgate.core.history.story import outcome_of
from smtpgate.core.outbox.event import EVENT_KINDS, EventKind
from smtpgate.core.reason import ALL_REASONS
from smtpgate.core.wording import numbered
from smtpgate.gate.journal import open_journal_store

journal_app: Final = typer.Typer(no_args_is_help=True)
_EVERY_S: Final = 1.0
_USUAL: Final = 100
# The record of a message says itself that it was sent.
_LATER: Final = tuple(kind for kind in EVENT_KINDS if kind != "Send")


def _identity(text: str) -> str:
    """An identity's ARN, or its name, in the one spelling. Raises ValueError."""
    return str(identity_arn(text)) if text.startswith("arn:") else identity_name(text)


def _address(text: str) -> str:
    try:
        return str(parse_forward_path(text))
    except AddressError as error:
        raise ValueError(f"`{text}' is no address: {error}") from None


def _reason(text: str) -> str:
    if text not in {"accepted", *ALL_REASONS}:
        raise ValueError(f"`{text}' is no reason code; `smtpgate help reasons' lists them")
    return text


UserFilter: TypeAlias = Annotated[
    str | None,
    option(
        "--user",
        metavar="ACCOUNT/NAME",
        help="Sent by this user.",
        parse=lambda text: str(user_ref(text)),
    ),
]
_Identity: TypeAlias = Annotated[
    str | None,
    option(
        "--identity",
        metavar="ARN|NAME",
        help="With this identity, by its ARN; or about it, by its name.",
        parse=_identity,
    ),
]
_Address: TypeAlias = Annotated[
    str | None,
    option(
        metavar="ADDRESS",
        help="This address is a recipient, MAIL FROM, From or Sender.",
        parse=_address,
    ),
]
_Reason: TypeAlias = Annotated[
    str | None,
    option(metavar="CODE", help="With this reason code, such as implicit-deny.", parse=_reason),
]
_Outcome: TypeAlias = Annotated[
    RecordOutcome | None,
    option(metavar="OUTCOME", help=f"With this outcome: {one_of(get_args(RecordOutcome))}."),
]
_Event: TypeAlias = Annotated[
    EventKind | None,
    option(metavar="KIND", help=f"With an event of this kind: {one_of(_LATER)}."),
]
_Wide: TypeAlias = Annotated[
    bool, option("--wide", help="Print each row on one line, however long.")
]
_FollowOption: TypeAlias = Annotated[
    bool, option("--follow", "-f", help="Wait for new records, and print a line for each.")
]


def _view(now: datetime) -> View[Record]:
    return View(
        columns={
            "when": lambda record: record.received_at,
            "id": lambda record: record.id,
            "outcome": lambda record: outcome_of(record, now),
            "reason": lambda record: record.reason,
            "sender": lambda record: record.user_arn or record.username,
            "from": lambda record: [str(author.mailbox) for author in record.authors],
            "to": _recipients,
            "identity": lambda record: record.from_identity,
        },
        fields=lambda record: record_fields(record, now),
        nothing="no messages were found",
    )


def _recipients(record: Record) -> str:
    if record.kind != "submission":
        return ""
    paths = record.forward_paths
    if paths is None or len(paths) != 1:
        return numbered(record.recipients, "recipients")
    return str(paths[0])


@journal_app.command(epilog=example("journal search --identity ses-example.com --since 2h"))
def search(
    account: AccountOption = None,
    user: UserFilter = None,
    identity: _Identity = None,
    address: _Address = None,
    reason: _Reason = None,
    outcome: _Outcome = None,
    event: _Event = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="At most so many.")] = _USUAL,
    follow: _FollowOption = False,
    wide: _Wide = False,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Find submissions and refused logins, the newest first.

    With --account only what that account may see: its own messages, and those sent with its
    identities.
    """
    wanted = Search(
        account_id=account,
        user=user,
        identity=identity,
        address=address,
        reason=reason,
        outcome=outcome,
        event=event,
        since=moment_option(since, "--since"),
        until=moment_option(until, "--until"),
    )
    if follow and wanted.until is not None:
        raise misused("--until has no use with --follow")
    if follow and event is not None:
        raise misused("--event has no use with --follow: events come later than the message")

    async def operation(session: JournalSession) -> None:
        if follow:
            await _print_new(session, wanted, as_json=json)
            return
        pages = journal.search(session, wanted, limit=limit)
        width = width_of_rows(is_wide=wide)
        await print_pages(pages, _view(session.now()), as_json=json, width=width)

    try:
        run(config, operation)
    except KeyboardInterrupt:
        raise typer.Exit from None


async def _print_new(session: JournalSession, wanted: Search, *, as_json: bool) -> None:
    """Print a line for each message that comes in from now on; it does not end."""
    async for record in journal.follow(session, wanted, lambda: asyncio.sleep(_EVERY_S)):
        typer.echo(_line(record, session.now(), as_json=as_json))


def _line(record: Record, now: datetime, *, as_json: bool) -> str:
    if as_json:
        return to_json(record_fields(record, now), indent=None)
    words = (
        record.received_at,
        record.id,
        f"{record.outcome} ({record.reason})",
        record.user_arn or record.username,
        ", ".join(str(author.mailbox) for author in record.authors),
        _recipients(record),
    )
    # A client may log in with any name, one with line ends too.
    return " ".join(shown(word).replace("\n", "\\n") for word in words)


@journal_app.command(epilog=example("journal status"))
def status(config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Show which database it is, and about how much is in it."""
    print_facts(run(config, journal.status), as_json=json)


@journal_app.command(epilog=example("journal upgrade"))
def upgrade(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Make the tables, or bring them to this version; there is no way back but a backup.

    A journal in SQLite is upgraded by every start. One in PostgreSQL is not, since other hosts
    may still run the version before.
    """
    loaded = loaded_config(config)

    async def done() -> tuple[str | None, str]:
        session = CallerSession(config=loaded, clock=SystemClock(), caller=OPERATOR)
        async with open_journal_store(loaded) as store:
            return await journal.upgrade(session, store)

    try:
        print_upgrade(*asyncio.run(done()))
    except JOURNAL_SESSION_ERRORS as error:
        raise fail(error) from None
