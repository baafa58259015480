"""``smtpgate key``: access keys, the credentials that senders log in with."""

from typing import Annotated, Final, Literal, TypeAlias

import typer

from smtpgate.admin import key_watch, keys
from smtpgate.admin.keys import KeySettings
from smtpgate.cli.arguments import KeyArgument, OwnerArgument, OwnerOption
from smtpgate.cli.key_view import key_fields, key_view
from smtpgate.cli.key_watch import watch_app
from smtpgate.cli.listing import print_card, print_facts, print_json, print_pages
from smtpgate.cli.moments import moment_option
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
from smtpgate.core.naming import network

key_app: Final = typer.Typer(no_args_is_help=True)
key_app.add_typer(watch_app)

_Expires: TypeAlias = Annotated[
    str | None,
    option(metavar="TIME", help="When it expires: 90d from now, or 2027-01-31 in UTC."),
]
_Networks: TypeAlias = Annotated[
    list[str] | None,
    option(
        "--from",
        metavar="NETWORK",
        help="A network to use it from, such as 192.0.2.0/24; may be repeated.",
    ),
]
_Certificates: TypeAlias = Annotated[
    list[str] | None,
    option(
        "--certificate",
        metavar="PIN",
        help=(
            "A client certificate to use it with: sha256: and the SHA-256 of its public key; "
            "may be repeated."
        ),
    ),
]


@key_app.command(epilog=example("key create 999999999999/mailer --expires 90d"))
def create(
    owner: OwnerArgument,
    expires: _Expires = None,
    networks: _Networks = None,
    certificates: _Certificates = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Create an access key; its secret and SMTP password are shown this once."""
    settings = KeySettings(
        expires_at=moment_option(expires, "--expires", ahead=True),
        networks=_read_networks(networks),
        certificates=tuple(certificates or ()),
    )
    new = change(config, lambda session: keys.create(session, owner, settings))
    secret, password = new.secret.value, new.smtp_password.value
    if json:
        print_json(key_fields(new.key) | {"secret": secret, "smtp_password": password})
        return
    print_card(
        {
            "access key": new.key.id,
            "of": new.key.owner,
            "secret": secret,
            "SMTP user name": new.key.id,
            "SMTP password": password,
        }
    )
    output.print("Keep the secret and the password now: they are not shown again.")


@key_app.command("list", epilog=example("key list --unused-for 90d"))
def list_(
    owner: OwnerOption = None,
    status: Annotated[Literal["active", "disabled"] | None, option(help="Only those.")] = None,
    unused_for: Annotated[
        str | None, option(metavar="SPAN", help="Not used for so long: 90d.")
    ] = None,
    limit: Limit = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """List access keys, with their last use."""
    since = moment_option(unused_for, "--unused-for")
    run(
        config,
        lambda session: print_pages(
            keys.pages(
                session,
                owner.account_id if owner else None,
                owner.user_name if owner else None,
                is_active=None if status is None else status == "active",
                unused_since=since,
                limit=limit,
            ),
            key_view,
            as_json=json,
        ),
    )


@key_app.command(epilog=example("key show AKIAIOSFODNN7EXAMPLE"))
def show(
    key_id: KeyArgument, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False
) -> None:
    """Show an access key; its secret cannot be shown again."""
    key = run(config, lambda session: keys.get(session, key_id))
    print_facts(key_fields(key), as_json=json)


@key_app.command(epilog=example("key enable AKIAIOSFODNN7EXAMPLE"))
def enable(key_id: KeyArgument, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Let a disabled key be used again."""
    change(config, lambda session: keys.enable(session, key_id))
    output.print(f"access key {key_id} is active")


@key_app.command(epilog=example("key disable AKIAIOSFODNN7EXAMPLE"))
def disable(key_id: KeyArgument, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Revoke a key at once: no login with it succeeds, and its open sessions end."""
    change(config, lambda session: keys.disable(session, key_id))
    output.print(f"access key {key_id} is disabled")


@key_app.command(epilog=example("key confirm AKIAIOSFODNN7EXAMPLE"))
def confirm(key_id: KeyArgument, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Confirm that the use of a key is its owner's: it is usual from now on.

    A key that was slowed down or suspended sends as before.
    """
    change(config, lambda session: key_watch.confirm(session, key_id))
    output.print(f"the use of access key {key_id} is confirmed")


@key_app.command(epilog=example("key resume AKIAIOSFODNN7EXAMPLE"))
def resume(key_id: KeyArgument, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """End the slow-down or suspension of a key; what was reported stays unusual."""
    change(config, lambda session: key_watch.resume(session, key_id))
    output.print(f"access key {key_id} sends as before")


@key_app.command("set", epilog=example("key set AKIAIOSFODNN7EXAMPLE --from 192.0.2.0/24"))
def set_(
    key_id: KeyArgument,
    expires: _Expires = None,
    never_expires: Annotated[
        bool, typer.Option("--never-expires", help="The key does not expire.")
    ] = False,
    networks: _Networks = None,
    from_anywhere: Annotated[
        bool, typer.Option("--from-anywhere", help="It may be used from any address.")
    ] = False,
    certificates: _Certificates = None,
    no_certificate: Annotated[
        bool, typer.Option("--no-certificate", help="It needs no client certificate.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Change when a key expires, or the lists of its networks and client certificates."""
    if (
        (expires and never_expires)
        or (networks and from_anywhere)
        or (certificates and no_certificate)
    ):
        raise misused("say either one or the other")
    settings = KeySettings()
    if expires or never_expires:
        settings["expires_at"] = moment_option(expires, "--expires", ahead=True)
    if networks or from_anywhere:
        settings["networks"] = _read_networks(networks)
    if certificates or no_certificate:
        settings["certificates"] = tuple(certificates or ())
    if not settings:
        raise misused("say what to change: --expires, --from, …")
    change(config, lambda session: keys.update(session, key_id, settings))
    output.print(f"access key {key_id} was changed")


def _read_networks(texts: list[str] | None) -> tuple[str, ...]:
    for text in texts or ():
        try:
            network(text)
        except ValueError as error:
            raise misused(f"--from: `{text}' {error}") from None
    return tuple(texts or ())


@key_app.command(epilog=example("key delete AKIAIOSFODNN7EXAMPLE"))
def delete(key_id: KeyArgument, config: ConfigFile = DEFAULT_CONFIG, yes: Yes = False) -> None:
    """Delete an access key for good; `key disable' can be undone."""
    confirmed(f"this deletes access key {key_id} for good", yes=yes)
    change(config, lambda session: keys.delete(session, key_id))
    output.print(f"access key {key_id} was deleted")
