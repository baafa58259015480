"""``smtpgate user``: users of an account, and what each may do."""

from collections.abc import Sequence
from typing import Annotated, Final, TypeAlias

import typer

from smtpgate.admin import keys, policies, users
from smtpgate.admin.keys import KeyDetails
from smtpgate.admin.policies import PolicyVersion
from smtpgate.admin.session import Session
from smtpgate.admin.users import UserDetails, UserSettings
from smtpgate.cli.arguments import AccountOption, UserArgument
from smtpgate.cli.key_view import key_fields, key_view
from smtpgate.cli.listing import View, print_card, print_json, print_pages, print_table
from smtpgate.cli.notation import user_ref
from smtpgate.cli.policy_commands import PolicyCommands, policy_fields, policy_view
from smtpgate.cli.session import change, run
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    Limit,
    Yes,
    confirmed,
    example,
    misused,
    option,
    output,
)

user_app: Final = typer.Typer(no_args_is_help=True)

_Path: TypeAlias = Annotated[
    str | None, option(metavar="PATH", help="A part of its ARN, such as /team-a/.")
]
_Tags: TypeAlias = Annotated[
    list[str] | None,
    option(
        "--tag",
        metavar="KEY=VALUE",
        help="A tag, which policies see as aws:PrincipalTag/KEY; may be repeated.",
    ),
]


user_app.add_typer(PolicyCommands("user", user_ref).app())


def _fields(user: UserDetails) -> dict[str, object]:
    """A user as programs see it."""
    return {
        "account": user.account_id,
        "name": user.name,
        "path": user.path,
        "arn": user.arn,
        "tags": user.tags,
        "unique_id": user.unique_id,
        "created_at": user.created_at,
    }


_VIEW: Final[View[UserDetails]] = View(
    columns={
        "user": lambda user: f"{user.account_id}/{user.name}",
        "arn": lambda user: user.arn,
        "tags": lambda user: user.tags,
        "created": lambda user: user.created_at,
    },
    fields=_fields,
    nothing="no users",
)


def _settings(path: str | None, tags: list[str] | None) -> UserSettings:
    """The settings that options name. Raises BadParameter."""
    settings = UserSettings()
    if path is not None:
        settings["path"] = path
    if tags:
        pairs = [tag.partition("=") for tag in tags]
        for tag, (_, equals, _) in zip(tags, pairs, strict=True):
            if not equals:
                raise misused(f"--tag: `{tag}' is not KEY=VALUE")
        settings["tags"] = {key: value for key, _, value in pairs}
    return settings


@user_app.command(epilog=example("user create 999999999999/mailer"))
def create(
    ref: UserArgument,
    path: _Path = None,
    tag: _Tags = None,
    no_policy: Annotated[
        bool, typer.Option("--no-policy", help="Without the policy may-send.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Add a user, with a policy (may-send) that lets it send what owners allow."""
    settings = _settings(path, tag)
    user = change(
        config, lambda session: users.create(session, ref, settings, may_send=not no_policy)
    )
    if json:
        print_json(_fields(user))
    else:
        output.print(f"user {ref} was created, with the ARN {user.arn}")


@user_app.command("list", epilog=example("user list --account 999999999999"))
def list_(
    account: AccountOption = None,
    search: Annotated[str | None, option(metavar="TEXT", help="A part of the name.")] = None,
    limit: Limit = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """List users, by account and name."""
    run(
        config,
        lambda session: print_pages(
            users.pages(session, account, search=search, limit=limit), _VIEW, as_json=json
        ),
    )


@user_app.command(epilog=example("user show 999999999999/mailer"))
def show(ref: UserArgument, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Show a user with its policies and access keys."""

    async def operation(
        session: Session,
    ) -> tuple[UserDetails, Sequence[PolicyVersion], list[KeyDetails]]:
        user = await users.get(session, ref)
        pages = keys.pages(session, user.account_id, user.name)
        owned = [key async for page in pages for key in page]
        return user, await policies.attached(session, ref), owned

    user, attached, owned = run(config, operation)
    facts = _fields(user)
    if json:
        facts["policies"] = [policy_fields(row) for row in attached]
        facts["access_keys"] = [key_fields(key) for key in owned]
        print_json(facts)
        return
    print_card(facts)
    if attached:
        print_table(attached, policy_view)
    if owned:
        print_table(owned, key_view)


@user_app.command("set", epilog=example("user set 999999999999/mailer --tag team=news"))
def set_(
    ref: UserArgument,
    path: _Path = None,
    tag: _Tags = None,
    no_tags: Annotated[bool, typer.Option("--no-tags", help="Remove all tags.")] = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Change a user's path, and with it its ARN; or replace all its tags."""
    settings = _settings(path, tag)
    if (tag and no_tags) or not (settings or no_tags):
        raise misused("say what to change: --path, --tag or --no-tags")
    if no_tags:
        settings["tags"] = {}
    change(config, lambda session: users.update(session, ref, settings))
    output.print(f"user {ref} was changed")


@user_app.command(epilog=example("user delete 999999999999/mailer"))
def delete(ref: UserArgument, config: ConfigFile = DEFAULT_CONFIG, yes: Yes = False) -> None:
    """Delete a user with its access keys and policies; its open sessions end."""
    confirmed(f"this deletes user {ref} with its access keys and policies", yes=yes)
    change(config, lambda session: users.delete(session, ref))
    output.print(f"user {ref} was deleted")
