"""``smtpgate quota``: the sending limits of each, and how much of them is left."""

from collections.abc import Sequence
from typing import Annotated, Final, TypeAlias

import typer

from smtpgate.admin import quotas
from smtpgate.admin.quotas import LimitSettings, QuotaDetails, QuotaRef
from smtpgate.admin.refs import CapRef, IdentityRef
from smtpgate.admin.session import Session
from smtpgate.cli import completion
from smtpgate.cli.arguments import WhoseArgument
from smtpgate.cli.limits import (
    QuotaOption,
    RaisedQuotaOption,
    RaisedRateOption,
    RateOption,
    quota_number,
    rate_number,
    shown_limit,
)
from smtpgate.cli.listing import View, print_rows, shown
from smtpgate.cli.moments import moment_option
from smtpgate.cli.notation import LimitsRef
from smtpgate.cli.session import change, run
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    example,
    misused,
    option,
    output,
    warn,
)
from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.core.limits import clock_time
from smtpgate.core.naming import account_id
from smtpgate.gate.errors import OpenError
from smtpgate.gate.ledger import open_ledger_to_read
from smtpgate.ports import LedgerUnavailableError

quota_app: Final = typer.Typer(no_args_is_help=True)

_Delegate: TypeAlias = Annotated[
    str | None,
    option(
        "--delegate",
        metavar="ACCOUNT",
        help="With an identity: the account that it caps.",
        parse=account_id,
        autocompletion=completion.account_ids,
    ),
]


def _fields(row: QuotaDetails) -> dict[str, object]:
    """A quota as programs see it; -1 is unlimited, null is not known."""
    limit_status, raised = row.limit_status, row.raised
    return {
        "kind": row.subject.kind,
        "account": row.subject.account_id,
        "name": row.subject.name or None,
        "max_24h_send": row.limits.max_24h_send,
        "used_24h": None if limit_status is None else limit_status.used_24h,
        "left": None if limit_status is None else limit_status.left,
        "max_send_rate_per_s": row.limits.max_send_rate_per_s,
        "rate_left": None if limit_status is None else limit_status.rate_left,
        "wait_s": None if row.wait is None else row.wait.total_seconds(),
        "raised_until": None if raised is None else raised.until,
    }


def _left(row: QuotaDetails) -> object:
    if row.limit_status is None:
        return None
    return "any" if row.limit_status.left is None else row.limit_status.left


_VIEW: Final[View[QuotaDetails]] = View(
    columns={
        "whose": lambda row: row.name,
        "24 h": lambda row: shown_limit(row.limits.max_24h_send),
        "used": lambda row: None if row.limit_status is None else row.limit_status.used_24h,
        "left": _left,
        "a second": lambda row: shown_limit(row.limits.max_send_rate_per_s),
        "free in": lambda row: None if row.wait is None else clock_time(row.wait),
        "raised until": lambda row: None if row.raised is None else row.raised.until,
    },
    fields=_fields,
    nothing="no limits",
)


def _in_words(limits: SendingLimits) -> str:
    """The limits, such as ``500 recipients in 24 hours, any number a second``."""
    day, a_second = limits.max_24h_send, limits.max_send_rate_per_s
    many = "any number of" if day == UNLIMITED else day
    return (
        f"{many} recipients in 24 hours, "
        f"{'any number' if a_second == UNLIMITED else shown(a_second)} a second"
    )


@quota_app.command(epilog=example("quota show 999999999999"))
def show(
    whose: WhoseArgument, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False
) -> None:
    """Show limits as they are now, and how much of them is used and left.

    Of an account: its own, those of its users and access keys, those by which it caps others,
    and those by which others cap it. Of a user or an access key: all that its messages are
    counted against. Of an identity: the accounts that its owner caps.
    """

    async def operation(session: Session) -> Sequence[QuotaDetails]:
        found = await quotas.of(session, whose.ref)
        try:
            async with open_ledger_to_read(session.config) as ledger:
                return await quotas.with_limit_statuses(ledger, found, session.now())
        except (LedgerUnavailableError, OpenError) as error:
            warn([f"what is left is not known: {error}"])
            return found

    print_rows(run(config, operation), _VIEW, as_json=json)


@quota_app.command("set", epilog=example("quota set 999999999999/mailer --max-24h-send 500"))
def set_(
    whose: WhoseArgument,
    delegate: _Delegate = None,
    max_24h_send: QuotaOption = None,
    max_send_rate: RateOption = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Set limits: of an account, and within them of a user, an access key, or a delegate.

    The limit `default' is the configured one for an account, and none for others. Name an
    identity and --delegate to cap what that account sends by it.
    """
    ref, settings = _ref(whose, delegate), LimitSettings()
    if max_24h_send is not None:
        settings["max_24h_send"] = quota_number(max_24h_send)
    if max_send_rate is not None:
        settings["max_send_rate_per_s"] = rate_number(max_send_rate)
    if not settings:
        raise misused("say what to change: --max-24h-send, --max-send-rate")
    quota = change(config, lambda session: quotas.set_limits(session, ref, settings))
    said = f"{quota.name}: {_in_words(quota.usual)}"
    if quota.raised is not None and quota.limits != quota.usual:
        until = shown(quota.raised.until)
        said += f"; but raised until {until}: {_in_words(quota.limits)}"
    output.print(said)


@quota_app.command(
    "raise", epilog=example("quota raise 999999999999 --max-24h-send 100000 --until 3d")
)
def raise_(
    whose: WhoseArgument,
    delegate: _Delegate = None,
    max_24h_send: RaisedQuotaOption = None,
    max_send_rate: RaisedRateOption = None,
    until: Annotated[
        str | None, option(metavar="TIME", help="When it ends: 3d, 12h, 2027-01-31.")
    ] = None,
    end: Annotated[bool, typer.Option("--end", help="End a raise now.")] = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Temporarily raise limits; afterwards they are as before.

    Another raise takes the place of the one before. A limit that is set higher meanwhile stays.
    """
    ref, ends = _ref(whose, delegate), moment_option(until, "--until", ahead=True)
    day = None if max_24h_send is None else quota_number(max_24h_send)
    rate = None if max_send_rate is None else rate_number(max_send_rate)
    if end:
        if (max_24h_send, max_send_rate, ends) != (None, None, None):
            raise misused("--end goes with no other option")
        quota = change(config, lambda session: quotas.end_raise(session, ref))
        output.print(f"{quota.name}: {_in_words(quota.limits)}")
        return
    if "default" in (max_24h_send, max_send_rate):
        raise misused("a raise is to a number or unlimited; --end restores the usual limits")
    if ends is None or (day is None and rate is None):
        raise misused("a raise needs --max-24h-send or --max-send-rate, and --until")
    quota = change(
        config,
        lambda session: quotas.raise_limits(
            session, ref, max_24h_send=day, max_send_rate_per_s=rate, until=ends
        ),
    )
    output.print(f"{quota.name}: {_in_words(quota.limits)}, until {shown(ends)}")


def _ref(whose: LimitsRef, delegate: str | None) -> QuotaRef:
    """The subject of the limits to change. Raises BadParameter."""
    if isinstance(whose.ref, IdentityRef):
        if delegate is None:
            raise misused("say which account the identity caps: --delegate ACCOUNT")
        return CapRef(whose.ref, delegate)
    if delegate is not None:
        raise misused("--delegate goes with an identity's ARN")
    return whose.ref
