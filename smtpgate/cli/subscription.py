"""``smtpgate subscription``: the receivers of topics, and the confirmation of each."""

from pathlib import Path
from typing import Annotated, Final, TypeAlias, get_args

import typer

from smtpgate.admin import topics
from smtpgate.admin.refs import SubscriptionRef
from smtpgate.admin.session import Session
from smtpgate.admin.topics import NewSubscription, SubscriptionDetails
from smtpgate.cli.arguments import AccountOption, TopicArgument
from smtpgate.cli.listing import View, print_facts, print_json, print_rows
from smtpgate.cli.notation import subscription_ref
from smtpgate.cli.session import change, run
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    Yes,
    argument,
    confirmed,
    example,
    fail,
    misused,
    one_of,
    option,
    output,
    warn,
)
from smtpgate.config.toml import read_secret
from smtpgate.core.notification.settings import SubscriptionForm
from smtpgate.core.secret import Secret
from smtpgate.gate.confirmer import open_confirmer

subscription_app: Final = typer.Typer(no_args_is_help=True)

_EXAMPLE: Final = (
    "arn:aws:sns:us-east-1:888888888888:bounces:00010203-0405-0607-0809-0a0b0c0d0e0f"
)
_FORMS: Final = one_of(get_args(SubscriptionForm))
_Endpoint: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="ENDPOINT",
        help="An https:// URL, with name:password@ if it needs them; or an address.",
    ),
]
_SecretFile: TypeAlias = Annotated[
    Path | None,
    option(metavar="FILE", help="The receiver's own secret, whsec_…, for the form raw."),
]
_Subscription: TypeAlias = Annotated[
    SubscriptionRef,
    argument(metavar="ARN", help="The subscription's ARN.", parse=subscription_ref),
]


def _fields(one: SubscriptionDetails) -> dict[str, object]:
    return {
        "arn": one.arn,
        "topic": one.topic_arn,
        "form": one.form,
        "endpoint": one.endpoint,
        "has_credentials": one.has_credentials,
        "state": one.state,
        "created_at": one.created_at,
        "confirmed_at": one.confirmed_at,
    }


subscription_view: Final[View[SubscriptionDetails]] = View(
    columns={
        "subscription": lambda one: one.arn,
        "form": lambda one: one.form,
        "endpoint": lambda one: one.endpoint,
        "state": lambda one: one.state,
    },
    fields=_fields,
    nothing="no subscriptions",
)


@subscription_app.command(
    epilog=example("subscription create 888888888888/bounces https://hooks.example.com/ses")
)
def create(
    topic: TopicArgument,
    endpoint: _Endpoint,
    form: Annotated[
        SubscriptionForm | None,
        option(metavar="FORM", help=f"{_FORMS}. Default: sns, or email for an address."),
    ] = None,
    secret_file: _SecretFile = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Mark it as confirmed, without a token.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Subscribe a URL or an address, and send it a token that confirms the subscription.

    The form sns is the envelope of Amazon SNS; raw is SES's JSON, signed as Standard Webhooks
    say; listmonk is the form of listmonk's bounce webhook, and needs --trust.
    """
    secret = None if secret_file is None else _secret(secret_file)
    chosen = form or ("sns" if "://" in endpoint else "email")

    async def operation(session: Session) -> NewSubscription:
        async with open_confirmer(session.config, session.clock) as confirmer:
            return await topics.subscribe(
                session,
                topic,
                chosen,
                endpoint,
                confirmer,
                secret=secret,
                is_trusted=trust,
            )

    made = change(config, operation)
    if json:
        shown = None if made.secret is None else made.secret.value
        print_json(_fields(made.details) | {"secret": shown, "problem": made.problem})
    else:
        _print_made(made, is_new_secret=secret is None)


def _print_made(made: NewSubscription, *, is_new_secret: bool) -> None:
    output.print(f"subscription {made.details.arn} was created")
    if made.secret is not None and is_new_secret:
        output.print("its secret is shown this once; give it to the receiver:")
        output.print(f"  {made.secret.value}")
    if made.details.state == "confirmed":
        output.print("it is confirmed, on your word")
    elif made.problem is None:
        output.print("a token was sent to it; it gets nothing else before it is confirmed")
    else:
        warn([f"its token did not reach it: {made.problem}"])
        output.print(f"to send another: `smtpgate subscription resend {made.details.arn}'")


def _secret(file: Path) -> Secret:
    try:
        return read_secret(file, [])
    except (OSError, ValueError) as error:
        raise fail(f"{file}: {error}") from None


@subscription_app.command("list", epilog=example("subscription list --account 888888888888"))
def list_(
    account: AccountOption = None, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False
) -> None:
    """List subscriptions, by account and topic."""
    found = run(config, lambda session: topics.subscriptions(session, account))
    print_rows(found, subscription_view, as_json=json)


@subscription_app.command(epilog=example(f"subscription show {_EXAMPLE}"))
def show(ref: _Subscription, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Show a subscription; its secret is never shown."""
    one = run(config, lambda session: topics.get_subscription(session, ref))
    print_facts(_fields(one), as_json=json)


@subscription_app.command("confirm", epilog=example(f"subscription confirm {_EXAMPLE} --trust"))
def confirm_(
    ref: _Subscription,
    token: Annotated[
        str | None, argument(metavar="TOKEN", help="The token that it got.")
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Confirm it without a token.")] = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Confirm a subscription with the token that was sent to it."""
    if (token is None) != trust:
        raise misused("say either the token or --trust")

    async def operation(session: Session) -> SubscriptionDetails:
        if token is None:
            return await topics.trust(session, ref)
        return await topics.confirm(session, ref.topic, Secret(token))

    confirmed_one = change(config, operation)
    output.print(f"subscription {confirmed_one.arn} is confirmed")


@subscription_app.command(epilog=example(f"subscription resend {_EXAMPLE}"))
def resend(ref: _Subscription, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Send another token to a subscription, in the place of the one before."""

    async def operation(session: Session) -> None:
        async with open_confirmer(session.config, session.clock) as confirmer:
            await topics.resend(session, ref, confirmer)

    change(config, operation)
    output.print(f"a token was sent to {ref}")


@subscription_app.command(epilog=example(f"subscription delete {_EXAMPLE}"))
def delete(ref: _Subscription, config: ConfigFile = DEFAULT_CONFIG, yes: Yes = False) -> None:
    """Delete a subscription; what is on its way to it is given up."""
    confirmed(f"this deletes subscription {ref}", yes=yes)
    change(config, lambda session: topics.unsubscribe(session, ref))
    output.print(f"subscription {ref} was deleted")
