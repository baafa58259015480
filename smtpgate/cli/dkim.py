"""``smtpgate dkim``: the keys that the mail of domains is signed with."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from smtpgate.admin import dkim, easy_dkim
from smtpgate.admin.dkim import DkimKeyDetails, KeyKind
from smtpgate.admin.refs import IdentityRef
from smtpgate.admin.session import Session
from smtpgate.cli.arguments import AccountOption, IdentityArgument
from smtpgate.cli.identity_view import dkim_fields, dkim_view, record_fields
from smtpgate.cli.listing import View, print_card, print_json, print_pages, print_table, shown
from smtpgate.cli.notation import identity_ref
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
    fail,
    option,
    output,
)
from smtpgate.config.toml import reason
from smtpgate.core.proof.dkim_record import DkimCheck
from smtpgate.core.proof.dkim_stages import KeyStage
from smtpgate.core.proof.dns_record import DnsRecord
from smtpgate.gate.resolver import new_resolver

dkim_app: Final = typer.Typer(no_args_is_help=True)

_Selector: TypeAlias = Annotated[str, argument(metavar="SELECTOR", help="The key's selector.")]


def _print_added(ref: IdentityRef, keys: Sequence[DkimKeyDetails]) -> None:
    for key in keys:
        output.print(
            f"DKIM key {key.selector} ({key.algorithm}) of {ref} was added; it is pending"
        )
        output.print("publish its DNS record:")
        output.print(f"  {key.publish}")
        output.print(f"then let it sign: `smtpgate dkim activate {ref} {key.selector}'")


@dkim_app.command(epilog=example("dkim generate 888888888888/example.com"))
def generate(
    ref: IdentityArgument,
    selector: Annotated[
        str | None, option(metavar="NAME", help="Default: one made of the date.")
    ] = None,
    algorithm: Annotated[
        KeyKind,
        typer.Option(help="The kind of key; both makes two keys, NAME-rsa and NAME-ed25519."),
    ] = "rsa",
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Make a key for a domain; it signs nothing before `dkim activate'."""
    keys = change(config, lambda session: dkim.generate(session, ref, algorithm, selector))
    if not json:
        _print_added(ref, keys)
    elif algorithm == "both":
        print_json([dkim_fields(key) for key in keys])
    else:
        print_json(dkim_fields(keys[0]))


@dkim_app.command(
    "import", epilog=example("dkim import 888888888888/example.com mail2026 mail2026.pem")
)
def import_(
    ref: IdentityArgument,
    selector: _Selector,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The private key, as PEM.")],
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Import a private key from a file; it signs nothing before `dkim activate'."""
    try:
        pem = file.read_bytes()
    except OSError as error:
        raise fail(f"{file}: cannot be read: {reason(error)}") from None
    key = change(config, lambda session: dkim.import_key(session, ref, selector, pem))
    if json:
        print_json(dkim_fields(key))
    else:
        _print_added(ref, [key])


@dkim_app.command("list", epilog=example("dkim list --stage active"))
def list_(
    of: Annotated[
        IdentityRef | None,
        option(
            metavar="ACCOUNT/DOMAIN", help="Of this domain identity alone.", parse=identity_ref
        ),
    ] = None,
    account: AccountOption = None,
    stage: Annotated[KeyStage | None, option(help="Only those.")] = None,
    limit: Limit = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """List DKIM keys, by account and domain."""
    run(
        config,
        lambda session: print_pages(
            dkim.pages(session, account, of, stage=stage, limit=limit),
            dkim_view,
            as_json=json,
        ),
    )


@dkim_app.command(epilog=example("dkim zone --json"))
def zone(config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Print the records of the zone to which domains point for Easy DKIM, as a zone file."""

    async def records(session: Session) -> list[DnsRecord]:
        return [record async for page in easy_dkim.hosted(session) for record in page]

    found = run(config, records)
    if json:
        print_json([record_fields(record) for record in found])
        return
    for record in found:
        typer.echo(str(record))


@dkim_app.command(epilog=example("dkim show 888888888888/example.com mail2026"))
def show(
    ref: IdentityArgument,
    selector: _Selector,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Show a key and its DNS record; its private half is never shown."""
    key = run(config, lambda session: dkim.get(session, ref, selector))
    facts = dkim_fields(key)
    if json:
        print_json(facts)
    else:
        print_card(facts | {"publish": str(key.publish)})


_check_view: Final[View[tuple[str, DkimCheck]]] = View(
    columns={
        "selector": lambda row: row[0],
        "in the DNS": lambda row: row[1].kind,
        "what": lambda row: row[1].text,
    },
    fields=lambda row: {"selector": row[0], "check": row[1].kind, "text": row[1].text or None},
    nothing="no DKIM keys whose records have to be published",
)


@dkim_app.command(epilog=example("dkim check 888888888888/example.com"))
def check(
    ref: IdentityArgument, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False
) -> None:
    """Check the DNS records of a domain's keys; exit status 1 if one is not right."""
    checks = change(
        config, lambda session: dkim.check(session, ref, new_resolver(session.config))
    )
    rows = sorted(checks.items())
    if json:
        print_json([_check_view.fields(row) for row in rows])
    elif rows:
        print_table(rows, _check_view)
    else:
        typer.echo(_check_view.nothing)
    if any(one.kind != "matches" for _, one in rows):
        raise typer.Exit(1)


@dkim_app.command(epilog=example("dkim activate 888888888888/example.com mail2026"))
def activate(
    ref: IdentityArgument,
    selector: _Selector,
    force: Annotated[
        bool, typer.Option("--force", help="Even if its record is not published.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Let a key sign, if its DNS record is published; older ones of its kind retire."""
    retiring = change(
        config,
        lambda session: dkim.activate(
            session, ref, selector, new_resolver(session.config), force=force
        ),
    )
    output.print(f"DKIM key {selector.lower()} signs for {ref}")
    _print_retiring(retiring)


def _print_retiring(retiring: Mapping[str, datetime]) -> None:
    for selector, until in retiring.items():
        output.print(f"key {selector} retires: leave its record published until {shown(until)}")


@dkim_app.command(epilog=example("dkim retire 888888888888/example.com mail2025"))
def retire(
    ref: IdentityArgument,
    selector: _Selector,
    force: Annotated[
        bool, typer.Option("--force", help="Even if no key is left to sign.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Stop signing with a key; its record stays published for mail in transit."""
    retiring = change(config, lambda session: dkim.retire(session, ref, selector, force=force))
    _print_retiring(retiring)


@dkim_app.command(epilog=example("dkim delete 888888888888/example.com mail2025"))
def delete(
    ref: IdentityArgument,
    selector: _Selector,
    force: Annotated[
        bool, typer.Option("--force", help="Even if mail that it signed may be in transit.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
    yes: Yes = False,
) -> None:
    """Delete a key that has retired or never signed, with its private half."""
    confirmed(f"this deletes DKIM key {selector} of {ref} for good", yes=yes)
    change(config, lambda session: dkim.delete(session, ref, selector, force=force))
    output.print(f"DKIM key {selector} of {ref} was deleted; remove its DNS record")
