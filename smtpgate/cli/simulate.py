"""``smtpgate simulate``: what policies decide, tried without sending anything."""

import asyncio
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import typer
from rich.text import Text
from rich.tree import Tree

from smtpgate.admin import preview
from smtpgate.admin.preview import MessageToTry, PreviewSession
from smtpgate.cli.listing import shown
from smtpgate.cli.preview_session import run
from smtpgate.cli.tables import print_tree
from smtpgate.cli.terminal import DEFAULT_CONFIG, OptionalConfig, option
from smtpgate.core.account import Principal
from smtpgate.core.message.author import AuthorError, parse_authors
from smtpgate.core.whatif.simulation import (
    SimulationError,
    SimulationResult,
    Simulator,
    read_simulation,
)
from smtpgate.core.whatif.trial import TrialResult

_NEEDS_CONFIG: Final = (
    "a request without policies is about the directory: name it with --config FILE"
)


async def answer_lines(
    lines: Iterable[bytes], write: BinaryIO, session: PreviewSession | None
) -> None:
    """Answer each line with one line; a malformed one does not end it."""
    simulator = Simulator()
    for line in lines:
        try:
            simulated = read_simulation(line.rstrip(b"\r\n"))
        except SimulationError as error:
            answer = SimulationResult(error.id, "invalid", reasons=error.problems)
        else:
            if simulated.is_complete:
                answer = simulator.decide(simulated)
            elif session is None:
                answer = SimulationResult(simulated.id, "invalid", reasons=(_NEEDS_CONFIG,))
            else:
                answer = await preview.answer(session, simulated)
        write.write(f"{answer}\n".encode("ascii"))
        write.flush()


def simulate(
    config: OptionalConfig = None,
    sender: Annotated[
        str | None,
        option(
            "--as",
            metavar="ACCOUNT[/USER]",
            help="The sender of one message; without it requests are read.",
        ),
    ] = None,
    identity: Annotated[
        str | None, option(metavar="ARN", help="The identity for From. Default: as for mail.")
    ] = None,
    from_: Annotated[
        str | None, option("--from", metavar="FROM", help="The From field.")
    ] = None,
    to: Annotated[
        list[str] | None, option(metavar="ADDRESS", help="A recipient; may be repeated.")
    ] = None,
    mail_from: Annotated[
        str | None,
        option(metavar="ADDRESS", help="MAIL FROM; <> for none. Default: the From address."),
    ] = None,
    at: Annotated[
        str | None,
        option(metavar="TIME", help="The time, such as 2027-01-31T12:00Z. Default: now."),
    ] = None,
    source_ip: Annotated[
        str | None, option(metavar="ADDRESS", help="The client's address. Default: 127.0.0.1.")
    ] = None,
) -> None:
    """Decide about messages without sending them.

    Reads JSON requests from standard input, one a line, and prints one JSON decision a line.
    With --as it tries one message in the configured directory (/etc/smtpgate/smtpgate.toml
    unless --config names another) and prints the decision as a tree: exit status 0 when it is
    allowed, 1 when it is denied.
    """
    if sender is not None:
        message = _message(from_, to or (), mail_from, at, source_ip)
        _try_one(config or DEFAULT_CONFIG, sender, message, identity)
    elif any((identity, from_, to, mail_from, at, source_ip)):
        raise typer.BadParameter("one message is tried with --as ACCOUNT[/USER]")
    else:
        lines, write = sys.stdin.buffer, sys.stdout.buffer
        if config is None:
            asyncio.run(answer_lines(lines, write, None))
        else:
            run(config, lambda session: answer_lines(lines, write, session))


def _try_one(config: Path, sender: str, message: MessageToTry, identity: str | None) -> None:
    account_id, _, user = sender.partition("/")
    principal, result = run(
        config,
        lambda session: preview.simulate(session, account_id, user or None, message, identity),
    )
    print_tree(_tree(principal, result))
    if result.outcome != "allow":
        raise typer.Exit(1)


def _message(
    from_: str | None,
    to: Sequence[str],
    mail_from: str | None,
    at: str | None,
    source_ip: str | None,
) -> MessageToTry:
    """The message that the options describe. Raises BadParameter."""
    if from_ is None or not to:
        raise typer.BadParameter("a message needs --from and at least one --to")
    try:
        authors = parse_authors(from_, smtputf8=True)
    except AuthorError as error:
        raise typer.BadParameter(f"--from: {error}") from None
    return MessageToTry(
        authors=authors,
        recipients=to,
        reverse_path="" if mail_from == "<>" else mail_from,
        at=at,
        source_ip=source_ip,
    )


def _tree(principal: Principal, result: TrialResult) -> Tree:
    """The decision, which identities it was about, and what each side said."""
    is_allowed = result.outcome == "allow"
    style = "bold green" if is_allowed else "bold red"
    tree = Tree(Text(result.outcome, style))
    tree.add(Text(f"sender {principal.arn}"))
    for used in result.identities:
        tree.add(Text(f"{used.role} {used.address}: {used.arn} ({used.how})"))
    why = tree.add("why")
    for reason in result.reasons:
        why.add(Text(shown(reason)))
    return tree
