"""Two gates on one PostgreSQL and one Redis, each of the four in trouble while mail flows.

Afterwards every sum is exact: what the ledger has counted, what the journal has, and what usage
adds up to. Every verdict has its row, and nothing is owed.
"""

import asyncio
import base64
import os
import re
import signal
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from redis import Redis

from smtpgate.core.moments import moment
from smtpgate.journal.rows import Row
from smtpgate.ledger.redis import RedisLedger
from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab, eventually
from tests.support.dialog import close_dialogs
from tests.support.directory import open_store as open_directory
from tests.support.gate import ACCOUNTS, Gate, GatePlan, start_gate
from tests.support.journal import all_rows, must_add_up, open_store, store_of
from tests.support.ledgers import RedisServer, redis_server, used_24h
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.traffic import (
    SUBJECTS,
    Client,
    Judge,
    Submitted,
    with_limits_of_all_kinds,
)

AWAY_S: Final = 1.5
CLIENTS: Final = 2  # of each gate
RATE: Final = 25
SKEW_S: Final = 90.0
RATE_S: Final = 6.0

_GAUGE: Final = re.compile(r"^(smtpgate_\w+) (\S+)$", re.MULTILINE)


@dataclass
class Fleet:
    """The hosts, each with a gate and a state folder, and the servers that they share."""

    lab: Lab
    authority: Authority
    judge: Judge
    postgres: PostgresServer
    redis: RedisServer
    journal_url: str
    gates: list[Gate] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)
    sending: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self, accounts: str, skews_s: Sequence[float]) -> None:
        """Start a gate for each of the clocks, and clients for each gate."""
        directory_url = self.postgres.create_database("directory")
        key = base64.b64encode(os.urandom(32))
        async with open_directory(directory_url):
            pass
        for skew_s in skews_s:
            state = self.lab.new_folder("state", 0o700)
            (state / "journal.key").write_bytes(key)
            async with open_store(self.journal_url, state):
                pass
            plan = GatePlan(
                self.judge.port,
                state_dir=state,
                directory_url=directory_url,
                accounts=accounts,
                sections=(
                    f'[journal]\nurl = "{self.journal_url}"\n'
                    f'[ledger]\nkind = "redis"\nurl = "{self.redis.url}"\ntimeout_s = 3\n'
                ),
                skew_s=skew_s,
            )
            self.gates.append(await self._started(plan))

    async def _started(self, plan: GatePlan) -> Gate:
        return await asyncio.to_thread(start_gate, self.lab, self.authority, plan)

    async def start_again(self, number: int) -> None:
        """Start a gate on the same host."""
        self.gates[number] = await self._started(self.gates[number].plan)

    def send(self) -> None:
        """Have the clients send on, until :meth:`stop_sending`."""
        context = self.authority.client_context()
        for at, gate in enumerate(self.gates * CLIENTS):
            self.clients.append(Client(gate.plan, 1 + at, context, may_be_deferred=True))
        self.sending = [asyncio.create_task(client.send_on()) for client in self.clients]

    async def stop_sending(self) -> None:
        """Let nobody send any more."""
        for task in self.sending:
            task.cancel()
        ends = await asyncio.gather(*self.sending, return_exceptions=True)
        assert {type(end) for end in ends} == {asyncio.CancelledError}, ends
        await close_dialogs()

    @property
    def sent(self) -> list[Submitted]:
        """All that any client sent."""
        return [one for client in self.clients for one in client.sent]

    def accepted_by(self, number: int) -> int:
        """The number of messages that a gate has answered with 250."""
        own = self.clients[number :: len(self.gates)]
        return sum(one.code == "250" for client in own for one in client.sent)

    async def mail_flows(self, messages: int = 20) -> None:
        """Wait until so many more messages were accepted on each host."""
        wanted = [self.accepted_by(at) + messages for at in range(len(self.gates))]
        async with asyncio.timeout(60):
            while any(self.accepted_by(at) < least for at, least in enumerate(wanted)):
                for task in self.sending:
                    assert not task.done(), task.exception()
                await asyncio.sleep(0.02)

    async def is_at_rest(self) -> None:
        """Wait until every gate says that its stores are there, and that nothing is owed."""
        for gate in self.gates:
            ask = _figures_of(gate)
            await asyncio.to_thread(eventually, lambda: _is_at_rest(ask()), "rest", 30)  # noqa: B023


def _figures_of(gate: Gate) -> Callable[[], Mapping[str, float]]:
    def ask() -> Mapping[str, float]:
        url = f"http://{LOOPBACK}:{gate.plan.http_port}/metrics"
        with urllib.request.urlopen(url, timeout=20) as answer:
            text = answer.read().decode()
        return {name: float(value) for name, value in _GAUGE.findall(text)}

    return ask


def _is_at_rest(figures: Mapping[str, float]) -> bool:
    assert figures["smtpgate_journal_lost_total"] == 0
    up = ("smtpgate_journal_up", "smtpgate_ledger_up", "smtpgate_directory_up")
    return figures["smtpgate_journal_owed"] == 0 and all(figures[name] for name in up)


@asynccontextmanager
async def fleet_in(lab: Lab) -> AsyncIterator[Fleet]:
    judge, postgres = Judge(), postgres_server(lab)
    await judge.start()
    # A killed Redis has what it answered: the sums are to be exact.
    redis = redis_server(lab, "--appendfsync", "always")
    journal_url = postgres.create_database("journal")
    fleet = Fleet(lab, Authority(lab), judge, postgres, redis, journal_url)
    try:
        yield fleet
    finally:
        for task in fleet.sending:
            task.cancel()
        await asyncio.gather(*fleet.sending, return_exceptions=True)
        await close_dialogs()
        await judge.close()


# -- the faults --------------------------------------------------------------------------------


async def _away() -> None:
    await asyncio.sleep(AWAY_S)  # how long something is away: there is no event to wait for


async def a_gate_is_killed(fleet: Fleet) -> None:
    await fleet.is_at_rest()
    await asyncio.to_thread(fleet.gates[0].kill)
    await fleet.start_again(0)


async def a_gate_is_frozen(fleet: Fleet) -> None:
    fleet.gates[1].daemon.signal(signal.SIGSTOP)
    await _away()
    fleet.gates[1].daemon.signal(signal.SIGCONT)


async def a_gate_is_restarted(fleet: Fleet) -> None:
    fleet.gates[1].terminate()
    await asyncio.to_thread(fleet.gates[1].daemon.wait)
    await fleet.start_again(1)


async def postgresql_crashes(fleet: Fleet) -> None:
    await asyncio.to_thread(fleet.postgres.stop)
    await _away()
    await asyncio.to_thread(fleet.postgres.start)


async def postgresql_is_frozen(fleet: Fleet) -> None:
    fleet.postgres.freeze()
    await _away()
    fleet.postgres.thaw()


async def redis_is_killed(fleet: Fleet) -> None:
    fleet.redis.daemon.signal(signal.SIGKILL)
    await asyncio.to_thread(fleet.redis.daemon.wait)
    await _away()
    await asyncio.to_thread(fleet.redis.start)


async def redis_is_restarted(fleet: Fleet) -> None:
    fleet.redis.daemon.signal(signal.SIGTERM)
    await asyncio.to_thread(fleet.redis.daemon.wait)
    await asyncio.to_thread(fleet.redis.start)


async def redis_is_frozen(fleet: Fleet) -> None:
    fleet.redis.daemon.signal(signal.SIGSTOP)
    await _away()
    fleet.redis.daemon.signal(signal.SIGCONT)


FAULTS: Final = (
    a_gate_is_killed,
    postgresql_crashes,
    redis_is_killed,
    a_gate_is_frozen,
    postgresql_is_frozen,
    redis_is_frozen,
    a_gate_is_restarted,
    redis_is_restarted,
    postgresql_crashes,
    a_gate_is_killed,
)


async def test_every_sum_is_exact_whatever_was_in_trouble(lab: Lab) -> None:
    async with fleet_in(lab) as fleet:
        await fleet.start(with_limits_of_all_kinds(), (0, 0))
        fleet.send()
        for fault in FAULTS:
            await fleet.mail_flows()
            await fault(fleet)
        await fleet.mail_flows()
        await fleet.stop_sending()
        await fleet.is_at_rest()
        for gate in fleet.gates:
            gate.terminate()
            await asyncio.to_thread(gate.daemon.wait)
        codes = [one.code or "none" for one in fleet.sent]
        print({code: codes.count(code) for code in sorted(set(codes))})  # noqa: T201 - for people
        await must_be_counted(fleet)
        await must_be_in_the_journal(fleet)


async def must_be_counted(fleet: Fleet) -> None:
    """Each limit has counted what was accepted, and what nobody settled; nothing else."""
    with Redis.from_url(fleet.redis.url, decode_responses=True) as client:
        values = [str(client.get(key)) for key in client.scan_iter("smtpgate:1:*:open:*")]
    still_open = [tuple(map(int, one.split()[:2])) for one in values if one != "undone"]
    counted = 0
    for one in fleet.sent:
        is_open = one.code != "250" and any(
            one.recipients == recipients and one.began <= moment(at_us) <= one.ended
            for at_us, recipients in still_open
        )
        if one.code == "250" or one.name in fleet.judge.accepted or is_open:
            counted += one.recipients
    ledger, now = RedisLedger(fleet.redis.url), datetime.now(UTC)
    try:
        assert [await used_24h(ledger, subject, now) for subject in SUBJECTS] == [counted] * 4
    finally:
        await ledger.close()


async def must_be_in_the_journal(fleet: Fleet) -> None:
    """Each answered message has its row with that verdict, each relayed one has a row."""
    for row in await rows_of(fleet):
        assert row.outcome != "relaying", row
    rows = {row.id: row for row in await rows_of(fleet)}
    for one in fleet.sent:
        if one.code:
            outcome = {"250": "accepted", "554": "refused"}.get(one.code, "deferred")
            assert (rows[one.id].outcome, rows[one.id].recipients) == (outcome, one.recipients)
    assert set(fleet.judge.accepted.values()) <= rows.keys()
    assert len(rows) <= len(fleet.sent)


async def rows_of(fleet: Fleet) -> list[Row]:
    state = fleet.gates[0].plan.state_dir
    assert state is not None
    store = store_of(fleet.journal_url, Path(state))
    try:
        await must_add_up(store)
        return await all_rows(store)
    finally:
        await store.close()


async def test_hosts_whose_clocks_are_three_minutes_apart_share_a_rate(lab: Lab) -> None:
    accounts = ACCOUNTS.replace("max_send_rate_per_s = 10000", f"max_send_rate_per_s = {RATE}")
    assert accounts != ACCOUNTS
    async with fleet_in(lab) as fleet:
        await fleet.start(accounts, (-SKEW_S, SKEW_S))
        fleet.send()
        await fleet.mail_flows(5)
        before, began = _recipients(fleet), asyncio.get_running_loop().time()
        await asyncio.sleep(RATE_S)  # a rate is something a second: there is no event
        after, took_s = _recipients(fleet), asyncio.get_running_loop().time() - began
        await fleet.stop_sending()
    passed = [one - other for one, other in zip(after, before, strict=True)]
    print(f"{passed} recipients in {took_s:.1f} s at {RATE} a second")  # noqa: T201 - for people
    # The burst of a second, and what one large message may borrow of the next.
    assert sum(passed) <= RATE * (took_s + 1) + 2 * len(fleet.clients)
    assert sum(passed) >= RATE * took_s / 2
    assert min(passed) >= sum(passed) / 10, "nobody starves"


def _recipients(fleet: Fleet) -> list[int]:
    """The number of recipients that each gate had accepted."""
    return [
        sum(one.recipients for client in own for one in client.sent if one.code == "250")
        for own in (fleet.clients[at :: len(fleet.gates)] for at in range(len(fleet.gates)))
    ]
