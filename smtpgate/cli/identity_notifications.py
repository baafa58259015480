"""``smtpgate identity notifications``: bounces, complaints and deliveries of mail with it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

import typer

from smtpgate.admin.session import Session
from smtpgate.cli import completion
from smtpgate.cli.arguments import AccountArgument, IdentityArgument
from smtpgate.cli.listing import View, print_facts, print_rows
from smtpgate.cli.session import change, run
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    example,
    misused,
    option,
    output,
)
from smtpgate.core.naming import account_id
from smtpgate.core.notification.settings import NotificationKind

if TYPE_CHECKING:  # `identity list' needs none of it
    from smtpgate.admin.notifications import NotificationDetails

notifications_app: Final = typer.Typer(
    name="notifications",
    help="Notifications of bounces, complaints and deliveries.",
    no_args_is_help=True,
)

_NONE: Final = "none"
_KINDS: Final[tuple[NotificationKind, ...]] = ("Bounce", "Complaint", "Delivery")
_For: TypeAlias = Annotated[
    str | None,
    option(
        "--for",
        metavar="ACCOUNT",
        help="The settings of this account, a delegate. Default: the owner's.",
        parse=account_id,
        autocompletion=completion.account_ids,
    ),
]
_TopicName: TypeAlias = Annotated[
    str | None,
    option(
        metavar="TOPIC",
        help="A topic of the same account, ACCOUNT/TOPIC or an ARN of one that is open to it, "
        "or none.",
    ),
]
_Forwarding: TypeAlias = Annotated[
    Literal["on", "off"] | None,
    option(
        metavar="on|off",
        help="Mail bounces and complaints to the return path. The owner's alone.",
    ),
]
_DefaultSet: TypeAlias = Annotated[
    str | None,
    option(
        metavar="NAME", help="The owner's configuration set for mail that names none; or none."
    ),
]
_Headers: TypeAlias = Annotated[
    str | None,
    option(
        metavar="KINDS",
        help="The notifications with the message's header fields: bounce, complaint, delivery "
        "with commas between them, or none.",
    ),
]


def _fields(found: "NotificationDetails") -> dict[str, object]:
    topics = {f"{kind.lower()}_topic": topic for kind, topic in found.topics.items()}
    headers = {f"{kind.lower()}_headers": has for kind, has in found.headers.items()}
    return {
        "identity": found.identity_arn,
        "account": found.account_id,
        **topics,
        **headers,
        "forwarding": found.is_forwarding,
        "configuration_set": found.configuration_set,
    }


_VIEW: Final["View[NotificationDetails]"] = View(
    columns={
        "identity": lambda found: found.identity_arn,
        "bounces": lambda found: found.topics["Bounce"],
        "complaints": lambda found: found.topics["Complaint"],
        "deliveries": lambda found: found.topics["Delivery"],
        "forwarding": lambda found: found.is_forwarding,
    },
    fields=_fields,
    nothing="no notification settings",
)


@notifications_app.command(
    epilog=example("identity notifications show 888888888888/example.com")
)
def show(
    ref: IdentityArgument,
    account: _For = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Show the settings of the owner for an identity, or those of a delegate."""
    from smtpgate.admin import notifications  # noqa: PLC0415 - see above

    found = run(config, lambda session: notifications.get(session, ref, account))
    print_facts(_fields(found), as_json=json)


@notifications_app.command("list", epilog=example("identity notifications list 999999999999"))
def list_(
    account: AccountArgument, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False
) -> None:
    """List all settings of an account, also those for identities of others."""
    from smtpgate.admin import notifications  # noqa: PLC0415 - see above

    found = run(config, lambda session: notifications.of_account(session, account))
    print_rows(found, _VIEW, as_json=json)


@notifications_app.command(
    "set",
    epilog=example(
        "identity notifications set 888888888888/example.com --bounce-topic bounces"
    ),
)
def set_(
    ref: IdentityArgument,
    account: _For = None,
    bounce_topic: _TopicName = None,
    complaint_topic: _TopicName = None,
    delivery_topic: _TopicName = None,
    headers: _Headers = None,
    forwarding: _Forwarding = None,
    configuration_set: _DefaultSet = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Set who is notified of bounces, complaints and deliveries of mail with an identity.

    The owner's settings are for all mail with it; a delegate has its own for the mail that it
    sends. Both are respected independently.
    """
    from smtpgate.admin import notifications  # noqa: PLC0415 - see above

    topics = _given(Bounce=bounce_topic, Complaint=complaint_topic, Delivery=delivery_topic)
    with_headers = {} if headers is None else _with_headers(headers)
    if not topics and headers is None and forwarding is None and configuration_set is None:
        raise misused("say what to set, such as --bounce-topic NAME")
    if account not in (None, ref.account_id) and configuration_set is not None:
        raise misused("the configuration set of an identity is the owner's")

    async def operation(session: Session) -> None:
        if topics or with_headers or forwarding is not None:
            await notifications.update(
                session,
                ref,
                account,
                topics=topics,
                headers=with_headers,
                is_forwarding=None if forwarding is None else forwarding == "on",
            )
        if configuration_set is not None:
            name = None if configuration_set == _NONE else configuration_set
            await notifications.set_configuration_set(session, ref, name)

    change(config, operation, notifies=True)
    whose = f" for account {account}" if account else ""
    output.print(f"the notifications of identity {ref}{whose} were set")


def _with_headers(text: str) -> dict[NotificationKind, bool]:
    """True for the kinds that a text names, and false for the others."""
    named = [] if text == _NONE else [one.strip().lower() for one in text.split(",")]
    kinds = {kind.lower(): kind for kind in _KINDS}
    unknown = [one for one in named if one not in kinds]
    if unknown:
        raise misused(f"--headers: `{unknown[0]}' is none of {', '.join(kinds)}, and not none")
    return {kind: name in named for name, kind in kinds.items()}


def _given(**topics: str | None) -> Mapping[NotificationKind, str | None]:
    return {
        kind: None if topic == _NONE else topic
        for kind, topic in zip(_KINDS, topics.values(), strict=True)
        if topic is not None
    }
