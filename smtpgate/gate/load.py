"""The requests of ``smtpgate top``: the load of a running gate, again and again."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Final

import msgspec

from smtpgate.control import (
    GateLoad,
    Peers,
    RefusedError,
    Routes,
    SenderRate,
    SessionCount,
    SessionsPart,
    TopRequest,
    UpstreamLoad,
)
from smtpgate.metrics import Metrics, VerdictTally
from smtpgate.ports import Clock
from smtpgate.smtp.dialogue import Dialogue
from smtpgate.smtp.listener import Listener

_SHORTEST_S: Final = 0.2
_LONGEST_S: Final = 3600.0
_PARTS_S: Final = 2.0
_NEAR_ITS_END: Final = 0.8
_MOST_ROWS: Final = 500
_MOST_WATCHING: Final = 8
_BREAKER: Final = {0.0: "closed", 1.0: "half-open", 2.0: "open"}

_Values = dict[str, dict[tuple[str, ...], float]]


def answer_part(routes: Routes, listeners: Callable[[], Iterable[Listener]]) -> None:
    """Have this process count its open sessions."""

    async def answer(_part: SessionsPart) -> AsyncGenerator[object]:
        counted = Counter(
            (one.parts.config.name, _account_of(session), _state_of(session))
            for one in listeners()
            for session in one.sessions
        )
        yield tuple(
            SessionCount(*key, number) for key, number in counted.most_common(_MOST_ROWS)
        )

    routes.add(SessionsPart, answer)


def _account_of(session: Dialogue) -> str:
    return "" if session.key is None else session.key.principal.account.id


def _state_of(session: Dialogue) -> str:
    if session.key is None:
        return "no login"
    if session.is_submitting:
        return "verdict"
    if session.incoming is not None:
        return "message"
    return "transaction" if session.in_transaction else "idle"


def answer_requests(
    routes: Routes, peers: Callable[[], Peers], metrics: Metrics, clock: Clock
) -> None:
    """Have requests of the control socket answered, for all processes that take mail."""

    async def answer(request: TopRequest) -> AsyncGenerator[object]:
        if not _SHORTEST_S <= request.interval_s <= _LONGEST_S:
            raise RefusedError(f"an interval has {_SHORTEST_S:g} to {_LONGEST_S:g} seconds")
        if len(metrics.tallies) >= _MOST_WATCHING:
            raise RefusedError(f"{_MOST_WATCHING} commands watch the gate already")
        metrics.count_waiting()  # what was before is not this command's
        tally = VerdictTally()
        metrics.tallies.append(tally)
        since = clock.monotonic()
        try:
            while True:
                await asyncio.sleep(request.interval_s)
                sessions, problems = await _sessions(peers())
                now, rates = clock.monotonic(), tally.take()
                senders = [SenderRate(*key, number) for key, number in rates[:_MOST_ROWS]]
                yield _load_of(metrics, clock, now - since, sessions, senders, problems)
                since = now
        finally:
            metrics.tallies.remove(tally)

    routes.add(TopRequest, answer)


async def _sessions(peers: Peers) -> tuple[list[SessionCount], list[str]]:
    """The open sessions of all processes that answer in time, and why others are not there."""
    counted: Counter[tuple[str, str, str]] = Counter()
    problems: list[str] = []
    try:
        async with asyncio.timeout(_PARTS_S):
            async for one in peers.ask(SessionsPart()):
                if one.problem is not None:
                    problems.append(f"worker {one.worker}: {one.problem}")
                    continue
                for row in msgspec.convert(one.value, tuple[SessionCount, ...]):
                    counted[row.listener, row.account, row.state] += row.sessions
    except TimeoutError:
        problems.append(f"a worker gave no answer in {_PARTS_S:g} s")
    return [
        SessionCount(*key, number) for key, number in counted.most_common(_MOST_ROWS)
    ], problems


def _load_of(
    metrics: Metrics,
    clock: Clock,
    interval_s: float,
    sessions: Iterable[SessionCount],
    senders: Iterable[SenderRate],
    problems: Iterable[str],
) -> GateLoad:
    values = metrics.values()
    near = [one for one in metrics.quotas() if one[1] >= _NEAR_ITS_END]
    return GateLoad(
        at=clock.now().isoformat(timespec="seconds"),
        interval_s=interval_s,
        workers=int(_sum(values, "smtpgate_workers")),
        loop_delay_s=max(
            values.get("smtpgate_loop_delay_longest_seconds", {}).values(), default=0
        ),
        paced=int(_sum(values, "smtpgate_paced_waiting")),
        journal_owed=int(_sum(values, "smtpgate_journal_owed")),
        outbox=int(_sum(values, "smtpgate_outbox_tasks")),
        sessions=tuple(sessions),
        senders=tuple(senders),
        upstreams=tuple(_upstreams(values)),
        quotas=tuple(sorted(near, key=lambda one: -one[1])[:_MOST_ROWS]),
        problems=tuple(problems),
    )


def _sum(values: _Values, metric: str) -> float:
    return sum(values.get(metric, {}).values())


def _upstreams(values: _Values) -> Iterable[UpstreamLoad]:
    connections = values.get("smtpgate_upstream_connections", {})

    def of(metric: str, name: str) -> float:
        return values.get(f"smtpgate_upstream_{metric}", {}).get((name,), 0)

    for name in sorted({labels[0] for labels in connections}):
        yield UpstreamLoad(
            name,
            busy=int(connections.get((name, "busy"), 0)),
            idle=int(connections.get((name, "idle"), 0)),
            limit=int(of("connection_limit", name)),
            waiting=int(of("waiting", name)),
            breaker=_BREAKER.get(of("breaker", name), "closed"),
            is_up=bool(of("up", name)),
        )
