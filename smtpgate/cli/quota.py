"""``smtpgate quota``: what may be sent by whom, and how much of it is left."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Final, TypeAlias

import typer

from smtpgate.admin.refs import AccessKeyRef, IdentityRef, OwnerRef
from smtpgate.admin.session import Session
from smtpgate.cli import completion
from smtpgate.cli.arguments import WhoseArgument
from smtpgate.cli.limits import QuotaOption, RateOption, limit_columns
from smtpgate.cli.listing import print_rows, shown
from smtpgate.cli.moments import moment_option
from smtpgate.cli.quota_view import QUOTA_VIEW, QuotaNow, in_words, name_of, quotas_of
from smtpgate.cli.session import run
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    example,
    misused,
    output,
    parsed_by,
)
from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.core.naming import account_id, user_key
from smtpgate.directory.accounts import account, update_account
from smtpgate.directory.allowances import Allowance, allowance_at, allowances_of
from smtpgate.directory.change import Change, RefusedChangeError
from smtpgate.directory.identities import identity
from smtpgate.directory.keys import access_key, access_key_page
from smtpgate.directory.quotas import QuotaKey, set_quota
from smtpgate.directory.users import user

quota_app: Final = typer.Typer(
    name="quota", help="Sending limits, and what is left of them.", no_args_is_help=True
)

Place: TypeAlias = OwnerRef | AccessKeyRef | IdentityRef
_Delegate: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--delegate",
        metavar="ACCOUNT",
        help="With an identity: the account that it caps.",
        parser=parsed_by(account_id),
        autocompletion=completion.account_ids,
        show_default=False,
    ),
]


# -- show --------------------------------------------------------------------------------------


@quota_app.command(epilog=example("quota show 999999999999"))
def show(
    whose: WhoseArgument, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False
) -> None:
    """Show limits as they hold now, and how much of them is used and left.

    Of an account: its own, those of its users and access keys, what it caps others at, and what
    others cap it at. Of a user or an access key: whatever its messages are counted against. Of
    an identity: the accounts that its owner caps.
    """

    async def operation(session: Session) -> list[QuotaNow]:
        return await quotas_of(session, await _allowances(session, whose.place))

    print_rows(run(config, operation), QUOTA_VIEW, as_json=json)


async def _allowances(session: Session, place: Place) -> list[Allowance]:
    """All that is to be shown of it. Raises RefusedChangeError when it is not there."""
    async with session.store.reading() as connection:
        wanted = {("account", "")}
        if isinstance(place, IdentityRef):
            session.must_be_here(place)
            row = await identity(connection, place.account_id, session.region, place.name)
            its_account, wanted = row.account_id, {("identity", row.name)}
        elif isinstance(place, AccessKeyRef):
            key = await access_key(connection, place.id)
            its_account = key.account_id
            wanted |= {("key", key.id), ("user", user_key(key.user_name or ""))}
        elif place.user_name is not None:
            found = await user(connection, place.account_id, place.user_name)
            its_account = found.account_id
            keys = await access_key_page(connection, its_account, user_name=found.name)
            wanted |= {("user", found.key), *(("key", one.id) for one in keys)}
        else:
            its_account, wanted = place.account_id, set()
        default = session.config.default_limits
        allowances = await allowances_of(connection, its_account, session.region, default)
    return [one for one in allowances if not wanted or _is_wanted(one, its_account, wanted)]


def _is_wanted(allowance: Allowance, its_account: str, wanted: set[tuple[str, str]]) -> bool:
    place = allowance.key
    if place.account_id == its_account:
        return (place.kind, place.subject) in wanted
    return ("account", "") in wanted  # what others cap the account at


# -- set and raise -----------------------------------------------------------------------------


@quota_app.command("set", epilog=example("quota set 999999999999/mailer --max-24h-send 500"))
def set_(
    whose: WhoseArgument,
    delegate: _Delegate = None,
    max_24h_send: QuotaOption = None,
    max_send_rate: RateOption = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Set limits: of an account, and within them of a user, an access key, or a delegate.

    A limit of default is as the configuration says for an account; others have none then. Name
    an identity and --delegate to cap what that account sends by it.
    """
    _must_name_a_delegate(whose.place, delegate)
    changes = limit_columns(max_24h_send, max_send_rate)
    if not changes:
        raise misused("say what to change: --max-24h-send, --max-send-rate")

    async def operation(session: Session) -> str:
        async with session.changing() as change:
            place = await _place(session, change, whose.place, delegate)
            if delegate is not None and set(changes.values()) != {None}:
                # A cap on one that is misspelt would cap nobody.
                await account(change.connection, delegate)
            if place.kind == "account":
                await update_account(change, place.account_id, changes, action="limit")
            else:
                await set_quota(change, place, changes)
            limits = await _usual(session, change, place)
            told = f"{name_of(place, session.partition)}: {in_words(limits)}"
            return told + _raised_in_words(limits, change.now)

    output.print(run(config, operation, changes=True))


def _raised_in_words(limits: SendingLimits, now: datetime) -> str:
    """That a raise holds in their place, such as where somebody means to stop a sender."""
    raised, at_present = limits.raised, limits.at(now)
    if raised is None or at_present == replace(limits, raised=None):
        return ""
    return f"; but raised until {shown(raised.until)}: {in_words(at_present)}"


@quota_app.command(
    "raise", epilog=example("quota raise 999999999999 --max-24h-send 100000 --until 3d")
)
def raise_(
    whose: WhoseArgument,
    delegate: _Delegate = None,
    max_24h_send: QuotaOption = None,
    max_send_rate: RateOption = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="When it ends: 3d, 12h, 2027-01-31.", show_default=False
        ),
    ] = None,
    end: Annotated[bool, typer.Option("--end", help="End a raise now.")] = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Raise limits for a time; then they are again what they were.

    Another raise takes the place of the one before. Where a limit is set higher meanwhile, that
    holds.
    """
    _must_name_a_delegate(whose.place, delegate)
    changes = _raise_columns(limit_columns(max_24h_send, max_send_rate), until, end=end)

    async def operation(session: Session) -> str:
        async with session.changing() as change:
            place = await _place(session, change, whose.place, delegate)
            if not end:
                _must_be_more(place, await _usual(session, change, place), changes)
            await set_quota(change, place, changes, action="end-raise" if end else "raise")
            limits = (await _usual(session, change, place)).at(change.now)
            until = "" if end else f", until {shown(changes['raised_until'])}"
            return f"{name_of(place, session.partition)}: {in_words(limits)}{until}"

    output.print(run(config, operation, changes=True))


def _raise_columns(
    limits: Mapping[str, Any], until: str | None, *, end: bool
) -> dict[str, Any]:
    """The columns of a raise. Raises BadParameter."""
    ends = moment_option(until, "--until", ahead=True)
    if end and (limits or ends):
        raise misused("--end goes with no other option")
    if not end and (not limits or None in limits.values() or ends is None):
        raise misused("say how far, and until when: --max-24h-send or --max-send-rate, --until")
    return {
        "raised_24h_send": limits.get("max_24h_send"),
        "raised_send_rate_per_s": limits.get("max_send_rate_per_s"),
        "raised_until": ends,
    }


def _must_be_more(place: QuotaKey, usual: SendingLimits, changes: Mapping[str, Any]) -> None:
    """A raise that raises nothing is a mistake. Raises RefusedChangeError."""
    for limit, raised, column in (
        (usual.max_24h_send, changes["raised_24h_send"], "max_24h_send"),
        (usual.max_send_rate_per_s, changes["raised_send_rate_per_s"], "max_send_rate_per_s"),
    ):
        if raised is None:
            continue
        if limit == UNLIMITED:
            raise RefusedChangeError(
                f"{place.audit_subject}: {column}: there is no limit to raise"
            )
        if raised != UNLIMITED and raised <= limit:
            raise RefusedChangeError(
                f"{place.audit_subject}: {column}: {shown(raised)} is no more than the usual "
                f"{shown(limit)}"
            )


async def _usual(session: Session, change: Change, place: QuotaKey) -> SendingLimits:
    default = session.config.default_limits
    return (await allowance_at(change.connection, place, default)).limits


def _must_name_a_delegate(its: Place, delegate: str | None) -> None:
    if isinstance(its, IdentityRef) and delegate is None:
        raise misused("say which account the identity caps: --delegate ACCOUNT")
    if not isinstance(its, IdentityRef) and delegate is not None:
        raise misused("--delegate goes with an identity's ARN")


async def _place(
    session: Session, change: Change, its: Place, delegate: str | None
) -> QuotaKey:
    """Where the limits are kept, of somebody who is there. Raises RefusedChangeError."""
    connection = change.connection
    if isinstance(its, AccessKeyRef):
        key = await access_key(connection, its.id)
        return QuotaKey.of_key(key.account_id, key.id)
    if isinstance(its, IdentityRef):
        session.must_be_here(its)
        row = await identity(connection, its.account_id, session.region, its.name)
        return QuotaKey.of_grant(row.account_id, row.region, row.name, delegate or "")
    if its.user_name is None:
        return QuotaKey.of_account((await account(connection, its.account_id)).id)
    found = await user(connection, its.account_id, its.user_name)
    return QuotaKey.of_user(found.account_id, found.name)
