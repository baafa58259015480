"""``smtpgate suppression``: addresses that an account no longer sends to."""

from typing import Annotated, Final, TypeAlias

import typer

from smtpgate.admin import suppression
from smtpgate.admin.suppression import AddressFilter
from smtpgate.cli.arguments import AccountArgument
from smtpgate.cli.listing import View, print_facts, print_pages
from smtpgate.cli.moments import Since, Until, moment_option
from smtpgate.cli.session import change, run
from smtpgate.cli.suppression_files import export, import_
from smtpgate.cli.suppression_settings import settings
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    Limit,
    example,
    option,
    output,
)
from smtpgate.core.suppression.lists import SuppressedAddress, SuppressionReason, read_reason

suppression_app: Final = typer.Typer(no_args_is_help=True)

_Address: TypeAlias = Annotated[str, typer.Argument(metavar="ADDRESS", help="The address.")]
_Reason: TypeAlias = Annotated[str, typer.Option(metavar="REASON", help="Bounce or complaint.")]


def _fields(entry: SuppressedAddress) -> dict[str, object]:
    return {
        "address": entry.address,
        "reason": entry.reason,
        "added_at": entry.added_at,
        "message_id": entry.message_id or None,
    }


_VIEW: Final[View[SuppressedAddress]] = View(
    columns={
        "address": lambda entry: entry.address,
        "reason": lambda entry: entry.reason,
        "since": lambda entry: entry.added_at,
        "message": lambda entry: entry.message_id,
    },
    fields=_fields,
    nothing="no addresses",
)


@suppression_app.command(
    epilog=example("suppression add 999999999999 jane@example.org --reason complaint")
)
def add(
    account: AccountArgument,
    address: _Address,
    reason: _Reason = "bounce",
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Add an address to the list of an account, or change its reason."""
    known = _reason(reason)
    entry = change(config, lambda session: suppression.put(session, account, address, known))
    if json:
        print_facts(_fields(entry), as_json=True)
    else:
        output.print(f"{entry.address} is on the suppression list of {account}")


@suppression_app.command(epilog=example("suppression remove 999999999999 jane@example.org"))
def remove(
    account: AccountArgument, address: _Address, config: ConfigFile = DEFAULT_CONFIG
) -> None:
    """Remove an address from the list of an account, which may send to it again."""
    change(config, lambda session: suppression.remove(session, account, address))
    output.print(f"{address} was removed from the suppression list of {account}")


@suppression_app.command(epilog=example("suppression show 999999999999 jane@example.org"))
def show(
    account: AccountArgument,
    address: _Address,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Show why and since when an address is on the list; exit 1 if it is not."""
    entry = run(config, lambda session: suppression.get(session, account, address))
    print_facts(_fields(entry), as_json=json)


@suppression_app.command(
    "list", epilog=example("suppression list 999999999999 --reason complaint --since 30d")
)
def list_(
    account: AccountArgument,
    reason: Annotated[
        str | None, option(metavar="REASON", help="Only bounces, or complaints.")
    ] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """List the addresses of an account's list, in their order."""
    wanted = AddressFilter(
        reason=None if reason is None else _reason(reason),
        since=moment_option(since, "--since"),
        until=moment_option(until, "--until"),
    )
    run(
        config,
        lambda session: print_pages(
            suppression.pages(session, account, wanted, limit=limit), _VIEW, as_json=json
        ),
    )


def _reason(text: str) -> SuppressionReason:
    try:
        return read_reason(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--reason") from None


suppression_app.command(epilog=example("suppression settings 999999999999 --reasons none"))(
    settings
)
suppression_app.command("import", epilog=example("suppression import 999999999999 list.csv"))(
    import_
)
suppression_app.command("export", epilog=example("suppression export 999999999999 list.csv"))(
    export
)
