"""``smtpgate reputation``: the bounce and complaint rates of senders, and their pauses."""

from collections.abc import Sequence
from typing import Annotated, Final, TypeAlias

import typer

from smtpgate.admin import reputation
from smtpgate.admin.refs import ConfigurationSetRef, DelegateRef, IdentityRef
from smtpgate.admin.reputation import SenderRates
from smtpgate.admin.session import Session
from smtpgate.cli import completion
from smtpgate.cli.arguments import AccountArgument, AccountOption
from smtpgate.cli.listing import View, print_pages, print_rows
from smtpgate.cli.notation import RatedRef, configuration_set_ref, identity_ref, rated_ref
from smtpgate.cli.session import change, run
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    Limit,
    Reason,
    argument,
    example,
    misused,
    option,
    output,
)
from smtpgate.core.reputation.judgement import Reputation
from smtpgate.core.reputation.thresholds import Measure
from smtpgate.core.reputation.volume import Volume
from smtpgate.gate.errors import OpenError
from smtpgate.gate.reputation import open_reputation_counts
from smtpgate.ports import JournalUnavailableError

reputation_app: Final = typer.Typer(no_args_is_help=True)
_BY: Final = {"gate": "the gate, for its rates", "owner": "the identity's owner"}
_IDENTITY: Final = "arn:aws:ses:us-east-1:888888888888:identity/ses-example.com"

_Identity: TypeAlias = Annotated[
    IdentityRef | None,
    option(
        "--identity",
        metavar="ACCOUNT/NAME",
        help="Only what it sends by this identity of another account, or its ARN.",
        parse=identity_ref,
        autocompletion=completion.identity_names,
    ),
]
_OneIdentity: TypeAlias = Annotated[
    IdentityRef,
    option(
        "--identity",
        metavar="ACCOUNT/NAME",
        help="The identity of another account, or its ARN.",
        parse=identity_ref,
        autocompletion=completion.identity_names,
    ),
]
_Whose: TypeAlias = Annotated[
    RatedRef,
    argument(
        metavar="WHOSE",
        help="An account, or an identity (ACCOUNT/NAME or its ARN) for its delegates.",
        parse=rated_ref,
        autocompletion=completion.account_ids,
    ),
]


def _sender_fields(found: Reputation) -> dict[str, object]:
    sender, pause = found.sender, found.pause
    return {
        "kind": sender.kind,
        "account": sender.account_id,
        "owner": sender.owner_id or None,
        "name": sender.name or None,
        "status": found.status,
        "bounce_state": found.bounce,
        "complaint_state": found.complaint,
        "changed_at": found.changed_at,
        "fresh_start_at": found.fresh_start_at,
        "paused_by": pause.by if pause else None,
        "paused_reason": pause.reason if pause else None,
        "paused_at": pause.at if pause else None,
    }


def _volume_fields(volume: Volume) -> dict[str, object]:
    return {
        "since": volume.since,
        "recipients": volume.sent,
        "bounces": volume.bounces,
        "bounce_rate": volume.rate("bounce"),
        "complaints": volume.complaints,
        "complaint_rate": volume.rate("complaint"),
    }


def _rate(volume: Volume, measure: Measure) -> str:
    return f"{volume.percent(measure)} ({volume.bad(measure)})" if volume.sent else "-"


_LIST: Final[View[Reputation]] = View(
    columns={
        "sender": lambda found: found.sender,
        "status": lambda found: found.status,
        "bounces": lambda found: found.words("bounce"),
        "complaints": lambda found: found.words("complaint"),
        "since": lambda found: found.changed_at,
        "paused by": lambda found: found.pause and _BY[found.pause.by],
        "reason": lambda found: found.pause and found.pause.reason,
    },
    fields=lambda found: _sender_fields(found) | _volume_fields(found.volume),
    nothing="all senders are healthy",
)
_RATES: Final[View[SenderRates]] = View(
    columns={
        "sender": lambda one: one.reputation.sender,
        "status": lambda one: one.reputation.status if one.is_judged else "not judged",
        "recipients": lambda one: one.volume.sent,
        "since": lambda one: one.volume.since,
        "bounces": lambda one: _rate(one.volume, "bounce"),
        "bounce state": lambda one: one.reputation.words("bounce"),
        "complaints": lambda one: _rate(one.volume, "complaint"),
        "complaint state": lambda one: one.reputation.words("complaint"),
        "pause": lambda one: one.reputation.pause and one.reputation.pause.reason,
    },
    fields=lambda one: (
        _sender_fields(one.reputation)
        | _volume_fields(one.volume)
        | {"is_judged": one.is_judged, "auto_pause": one.auto_pause}
    ),
    nothing="no other account sent by this identity in 30 days",
)


@reputation_app.command("list", epilog=example("reputation list --account 999999999999"))
def list_(
    account: AccountOption = None,
    limit: Limit = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """List the senders that are not healthy, or paused.

    With --account that account, its configuration sets, and the delegates on its identities.
    """
    run(
        config,
        lambda session: print_pages(
            reputation.pages(session, account, limit=limit), _LIST, as_json=json
        ),
    )


@reputation_app.command(epilog=example("reputation show 999999999999"))
def show(whose: _Whose, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Show the rates of an account, or of each delegate on an identity.

    The rates are those of the representative volume: a week of the sender's own sending, at
    least 10,000 recipients, at most 30 days.
    """

    async def operation(session: Session) -> Sequence[SenderRates]:
        try:
            async with open_reputation_counts(
                session.config, session.clock, session.caller
            ) as counts:
                if isinstance(whose.ref, IdentityRef):
                    return await reputation.of_identity(session, counts, whose.ref)
                return await reputation.of_account(session, counts, whose.ref)
        except JournalUnavailableError as error:
            raise OpenError(f"journal: {error}") from None

    print_rows(run(config, operation), _RATES, as_json=json)


@reputation_app.command(
    epilog=example(f"reputation pause 999999999999 --identity {_IDENTITY} --reason 'spam'")
)
def pause(
    account_id: AccountArgument,
    identity: _OneIdentity,
    reason: Reason,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Pause an account on an identity of another, which is a right of the identity's owner.

    Its mail by the identity is refused until `reputation resume'; its other mail goes on.
    """
    ref = DelegateRef(identity, account_id)
    change(config, lambda session: reputation.pause_delegate(session, ref, reason))
    output.print(f"account {account_id} is paused on {identity}")


@reputation_app.command(epilog=example("reputation resume 999999999999"))
def resume(
    account_id: AccountArgument,
    identity: _Identity = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Let an account send again that was paused for its rates; with --identity by that one.

    After a pause for its rates it makes a fresh start, under review.
    """
    if identity is None:
        change(config, lambda session: reputation.resume_account(session, account_id))
        output.print(f"account {account_id} may send again")
        return
    ref = DelegateRef(identity, account_id)
    change(config, lambda session: reputation.resume_delegate(session, ref))
    output.print(f"account {account_id} may send by {identity} again")


@reputation_app.command(epilog=example("reputation reset 999999999999"))
def reset(
    account_id: AccountArgument,
    identity: _Identity = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Judge an account by what it sends from now on; with --identity by what it sends by it.

    It is healthy then. A pause stays.
    """

    async def operation(session: Session) -> None:
        if identity is None:
            await reputation.start_account_again(session, account_id)
        else:
            ref = DelegateRef(identity, account_id)
            await reputation.start_delegate_again(session, ref)

    change(config, operation)
    by = f" by what it sends by {identity}" if identity else ""
    output.print(f"account {account_id} is judged{by} from now on")


@reputation_app.command(
    "set", epilog=example(f"reputation set --identity {_IDENTITY} --auto-pause")
)
def set_(
    identity: _Identity = None,
    configuration_set: Annotated[
        ConfigurationSetRef | None,
        option(
            metavar="ACCOUNT/NAME",
            help="The mail with this configuration set.",
            parse=configuration_set_ref,
        ),
    ] = None,
    no_metrics: Annotated[
        bool, typer.Option("--no-metrics", help="Judge them no longer.")
    ] = False,
    auto_pause: Annotated[
        bool, typer.Option("--auto-pause", help="Pause them for their rates.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Have the delegates on an identity judged, or the mail with a configuration set.

    Accounts are judged by the thresholds of the configuration.
    """
    settings = {"is_rated": not no_metrics, "auto_pause": auto_pause}

    async def operation(session: Session) -> None:
        if identity is not None:
            await reputation.rate_delegates(session, identity, **settings)
        if configuration_set is not None:
            await reputation.rate_set(session, configuration_set, **settings)

    if (identity is None) == (configuration_set is None):
        raise misused("name one of --identity and --configuration-set")
    change(config, operation)
    what = f"delegates on {identity}" if identity else f"configuration set {configuration_set}"
    how = ", and paused for their rates" if auto_pause else ""
    output.print(f"{what}: {'not judged' if no_metrics else f'judged{how}'}")
