"""``smtpgate key``: access keys, which senders log in with."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import typer

from smtpgate.admin.session import Session
from smtpgate.cli.arguments import KeyArgument, OwnerArgument, OwnerOption
from smtpgate.cli.listing import (
    View,
    pages_of,
    print_card,
    print_facts,
    print_json,
    print_pages,
)
from smtpgate.cli.moments import moment_option
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
from smtpgate.clock import SystemClock
from smtpgate.core.secret import Secret, smtp_password
from smtpgate.directory.keys import (
    AccessKeyRow,
    access_key,
    access_key_page,
    create_access_key,
    delete_access_key,
    new_secret,
    update_access_key,
)

key_app: Final = typer.Typer(
    name="key", help="Access keys: what senders log in with.", no_args_is_help=True
)

_Expires: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="When it ends: 90d from now, or 2027-01-31 in UTC.",
        show_default=False,
    ),
]
_Networks: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        metavar="NETWORK",
        help="Where it may be used from, such as 192.0.2.0/24; may be repeated.",
        show_default=False,
    ),
]


class Status(StrEnum):
    """Whether a key is good, as an option's values."""

    ACTIVE = "active"
    DISABLED = "disabled"


def _status(row: AccessKeyRow) -> str:
    if not row.is_active:
        return "disabled"
    now = SystemClock().now()
    return "expired" if row.expires_at is not None and row.expires_at <= now else "active"


def key_fields(row: AccessKeyRow) -> dict[str, object]:
    """An access key as programs see it."""
    return {
        "id": row.id,
        "account": row.account_id,
        "user": row.user_name,
        "status": _status(row),
        "expires_at": row.expires_at,
        "networks": list(row.networks),
        "created_at": row.created_at,
        "last_used_at": row.last_used_at,
        "last_used_from": row.last_used_from,
    }


key_view: Final[View[AccessKeyRow]] = View(
    columns={
        "access key": lambda row: row.id,
        "owner": lambda row: row.owner,
        "status": _status,
        "expires": lambda row: row.expires_at,
        "from": lambda row: row.networks,
        "created": lambda row: row.created_at,
        "last used": lambda row: row.last_used_at,
        "by": lambda row: row.last_used_from,
    },
    fields=key_fields,
    nothing="no access keys",
)


@dataclass(frozen=True, slots=True)
class _Made:
    """A key that was made now; the one moment at which its secret can be shown."""

    row: AccessKeyRow
    secret: Secret
    region: str

    @property
    def password(self) -> Secret:
        """What SMTP clients log in with."""
        return smtp_password(self.secret, self.region)


@key_app.command(epilog=example("key create 999999999999/mailer --expires 90d"))
def create(
    owner: OwnerArgument,
    expires: _Expires = None,
    networks: _Networks = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Make an access key; its secret and SMTP password are shown this once."""
    ends = moment_option(expires, "--expires", ahead=True)

    async def operation(session: Session) -> _Made:
        secret = new_secret()
        new = AccessKeyRow(
            id="",
            account_id=owner.account_id,
            user_name=owner.user_name,
            expires_at=ends,
            networks=tuple(networks or ()),
        )
        async with session.changing() as change:
            row = await create_access_key(change, session.store.master_keys, new, secret)
        return _Made(row, secret, session.region)

    made = run(config, operation, changes=True)
    if json:
        shown_once = {"secret": made.secret.value, "smtp_password": made.password.value}
        print_json(key_fields(made.row) | shown_once)
        return
    print_card(
        {
            "access key": made.row.id,
            "of": made.row.owner,
            "secret": made.secret.value,
            "SMTP user name": made.row.id,
            "SMTP password": made.password.value,
        }
    )
    output.print("Keep the secret and the password now: they are not shown again.")


@key_app.command("list", epilog=example("key list --unused-for 90d"))
def list_(
    owner: OwnerOption = None,
    status: Annotated[
        Status | None, typer.Option(help="Only those.", show_default=False)
    ] = None,
    unused_for: Annotated[
        str | None,
        typer.Option(metavar="SPAN", help="Not used for so long: 90d.", show_default=False),
    ] = None,
    limit: Limit = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """List access keys, with their last use."""
    since = moment_option(unused_for, "--unused-for")

    async def operation(session: Session) -> None:
        async def read(after: str, size: int) -> list[AccessKeyRow]:
            async with session.store.reading() as connection:
                return await access_key_page(
                    connection,
                    owner.account_id if owner else None,
                    user_name=owner.user_name if owner else None,
                    is_active=None if status is None else status is Status.ACTIVE,
                    unused_since=since,
                    after=after,
                    limit=size,
                )

        pages = pages_of(read, "", lambda row: row.id, limit)
        await print_pages(pages, key_view, as_json=json)

    run(config, operation)


@key_app.command(epilog=example("key show AKIAIOSFODNN7EXAMPLE"))
def show(
    key_id: KeyArgument, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False
) -> None:
    """Show an access key; its secret cannot be shown again."""

    async def operation(session: Session) -> AccessKeyRow:
        async with session.store.reading() as connection:
            return await access_key(connection, key_id)

    print_facts(key_fields(run(config, operation)), as_json=json)


def _update(config: Path, key_id: str, changes: Mapping[str, Any], action: str) -> None:
    async def operation(session: Session) -> None:
        async with session.changing() as change:
            await update_access_key(change, key_id, changes, action=action)

    run(config, operation, changes=True)


@key_app.command(epilog=example("key enable AKIAIOSFODNN7EXAMPLE"))
def enable(key_id: KeyArgument, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Let a disabled key be used again."""
    _update(config, key_id, {"is_active": True}, "enable")
    output.print(f"access key {key_id} is active")


@key_app.command(epilog=example("key disable AKIAIOSFODNN7EXAMPLE"))
def disable(key_id: KeyArgument, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Revoke a key: it is good for nothing at once, in open sessions too."""
    _update(config, key_id, {"is_active": False}, "disable")
    output.print(f"access key {key_id} is disabled")


@key_app.command("set", epilog=example("key set AKIAIOSFODNN7EXAMPLE --from 192.0.2.0/24"))
def set_(
    key_id: KeyArgument,
    expires: _Expires = None,
    never_expires: Annotated[
        bool, typer.Option("--never-expires", help="It does not end by itself.")
    ] = False,
    networks: _Networks = None,
    from_anywhere: Annotated[
        bool, typer.Option("--from-anywhere", help="It may be used from everywhere.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Change when a key ends, or all the networks that it may be used from."""
    if (expires and never_expires) or (networks and from_anywhere):
        raise misused("say either one or the other")
    changes: dict[str, Any] = {}
    if expires or never_expires:
        changes["expires_at"] = moment_option(expires, "--expires", ahead=True)
    if networks or from_anywhere:
        changes["networks"] = tuple(networks or ())
    if not changes:
        raise misused("say what to change: --expires, --from, …")
    _update(config, key_id, changes, "change")
    output.print(f"access key {key_id} is changed")


@key_app.command(epilog=example("key delete AKIAIOSFODNN7EXAMPLE"))
def delete(key_id: KeyArgument, config: ConfigFile = DEFAULT_CONFIG, yes: Yes = False) -> None:
    """Delete an access key for good; `key disable' can be undone."""
    confirmed(f"this deletes access key {key_id} for good", yes=yes)

    async def operation(session: Session) -> None:
        async with session.changing() as change:
            await delete_access_key(change, key_id)

    run(config, operation, changes=True)
    output.print(f"access key {key_id} is deleted")
