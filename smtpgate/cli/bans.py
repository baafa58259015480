"""``smtpgate bans``: the clients that a running gate turns away."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Annotated, Final, TypeAlias

import typer

from smtpgate.cli.listing import View, print_rows, shown
from smtpgate.cli.moments import moment_option
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    fail,
    loaded_config,
    misused,
    output,
)
from smtpgate.clock import SystemClock
from smtpgate.control import BansAction, BansAnswer, BansRequest, ControlError, ask
from smtpgate.core.limits.bans import Ban

_ANSWER_S: Final = 30.0
_AN_HOUR: Final = timedelta(hours=1)

bans_app: Final = typer.Typer(no_args_is_help=True)

_Address: TypeAlias = Annotated[
    str,
    typer.Argument(metavar="ADDRESS", help="An IP address; of IPv6 its /64 network counts."),
]


@bans_app.command("list")
def list_bans(config: ConfigFile = DEFAULT_CONFIG, as_json: AsJson = False) -> None:
    """List the bans in force, the one that ends first at the top."""
    print_rows(_ask(config, "list").bans, _BANS, as_json=as_json)


@bans_app.command()
def add(
    address: _Address,
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The end: 2h, 7d, 2027-01-31. Default: in an hour."),
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Turn a client away, also from a network that is trusted. Open sessions go on."""
    end = moment_option(until, "--until", ahead=True) or SystemClock().now() + _AN_HOUR
    _ = _ask(config, "add", address, end)
    output.print(f"{shown(address)}: banned until {shown(end)}")


@bans_app.command()
def remove(address: _Address, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """End a ban, and forget the client's failures and earlier bans."""
    if not _ask(config, "remove", address).is_changed:
        raise fail(f"{shown(address)}: is not banned, and no failure of it is counted")
    output.print(f"{shown(address)}: no longer banned")


def _ask(
    config: ConfigFile, action: BansAction, address: str = "", until: datetime | None = None
) -> BansAnswer:
    if address:
        _must_be_address(address)
    until_s = 0.0 if until is None else until.timestamp()
    request = BansRequest(action, address, until_s)
    try:
        path = loaded_config(config).control_path
        (answer,) = ask(path, request, BansAnswer, timeout_s=_ANSWER_S)
    except ControlError as error:
        raise fail(error) from None
    return answer


def _must_be_address(text: str) -> None:
    try:
        _ = ip_address(text)
    except ValueError as error:
        raise misused(str(error)) from None


def _until(ban: Ban) -> datetime:
    return datetime.fromtimestamp(ban.until_s, UTC)


def _fields(ban: Ban) -> Mapping[str, object]:
    return {"client": ban.client, "until": _until(ban), "bans": ban.number}


_BANS: Final[View[Ban]] = View(
    columns={
        "CLIENT": lambda ban: ban.client,
        "UNTIL": _until,
        "BANS": lambda ban: ban.number or "by hand",
    },
    fields=_fields,
    nothing="nobody is banned",
)
