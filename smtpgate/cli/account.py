"""``smtpgate account``: the tenants of the gate, each with its sending limits."""

from typing import Annotated, Final, TypeAlias

import typer

from smtpgate.admin import accounts
from smtpgate.admin.accounts import AccountDetails, AccountSettings, AccountStatus
from smtpgate.cli.arguments import AccountArgument
from smtpgate.cli.limits import QuotaOption, RateOption, quota_number, rate_number, shown_limit
from smtpgate.cli.listing import View, print_card, print_json, print_pages
from smtpgate.cli.session import change, run
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    Limit,
    Reason,
    Yes,
    argument,
    confirmed,
    example,
    misused,
    option,
    output,
)
from smtpgate.core.naming import account_id as checked_account_id

account_app: Final = typer.Typer(no_args_is_help=True)
_LIMITS: Final = ("max_24h_send", "max_send_rate_per_s")

_Name: TypeAlias = Annotated[str | None, option(metavar="TEXT", help="Its name for people.")]
_Organization: TypeAlias = Annotated[
    str | None, option(metavar="ID", help="Its aws:PrincipalOrgID, or none.")
]

_Contact: TypeAlias = Annotated[
    str | None, option(metavar="ADDRESS", help="Where reports about the account go, or none.")
]


def _fields(account: AccountDetails) -> dict[str, object]:
    """An account as programs see it; a limit of null is the configuration's, -1 is none."""
    return {
        "id": account.id,
        "name": account.name,
        "status": account.status,
        "paused_reason": account.paused_reason,
        "sending": account.is_sending,
        "organization": account.organization_id,
        "contact": account.contact,
        "max_24h_send": account.max_24h_send,
        "max_send_rate_per_s": account.max_send_rate_per_s,
        "created_at": account.created_at,
    }


_VIEW: Final[View[AccountDetails]] = View(
    columns={
        "account": lambda account: account.id,
        "name": lambda account: account.name,
        "status": lambda account: account.status,
        "24 h": lambda account: shown_limit(account.max_24h_send),
        "a second": lambda account: shown_limit(account.max_send_rate_per_s),
        "created": lambda account: account.created_at,
    },
    fields=_fields,
    nothing="no accounts",
)


def _settings(
    name: str | None,
    organization: str | None,
    contact: str | None,
    quota: str | None,
    rate: str | None,
) -> AccountSettings:
    """The settings that options name. Raises BadParameter."""
    settings = AccountSettings()
    if name is not None:
        settings["name"] = name
    if organization is not None:
        settings["organization_id"] = None if organization == "none" else organization
    if contact is not None:
        settings["contact"] = None if contact == "none" else contact
    if quota is not None:
        settings["max_24h_send"] = quota_number(quota)
    if rate is not None:
        settings["max_send_rate_per_s"] = rate_number(rate)
    return settings


@account_app.command(epilog=example("account create 999999999999 --name 'Delegate sender'"))
def create(
    account_id: Annotated[
        str | None,
        argument(
            metavar="ACCOUNT",
            help="12 digits; without them a random number.",
            parse=checked_account_id,
        ),
    ] = None,
    name: _Name = None,
    organization: _Organization = None,
    contact: _Contact = None,
    max_24h_send: QuotaOption = None,
    max_send_rate: RateOption = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Add an account.

    The configuration has the limits that are not given, and those of `default'.
    """
    settings = _settings(name, organization, contact, max_24h_send, max_send_rate)
    account = change(config, lambda session: accounts.create(session, account_id, settings))
    if json:
        print_json(_fields(account))
    else:
        output.print(f"account {account.id} was created")


@account_app.command("list", epilog=example("account list --status paused"))
def list_(
    search: Annotated[
        str | None, option(metavar="TEXT", help="A part of the id or name.")
    ] = None,
    status: Annotated[AccountStatus | None, option(help="Only those.")] = None,
    limit: Limit = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """List accounts."""
    run(
        config,
        lambda session: print_pages(
            accounts.pages(
                session,
                search=search,
                status=status,
                limit=limit,
            ),
            _VIEW,
            as_json=json,
        ),
    )


@account_app.command(epilog=example("account show 999999999999"))
def show(
    account_id: AccountArgument, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False
) -> None:
    """Show an account, and how many users, access keys and identities it has."""
    account, counts = run(config, lambda session: accounts.get(session, account_id))
    facts = _fields(account) | {"enforcement_status": account.enforcement_status}
    facts |= {name.replace(" ", "_"): count for name, count in counts.items()}
    if json:
        print_json(facts)
    else:
        print_card(facts | {name: shown_limit(facts[name]) for name in _LIMITS})


@account_app.command("set", epilog=example("account set 999999999999 --max-24h-send 50000"))
def set_(
    account_id: AccountArgument,
    name: _Name = None,
    organization: _Organization = None,
    contact: _Contact = None,
    max_24h_send: QuotaOption = None,
    max_send_rate: RateOption = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Change an account's name, organization or limits.

    The configuration has the limits of `default'.
    """
    settings = _settings(name, organization, contact, max_24h_send, max_send_rate)
    if not settings:
        raise misused("say what to change: --name, --organization, --max-24h-send, …")
    change(config, lambda session: accounts.update(session, account_id, settings))
    output.print(f"account {account_id} was changed")


@account_app.command(
    epilog=example("account pause 999999999999 --reason 'too many complaints'")
)
def pause(
    account_id: AccountArgument,
    reason: Reason,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Pause an account: it sends nothing until `account resume', and its sessions end."""
    change(config, lambda session: accounts.pause(session, account_id, reason))
    output.print(f"account {account_id} is paused")


@account_app.command(epilog=example("account resume 999999999999"))
def resume(account_id: AccountArgument, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Let a paused account send again."""
    change(config, lambda session: accounts.resume(session, account_id))
    output.print(f"account {account_id} is active")


@account_app.command(epilog=example("account delete 999999999999"))
def delete(
    account_id: AccountArgument, config: ConfigFile = DEFAULT_CONFIG, yes: Yes = False
) -> None:
    """Delete an account that has no users, access keys and identities any more."""
    confirmed(f"this deletes account {account_id}", yes=yes)
    change(config, lambda session: accounts.delete(session, account_id))
    output.print(f"account {account_id} was deleted")
