"""``smtpgate configuration-set``: which events of mail are published, and to which topics."""

from typing import Annotated, Final, TypeAlias

import typer

from smtpgate.admin import configuration_sets
from smtpgate.admin.configuration_sets import ConfigurationSetDetails, EventDestinationDetails
from smtpgate.admin.refs import ConfigurationSetRef
from smtpgate.cli.arguments import AccountOption
from smtpgate.cli.listing import View, print_card, print_json, print_pages, print_table
from smtpgate.cli.notation import configuration_set_ref
from smtpgate.cli.session import change, run
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    Limit,
    Yes,
    argument,
    confirmed,
    example,
    misused,
    option,
    output,
)

configuration_set_app: Final = typer.Typer(no_args_is_help=True)

_Set: TypeAlias = Annotated[
    ConfigurationSetRef,
    argument(
        metavar="ACCOUNT/NAME", help="The configuration set.", parse=configuration_set_ref
    ),
]
_Name: TypeAlias = Annotated[
    str, typer.Argument(metavar="DESTINATION", help="The name of the event destination.")
]
_TYPES_HELP: Final = "Types of events, with commas: SEND,BOUNCE,COMPLAINT,DELIVERY,…"


def _destination_fields(one: EventDestinationDetails) -> dict[str, object]:
    return {
        "name": one.name,
        "types": list(one.types),
        "topic": one.topic,
        "enabled": one.is_enabled,
    }


_DESTINATIONS: Final[View[EventDestinationDetails]] = View(
    columns={
        "destination": lambda one: one.name,
        "types": lambda one: " ".join(one.types),
        "topic": lambda one: one.topic,
        "enabled": lambda one: one.is_enabled,
    },
    fields=_destination_fields,
    nothing="no event destinations",
)


def _fields(found: ConfigurationSetDetails) -> dict[str, object]:
    return {
        "arn": found.arn,
        "account": found.account_id,
        "name": found.name,
        "sending": found.is_sending,
        "suppressed_reasons": None
        if found.suppressed_reasons is None
        else list(found.suppressed_reasons),
        "created_at": found.created_at,
        "destinations": [_destination_fields(one) for one in found.destinations],
    }


_VIEW: Final[View[ConfigurationSetDetails]] = View(
    columns={
        "configuration set": lambda found: f"{found.account_id}/{found.name}",
        "sending": lambda found: found.is_sending,
        "destinations": lambda found: [one.name for one in found.destinations],
    },
    fields=_fields,
    nothing="no configuration sets",
)


@configuration_set_app.command(epilog=example("configuration-set create 999999999999/spring"))
def create(ref: _Set, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Create a configuration set; messages name it in X-SES-CONFIGURATION-SET."""
    found = change(config, lambda session: configuration_sets.create(session, ref))
    if json:
        print_json(_fields(found))
    else:
        output.print(f"configuration set {ref} was created")


@configuration_set_app.command(
    "list", epilog=example("configuration-set list --account 999999999999")
)
def list_(
    account: AccountOption = None,
    limit: Limit = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """List configuration sets, by account and name."""
    run(
        config,
        lambda session: print_pages(
            configuration_sets.pages(session, account, limit=limit), _VIEW, as_json=json
        ),
    )


@configuration_set_app.command(epilog=example("configuration-set show 999999999999/spring"))
def show(ref: _Set, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Show a configuration set and its event destinations."""
    found = run(config, lambda session: configuration_sets.get(session, ref))
    facts = _fields(found)
    if json:
        print_json(facts)
        return
    del facts["destinations"]
    print_card(facts)
    if found.destinations:
        print_table(found.destinations, _DESTINATIONS)


@configuration_set_app.command(epilog=example("configuration-set pause 999999999999/spring"))
def pause(ref: _Set, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Refuse mail with a configuration set until `configuration-set resume'."""
    _set_sending(config, ref, is_sending=False)
    output.print(f"mail with configuration set {ref} is refused")


@configuration_set_app.command(epilog=example("configuration-set resume 999999999999/spring"))
def resume(ref: _Set, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Let mail with a configuration set be sent again."""
    _set_sending(config, ref, is_sending=True)
    output.print(f"mail with configuration set {ref} may be sent")


def _set_sending(config: ConfigFile, ref: ConfigurationSetRef, *, is_sending: bool) -> None:
    change(
        config,
        lambda session: configuration_sets.set_sending(session, ref, is_sending=is_sending),
    )


@configuration_set_app.command(epilog=example("configuration-set delete 999999999999/spring"))
def delete(ref: _Set, config: ConfigFile = DEFAULT_CONFIG, yes: Yes = False) -> None:
    """Delete a configuration set with its event destinations."""
    confirmed(f"this deletes configuration set {ref} with its event destinations", yes=yes)
    change(config, lambda session: configuration_sets.delete(session, ref))
    output.print(f"configuration set {ref} was deleted")


@configuration_set_app.command(
    epilog=example(
        "configuration-set add-destination 999999999999/spring all --types SEND --topic events"
    )
)
def add_destination(
    ref: _Set,
    name: _Name,
    types: Annotated[str, typer.Option(metavar="TYPES", help=_TYPES_HELP)],
    topic: Annotated[
        str,
        typer.Option(
            metavar="TOPIC",
            help="A topic of the same account, or ACCOUNT/TOPIC of one that is open to it.",
        ),
    ],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Publish events of some types to a topic.

    OPEN, CLICK and SUBSCRIPTION may be named, but there are no such events: the gate does not
    change bodies.
    """
    change(
        config,
        lambda session: configuration_sets.add_destination(
            session, ref, name, _types(types), topic
        ),
        notifies=True,
    )
    output.print(f"event destination {name} of {ref} was added")


@configuration_set_app.command(
    epilog=example("configuration-set set-destination 999999999999/spring all --types SEND")
)
def set_destination(
    ref: _Set,
    name: _Name,
    types: Annotated[str | None, option(metavar="TYPES", help=_TYPES_HELP)] = None,
    topic: Annotated[
        str | None,
        option(
            metavar="TOPIC",
            help="A topic of the same account, or ACCOUNT/TOPIC of one that is open to it.",
        ),
    ] = None,
    enabled: Annotated[bool | None, typer.Option(help="Publish to it, or not.")] = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Change an event destination."""
    if types is None and topic is None and enabled is None:
        raise misused("say what to change: --types, --topic, --enabled or --no-enabled")
    change(
        config,
        lambda session: configuration_sets.update_destination(
            session,
            ref,
            name,
            types=None if types is None else _types(types),
            topic=topic,
            is_enabled=enabled,
        ),
        notifies=True,
    )
    output.print(f"event destination {name} of {ref} was changed")


@configuration_set_app.command(
    epilog=example("configuration-set delete-destination 999999999999/spring all")
)
def delete_destination(ref: _Set, name: _Name, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Delete an event destination."""
    change(config, lambda session: configuration_sets.delete_destination(session, ref, name))
    output.print(f"event destination {name} of {ref} was deleted")


def _types(text: str) -> list[str]:
    return [one.strip().upper() for one in text.split(",") if one.strip()]
