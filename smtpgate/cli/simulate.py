"""``smtpgate simulate``: what policies decide, tried without sending anything."""

import asyncio
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import typer
from rich.text import Text
from rich.tree import Tree

from smtpgate.cli.gatehouse import Gatehouse
from smtpgate.cli.listing import print_tree, shown
from smtpgate.cli.terminal import DEFAULT_CONFIG, OptionalConfig, fail
from smtpgate.clock import SystemClock
from smtpgate.core.account import Principal
from smtpgate.core.message.author import AuthorError, parse_authors
from smtpgate.core.policy import Context, Outcome
from smtpgate.core.whatif.simulation import (
    Answer,
    Simulated,
    SimulationError,
    Simulator,
    read_simulation,
)
from smtpgate.core.whatif.trial import TrialError, TrialResult, trial_of

_option: Final = partial(typer.Option, show_default=False)
_NEEDS_CONFIG: Final = (
    "a request without policies is about the directory: name it with --config FILE"
)


async def answer_lines(
    lines: Iterable[bytes], write: BinaryIO, gatehouse: Gatehouse | None, now: datetime
) -> None:
    """Answer each line by one line; one that is malformed does not end it."""
    simulator = Simulator()
    for line in lines:
        try:
            simulated = read_simulation(line.rstrip(b"\r\n"))
        except SimulationError as error:
            answer = Answer(error.id, "invalid", reasons=error.problems)
        else:
            if simulated.is_complete:
                answer = simulator.decide(simulated)
            else:
                answer = await _tried(simulated, gatehouse, now)
        write.write(f"{answer}\n".encode("ascii"))
        write.flush()


async def _tried(simulated: Simulated, gatehouse: Gatehouse | None, now: datetime) -> Answer:
    if gatehouse is None:
        return Answer(simulated.id, "invalid", reasons=(_NEEDS_CONFIG,))
    caller = simulated.caller
    user = None if caller.is_root else caller.arn
    principal = await gatehouse.principals.one(caller.account_id, user)
    if principal is None and simulated.user_name is not None:
        principal = await gatehouse.principals.one(caller.account_id, simulated.user_name)
    if principal is None:
        reason = f"sender: the directory has no {caller.arn}"
        return Answer(simulated.id, "invalid", reasons=(reason,))
    try:
        trial = trial_of(
            principal,
            simulated.identity_arn,
            simulated.context,
            now=now,
            action=simulated.action,
            absent=simulated.absent,
        )
    except TrialError as error:
        return Answer(simulated.id, "invalid", reasons=error.problems)
    result = await gatehouse.run(trial)
    return Answer(simulated.id, result.outcome.value, result.determining, result.reasons)


def simulate(
    config: OptionalConfig = None,
    sender: Annotated[
        str | None,
        _option(
            "--as",
            metavar="ACCOUNT[/USER]",
            help="Who sends; with it one message is tried, without it requests are read.",
        ),
    ] = None,
    identity: Annotated[
        str | None, _option(metavar="ARN", help="The identity for From; else found as ever.")
    ] = None,
    from_: Annotated[
        str | None, _option("--from", metavar="FROM", help="The From field.")
    ] = None,
    to: Annotated[
        list[str] | None, _option(metavar="ADDRESS", help="A recipient; may be repeated.")
    ] = None,
    mail_from: Annotated[
        str | None,
        _option(metavar="ADDRESS", help="MAIL FROM, <> for none; else the From address."),
    ] = None,
    at: Annotated[
        str | None, _option(metavar="TIME", help="When: 2027-01-31T12:00Z; else now.")
    ] = None,
    source_ip: Annotated[
        str | None, _option(metavar="ADDRESS", help="The client's; else 127.0.0.1.")
    ] = None,
) -> None:
    """Decide about messages without sending them.

    Reads JSON requests from standard input, one a line, and prints one JSON decision a line.
    With --as it tries one message in the configured directory (/etc/smtpgate/smtpgate.toml
    unless --config names another) and prints the decision as a tree: exit status 0 when it is
    allowed, 1 when it is denied.
    """
    now = SystemClock().now()
    if sender is not None:
        context, absent = _context(from_, to or (), mail_from, at, source_ip)
        asyncio.run(_try_one(config, sender, identity, context, absent, now))
    elif any((identity, from_, to, mail_from, at, source_ip)):
        raise typer.BadParameter("one message is tried with --as ACCOUNT[/USER]")
    else:
        asyncio.run(_answer_all(config, now))


async def _answer_all(config: Path | None, now: datetime) -> None:
    if config is None:
        await answer_lines(sys.stdin.buffer, sys.stdout.buffer, None, now)
        return
    async with Gatehouse.open(config) as gatehouse:
        await answer_lines(sys.stdin.buffer, sys.stdout.buffer, gatehouse, now)


def _context(
    from_: str | None,
    to: Sequence[str],
    mail_from: str | None,
    at: str | None,
    source_ip: str | None,
) -> tuple[Context, frozenset[str]]:
    """The options as keys of a request context, and the keys that it shall not have."""
    if from_ is None or not to:
        raise typer.BadParameter("a message needs --from and at least one --to")
    try:
        authors = parse_authors(from_, smtputf8=True)
    except AuthorError as error:
        raise typer.BadParameter(f"--from: {error}") from None
    names = {author.display_name for author in authors} - {None}
    if len(names) > 1:
        raise typer.BadParameter("--from: try mailboxes with other display names one by one")
    given = {
        "ses:fromaddress": tuple(str(author.mailbox) for author in authors),
        "ses:fromdisplayname": tuple(name for name in names if name is not None),
        "ses:recipients": tuple(to),
        "ses:feedbackaddress": (mail_from,) if mail_from not in (None, "", "<>") else (),
        "aws:currenttime": (at,) if at is not None else (),
        "aws:sourceip": (source_ip,) if source_ip is not None else (),
    }
    absent = frozenset({"ses:feedbackaddress"} if mail_from in ("", "<>") else ())
    return {key: tuple(filter(None, values)) for key, values in given.items() if values}, absent


async def _try_one(
    config: Path | None,
    sender: str,
    identity: str | None,
    context: Context,
    absent: frozenset[str],
    now: datetime,
) -> None:
    async with Gatehouse.open(config or DEFAULT_CONFIG) as gatehouse:
        account_id, _, user = sender.partition("/")
        principal = await gatehouse.principals.one(account_id, user or None)
        if principal is None:
            raise fail(f"the directory has no {sender}")
        try:
            trial = trial_of(principal, identity, context, now=now, absent=absent)
        except TrialError as error:
            raise fail(error) from None
        result = await gatehouse.run(trial)
    print_tree(_tree(principal, result))
    if result.outcome is not Outcome.ALLOW:
        raise typer.Exit(1)


def _tree(principal: Principal, result: TrialResult) -> Tree:
    """The decision, which identities it was about, and what each side said."""
    is_allowed = result.outcome is Outcome.ALLOW
    style = "bold green" if is_allowed else "bold red"
    tree = Tree(Text(result.outcome.value, style))
    tree.add(Text(f"sender {principal.arn}"))
    for used in result.identities:
        tree.add(Text(f"{used.role} {used.address}: {used.arn} ({used.how})"))
    why = tree.add("why")
    for reason in result.reasons:
        why.add(Text(shown(reason)))
    return tree
