"""``smtpgate identity mail-from``: the domain that bounces of an identity's mail go to."""

from typing import Annotated, Any, Final, get_args

import typer

from smtpgate.admin import mail_from
from smtpgate.admin.mail_from import MailFromDetails
from smtpgate.cli.arguments import IdentityArgument
from smtpgate.cli.identity_view import record_fields
from smtpgate.cli.listing import print_card, print_json
from smtpgate.cli.session import change, run
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    Yes,
    confirmed,
    example,
    one_of,
    output,
)
from smtpgate.core.proof.mail_from import OnMxFailure

mail_from_app: Final = typer.Typer(
    name="mail-from",
    help="The MAIL FROM domain of an identity: bounces of its mail come to the gate.",
    no_args_is_help=True,
)


def _fields(details: MailFromDetails) -> dict[str, Any]:
    return {
        "account": details.account_id,
        "identity": details.identity,
        "mail_from": details.domain,
        "on_mx_failure": details.on_mx_failure,
        "status": details.status,
        "problem": details.problem or None,
        "verified_at": details.verified_at,
        "checked_at": details.checked_at,
        "missing_since": details.missing_since,
        "next_check_at": details.next_check_at,
        "publish": [record_fields(record) for record in details.publish],
    }


@mail_from_app.command(
    "set", epilog=example("identity mail-from set 888888888888/example.com bounce.example.com")
)
def set_(
    ref: IdentityArgument,
    domain: Annotated[
        str, typer.Argument(metavar="DOMAIN", help="A subdomain of the identity's domain.")
    ],
    on_mx_failure: Annotated[
        OnMxFailure,
        typer.Option(
            metavar="WHAT",
            help="What to do while the MX record is missing: keep the client's MAIL FROM, or "
            f"refuse the message ({one_of(get_args(OnMxFailure))}).",
        ),
    ] = "default",
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Set the domain, and show the records to publish."""
    details = change(config, lambda session: mail_from.put(session, ref, domain, on_mx_failure))
    if json:
        print_json(_fields(details))
        return
    output.print(f"MAIL FROM domain of identity {ref}: {details.domain}")
    output.print("publish both of these DNS records:")
    for record in details.publish:
        output.print(f"  {record}")
    output.print(
        "the gate checks the MX record regularly; "
        f"`smtpgate identity mail-from check {ref}' checks both now"
    )


@mail_from_app.command(epilog=example("identity mail-from show 888888888888/example.com"))
def show(
    ref: IdentityArgument, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False
) -> None:
    """Show the domain, its state and its records."""
    details = run(config, lambda session: mail_from.get(session, ref))
    facts = _fields(details)
    if json:
        print_json(facts)
        return
    print_card(facts | {"publish": [str(record) for record in details.publish]})


@mail_from_app.command(epilog=example("identity mail-from check 888888888888/example.com"))
def check(
    ref: IdentityArgument, config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False
) -> None:
    """Check the MX and SPF records now; exit status 1 unless both are right.

    Mail is sent with the domain as soon as the MX record is right.
    """
    from smtpgate.gate.resolver import new_dns_checks  # noqa: PLC0415 - only this asks the DNS

    details, spf = change(
        config, lambda session: mail_from.check(session, ref, new_dns_checks(session.config))
    )
    is_mx_right = details.is_ready and not details.problem
    if json:
        print_json(_fields(details) | {"spf_problem": spf or None})
    elif is_mx_right:
        output.print(f"the MX record of {details.domain} is right: mail is sent with it")
    else:
        output.print(f"the MX record of {details.domain} is not right: {details.problem}")
    if not json:
        output.print(f"the SPF record of {details.domain}: {spf or 'right'}")
    if spf or not is_mx_right:
        raise typer.Exit(1)


@mail_from_app.command(epilog=example("identity mail-from delete 888888888888/example.com"))
def delete(
    ref: IdentityArgument, config: ConfigFile = DEFAULT_CONFIG, yes: Yes = False
) -> None:
    """Remove the domain: MAIL FROM is the client's from then on."""
    confirmed(f"this removes the MAIL FROM domain of identity {ref}", yes=yes)
    change(config, lambda session: mail_from.delete(session, ref))
    output.print(f"identity {ref} has no MAIL FROM domain")
