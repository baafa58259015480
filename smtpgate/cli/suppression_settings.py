"""``smtpgate suppression settings``: what an account's list is used for."""

from typing import Annotated, Final, Literal, TypeAlias

from smtpgate.admin import suppression
from smtpgate.admin.refs import ConfigurationSetRef, IdentityRef
from smtpgate.admin.session import Session
from smtpgate.admin.suppression import SuppressionDetails
from smtpgate.cli.arguments import AccountArgument
from smtpgate.cli.listing import print_facts
from smtpgate.cli.session import change, run
from smtpgate.cli.terminal import DEFAULT_CONFIG, AsJson, ConfigFile, misused, option, output
from smtpgate.core.arn import identity_name
from smtpgate.core.notification.names import configuration_set_name
from smtpgate.core.suppression.lists import Reasons, read_reasons

_NONE: Final = "none"
_ACCOUNT: Final = "account"


def _fields(found: SuppressionDetails) -> dict[str, object]:
    return {
        "account": found.account_id,
        "reasons": list(found.reasons),
        "addresses": dict(found.addresses),
        "configuration_sets": {
            name: list(reasons) for name, reasons in found.configuration_sets.items()
        },
        "for_delegates": list(found.for_delegates),
    }


_ReasonsOption: TypeAlias = Annotated[
    str | None,
    option(
        "--reasons",
        metavar="REASONS",
        help="bounce, complaint, both with a comma, or none; of a configuration set also "
        "account: as the account's.",
    ),
]
_SetName: TypeAlias = Annotated[
    str | None,
    option(
        "--configuration-set",
        metavar="NAME",
        help="The reasons are for mail with this configuration set.",
        parse=configuration_set_name,
    ),
]
_IdentityName: TypeAlias = Annotated[
    str | None,
    option(
        "--identity",
        metavar="NAME",
        help="An identity of the account, for --delegates.",
        parse=identity_name,
    ),
]
_Delegates: TypeAlias = Annotated[
    Literal["on", "off"] | None,
    option(
        metavar="on|off",
        help="Use the account's list for mail of other accounts with --identity.",
    ),
]


def settings(
    account: AccountArgument,
    reasons: _ReasonsOption = None,
    set_name: _SetName = None,
    identity: _IdentityName = None,
    delegates: _Delegates = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Show or set for which reasons addresses are put on an account's list and not sent to.

    A configuration set may have other reasons than its account. The list is for the mail that
    the account sends; with --delegates on, an owner has it used for all mail with an identity.
    """
    if (identity is None) != (delegates is None):
        raise misused("--identity and --delegates go together")
    if set_name is not None and reasons is None:
        raise misused("--configuration-set needs --reasons")
    wanted = None if reasons is None else _reasons(reasons, is_set=set_name is not None)

    async def operation(session: Session) -> None:
        if reasons is not None and set_name is not None:
            ref = ConfigurationSetRef(account, set_name)
            await suppression.set_reasons_of_set(session, ref, wanted)
        elif wanted is not None:
            await suppression.set_reasons(session, account, wanted)
        if identity is not None:
            await suppression.set_for_delegates(
                session, IdentityRef(account, identity), suppresses_delegates=delegates == "on"
            )

    if reasons is not None or identity is not None:
        change(config, operation)
        output.print(f"the suppression settings of {account} were set")
        return
    found = run(config, lambda session: suppression.settings(session, account))
    print_facts(_fields(found), as_json=json)


def _reasons(text: str, *, is_set: bool) -> Reasons | None:
    """The reasons that an option names; ``None`` for those of the account."""
    if text == _NONE:
        return ()
    if text == _ACCOUNT:
        if is_set:
            return None
        raise misused("--reasons account is for a --configuration-set")
    try:
        return read_reasons(text.split(","))
    except ValueError as error:
        raise misused(f"--reasons: {error}") from None
