"""``smtpgate account``: the tenants of the gate, each with its sending limits."""

import secrets
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import typer

from smtpgate.admin.session import Session
from smtpgate.cli.arguments import AccountArgument
from smtpgate.cli.limits import (
    QuotaOption,
    RateOption,
    limit_columns,
    shown_limit,
)
from smtpgate.cli.listing import View, pages_of, print_card, print_json, print_pages
from smtpgate.cli.session import run
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    Limit,
    Reason,
    Yes,
    confirmed,
    example,
    misused,
    output,
    parsed_by,
)
from smtpgate.core.naming import account_id as checked_account_id
from smtpgate.directory.accounts import (
    AccountRow,
    account,
    account_page,
    belongings,
    create_account,
    delete_account,
    update_account,
)

account_app: Final = typer.Typer(
    name="account", help="Accounts: who may send how much.", no_args_is_help=True
)
_NUMBERS: Final = 10**12
_LIMITS: Final = ("max_24h_send", "max_send_rate_per_s")

_Name: TypeAlias = Annotated[
    str | None, typer.Option(metavar="TEXT", help="What people call it.", show_default=False)
]
_Organization: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="ID", help="Its aws:PrincipalOrgID, or none.", show_default=False),
]


class Status(StrEnum):
    """Whether an account may send, as an option's values."""

    ACTIVE = "active"
    PAUSED = "paused"


def _status(row: AccountRow) -> str:
    return "active" if row.paused_reason is None else "paused"


def _fields(row: AccountRow) -> dict[str, object]:
    """An account as programs see it; a limit of null is the configuration's, -1 is none."""
    return {
        "id": row.id,
        "name": row.name,
        "status": _status(row),
        "paused_reason": row.paused_reason,
        "organization": row.organization_id,
        "max_24h_send": row.max_24h_send,
        "max_send_rate_per_s": row.max_send_rate_per_s,
        "created_at": row.created_at,
    }


_VIEW: Final[View[AccountRow]] = View(
    columns={
        "account": lambda row: row.id,
        "name": lambda row: row.name,
        "status": _status,
        "24 h": lambda row: shown_limit(row.max_24h_send),
        "a second": lambda row: shown_limit(row.max_send_rate_per_s),
        "created": lambda row: row.created_at,
    },
    fields=_fields,
    nothing="no accounts",
)


def _changes(
    name: str | None, organization: str | None, quota: str | None, rate: str | None
) -> dict[str, Any]:
    """The columns that options name. Raises BadParameter."""
    changes: dict[str, Any] = {}
    if name is not None:
        changes["name"] = name
    if organization is not None:
        changes["organization_id"] = None if organization == "none" else organization
    return changes | limit_columns(quota, rate)


@account_app.command(epilog=example("account create 999999999999 --name 'Delegate sender'"))
def create(
    account_id: Annotated[
        str | None,
        typer.Argument(
            metavar="ACCOUNT",
            help="12 digits; without them a number that is free.",
            parser=parsed_by(checked_account_id),
            show_default=False,
        ),
    ] = None,
    name: _Name = None,
    organization: _Organization = None,
    max_24h_send: QuotaOption = None,
    max_send_rate: RateOption = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Add an account.

    Limits that are not said, and those of default, are as the configuration says.
    """
    changes = _changes(name, organization, max_24h_send, max_send_rate)
    drawn = f"{secrets.randbelow(_NUMBERS):012}"

    async def operation(session: Session) -> AccountRow:
        async with session.changing() as change:
            return await create_account(change, AccountRow(id=account_id or drawn, **changes))

    row = run(config, operation, changes=True)
    if json:
        print_json(_fields(row))
    else:
        output.print(f"account {row.id} is there")


@account_app.command("list", epilog=example("account list --status paused"))
def list_(
    search: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="A part of the id or name.", show_default=False),
    ] = None,
    status: Annotated[
        Status | None, typer.Option(help="Only those.", show_default=False)
    ] = None,
    limit: Limit = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """List accounts."""
    is_paused = None if status is None else status is Status.PAUSED

    async def operation(session: Session) -> None:
        async def read(after: str, size: int) -> list[AccountRow]:
            async with session.store.reading() as connection:
                return await account_page(
                    connection, search=search, is_paused=is_paused, after=after, limit=size
                )

        await print_pages(pages_of(read, "", lambda row: row.id, limit), _VIEW, as_json=json)

    run(config, operation)


@account_app.command(epilog=example("account show 999999999999"))
def show(
    account_id: AccountArgument, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False
) -> None:
    """Show an account, and how much it has."""

    async def operation(session: Session) -> dict[str, object]:
        async with session.store.reading() as connection:
            row = await account(connection, account_id)
            counts = await belongings(connection, account_id)
        return _fields(row) | {name.replace(" ", "_"): count for name, count in counts.items()}

    facts = run(config, operation)
    if json:
        print_json(facts)
        return
    print_card(facts | {name: shown_limit(facts[name]) for name in _LIMITS})


@account_app.command("set", epilog=example("account set 999999999999 --max-24h-send 50000"))
def set_(
    account_id: AccountArgument,
    name: _Name = None,
    organization: _Organization = None,
    max_24h_send: QuotaOption = None,
    max_send_rate: RateOption = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Change an account's name, organization or limits.

    A limit of default is as the configuration says.
    """
    changes = _changes(name, organization, max_24h_send, max_send_rate)
    if not changes:
        raise misused("say what to change: --name, --organization, --max-24h-send, …")
    _update(config, account_id, changes, "change")
    output.print(f"account {account_id} is changed")


def _update(config: Path, account_id: str, changes: dict[str, Any], action: str) -> None:
    async def operation(session: Session) -> None:
        async with session.changing() as change:
            await update_account(change, account_id, changes, action=action)

    run(config, operation, changes=True)


@account_app.command(
    epilog=example("account pause 999999999999 --reason 'too many complaints'")
)
def pause(
    account_id: AccountArgument,
    reason: Reason,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Let an account send nothing until it is resumed; its open sessions end too."""
    _update(config, account_id, {"paused_reason": reason}, "pause")
    output.print(f"account {account_id} is paused")


@account_app.command(epilog=example("account resume 999999999999"))
def resume(account_id: AccountArgument, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Let a paused account send again."""
    _update(config, account_id, {"paused_reason": None}, "resume")
    output.print(f"account {account_id} may send")


@account_app.command(epilog=example("account delete 999999999999"))
def delete(
    account_id: AccountArgument, config: ConfigFile = DEFAULT_CONFIG, yes: Yes = False
) -> None:
    """Delete an account that has no users, access keys and identities any more."""
    confirmed(f"this deletes account {account_id}", yes=yes)

    async def operation(session: Session) -> None:
        async with session.changing() as change:
            await delete_account(change, account_id)

    run(config, operation, changes=True)
    output.print(f"account {account_id} is deleted")
