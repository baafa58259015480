"""``smtpgate impact``: what a policy would have changed for what was really sent."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from smtpgate.cli.archive import TROUBLES, opened_archive
from smtpgate.cli.gatehouse import Gatehouse
from smtpgate.cli.listing import View, in_pages, print_json, print_table, shown
from smtpgate.cli.moments import moment_option
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    fail,
    parsed_by,
)
from smtpgate.core.account import Principal
from smtpgate.core.arn import IdentityArn
from smtpgate.core.history.record import Record
from smtpgate.core.history.search import Search
from smtpgate.core.identity import Identity
from smtpgate.core.policy import Policy, PolicyError, attachment_problems, parse_policy
from smtpgate.core.whatif.impact import Change, Impact, Proposal, Sender, impact_of

_PAGE: Final = 200
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
_EXAMPLES: Final[View[Change]] = View(
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
        typer.Option(
            metavar="ARN",
            help="The identity that it is for.",
            parser=parsed_by(IdentityArn.parse),
        ),
    ],
    since: Annotated[str, typer.Option(metavar="TIME", help="From when on.")] = "7d",
    name: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="NAME",
            help="The policy's name, of which it takes the place; else the file's.",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Decide again about past messages, as if an identity had another policy.

    From the journal are the time, the client, the envelope, From and the identities that were
    named. As they are now are the senders, with their policies and tags, and all identities
    with their other policies. Exit status 0 whether anything would change or not.
    """
    begin = moment_option(since, "--since")
    proposal = Proposal(str(identity), _read(policy, name or policy.stem, identity))
    try:
        told = asyncio.run(_weigh(config, proposal, identity, begin))
    except TROUBLES as error:
        raise fail(error) from None
    if json:
        print_json(_fields(told, proposal, begin))
    else:
        _print(told, proposal, begin)


def _read(path: Path, name: str, identity: IdentityArn) -> Policy:
    """The policy, if it could be attached. Exits with 1 when it could not."""
    try:
        source = path.read_bytes()
        policy = parse_policy(source, kind="identity", name=name)
    except OSError as error:
        raise fail(f"{path}: {error.strerror or error}") from None
    except PolicyError as error:
        raise fail("\n".join(f"{path}: {problem}" for problem in error.problems)) from None
    problems = attachment_problems(
        policy, identity_arn=str(identity), source_octets=len(source), siblings=0
    )
    if problems:
        raise fail("\n".join(f"{path}: {problem}" for problem in problems))
    return policy


async def _weigh(
    config_file: Path, proposal: Proposal, identity: IdentityArn, since: datetime | None
) -> Impact:
    told = Impact()
    async with (
        Gatehouse.open(config_file) as gatehouse,
        opened_archive(gatehouse.config) as archive,
    ):
        known = await gatehouse.directory.identities(identity.name)
        if all(one.arn != identity for one in known):
            raise fail(f"the directory has no {identity}")
        lookup = _Lookup(gatehouse)
        search = Search(identity=identity.name, since=since)
        found = archive.reader.search(search, archive.now())
        async for records in in_pages(found, _PAGE):
            told += impact_of(
                proposal,
                records,
                principals=await lookup.principals(records),
                known=await lookup.identities(records),
                region=gatehouse.region,
                infer_arn=gatehouse.infer_arn,
            )
    return told


class _Lookup:
    """The directory as it is now, each thing asked for once."""

    def __init__(self, gatehouse: Gatehouse) -> None:
        self._gatehouse = gatehouse
        self._known: dict[str, Sequence[Identity]] = {}

    async def principals(self, records: Sequence[Record]) -> Mapping[str, Principal]:
        """The senders by ARN; those that are gone are left out."""
        found: dict[str, Principal] = {}
        for account_id, arn in {(record.account_id, record.user_arn) for record in records}:
            user = None if arn.endswith(":root") else arn
            principal = await self._gatehouse.principals.one(account_id, user)
            if principal is not None:
                found[arn] = principal
        return found

    async def identities(self, records: Sequence[Record]) -> Mapping[str, Sequence[Identity]]:
        """Every identity of the names in the records."""
        for name in {name for record in records for name in record.names}:
            if name not in self._known:
                self._known[name] = await self._gatehouse.directory.identities(name)
        return self._known


# -- what is told ------------------------------------------------------------------------------


def _sorted(counts: Mapping[Sender, int]) -> list[tuple[Sender, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _fields(told: Impact, proposal: Proposal, since: datetime | None) -> dict[str, Any]:
    return {
        "identity": proposal.identity_arn,
        "policy": proposal.policy.name,
        "since": since,
        "from_journal": ["time", "client", "envelope", "from", "sender", "named identities"],
        "from_directory_now": ["senders", "user policies", "tags", "other identity policies"],
        "looked_at": told.looked_at,
        "newly_allowed": sum(told.newly_allowed.values()),
        "newly_refused": sum(told.newly_refused.values()),
        "newly_allowed_by_sender": [*map(_CHANGED.fields, _sorted(told.newly_allowed))],
        "newly_refused_by_sender": [*map(_CHANGED.fields, _sorted(told.newly_refused))],
        "examples": [*map(_EXAMPLES.fields, told.examples)],
        "unclear": dict(told.unclear),
        "drifted": told.drifted,
    }


def _print(told: Impact, proposal: Proposal, since: datetime | None) -> None:
    allowed, refused = (
        sum(counts.values()) for counts in (told.newly_allowed, told.newly_refused)
    )
    typer.echo(
        f"{told.looked_at} requests since {shown(since)}, with policy `{proposal.policy.name}' "
        f"on {proposal.identity_arn}: {allowed} newly allowed, {refused} newly refused.\n"
        "From the journal: time, client, envelope, From, Sender, named identities.\n"
        "As they are now: senders with their policies and tags, identities with their other "
        "policies."
    )
    for title, counts in (
        ("newly allowed", told.newly_allowed),
        ("newly refused", told.newly_refused),
    ):
        if counts:
            print_table(_sorted(counts), _CHANGED, title=title)
    if told.examples:
        print_table(told.examples, _EXAMPLES, title="examples")
    for reason, number in sorted(told.unclear.items()):
        typer.echo(f"{number} cannot be decided again: {_UNCLEAR[reason]}.")
    if told.drifted:
        typer.echo(
            f"{told.drifted} are decided differently now than then, whatever is proposed."
        )
