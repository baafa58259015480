"""``smtpgate usage``: messages and recipients by sender and identity, and refusals."""

import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Final, Literal, Protocol, TypeAlias, TypeVar

import typer

from smtpgate.admin import journal
from smtpgate.admin.journal import JournalSession, UsagePeriod
from smtpgate.cli.arguments import AccountOption
from smtpgate.cli.journal import UserFilter
from smtpgate.cli.journal_session import run
from smtpgate.cli.listing import View, print_json, print_table, shown
from smtpgate.cli.moments import moment_option
from smtpgate.cli.terminal import DEFAULT_CONFIG, AsJson, ConfigFile, misused, option
from smtpgate.core.arn import IdentityArn, identity_arn
from smtpgate.core.history.event_counts import EventCounts
from smtpgate.core.history.usage import (
    Grain,
    Span,
    Summary,
    UsageRow,
    series,
    sparkline,
    summaries,
)

_WIDTH: Final = 32
_COLUMNS: Final = (
    "start",
    "account",
    "user",
    "identity",
    "owner",
    "reason",
    "attempts",
    "messages",
    "recipients",
    "octets",
    "bounces",
    "hard_bounces",
    "complaints",
    "deliveries",
    "delays",
)


_IdentityFilter: TypeAlias = Annotated[
    IdentityArn | None,
    option(metavar="ARN", help="With this identity.", parse=identity_arn),
]


_W = TypeVar("_W", Summary, Span)


_GRAINS: Final = {"15m": Grain.POINT, "day": Grain.DAY}


class _WithEvents(Protocol):
    @property
    def events(self) -> EventCounts:
        """The sums of events."""


# Columns that are shown where there was any event.
_EVENTS: Final[Mapping[str, Callable[[_WithEvents], object]]] = {
    "bounces": lambda one: one.events.bounces,
    "hard": lambda one: one.events.hard_bounces,
    "complaints": lambda one: one.events.complaints,
    "delays": lambda one: one.events.delays,
    "deliveries": lambda one: one.events.deliveries,
}


def _row_fields(row: UsageRow) -> dict[str, object]:
    key, counts, events = row.key, row.counts, row.events
    values = (
        row.start,
        key.account_id,
        key.user_arn,
        key.identity or None,
        key.owner_id or None,
        key.reason,
        counts.attempts,
        counts.messages,
        counts.recipients,
        counts.octets,
        events.bounces,
        events.hard_bounces,
        events.complaints,
        events.deliveries,
        events.delays,
    )
    return dict(zip(_COLUMNS, values, strict=True))


_SUMMARIES: Final[View[Summary]] = View(
    columns={
        "sender": lambda one: one.user_arn,
        "identity": lambda one: one.identity,
        "attempts": lambda one: one.counts.attempts,
        "messages": lambda one: one.counts.messages,
        "recipients": lambda one: one.counts.recipients,
        "octets": lambda one: one.counts.octets,
        "rejects": lambda one: one.rejects,
        "over time": lambda one: sparkline(one.attempts, _WIDTH),
    },
    fields=lambda one: {"user": one.user_arn},
    nothing="nothing was sent",
)
_SERIES: Final[View[Span]] = View(
    columns={
        "from": lambda span: span.start,
        "attempts": lambda span: span.counts.attempts,
        "messages": lambda span: span.counts.messages,
        "recipients": lambda span: span.counts.recipients,
        "octets": lambda span: span.counts.octets,
        "rejects": lambda span: span.rejects,
    },
    fields=lambda span: {"start": span.start},
    nothing="nothing was sent",
)


def usage(
    account: AccountOption = None,
    user: UserFilter = None,
    identity: _IdentityFilter = None,
    since: Annotated[str, typer.Option(metavar="TIME", help="From this time on.")] = "1d",
    by: Annotated[
        Literal["15m", "day"] | None, option(help="By 15 minutes (kept 14 days), or by day.")
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
    json: AsJson = False,
    csv_: Annotated[bool, typer.Option("--csv", help="Print CSV, for tables.")] = False,
) -> None:
    """Add up messages and recipients by sender and identity, and over time with --by.

    Bounces, complaints, delays and deliveries count at the time when they came.
    Delegated mail counts for its sender; the owner of the identity sees it as used by that
    sender. With --account only what that account sent, and what was sent with its identities.
    """
    if json and csv_:
        raise misused("--json and --csv exclude each other")
    begin = moment_option(since, "--since")

    async def operation(session: JournalSession) -> UsagePeriod:
        return await journal.usage(
            session,
            since=begin or session.now(),
            account_id=account,
            user=user,
            identity=None if identity is None else str(identity),
            grain=None if by is None else _GRAINS[by],
        )

    found = run(config, operation)
    if json:
        print_json([_row_fields(row) for row in found.rows])
    elif csv_:
        _print_csv(found.rows)
    else:
        _print_tables(found, with_series=by is not None)


def _print_csv(rows: Sequence[UsageRow]) -> None:
    writer = csv.DictWriter(sys.stdout, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        start = f"{row.start:%Y-%m-%dT%H:%M:%SZ}"
        writer.writerow({**_row_fields(row), "start": start})


def _print_tables(found: UsagePeriod, *, with_series: bool) -> None:
    if not found.rows:
        typer.echo(_SUMMARIES.nothing)
        return
    since = shown(found.since)
    has_events = any(row.events != EventCounts() for row in found.rows)
    for title, rows in (("sent", found.sent), ("used by others", found.sent_by_others)):
        if rows:
            sums = summaries(rows, found.grain, found.first, found.units)
            view = _with_events(_SUMMARIES) if has_events else _SUMMARIES
            print_table(sums, view, title=f"{title} since {since}")
    if with_series:
        by_time = _with_events(_SERIES) if has_events else _SERIES
        print_table(series(found.rows), by_time, title=f"over time since {since}")


def _with_events(view: View[_W]) -> View[_W]:
    """The view with columns of events in front of the last two or one."""
    columns = dict(view.columns)
    last = {name: columns.pop(name) for name in ("rejects", "over time") if name in columns}
    return replace(view, columns={**columns, **_EVENTS, **last})
