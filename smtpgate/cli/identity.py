"""``smtpgate identity``: domains and addresses, and the proof of their ownership."""

from collections.abc import Sequence
from typing import Annotated, Final, get_args

import typer

from smtpgate.admin import dkim, identities, policies
from smtpgate.admin.dkim import DkimKeyDetails
from smtpgate.admin.errors import CodeRefusedError
from smtpgate.admin.identities import IdentityDetails
from smtpgate.admin.policies import PolicyVersion
from smtpgate.admin.session import Session
from smtpgate.cli.arguments import AccountOption, IdentityArgument
from smtpgate.cli.identity_notifications import notifications_app
from smtpgate.cli.identity_view import (
    dkim_fields,
    dkim_view,
    identity_fields,
    identity_view,
    status_in_words,
)
from smtpgate.cli.listing import print_card, print_json, print_pages, print_table
from smtpgate.cli.mail_from import mail_from_app
from smtpgate.cli.notation import identity_ref
from smtpgate.cli.policy_commands import PolicyCommands, policy_fields, policy_view
from smtpgate.cli.session import change, run
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
    option,
    output,
)
from smtpgate.core.proof.verification import VerificationState
from smtpgate.core.secret import Secret

identity_app: Final = typer.Typer(no_args_is_help=True)


identity_app.add_typer(PolicyCommands("identity", identity_ref).app())
identity_app.add_typer(mail_from_app)
identity_app.add_typer(notifications_app)


@identity_app.command(epilog=example("identity register 888888888888/example.com"))
def register(
    ref: IdentityArgument,
    trust: Annotated[
        bool, typer.Option("--trust", help="Mark it as verified, without a proof.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Register a domain or address for an account, and show how to prove it."""
    identity = change(config, lambda session: identities.create(session, ref, is_trusted=trust))
    if json:
        print_json(identity_fields(identity))
        return
    output.print(f"identity {identity.arn} was registered")
    if trust:
        output.print("it is verified, on your word")
    elif not ref.is_domain:
        output.print(f"to prove it, mail a code to it: `smtpgate identity verify {ref}'")
    else:
        output.print("to prove it, publish one of these DNS records:")
        for record in identity.publish:
            output.print(f"  {record}")
        output.print(
            f"the gate checks them regularly; `smtpgate identity verify {ref}' checks now"
        )


@identity_app.command("list", epilog=example("identity list --account 888888888888"))
def list_(
    account: AccountOption = None,
    domain: Annotated[
        str | None, option(metavar="DOMAIN", help="It and its addresses.")
    ] = None,
    name: Annotated[
        str | None, option(metavar="NAME", help="Exactly that, of all accounts.")
    ] = None,
    state: Annotated[
        VerificationState | None,
        option(metavar="STATE", help=f"Only those: {one_of(get_args(VerificationState))}."),
    ] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Only those.")] = False,
    limit: Limit = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """List identities, by account and name."""
    run(
        config,
        lambda session: print_pages(
            identities.pages(
                session,
                account,
                name=name,
                domain=domain,
                state=state,
                is_paused=True if paused else None,
                limit=limit,
            ),
            identity_view,
            as_json=json,
        ),
    )


@identity_app.command(epilog=example("identity show 888888888888/example.com"))
def show(
    ref: IdentityArgument, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False
) -> None:
    """Show an identity: its proof, its policies, its DKIM keys."""

    async def operation(
        session: Session,
    ) -> tuple[IdentityDetails, Sequence[PolicyVersion], list[DkimKeyDetails]]:
        identity = await identities.get(session, ref)
        keys = [key async for page in dkim.pages(session, ref=ref) for key in page]
        return identity, await policies.attached(session, ref), keys

    identity, attached, keys = run(config, operation)
    facts = identity_fields(identity)
    if json:
        facts["policies"] = [policy_fields(policy) for policy in attached]
        facts["dkim_keys"] = [dkim_fields(key) for key in keys]
        print_json(facts)
        return
    records = [str(record) for record in identity.publish]
    print_card(facts | {"status": status_in_words(identity), "publish": records})
    if attached:
        print_table(attached, policy_view)
    if keys:
        print_table(keys, dkim_view)


@identity_app.command(epilog=example("identity verify 888888888888/example.com"))
def verify(
    ref: IdentityArgument,
    trust: Annotated[
        bool, typer.Option("--trust", help="Mark it as verified, without a proof.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Check a domain's DNS record now; mail a code to an address.

    Exit status 1 if the domain is not verified yet. The gate itself checks it regularly, for
    72 hours.
    """
    # Other commands ask neither the DNS nor an upstream, and need not wait for their import.
    from smtpgate.admin import verification  # noqa: PLC0415
    from smtpgate.gate.resolver import new_dns_checks  # noqa: PLC0415
    from smtpgate.gate.upstream import open_upstream  # noqa: PLC0415

    async def operation(session: Session) -> IdentityDetails:
        if trust:
            return await verification.vouch(session, ref)
        if ref.is_domain:
            checks = new_dns_checks(session.config)
            return await verification.check_domain(session, ref, checks)
        async with open_upstream(session.config, session.clock) as upstream:
            return await verification.send_code(session, ref, upstream)

    identity = change(config, operation)
    if identity.is_verified:
        output.print(f"identity {ref} is verified ({identity.method})")
        if identity.problem:
            raise fail(f"but its record is missing now: {identity.problem}")
    elif ref.is_domain:
        raise fail(f"identity {ref} is not verified yet: {identity.problem}")
    else:
        output.print(f"a code, valid for 24 hours, was mailed to {ref.name}")
        output.print(f"to enter the code: `smtpgate identity confirm {ref} CODE'")


@identity_app.command(
    "confirm", epilog=example("identity confirm 888888888888/me@example.com 7KQ2-M0XZ-94TB")
)
def confirm_(
    ref: IdentityArgument,
    code: Annotated[str, typer.Argument(metavar="CODE", help="The code from the mail.")],
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Prove an address with the code that was mailed to it."""
    from smtpgate.admin import verification  # noqa: PLC0415 - as above

    async def operation(session: Session) -> IdentityDetails:
        try:
            return await verification.confirm(session, ref, Secret(code))
        except CodeRefusedError as error:
            hint = f" (`smtpgate identity verify {ref}')" if error.needs_another else ""
            raise fail(f"{error}{hint}") from None

    identity = change(config, operation)
    output.print(f"identity {ref} is verified ({identity.method})")


@identity_app.command(
    epilog=example("identity pause 888888888888/example.com --reason 'key was stolen'")
)
def pause(
    ref: IdentityArgument,
    reason: Reason,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Pause an identity: no account can send with it until `identity resume'."""
    change(config, lambda session: identities.pause(session, ref, reason))
    output.print(f"identity {ref} is paused")


@identity_app.command(epilog=example("identity resume 888888888888/example.com"))
def resume(ref: IdentityArgument, config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Let a paused identity be used again."""
    change(config, lambda session: identities.resume(session, ref))
    output.print(f"identity {ref} may be used")


@identity_app.command(epilog=example("identity delete 888888888888/example.com"))
def delete(
    ref: IdentityArgument, config: ConfigFile = DEFAULT_CONFIG, yes: Yes = False
) -> None:
    """Delete an identity with policies, caps and DKIM keys; no account can send with it."""
    confirmed(f"this deletes identity {ref} with its policies, caps and DKIM keys", yes=yes)
    change(config, lambda session: identities.delete(session, ref))
    output.print(f"identity {ref} was deleted")
