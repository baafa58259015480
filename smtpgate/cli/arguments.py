"""The arguments that name things of the directory."""

from typing import Annotated, TypeAlias

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
from smtpgate.cli.terminal import argument, option
from smtpgate.core.naming import access_key_id, account_id

AccountArgument: TypeAlias = Annotated[
    str,
    argument(
        metavar="ACCOUNT",
        help="The account: 12 digits.",
        parse=account_id,
        autocompletion=completion.account_ids,
    ),
]
AccountOption: TypeAlias = Annotated[
    str | None,
    option(
        "--account",
        "-a",
        metavar="ACCOUNT",
        help="Of this account alone.",
        parse=account_id,
        autocompletion=completion.account_ids,
    ),
]
UserArgument: TypeAlias = Annotated[
    UserRef,
    argument(
        metavar="ACCOUNT/NAME",
        help="The user.",
        parse=user_ref,
        autocompletion=completion.user_names,
    ),
]
OwnerArgument: TypeAlias = Annotated[
    OwnerRef,
    argument(
        metavar="ACCOUNT[/USER]",
        help="Whose key: a user's, or the account's root.",
        parse=owner_ref,
        autocompletion=completion.owner_names,
    ),
]
OwnerOption: TypeAlias = Annotated[
    OwnerRef | None,
    option(
        "--owner",
        metavar="ACCOUNT[/USER]",
        help="Of this account, or of this user alone.",
        parse=owner_ref,
        autocompletion=completion.owner_names,
    ),
]
IdentityArgument: TypeAlias = Annotated[
    IdentityRef,
    argument(
        metavar="ACCOUNT/NAME",
        help="The identity, by account and domain or address, or by its ARN.",
        parse=identity_ref,
        autocompletion=completion.identity_names,
    ),
]
KeyArgument: TypeAlias = Annotated[
    str,
    argument(
        metavar="KEY",
        help="The access key's id.",
        parse=access_key_id,
        autocompletion=completion.key_ids,
    ),
]
WhoseArgument: TypeAlias = Annotated[
    LimitsRef,
    argument(
        metavar="WHOSE",
        help="An account, ACCOUNT/USER, an access key's id, or an identity's ARN.",
        parse=limits_ref,
        autocompletion=completion.owner_names,
    ),
]
TopicArgument: TypeAlias = Annotated[
    TopicRef, argument(metavar="ACCOUNT/TOPIC", help="The topic, or its ARN.", parse=topic_ref)
]
