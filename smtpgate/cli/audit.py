"""``smtpgate audit``: who changed what in the directory, when, and from where."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from difflib import unified_diff
from typing import Annotated, Any, Final, TypeAlias, get_args

import typer
from rich.text import Text

from smtpgate.admin import audit
from smtpgate.admin.audit import AuditEntry, AuditFilter, AuditKind
from smtpgate.admin.session import Session
from smtpgate.cli.arguments import AccountOption
from smtpgate.cli.listing import View, print_card, print_json, print_pages, shown, to_json
from smtpgate.cli.moments import Since, Until, moment_option
from smtpgate.cli.session import run
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    Limit,
    example,
    one_of,
    option,
    output,
)

audit_app: Final = typer.Typer(no_args_is_help=True)
_EVERY_S: Final = 1.0
_STYLES: Final = {"+": "green", "-": "red", "@": "cyan"}


def _fields(entry: AuditEntry) -> dict[str, Any]:
    return {
        "seq": entry.seq,
        "at": entry.at,
        "actor": entry.actor,
        "origin": entry.origin,
        "action": entry.action,
        "kind": entry.kind,
        "account": entry.account_id,
        "name": entry.name,
        "before": entry.before,
        "after": entry.after,
    }


_VIEW: Final[View[AuditEntry]] = View(
    columns={
        "entry": lambda entry: entry.seq,
        "when": lambda entry: entry.at,
        "who": lambda entry: entry.actor,
        "did": lambda entry: entry.action,
        "to": lambda entry: entry.subject,
        "from where": lambda entry: entry.origin,
    },
    fields=_fields,
    nothing="no entries",
)


_Actor: TypeAlias = Annotated[
    str | None, option(metavar="NAME", help="By this person or program.")
]
_Action: TypeAlias = Annotated[
    str | None, option(metavar="WORD", help="Such as create or pause.")
]
_Kind: TypeAlias = Annotated[
    AuditKind | None, option(metavar="KIND", help=f"About what: {one_of(get_args(AuditKind))}.")
]
_Name: TypeAlias = Annotated[
    str | None, option(metavar="NAME", help="The name of the user, the key, …")
]


@audit_app.command("list", epilog=example("audit list --account 888888888888 --since 7d"))
def list_(
    account: AccountOption = None,
    actor: _Actor = None,
    action: _Action = None,
    kind: _Kind = None,
    name: _Name = None,
    since: Since = None,
    until: Until = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Wait for new entries, and print a line for each."),
    ] = False,
    limit: Limit = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """List entries, the newest last; with --limit the newest ones."""
    wanted = AuditFilter(
        account_id=account,
        actor=actor,
        action=action,
        kind=kind,
        name=name,
        since=moment_option(since, "--since"),
        until=moment_option(until, "--until"),
    )

    async def operation(session: Session) -> None:
        if not follow:
            pages = audit.pages(session, wanted, limit=limit)
            await print_pages(pages, _VIEW, as_json=json)
            return
        async for entry in audit.follow(
            session, wanted, lambda: asyncio.sleep(_EVERY_S), newest=limit or 0
        ):
            typer.echo(_line(entry, as_json=json))

    try:
        run(config, operation)
    except KeyboardInterrupt:
        raise typer.Exit from None


def _line(entry: AuditEntry, *, as_json: bool) -> str:
    if as_json:
        return to_json(_fields(entry), indent=None)
    words = (shown(entry.at), entry.actor, entry.action, entry.subject)
    return f"{entry.seq} {' '.join(map(shown, words))} ({shown(entry.origin)})"


@audit_app.command(epilog=example("audit show 17"))
def show(
    seq: Annotated[int, typer.Argument(metavar="ENTRY", help="Its number.", min=1)],
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Show an entry, with what was before and what is after as a diff."""

    entry = run(config, lambda session: audit.get(session, seq))
    if json:
        print_json(_fields(entry))
        return
    print_card({name: cell(entry) for name, cell in _VIEW.columns.items()})
    for line in diff_of(entry.before, entry.after):
        output.print(Text(shown(line), _STYLES.get(line[:1], "")))


def diff_of(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Iterator[str]:
    """The lines that were removed (``-``) and added (``+``)."""
    lines = list(unified_diff(list(_lines(before)), list(_lines(after)), lineterm="", n=3))
    return iter(lines[2:])  # without the names of the two files


def _lines(facts: Mapping[str, Any] | None) -> Iterator[str]:
    """Facts as lines; a document keeps its own, or gets some when it has only one."""
    for key, value in sorted((facts or {}).items()):
        if isinstance(value, str) and "\n" in value:
            yield f"{key}:"
            yield from (f"  {line}" for line in _unfolded(value).splitlines())
        else:
            yield f"{key}: {json.dumps(value, sort_keys=True)}"


def _unfolded(document: str) -> str:
    if "\n" in document.rstrip("\n"):
        return document
    try:
        return json.dumps(json.loads(document), indent=2)
    except ValueError:
        return document
