"""``smtpgate topic``: topics, which notifications and events are sent to."""

from collections.abc import Sequence
from typing import Annotated, Final, TypeAlias

import typer

from smtpgate.admin import topics
from smtpgate.admin.topics import TopicDetails
from smtpgate.cli import completion
from smtpgate.cli.arguments import AccountOption, TopicArgument
from smtpgate.cli.listing import View, print_card, print_json, print_pages, print_table
from smtpgate.cli.session import change, run
from smtpgate.cli.subscription import subscription_view
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    Limit,
    Yes,
    confirmed,
    example,
    option,
    output,
)
from smtpgate.core.naming import account_id
from smtpgate.core.notification.settings import SignatureVersion

topic_app: Final = typer.Typer(no_args_is_help=True)


_Signature: TypeAlias = Annotated[
    SignatureVersion,
    typer.Option(help="SNS's version: 1 is SHA-1, which every receiver knows; 2 is SHA-256."),
]


def _fields(topic: TopicDetails) -> dict[str, object]:
    return {
        "arn": topic.arn,
        "account": topic.account_id,
        "name": topic.name,
        "display_name": topic.display_name,
        "signature_version": topic.signature_version,
        "subscriptions": topic.subscriptions,
        "open_to": list(topic.open_to),
        "created_at": topic.created_at,
    }


_VIEW: Final[View[TopicDetails]] = View(
    columns={
        "topic": lambda topic: topic.arn,
        "signature": lambda topic: topic.signature_version,
        "subscriptions": lambda topic: topic.subscriptions,
    },
    fields=_fields,
    nothing="no topics",
)


@topic_app.command(epilog=example("topic create 888888888888/bounces"))
def create(
    ref: TopicArgument,
    signature: _Signature = "1",
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Create a topic; subscribe to it, and have identities or configuration sets use it."""
    topic = change(config, lambda session: topics.create(session, ref, signature))
    if json:
        print_json(_fields(topic))
        return
    output.print(f"topic {topic.arn} was created")
    output.print(f"to subscribe to it: `smtpgate subscription create {ref} URL'")


@topic_app.command("list", epilog=example("topic list --account 888888888888"))
def list_(
    account: AccountOption = None,
    limit: Limit = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """List topics, by account and name."""
    run(
        config,
        lambda session: print_pages(
            topics.pages(session, account, limit=limit), _VIEW, as_json=json
        ),
    )


@topic_app.command(epilog=example("topic show 888888888888/bounces"))
def show(ref: TopicArgument, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Show a topic and its subscriptions."""
    topic, subscriptions = run(config, lambda session: topics.get(session, ref))
    if json:
        found = [subscription_view.fields(one) for one in subscriptions]
        print_json(_fields(topic) | {"subscriptions": found})
        return
    print_card(_fields(topic))
    _print(subscriptions)


def _print(subscriptions: Sequence[topics.SubscriptionDetails]) -> None:
    if subscriptions:
        print_table(subscriptions, subscription_view)


@topic_app.command("set", epilog=example("topic set 888888888888/bounces --signature 2"))
def set_(
    ref: TopicArgument, signature: _Signature, config: ConfigFile = DEFAULT_CONFIG
) -> None:
    """Set the version of the signatures of a topic."""
    change(config, lambda session: topics.update(session, ref, signature))
    output.print(f"topic {ref} signs with version {signature}")


_Account: TypeAlias = Annotated[
    str,
    option(
        "--account",
        metavar="ACCOUNT",
        help="The other account.",
        parse=account_id,
        autocompletion=completion.account_ids,
    ),
]


@topic_app.command(epilog=example("topic allow 999999999999/ours --account 888888888888"))
def allow(ref: TopicArgument, account: _Account, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Let the settings of another account name a topic."""
    change(config, lambda session: topics.allow(session, ref, account))
    output.print(f"settings of account {account} may name topic {ref}")


@topic_app.command(epilog=example("topic disallow 999999999999/ours --account 888888888888"))
def disallow(
    ref: TopicArgument, account: _Account, config: ConfigFile = DEFAULT_CONFIG
) -> None:
    """Take the permission back: settings of that account no longer reach the topic."""
    change(config, lambda session: topics.disallow(session, ref, account))
    output.print(f"settings of account {account} may not name topic {ref} any more")


@topic_app.command(epilog=example("topic delete 888888888888/bounces"))
def delete(ref: TopicArgument, config: ConfigFile = DEFAULT_CONFIG, yes: Yes = False) -> None:
    """Delete a topic with its subscriptions, if no setting names it."""
    confirmed(f"this deletes topic {ref} with its subscriptions", yes=yes)
    change(config, lambda session: topics.delete(session, ref))
    output.print(f"topic {ref} was deleted")
