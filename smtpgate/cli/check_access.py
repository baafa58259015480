"""``smtpgate policy check-access``: who can send with this From address?"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import typer

from smtpgate.cli.gatehouse import Gatehouse
from smtpgate.cli.listing import View, print_rows
from smtpgate.core.arn import ArnError, IdentityArn, identity_name
from smtpgate.core.identity import Identity, covers, names_covering
from smtpgate.core.message.author import Author, AuthorError, parse_authors
from smtpgate.core.whatif.delegates import Delegate, delegates

_ALWAYS: Final = "in any case"
_OWN: Final = "it is its own"


def print_access(config: Path, identity: str | None, from_: str, *, as_json: bool) -> None:
    """Print who of the configured directory could send with that From, as table or JSON."""
    author = _author(from_)
    found = asyncio.run(_find(config, identity, author))
    print_rows(found, _view(author), as_json=as_json)


def _author(text: str) -> Author:
    try:
        authors = parse_authors(text, smtputf8=True)
    except AuthorError as error:
        raise typer.BadParameter(f"--from: {error}") from None
    if len(authors) != 1:
        raise typer.BadParameter("--from: ask for one mailbox at a time")
    return authors[0]


async def _find(config: Path, identity: str | None, author: Author) -> list[Delegate]:
    async with Gatehouse.open(config) as gatehouse:
        known: dict[str, Sequence[Identity]] = {}
        for name in names_covering(author.mailbox):
            known[name] = await gatehouse.directory.identities(name)
        asked = set(known) if identity is None else {_asked(identity, author)}
        found: list[Delegate] = []
        async for principals in gatehouse.principals.pages():
            found += delegates(principals, known, author, region=gatehouse.region)
        return [
            delegate
            for delegate in found
            if delegate.identity.name in asked or str(delegate.identity.arn) in asked
        ]


def _asked(text: str, author: Author) -> str:
    """The one spelling of an identity's ARN or name, when it covers the From address."""
    try:
        arn = IdentityArn.parse(text) if text.startswith("arn:") else None
        name = identity_name(text) if arn is None else arn.name
    except ArnError as error:
        raise typer.BadParameter(f"--identity: {error}") from None
    if not covers(name, author.mailbox):
        raise typer.BadParameter(f"--identity: {name} does not cover {author.mailbox}")
    return str(arn or name)


def _view(author: Author) -> View[Delegate]:
    return View(
        columns={
            "sender": lambda delegate: delegate.principal.arn,
            "with identity": lambda delegate: delegate.identity.arn,
            "if": lambda delegate: delegate.conditions or _ALWAYS,
            "by": lambda delegate: delegate.statements or _OWN,
        },
        fields=_fields,
        nothing=f"nobody can send as {author.mailbox}",
    )


def _fields(delegate: Delegate) -> dict[str, object]:
    return {
        "sender": delegate.principal.arn,
        "identity": str(delegate.identity.arn),
        "conditions": delegate.conditions,
        "statements": [
            {"side": cited.side, "policy": cited.policy, "sid": cited.sid, "index": cited.index}
            for cited in delegate.statements
        ],
    }
