"""``smtpgate top``: the load of a running gate."""

import sys
from collections.abc import Sequence
from typing import Annotated, Final

import typer
from rich.cells import cell_len
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from smtpgate.cli.listing import shown, to_json
from smtpgate.cli.tables import console
from smtpgate.cli.terminal import DEFAULT_CONFIG, AsJson, ConfigFile, fail, loaded_config
from smtpgate.control import ControlError, GateLoad, TopRequest, ask

_PATIENCE_S: Final = 30.0
# Columns that stay on the narrowest terminal.
_KEPT: Final = frozenset(
    {"upstream", "account", "waiting", "messages", "sessions", "quota used"}
)
_FIELDS: Final = ("sessions", "senders", "upstreams")


def top(
    once: Annotated[
        bool, typer.Option("--once", help="Show it once, after one interval.")
    ] = False,
    interval: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0.2, max=3600.0, help="The time between two looks."
        ),
    ] = 2.0,
    config: ConfigFile = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show the load of the gate as it changes: sessions, messages, upstreams, queues.

    Messages are those of the last interval, of all workers. The states of a session are: no
    login, idle, transaction, message (it is being received), verdict (it is being decided about
    and relayed). Quotas are shown from 80 percent on. It ends with Ctrl-C. If the output is not
    a terminal, all is printed again after each interval; with --json as an object on a line.
    """
    path = loaded_config(config).control_path
    loads = ask(path, TopRequest(interval), GateLoad, timeout_s=interval + _PATIENCE_S)
    try:
        if as_json or once or not sys.stdout.isatty():
            for load in loads:
                _print(load, as_json=as_json)
                if once:
                    return
        with Live(console=console(), screen=True, auto_refresh=False) as live:
            for load in loads:
                live.update(Group(*_tables(load)), refresh=True)
    except ControlError as error:
        raise fail(error) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _print(load: GateLoad, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(to_json(_fields_of(load), indent=None) + "\n")
    else:
        console().print(*_tables(load), sep="\n", soft_wrap=True)
    sys.stdout.flush()


def _fields_of(load: GateLoad) -> dict[str, object]:
    fields: dict[str, object] = {
        name: getattr(load, name) for name in load.__struct_fields__ if name not in _FIELDS
    }
    for name in _FIELDS:
        fields[name] = [
            {field: getattr(row, field) for field in row.__struct_fields__}
            for row in getattr(load, name)
        ]
    return fields


def _tables(load: GateLoad) -> list[Table | Text]:
    """The tables that have rows, below a line about the whole gate."""
    head = (
        f"{load.at}  workers {load.workers}  longest delay of the loop "
        f"{load.loop_delay_s * 1000:.1f} ms  wait for their rate {load.paced}  "
        f"journal owes {load.journal_owed}  outbox {load.outbox}"
    )
    problems = [Text(shown(one), "bold") for one in load.problems]
    sessions = [(one.listener, one.account, one.state, one.sessions) for one in load.sessions]
    rates = [
        (one.account, one.outcome, one.reason, one.messages, one.messages / load.interval_s)
        for one in load.senders
    ]
    upstreams = [
        (one.name, one.busy, one.idle, one.limit, one.waiting, one.breaker, one.is_up)
        for one in load.upstreams
    ]
    quotas = [(account, f"{ratio:.0%}") for account, ratio in load.quotas]
    return [
        Text(head),
        *problems,
        *_table(("upstream", "busy", "idle", "limit", "waiting", "breaker", "up"), upstreams),
        *_table(("account", "outcome", "reason", "messages", "a second"), rates),
        *_table(("listener", "account", "state", "sessions"), sessions),
        *_table(("account", "quota used"), quotas),
    ]


def _table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> list[Table]:
    """A table; none without rows. On a narrow terminal columns go before a name is cut."""
    if not rows:
        return []
    cells = [
        [f"{one:.1f}" if isinstance(one, float) else shown(one) for one in row] for row in rows
    ]
    lines = list(zip(names, *cells, strict=True))
    optional = [one for one in reversed(lines) if one[0] not in _KEPT]
    while optional and _width(lines) > console().width:
        lines.remove(optional.pop(0))
    table = Table(box=None, pad_edge=False)
    for name, *_ in lines:
        table.add_column(name, overflow="fold")
    for row in zip(*(line[1:] for line in lines), strict=True):
        table.add_row(*map(Text, row))
    return [table]


def _width(columns: Sequence[Sequence[str]]) -> int:
    """The width of a table of these columns, with a space between two."""
    return sum(max(map(cell_len, one)) for one in columns) + 2 * len(columns)
