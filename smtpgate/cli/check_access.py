"""``smtpgate policy check-access``: who can send with this From address?"""

from pathlib import Path
from typing import Final

import typer

from smtpgate.admin.preview import who_has_access
from smtpgate.cli.listing import View, print_rows
from smtpgate.cli.preview_session import run
from smtpgate.core.message.author import Author, AuthorError, parse_authors
from smtpgate.core.whatif.delegates import Delegate

_ALWAYS: Final = "in any case"
_OWN: Final = "it is its own"


def print_access(config: Path, identity: str | None, from_: str, *, as_json: bool) -> None:
    """Print who of the configured directory could send with that From, as table or JSON."""
    author = _author(from_)
    found = run(config, lambda session: who_has_access(session, author, identity))
    print_rows(found, _view(author), as_json=as_json)


def _author(text: str) -> Author:
    try:
        authors = parse_authors(text, smtputf8=True)
    except AuthorError as error:
        raise typer.BadParameter(f"--from: {error}") from None
    if len(authors) != 1:
        raise typer.BadParameter("--from: ask for one mailbox at a time")
    return authors[0]


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
