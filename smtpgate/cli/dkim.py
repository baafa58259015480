"""``smtpgate dkim``: the keys that owners' mail is signed with, from the first to the next."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from smtpgate.admin.refs import IdentityRef
from smtpgate.admin.rotation import Rotation
from smtpgate.admin.session import Session
from smtpgate.cli.arguments import AccountOption, IdentityArgument
from smtpgate.cli.identity_view import dkim_fields, dkim_view
from smtpgate.cli.listing import (
    View,
    pages_of,
    print_card,
    print_json,
    print_pages,
    print_table,
    shown,
)
from smtpgate.cli.notation import identity_ref
from smtpgate.cli.outside import chance, resolver_of
from smtpgate.cli.session import run
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    Limit,
    Yes,
    confirmed,
    example,
    fail,
    output,
    parsed_by,
)
from smtpgate.core.proof.dkim_record import DkimCheck
from smtpgate.core.proof.dkim_stages import RETIRING, new_key, withdraw
from smtpgate.core.proof.dns_record import DnsRecord
from smtpgate.core.proof.registered import Registered
from smtpgate.directory.dkim import (
    DkimKeyRow,
    add_dkim_key,
    delete_dkim_key,
    dkim_key,
    dkim_key_page,
    dkim_keys_of,
)
from smtpgate.directory.identities import identity
from smtpgate.directory.registered_identities import registered
from smtpgate.signing.private_keys import Algorithm, generate_private_key

dkim_app: Final = typer.Typer(
    name="dkim", help="DKIM keys: what mail is signed with.", no_args_is_help=True
)

_Selector: TypeAlias = Annotated[
    str, typer.Argument(metavar="SELECTOR", help="The key's selector.", show_default=False)
]


class Kind(StrEnum):
    """Kinds of keys, as an option's values."""

    RSA = "rsa"
    ED25519 = "ed25519"
    BOTH = "both"


# The keys that are made, by what comes behind the name in their selectors.
_ALGORITHMS: Final[Mapping[Kind, Mapping[str, Algorithm]]] = {
    Kind.RSA: {"": "rsa"},
    Kind.ED25519: {"": "ed25519"},
    Kind.BOTH: {"-rsa": "rsa", "-ed25519": "ed25519"},
}


class Stage(StrEnum):
    """Stages of keys, as an option's values."""

    PENDING = "pending"
    ACTIVE = "active"
    RETIRING = "retiring"
    RETIRED = "retired"


def _add(
    config: Path, place: IdentityRef, selector: str | None, pem_of_suffix: Mapping[str, bytes]
) -> list[DkimKeyRow]:
    """Keep all of the private keys, or none; a suffix goes behind the selector."""

    async def operation(session: Session) -> list[DkimKeyRow]:
        session.must_be_here(place)
        now = session.now()
        rows: list[DkimKeyRow] = []
        async with session.changing() as change:
            there = await dkim_keys_of(
                change.connection, place.account_id, session.region, place.name
            )
            for suffix, pem in pem_of_suffix.items():
                wished = f"{selector or f'gate{now:%Y%m%d}'}{suffix}"
                new = DkimKeyRow(
                    account_id=place.account_id,
                    region=session.region,
                    domain=place.name,
                    selector=wished if selector else _free(wished, there),
                    next_check_at=new_key("", "", now).next_check_at,
                )
                rows.append(await add_dkim_key(change, session.store.master_keys, new, pem))
        return rows

    return run(config, operation, changes=True)


def _tell_added(place: IdentityRef, rows: Sequence[DkimKeyRow]) -> None:
    for row in rows:
        output.print(
            f"DKIM key {row.selector} ({row.algorithm}) of {place} is there, and pending"
        )
        output.print("publish its DNS record:")
        output.print(f"  {DnsRecord(row.dns_name, row.record)}")
        output.print(f"then let it sign: `smtpgate dkim activate {place} {row.selector}'")


def _free(wished: str, there: Sequence[DkimKeyRow]) -> str:
    """A selector that none of the keys has."""
    taken = {row.selector for row in there}
    more = (f"{wished}-{number}" for number in range(2, len(taken) + 3))
    return next(one for one in (wished, *more) if one not in taken)


@dkim_app.command(epilog=example("dkim generate 888888888888/example.com"))
def generate(
    place: IdentityArgument,
    selector: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Else one with the date.", show_default=False),
    ] = None,
    algorithm: Annotated[
        Kind,
        typer.Option(help="The kind of key; both are two keys, NAME-rsa and NAME-ed25519."),
    ] = Kind.RSA,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Make a key for a domain; it signs nothing before it is activated."""
    pem_of_suffix = {
        suffix: generate_private_key(one) for suffix, one in _ALGORITHMS[algorithm].items()
    }
    rows = _add(config, place, selector, pem_of_suffix)
    if not json:
        _tell_added(place, rows)
    elif algorithm is Kind.BOTH:
        print_json([dkim_fields(row) for row in rows])
    else:
        print_json(dkim_fields(rows[0]))


@dkim_app.command(
    "import", epilog=example("dkim import 888888888888/example.com mail2026 mail2026.pem")
)
def import_(
    place: IdentityArgument,
    selector: _Selector,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The private key, as PEM.")],
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Take a private key that you have; it signs nothing before it is activated."""
    try:
        pem = file.read_bytes()
    except OSError as error:
        raise fail(f"{file}: cannot be read: {error.strerror or error}") from None
    (row,) = _add(config, place, selector, {"": pem})
    if json:
        print_json(dkim_fields(row))
    else:
        _tell_added(place, [row])


@dkim_app.command("list", epilog=example("dkim list --stage active"))
def list_(
    of: Annotated[
        IdentityRef | None,
        typer.Option(
            metavar="ACCOUNT/DOMAIN",
            help="Of this domain identity alone.",
            parser=parsed_by(identity_ref),
            show_default=False,
        ),
    ] = None,
    account: AccountOption = None,
    stage: Annotated[Stage | None, typer.Option(help="Only those.", show_default=False)] = None,
    limit: Limit = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """List DKIM keys, by account and domain."""

    async def operation(session: Session) -> None:
        async def read(after: tuple[str, str, str], size: int) -> list[DkimKeyRow]:
            async with session.store.reading() as connection:
                return await dkim_key_page(
                    connection,
                    session.region,
                    account_id=of.account_id if of else account,
                    domain=of.name if of else None,
                    stage=stage,
                    after=after,
                    limit=size,
                )

        pages = pages_of(
            read, ("", "", ""), lambda row: (row.account_id, row.domain, row.selector), limit
        )
        await print_pages(pages, dkim_view, as_json=json)

    run(config, operation)


@dkim_app.command(epilog=example("dkim show 888888888888/example.com mail2026"))
def show(
    place: IdentityArgument,
    selector: _Selector,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Show a key and its DNS record; its private half is never shown."""

    async def operation(session: Session) -> DkimKeyRow:
        session.must_be_here(place)
        async with session.store.reading() as connection:
            return await dkim_key(
                connection, place.account_id, session.region, place.name, selector
            )

    row = run(config, operation)
    facts = dkim_fields(row)
    if json:
        print_json(facts)
    else:
        print_card(facts | {"publish": str(DnsRecord(row.dns_name, row.record))})


async def _rotation(session: Session, place: IdentityRef, action: str) -> Rotation:
    session.must_be_here(place)
    return Rotation(
        registry=session.registry(action),
        account_id=place.account_id,
        domain=place.name,
        now=session.now(),
        jitter=chance(),
    )


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
    place: IdentityArgument, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False
) -> None:
    """Ask the DNS for the records of a domain's keys; exit status 1 when one is not right."""

    async def operation(session: Session) -> Mapping[str, DkimCheck]:
        rotation = await _rotation(session, place, "check-dkim-keys")
        return await rotation.check(resolver_of(session.config))

    found = sorted(run(config, operation, changes=True).items())
    if json:
        print_json([_check_view.fields(row) for row in found])
    elif found:
        print_table(found, _check_view)
    else:
        typer.echo(_check_view.nothing)
    if any(one.kind != "matches" for _, one in found):
        raise typer.Exit(1)


@dkim_app.command(epilog=example("dkim activate 888888888888/example.com mail2026"))
def activate(
    place: IdentityArgument,
    selector: _Selector,
    force: Annotated[
        bool, typer.Option("--force", help="Though its record is not published.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Let a key sign, when its DNS record is published; older ones of its kind retire."""

    async def operation(session: Session) -> Registered:
        rotation = await _rotation(session, place, "activate-dkim-key")
        return await rotation.activate(
            selector.lower(), resolver_of(session.config), force=force
        )

    held = run(config, operation, changes=True)
    output.print(f"DKIM key {selector.lower()} signs for {place}")
    _tell_retiring(held)


def _tell_retiring(held: Registered) -> None:
    for key in held.staged:
        if key.stage == "retiring":
            until = shown(key.since + RETIRING)
            output.print(
                f"key {key.selector} retires: leave its record published until {until}"
            )


@dkim_app.command(epilog=example("dkim retire 888888888888/example.com mail2025"))
def retire(
    place: IdentityArgument,
    selector: _Selector,
    force: Annotated[
        bool, typer.Option("--force", help="Though none would be left to sign.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Let a key sign no longer; its record stays published for the mail that is on its way."""

    async def operation(session: Session) -> Registered:
        rotation = await _rotation(session, place, "retire-dkim-key")
        return await rotation.retire(selector.lower(), force=force)

    _tell_retiring(run(config, operation, changes=True))


@dkim_app.command(epilog=example("dkim delete 888888888888/example.com mail2025"))
def delete(
    place: IdentityArgument,
    selector: _Selector,
    force: Annotated[
        bool, typer.Option("--force", help="Though mail that it signed may be on its way.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
    yes: Yes = False,
) -> None:
    """Delete a key that has retired or never signed, with its private half."""
    confirmed(f"this deletes DKIM key {selector} of {place} for good", yes=yes)

    async def operation(session: Session) -> None:
        session.must_be_here(place)
        account_id, region, name = place.account_id, session.region, place.name
        async with session.changing() as change:
            row = await dkim_key(change.connection, account_id, region, name, selector)
            if row.stage != "retired":
                owner = await identity(change.connection, account_id, region, name)
                keys = await dkim_keys_of(change.connection, account_id, region, name)
                held = registered(owner, keys, session.partition)
                _ = withdraw(held.staged, row.selector, session.now(), force=force)
            await delete_dkim_key(change, row)

    run(config, operation, changes=True)
    output.print(f"DKIM key {selector} of {place} is deleted; take its DNS record away")
