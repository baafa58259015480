"""The arguments that name things of the directory."""

from typing import Annotated, TypeAlias

import typer

from smtpgate.admin.refs import IdentityRef, OwnerRef, TopicRef, UserRef
from smtpgate.cli import completion
from smtpgate.cli.notation import (
    LimitsRef,
    identity_ref,
    limits_ref,
    owner_ref,
    topic_ref,
    user_ref,
)
from smtpgate.cli.terminal import parsed_by
from smtpgate.core.naming import access_key_id, account_id

AccountArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="ACCOUNT",
        help="The account: 12 digits.",
        parser=parsed_by(account_id),
        autocompletion=completion.account_ids,
        show_default=False,
    ),
]
AccountOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--account",
        "-a",
        metavar="ACCOUNT",
        help="Of this account alone.",
        parser=parsed_by(account_id),
        autocompletion=completion.account_ids,
        show_default=False,
    ),
]
UserArgument: TypeAlias = Annotated[
    UserRef,
    typer.Argument(
        metavar="ACCOUNT/NAME",
        help="The user.",
        parser=parsed_by(user_ref),
        autocompletion=completion.user_names,
        show_default=False,
    ),
]
OwnerArgument: TypeAlias = Annotated[
    OwnerRef,
    typer.Argument(
        metavar="ACCOUNT[/USER]",
        help="Whose key: a user's, or the account's root.",
        parser=parsed_by(owner_ref),
        autocompletion=completion.owner_names,
        show_default=False,
    ),
]
OwnerOption: TypeAlias = Annotated[
    OwnerRef | None,
    typer.Option(
        "--owner",
        metavar="ACCOUNT[/USER]",
        help="Of this account, or of this user alone.",
        parser=parsed_by(owner_ref),
        autocompletion=completion.owner_names,
        show_default=False,
    ),
]
IdentityArgument: TypeAlias = Annotated[
    IdentityRef,
    typer.Argument(
        metavar="ACCOUNT/NAME",
        help="The identity, by account and domain or address, or by its ARN.",
        parser=parsed_by(identity_ref),
        autocompletion=completion.identity_names,
        show_default=False,
    ),
]
KeyArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="KEY",
        help="The access key's id.",
        parser=parsed_by(access_key_id),
        autocompletion=completion.key_ids,
        show_default=False,
    ),
]
WhoseArgument: TypeAlias = Annotated[
    LimitsRef,
    typer.Argument(
        metavar="WHOSE",
        help="An account, ACCOUNT/USER, an access key's id, or an identity's ARN.",
        parser=parsed_by(limits_ref),
        autocompletion=completion.owner_names,
        show_default=False,
    ),
]
TopicArgument: TypeAlias = Annotated[
    TopicRef,
    typer.Argument(
        metavar="ACCOUNT/TOPIC",
        help="The topic, or its ARN.",
        parser=parsed_by(topic_ref),
        show_default=False,
    ),
]
