"""``smtpgate policy``: tools for owners of identities; nothing is sent, no gate is needed."""

import sys
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from smtpgate.cli.generate import ask
from smtpgate.cli.lint import as_json, lint_files
from smtpgate.cli.terminal import DEFAULT_CONFIG, ConfigFile, fail, option
from smtpgate.core.arn import identity_arn
from smtpgate.core.policy import PolicyKind
from smtpgate.core.policy.generate import PolicyOptions, PolicyOptionsError, generate_policy

policy_app: Final = typer.Typer(no_args_is_help=True)


_Texts: TypeAlias = list[str] | None
_Identity: TypeAlias = Annotated[str, option(metavar="ARN", help="The identity.")]
_Principal: TypeAlias = Annotated[
    _Texts, option(metavar="WHO", help="An account id or a user's ARN; * with --deny.")
]
_Deny: TypeAlias = Annotated[bool, option("--deny", help="Deny instead of allow.")]
_Action: TypeAlias = Annotated[
    _Texts, option(metavar="ACTION", help="An action. Default: ses:SendRawEmail.")
]
_From: TypeAlias = Annotated[
    _Texts, option("--from", metavar="ADDRESS", help="Exactly this From address.")
]
_Tagged: TypeAlias = Annotated[
    _Texts,
    option(
        "--from-with-tags", metavar="ADDRESS", help="This From address, with any +tag or none."
    ),
]
_FromDomain: TypeAlias = Annotated[
    _Texts, option(metavar="DOMAIN", help="All From addresses of this domain.")
]
_RecipientDomain: TypeAlias = Annotated[
    _Texts, option(metavar="DOMAIN", help="Only recipients of this domain.")
]
_Subdomains: TypeAlias = Annotated[
    bool, option("--subdomains", help="Also the subdomains of these domains.")
]
_DisplayName: TypeAlias = Annotated[_Texts, option(metavar="NAME", help="The name in From.")]
_Feedback: TypeAlias = Annotated[_Texts, option(metavar="ADDRESS", help="MAIL FROM.")]
_SourceNetwork: TypeAlias = Annotated[
    _Texts, option(metavar="CIDR", help="The network of the client.")
]
_NotBefore: TypeAlias = Annotated[str | None, option(metavar="TIME", help="From this time.")]
_Until: TypeAlias = Annotated[str | None, option(metavar="TIME", help="Until this time.")]
_Sid: TypeAlias = Annotated[str | None, option(metavar="NAME", help="The statement's name.")]
_Interactive: TypeAlias = Annotated[
    bool, option("--interactive", "-i", help="Ask for everything on the terminal.")
]


def _identity_arn(text: str | None) -> str | None:
    try:
        return None if text is None else str(identity_arn(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@policy_app.command()
def lint(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Policy documents; - is standard input."),
    ],
    kind: Annotated[
        PolicyKind | None,
        option(help="Their kind. Default: a policy that names principals is an identity's."),
    ] = None,
    identity: Annotated[
        str | None,
        option(
            metavar="ARN",
            callback=_identity_arn,
            help="The identity that they shall be attached to: check that they can be.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """Find what is wrong with policies, and what is legal but unwise.

    Prints FILE: CODE severity: message for each finding, and below it what to write instead.
    Exit status 1 if any finding is an error.
    """
    remarks = []
    for remark in lint_files(files, kind=kind, identity_arn=identity):
        remarks.append(remark)
        if not json:
            typer.echo(str(remark))
    if json:
        typer.echo(as_json(remarks))
    if any(remark.is_error for remark in remarks):
        raise typer.Exit(1)


@policy_app.command()
def generate(
    identity: _Identity = "",
    principal: _Principal = None,
    deny: _Deny = False,
    action: _Action = None,
    from_: _From = None,
    tagged: _Tagged = None,
    from_domain: _FromDomain = None,
    recipient_domain: _RecipientDomain = None,
    subdomains: _Subdomains = False,
    display_name: _DisplayName = None,
    feedback: _Feedback = None,
    source_network: _SourceNetwork = None,
    not_before: _NotBefore = None,
    until: _Until = None,
    sid: _Sid = None,
    interactive: _Interactive = False,
) -> None:
    """Write an identity policy from options; each option adds a condition.

    The policy goes to standard output. Lint finds nothing in it, and it allows (or denies) only
    what the options say.
    """
    options = PolicyOptions(
        identity_arn=identity,
        principals=tuple(principal or ()),
        effect="Deny" if deny else "Allow",
        actions=tuple(action or ("ses:SendRawEmail",)),
        from_addresses=tuple(from_ or ()),
        tagged_addresses=tuple(tagged or ()),
        from_domains=tuple(from_domain or ()),
        recipient_domains=tuple(recipient_domain or ()),
        with_subdomains=subdomains,
        display_names=tuple(display_name or ()),
        feedback_addresses=tuple(feedback or ()),
        source_networks=tuple(source_network or ()),
        not_before=not_before,
        until=until,
        sid=sid,
    )
    if interactive:
        if not sys.stdin.isatty():
            raise typer.BadParameter("--interactive asks on a terminal, and there is none")
        options = ask(options)
    try:
        text = generate_policy(options)
    except PolicyOptionsError as error:
        raise fail(error) from None
    typer.echo(text, nl=False)


@policy_app.command("check-access")
def check_access(
    from_: Annotated[str, option("--from", metavar="FROM", help="The From, such as ceo@….")],
    config: ConfigFile = DEFAULT_CONFIG,
    identity: Annotated[
        str | None, option(metavar="ARN|NAME", help="Only with this identity.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """List the senders that could send with a From address, and under which conditions.

    MAIL FROM is taken to be an address that the same identity serves.
    """
    # Lint and generate, which editors and hooks run, need nothing of the directory.
    from smtpgate.cli.check_access import print_access  # noqa: PLC0415

    print_access(config, identity, from_, as_json=json)
