"""``smtpgate user``: who acts for an account, and what each may do."""

from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias

import typer

from smtpgate.admin.refs import UserRef
from smtpgate.admin.session import Session
from smtpgate.cli.arguments import AccountOption, UserArgument
from smtpgate.cli.attached import AttachedPolicies, policy_fields, policy_view
from smtpgate.cli.key import key_fields, key_view
from smtpgate.cli.listing import (
    View,
    pages_of,
    print_card,
    print_json,
    print_pages,
    print_table,
)
from smtpgate.cli.notation import user_ref
from smtpgate.cli.session import run
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    Limit,
    Yes,
    confirmed,
    example,
    misused,
    output,
)
from smtpgate.core.arn import user_arn
from smtpgate.directory.keys import AccessKeyRow, access_key_page
from smtpgate.directory.policies import PolicyOwner, PolicyRow, policies_of
from smtpgate.directory.policy_owners import FindPolicyOwner, policies_of_user
from smtpgate.directory.users import (
    UserRow,
    create_user,
    delete_user,
    update_user,
    user,
    user_page,
)

user_app: Final = typer.Typer(
    name="user", help="Users: who acts for an account.", no_args_is_help=True
)

_Path: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="PATH", help="A part of its ARN, such as /team-a/.", show_default=False
    ),
]
_Tags: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        metavar="KEY=VALUE",
        help="A tag, which policies see as aws:PrincipalTag/KEY; may be repeated.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class _Named:
    place_of: UserRef

    def find(self, session: Session) -> FindPolicyOwner:
        """What finds its policies, if it is there."""
        return policies_of_user(self.place_of.account_id, self.place_of.name)

    def place(self, session: Session) -> PolicyOwner:
        """Where its policies are, or were."""
        return PolicyOwner.of_user(self.place_of.account_id, self.place_of.name)


user_app.add_typer(AttachedPolicies("user", lambda text: _Named(user_ref(text))).app())


def _arn(row: UserRow, partition: str) -> str:
    return user_arn(row.account_id, row.name, row.path, partition)


def _view(partition: str) -> View[UserRow]:
    return View(
        columns={
            "user": lambda row: f"{row.account_id}/{row.name}",
            "arn": lambda row: _arn(row, partition),
            "tags": lambda row: row.tags,
            "created": lambda row: row.created_at,
        },
        fields=lambda row: {
            "account": row.account_id,
            "name": row.name,
            "path": row.path,
            "arn": _arn(row, partition),
            "tags": row.tags,
            "unique_id": row.unique_id,
            "created_at": row.created_at,
        },
        nothing="no users",
    )


def _changes(path: str | None, tags: list[str] | None) -> dict[str, Any]:
    """The columns that options name. Raises BadParameter."""
    changes: dict[str, Any] = {} if path is None else {"path": path}
    if tags:
        pairs = [tag.partition("=") for tag in tags]
        for tag, (_, equals, _) in zip(tags, pairs, strict=True):
            if not equals:
                raise misused(f"--tag: `{tag}' is no KEY=VALUE")
        changes["tags"] = {key: value for key, _, value in pairs}
    return changes


@user_app.command(epilog=example("user create 999999999999/mailer"))
def create(
    place: UserArgument,
    path: _Path = None,
    tag: _Tags = None,
    no_policy: Annotated[
        bool, typer.Option("--no-policy", help="Without the policy may-send.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Add a user, with a policy (may-send) that lets it send whatever owners allow."""
    changes = _changes(path, tag)

    async def operation(session: Session) -> tuple[UserRow, str]:
        new = UserRow(account_id=place.account_id, name=place.name, **changes)
        async with session.changing() as change:
            return await create_user(change, new, may_send=not no_policy), session.partition

    row, partition = run(config, operation, changes=True)
    if json:
        print_json(_view(partition).fields(row))
    else:
        output.print(f"user {place} is there, with the ARN {_arn(row, partition)}")


@user_app.command("list", epilog=example("user list --account 999999999999"))
def list_(
    account: AccountOption = None,
    search: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A part of the name.", show_default=False)
    ] = None,
    limit: Limit = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """List users, by account and name."""

    async def operation(session: Session) -> None:
        async def read(after: tuple[str, str], size: int) -> list[UserRow]:
            async with session.store.reading() as connection:
                return await user_page(
                    connection, account, search=search, after=after, limit=size
                )

        pages = pages_of(read, ("", ""), lambda row: (row.account_id, row.key), limit)
        await print_pages(pages, _view(session.partition), as_json=json)

    run(config, operation)


@user_app.command(epilog=example("user show 999999999999/mailer"))
def show(
    place: UserArgument, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False
) -> None:
    """Show a user with its policies and access keys."""

    async def operation(
        session: Session,
    ) -> tuple[dict[str, object], list[PolicyRow], list[AccessKeyRow]]:
        async with session.store.reading() as connection:
            row = await user(connection, place.account_id, place.name)
            policies = await policies_of(connection, row.policies)
            keys = await access_key_page(connection, row.account_id, user_name=row.name)
        return dict(_view(session.partition).fields(row)), policies, keys

    facts, policies, keys = run(config, operation)
    if json:
        facts["policies"] = [policy_fields(row) for row in policies]
        facts["access_keys"] = [key_fields(row) for row in keys]
        print_json(facts)
        return
    print_card(facts)
    if policies:
        print_table(policies, policy_view)
    if keys:
        print_table(keys, key_view)


@user_app.command("set", epilog=example("user set 999999999999/mailer --tag team=news"))
def set_(
    place: UserArgument,
    path: _Path = None,
    tag: _Tags = None,
    no_tags: Annotated[bool, typer.Option("--no-tags", help="Take all tags away.")] = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Change a user's path, and with it its ARN; or its tags, all of them."""
    changes = _changes(path, tag) | ({"tags": {}} if no_tags else {})
    if not changes or (tag and no_tags):
        raise misused("say what to change: --path, --tag or --no-tags")

    async def operation(session: Session) -> None:
        async with session.changing() as change:
            await update_user(change, place.account_id, place.name, changes)

    run(config, operation, changes=True)
    output.print(f"user {place} is changed")


@user_app.command(epilog=example("user delete 999999999999/mailer"))
def delete(place: UserArgument, config: ConfigFile = DEFAULT_CONFIG, yes: Yes = False) -> None:
    """Delete a user with its access keys and policies; its open sessions end."""
    confirmed(f"this deletes user {place} with its access keys and policies", yes=yes)

    async def operation(session: Session) -> None:
        async with session.changing() as change:
            await delete_user(change, place.account_id, place.name)

    run(config, operation, changes=True)
    output.print(f"user {place} is deleted")
