"""``smtpgate impact``: what a policy would have changed for what was really sent."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from smtpgate.admin import impact as use_case
from smtpgate.admin.errors import RefusedChangeError
from smtpgate.admin.session import OPERATOR
from smtpgate.cli.journal_session import JOURNAL_SESSION_ERRORS
from smtpgate.cli.listing import View, print_json, print_table, shown
from smtpgate.cli.moments import moment_option
from smtpgate.cli.preview_session import opened_preview
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    fail,
    loaded_config,
    option,
)
from smtpgate.clock import SystemClock
from smtpgate.config import Config
from smtpgate.core.arn import IdentityArn, identity_arn
from smtpgate.core.whatif.impact import ChangedDecision, Impact, ProposedPolicy, Sender
from smtpgate.gate.journal import open_journal_session

_UNCLEAR: Final = {
    "sender-gone": "its user is not in the directory any more",
    "recipients-not-kept": "a policy asks for recipients, and they were not kept",
}
_CHANGED: Final[View[tuple[Sender, int]]] = View(
    columns={
        "requests": lambda row: row[1],
        "sender": lambda row: row[0][0],
        "from": lambda row: row[0][1],
    },
    fields=lambda row: {"user": row[0][0], "from": row[0][1], "requests": row[1]},
    nothing="none",
)
_EXAMPLES: Final[View[ChangedDecision]] = View(
    columns={
        "id": lambda change: change.record.id,
        "when": lambda change: change.record.received_at,
        "then": lambda change: change.record.reason,
        "now": lambda change: change.as_now,
        "as proposed": lambda change: change.as_proposed,
    },
    fields=lambda change: {
        "id": change.record.id,
        "received_at": change.record.received_at,
        "user": change.sender[0],
        "from": change.sender[1],
        "then": change.record.reason,
        "now": change.as_now,
        "as_proposed": change.as_proposed,
    },
    nothing="none",
)


def impact(
    policy: Annotated[
        Path, typer.Option(metavar="FILE", help="The policy that is proposed.", dir_okay=False)
    ],
    identity: Annotated[
        IdentityArn,
        option(metavar="ARN", help="The identity that it is for.", parse=identity_arn),
    ],
    since: Annotated[str, typer.Option(metavar="TIME", help="From this time on.")] = "7d",
    name: Annotated[
        str | None,
        option(
            "--as",
            metavar="NAME",
            help="The policy's name, of which it takes the place; else the file's.",
        ),
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Decide again about past messages, as if an identity had another policy.

    The time, the client, the envelope, From and the named identities come from the journal. The
    senders, with their policies and tags, and all other policies are those of now. The exit
    status is 0 whether anything would change or not.
    """
    begin = moment_option(since, "--since")
    loaded, proposal = loaded_config(config), _read(policy, name or policy.stem, identity)
    try:
        found = asyncio.run(_impact(loaded, proposal, begin))
    except JOURNAL_SESSION_ERRORS as error:
        raise fail(error) from None
    if json:
        print_json(_fields(found, proposal, begin))
    else:
        _print(found, proposal, begin)


def _read(file: Path, name: str, identity: IdentityArn) -> ProposedPolicy:
    """The proposal in a file. Exits with 1 if it could not be attached."""
    try:
        return use_case.proposal_of(identity, name, file.read_bytes())
    except OSError as error:
        raise fail(f"{file}: {error.strerror or error}") from None
    except RefusedChangeError as error:
        raise fail("\n".join(f"{file}: {line}" for line in str(error).split("\n"))) from None


async def _impact(config: Config, proposal: ProposedPolicy, since: datetime | None) -> Impact:
    async with (
        opened_preview(config) as preview,
        open_journal_session(config, SystemClock(), OPERATOR) as past,
    ):
        return await use_case.impact(preview, past, proposal, since=since)


# -- what is shown -----------------------------------------------------------------------------


def _sorted(counts: Mapping[Sender, int]) -> list[tuple[Sender, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _fields(found: Impact, proposal: ProposedPolicy, since: datetime | None) -> dict[str, Any]:
    return {
        "identity": proposal.identity_arn,
        "policy": proposal.policy.name,
        "since": since,
        "from_journal": ["time", "client", "envelope", "from", "sender", "named identities"],
        "from_directory_now": ["senders", "user policies", "tags", "other identity policies"],
        "looked_at": found.looked_at,
        "newly_allowed": sum(found.newly_allowed.values()),
        "newly_refused": sum(found.newly_refused.values()),
        "newly_allowed_by_sender": [*map(_CHANGED.fields, _sorted(found.newly_allowed))],
        "newly_refused_by_sender": [*map(_CHANGED.fields, _sorted(found.newly_refused))],
        "examples": [*map(_EXAMPLES.fields, found.examples)],
        "unclear": dict(found.unclear),
        "drifted": found.drifted,
    }


def _print(found: Impact, proposal: ProposedPolicy, since: datetime | None) -> None:
    allowed, refused = (
        sum(counts.values()) for counts in (found.newly_allowed, found.newly_refused)
    )
    typer.echo(
        f"{found.looked_at} requests since {shown(since)}, "
        f"with policy `{proposal.policy.name}' "
        f"on {proposal.identity_arn}: {allowed} newly allowed, {refused} newly refused.\n"
        "From the journal: time, client, envelope, From, Sender, named identities.\n"
        "As they are now: senders with their policies and tags, identities with their other "
        "policies."
    )
    for title, counts in (
        ("newly allowed", found.newly_allowed),
        ("newly refused", found.newly_refused),
    ):
        if counts:
            print_table(_sorted(counts), _CHANGED, title=title)
    if found.examples:
        print_table(found.examples, _EXAMPLES, title="examples")
    for reason, number in sorted(found.unclear.items()):
        typer.echo(f"{number} cannot be decided again: {_UNCLEAR[reason]}.")
    if found.drifted:
        typer.echo(
            f"{found.drifted} are decided differently now than then, whatever is proposed."
        )
