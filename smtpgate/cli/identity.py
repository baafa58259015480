"""``smtpgate identity``: domains and addresses, and the proof of whose they are."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final, get_args

import typer

from smtpgate.admin.mail_codes import CodeMailer, confirm
from smtpgate.admin.refs import IdentityRef
from smtpgate.admin.session import Session
from smtpgate.admin.verification import Verifier
from smtpgate.cli.arguments import AccountOption, IdentityArgument
from smtpgate.cli.attached import AttachedPolicies
from smtpgate.cli.identity_view import (
    identity_facts,
    identity_view,
    print_identity,
    publishable,
)
from smtpgate.cli.listing import pages_of, print_json, print_pages
from smtpgate.cli.notation import identity_ref
from smtpgate.cli.outside import chance, resolver_of, upstream_of
from smtpgate.cli.session import run
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    Limit,
    Reason,
    Yes,
    confirmed,
    example,
    fail,
    one_of,
    output,
)
from smtpgate.core.arn import IdentityArn
from smtpgate.core.proof.mail_code import MAX_ATTEMPTS
from smtpgate.core.proof.registered import Registered
from smtpgate.core.proof.verification import State, vouched
from smtpgate.core.secret import Secret
from smtpgate.directory.accounts import account
from smtpgate.directory.change import Change
from smtpgate.directory.dkim import dkim_keys_of
from smtpgate.directory.identities import (
    IdentityRow,
    create_identity,
    delete_identity,
    identity,
    identity_page,
    update_identity,
)
from smtpgate.directory.policies import PolicyOwner, policies_of
from smtpgate.directory.policy_owners import FindPolicyOwner, policies_of_identity

identity_app: Final = typer.Typer(
    name="identity",
    help="Identities: domains and addresses to send from.",
    no_args_is_help=True,
)
_TOKEN_OCTETS: Final = 32
# What an attempt that failed means to whoever made it.
_FAILED: Final = {
    None: "no code is waited for; `smtpgate identity verify' sends one",
    "wrong": "that is not the code; {left} more attempts",
    "expired": "the code has expired; `smtpgate identity verify' sends another",
    "too-many-attempts": "too many attempts; `smtpgate identity verify' sends another code",
}


@dataclass(frozen=True, slots=True)
class _Named:
    place_of: IdentityRef

    def find(self, session: Session) -> FindPolicyOwner:
        """What finds its policies, if it is there."""
        region, partition = _here(session, self.place_of)
        return policies_of_identity(
            self.place_of.account_id, region, self.place_of.name, partition
        )

    def place(self, session: Session) -> PolicyOwner:
        """Where its policies are, or were."""
        region, partition = _here(session, self.place_of)
        account_id, name = self.place_of.account_id, self.place_of.name
        arn = str(IdentityArn(partition, region, account_id, name))
        return PolicyOwner.of_identity(account_id, region, name, arn)


identity_app.add_typer(
    AttachedPolicies("identity", lambda text: _Named(identity_ref(text))).app()
)


def _here(session: Session, place: IdentityRef) -> tuple[str, str]:
    """Region and partition, which an ARN must agree with. Raises RefusedChangeError."""
    session.must_be_here(place)
    return session.region, session.partition


async def _row(change: Change, session: Session, place: IdentityRef) -> IdentityRow:
    region, _ = _here(session, place)
    return await identity(change.connection, place.account_id, region, place.name)


@identity_app.command(epilog=example("identity register 888888888888/example.com"))
def register(
    place: IdentityArgument,
    trust: Annotated[
        bool, typer.Option("--trust", help="Vouch for it: it counts as verified at once.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Register a domain or address for an account; says what to publish to prove it."""

    async def operation(session: Session) -> Mapping[str, Any]:
        region, partition = _here(session, place)
        new = IdentityRow(account_id=place.account_id, region=region, name=place.name)
        async with session.changing() as change:
            row = await create_identity(change, new, partition)
            if trust:
                values = asdict(vouched(change.now))
                row = await update_identity(change, row, values, action="vouch")
        return identity_facts(session, row)

    facts = run(config, operation, changes=True)
    if json:
        print_json(facts)
        return
    output.print(f"identity {facts['arn']} is registered")
    if trust:
        output.print("it counts as verified, on your word")
    elif "@" in place.name:
        output.print(f"`smtpgate identity verify {place}' mails a code to it")
    else:
        output.print("to prove whose it is, publish one of these DNS records:")
        for record in publishable(facts):
            output.print(f"  {record}")
        output.print(
            f"`smtpgate identity verify {place}' asks for it at once; the gate asks too"
        )


@identity_app.command("list", epilog=example("identity list --account 888888888888"))
def list_(
    account: AccountOption = None,
    domain: Annotated[
        str | None,
        typer.Option(metavar="DOMAIN", help="It and its addresses.", show_default=False),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Exactly that, of all accounts.", show_default=False),
    ] = None,
    state: Annotated[
        State | None,
        typer.Option(
            metavar="STATE", help=f"Only those: {one_of(get_args(State))}.", show_default=False
        ),
    ] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Only those.")] = False,
    limit: Limit = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """List identities, by account and name."""

    async def operation(session: Session) -> None:
        async def read(after: tuple[str, str], size: int) -> list[IdentityRow]:
            async with session.store.reading() as connection:
                return await identity_page(
                    connection,
                    session.region,
                    account_id=account,
                    name=name,
                    domain=domain,
                    state=state,
                    is_paused=True if paused else None,
                    after=after,
                    limit=size,
                )

        pages = pages_of(read, ("", ""), lambda row: (row.account_id, row.name), limit)
        await print_pages(pages, identity_view(session), as_json=json)

    run(config, operation)


@identity_app.command(epilog=example("identity show 888888888888/example.com"))
def show(
    place: IdentityArgument, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False
) -> None:
    """Show an identity: its proof, its policies, its DKIM keys."""

    async def operation(session: Session) -> None:
        region, partition = _here(session, place)
        async with session.store.reading() as connection:
            row = await identity(connection, place.account_id, region, place.name)
            policies = await policies_of(connection, row.policies(partition))
            keys = await dkim_keys_of(connection, row.account_id, region, row.name)
        print_identity(session, row, policies, keys, as_json=json)

    run(config, operation)


@identity_app.command(epilog=example("identity verify 888888888888/example.com"))
def verify(
    place: IdentityArgument,
    trust: Annotated[
        bool, typer.Option("--trust", help="Vouch for it, without any proof.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Ask the DNS for a domain's record now; to an address mail a code.

    Exit status 1 when the domain is not verified yet. The gate itself asks again and again, for
    72 hours.
    """

    async def operation(session: Session) -> Registered:
        _here(session, place)
        if trust:
            return await _verifier(session, "vouch").vouch(place.account_id, place.name)
        if "@" in place.name:
            return await _send_code(session, place)
        return await _verifier(session, "verify").ask_dns(
            place.account_id,
            place.name,
            resolver_of(session.config),
            session.config.directory.verification_label,
        )

    held = run(config, operation, changes=True)
    if held.verification.is_verified:
        output.print(f"identity {place} is verified ({held.verification.method})")
        if held.verification.problem:
            raise fail(f"but its record is not seen now: {held.verification.problem}")
    elif held.is_domain:
        raise fail(f"identity {place} is not verified yet: {held.verification.problem}")
    else:
        output.print(f"a code was mailed to {place.name}, good for 24 hours")
        output.print(
            f"whoever reads it there gives it to `smtpgate identity confirm {place} CODE'"
        )


def _verifier(session: Session, action: str) -> Verifier:
    return Verifier(registry=session.registry(action), now=session.now(), jitter=chance())


async def _send_code(session: Session, place: IdentityRef) -> Registered:
    async with session.store.reading() as connection:
        owner = await account(connection, place.account_id)
    async with upstream_of(session.config, session.clock) as upstream:
        mailer = CodeMailer(
            registry=session.registry("send-code"),
            upstream=upstream,
            hostname=session.config.hostname,
            now=session.now(),
        )
        return await mailer.send(
            place.account_id,
            place.name,
            account_name=owner.name,
            asked_by=f"{session.actor.name} ({session.actor.origin})",
        )


@identity_app.command(
    "confirm", epilog=example("identity confirm 888888888888/me@example.com 7KQ2-M0XZ-94TB")
)
def confirm_(
    place: IdentityArgument,
    code: Annotated[str, typer.Argument(metavar="CODE", help="The code from the mail.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Prove an address with the code that was mailed to it."""

    async def operation(session: Session) -> tuple[str | None, Registered]:
        _here(session, place)
        registry = session.registry("confirm")
        outcome = await confirm(
            registry, place.account_id, place.name, Secret(code), session.now()
        )
        return outcome, await registry.one(place.account_id, place.name)

    outcome, held = run(config, operation, changes=True)
    if outcome != "right" and not held.verification.is_verified:
        wrong = held.code.wrong_attempts if held.code else 0
        raise fail(_FAILED[outcome].format(left=MAX_ATTEMPTS - wrong))
    output.print(f"identity {place} is verified ({held.verification.method})")


@identity_app.command(
    epilog=example("identity pause 888888888888/example.com --reason 'key was stolen'")
)
def pause(
    place: IdentityArgument,
    reason: Reason,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Let nobody use an identity, whoever they are, until it is resumed."""
    _update(config, place, {"paused_reason": reason}, "pause")
    output.print(f"identity {place} is paused")


@identity_app.command(epilog=example("identity resume 888888888888/example.com"))
def resume(place: IdentityArgument, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Let a paused identity be used again."""
    _update(config, place, {"paused_reason": None}, "resume")
    output.print(f"identity {place} may be used")


def _update(config: Path, place: IdentityRef, changes: dict[str, Any], action: str) -> None:
    async def operation(session: Session) -> None:
        async with session.changing() as change:
            row = await _row(change, session, place)
            await update_identity(change, row, changes, action=action)

    run(config, operation, changes=True)


@identity_app.command(epilog=example("identity delete 888888888888/example.com"))
def delete(
    place: IdentityArgument, config: ConfigFile = DEFAULT_CONFIG, yes: Yes = False
) -> None:
    """Delete an identity with policies, caps and DKIM keys; delegates can use it no more."""
    confirmed(f"this deletes identity {place} with its policies, caps and DKIM keys", yes=yes)

    async def operation(session: Session) -> None:
        async with session.changing() as change:
            row = await _row(change, session, place)
            await delete_identity(change, row, session.partition)

    run(config, operation, changes=True)
    output.print(f"identity {place} is deleted")
