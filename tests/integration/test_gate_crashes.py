"""Four gates share a host's databases and are killed again and again while mail goes through.

Then the workers of one gate are, and their parent.

Afterwards every sum is exact: what the ledger has counted, for the account and each limit
within it, what the journal has, and what usage adds up to. ``SMTPGATE_CRASH_SUBMISSIONS`` says
how many submissions; 100000 takes some ten minutes.
"""

import asyncio
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from smtpgate.core.moments import moment
from smtpgate.ledger.sqlite import SqliteLedger
from smtpgate.sql.database import sqlite_url
from tests.support.authority import Authority
from tests.support.daemons import Lab, eventually, listens
from tests.support.dialog import close_dialogs
from tests.support.gate import (
    Gate,
    GatePlan,
    start_gate,
    workers_of,
)
from tests.support.journal import all_rows, must_add_up, store_of
from tests.support.ledgers import used_24h
from tests.support.traffic import (
    SUBJECTS,
    Client,
    Judge,
    Submitted,
    with_limits_of_all_kinds,
)

GATES: Final = 4
CLIENTS: Final = 2  # of each gate
SUBMISSIONS: Final = int(os.environ.get("SMTPGATE_CRASH_SUBMISSIONS", "400"))
KILLS: Final = max(GATES, SUBMISSIONS // 500)


async def kill_again_and_again(
    gates: list[Gate], again: Callable[[Gate], Gate], sent: Callable[[], int]
) -> None:
    """Kill a gate after each share of the submissions, and start it again."""
    for number in range(KILLS):
        wanted = SUBMISSIONS * (number + 1) // KILLS
        await asyncio.to_thread(eventually, lambda: sent() >= wanted, f"{wanted} messages", 120)  # noqa: B023
        victim = gates[number % GATES]
        await asyncio.to_thread(victim.kill)
        gates[number % GATES] = await asyncio.to_thread(again, victim)


async def test_every_sum_is_exact_with_any_process_killed_at_any_time(lab: Lab) -> None:
    judge, authority, state = Judge(), Authority(lab), lab.new_folder("state", 0o700)
    await judge.start()
    accounts = with_limits_of_all_kinds()
    plans = [GatePlan(judge.port, state_dir=state, accounts=accounts) for _ in range(GATES)]

    def start(plan: GatePlan) -> Gate:
        return start_gate(lab, authority, plan)

    gates = [await asyncio.to_thread(start, plan) for plan in plans]
    context = authority.client_context()
    clients = [Client(plan, 1 + at, context) for at, plan in enumerate(plans * CLIENTS)]
    began = time.monotonic()
    sending = [asyncio.create_task(client.send_on()) for client in clients]
    try:
        await kill_again_and_again(
            gates, lambda gate: start(gate.plan), lambda: sum(len(one.sent) for one in clients)
        )
    finally:
        for task in sending:
            task.cancel()
        ends = await asyncio.gather(*sending, return_exceptions=True)
        await close_dialogs()
        await judge.close()
    assert {type(end) for end in ends} == {asyncio.CancelledError}, ends
    took_s = time.monotonic() - began
    for gate in gates:
        await asyncio.to_thread(gate.kill)
    sent = [one for client in clients for one in client.sent]
    print(  # noqa: T201 - the figures are for people
        f"\n{len(sent)} submissions by {GATES} gates in {took_s:.0f} s, {KILLS} kills; "
        f"{sum(not one.code for one in sent)} without a reply"
    )
    await must_be_counted(state, sent, judge.accepted)
    await must_be_in_the_journal(state, sent, judge.accepted)


@pytest.mark.parametrize("workers", [1, 4])
async def test_every_sum_is_exact_with_any_worker_killed_and_a_drain_under_load(
    lab: Lab, workers: int
) -> None:
    judge, authority, state = Judge(), Authority(lab), lab.new_folder("state", 0o700)
    await judge.start()
    plan = GatePlan(
        judge.port, state_dir=state, accounts=with_limits_of_all_kinds(), workers=workers
    )
    gate = await asyncio.to_thread(start_gate, lab, authority, plan)
    context = authority.client_context()
    clients = [Client(plan, 1 + at, context, may_be_deferred=True) for at in range(8)]
    sending = [asyncio.create_task(client.send_on()) for client in clients]

    def kill_one(number: int) -> Gate:
        if number % workers == workers - 1:  # the parent, or the only process
            gate.kill()
            eventually(lambda: not listens(plan.submissions_port), "workers to end")
            return start_gate(lab, authority, plan)
        before = workers_of(gate)
        os.kill(before[str(number % workers)], signal.SIGKILL)
        eventually(lambda: workers_of(gate) != before, "another worker")
        return gate

    try:
        for number in range(KILLS):
            wanted = SUBMISSIONS * (number + 1) // KILLS
            await asyncio.to_thread(
                eventually,
                lambda: sum(len(one.sent) for one in clients) >= wanted,  # noqa: B023
                f"{wanted} messages",
                120,
            )
            gate = await asyncio.to_thread(kill_one, number)
        gate.terminate()
        assert await asyncio.to_thread(gate.daemon.wait) == 0
    finally:
        for task in sending:
            task.cancel()
        ends = await asyncio.gather(*sending, return_exceptions=True)
        await close_dialogs()
        await judge.close()
    assert {type(end) for end in ends} == {asyncio.CancelledError}, ends
    sent = [one for client in clients for one in client.sent]
    await must_be_counted(state, sent, judge.accepted)
    await must_be_in_the_journal(state, sent, judge.accepted)
    await must_have_no_open_row(state)


async def must_have_no_open_row(state: Path) -> None:
    """Rows that workers left behind are in doubt at the latest when the gate has ended."""
    store = store_of(sqlite_url(state / "journal.sqlite"), state)
    try:
        assert "relaying" not in {row.outcome for row in await all_rows(store)}
    finally:
        await store.close()


async def must_be_counted(
    state: Path, sent: Sequence[Submitted], accepted: Mapping[str, str]
) -> None:
    """Each limit has counted what was accepted, and what nobody settled; nothing else."""
    path = state / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        still_open = file.execute("SELECT at_us, recipients FROM reservation").fetchall()
    open_names = set()
    for at_us, recipients in still_open:
        # A client may have gone before the gate had counted its message.
        before = [
            one for one in sent if one.recipients == recipients and one.began <= moment(at_us)
        ]
        open_names.add(max(before, key=lambda one: one.began).name)
    counted = 0
    for one in sent:
        is_counted = one.name in accepted or one.name in open_names
        if one.code == "250" or (not one.code and is_counted):
            counted += one.recipients
    ledger, now = SqliteLedger(path), datetime.now(UTC)
    try:
        assert [await used_24h(ledger, subject, now) for subject in SUBJECTS] == [counted] * 4
    finally:
        await ledger.close()


async def must_be_in_the_journal(
    state: Path, sent: Sequence[Submitted], accepted: Mapping[str, str]
) -> None:
    """Each answered message has its row with that verdict, each relayed one has a row."""
    store = store_of(sqlite_url(state / "journal.sqlite"), state)
    try:
        rows = {row.id: row for row in await all_rows(store)}
        for one in sent:
            if one.code:
                row = rows[one.id]
                outcome = "accepted" if one.code == "250" else "refused"
                assert (row.outcome, row.recipients) == (outcome, one.recipients)
        assert set(accepted.values()) <= rows.keys()
        assert len(rows) <= len(sent)
        await must_add_up(store)
    finally:
        await store.close()
