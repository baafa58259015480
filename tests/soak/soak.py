"""A soak: mail at a steady rate through a gate, faults on both sides, and an exact account.

The time has three parts. In the first and the last fifth workers are killed and the gate is
restarted, with sockets that it inherits. Between them no process is replaced, so that memory
and descriptors can be compared; reloads, certificates and the faults of clients and upstreams
go on all the time. In the end all is good for a moment, so that every message comes to its end.
"""

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from tests.soak.clients import Pace, SoakClient
from tests.soak.deliveries import Deliveries
from tests.soak.gauge import Reading, growth, read_gauge
from tests.soak.trouble import GateKeeper, be_moody
from tests.soak.upstream import FaultyUpstream
from tests.soak.verdict import Verdict, journal_rows, judge, judge_log, judge_sums
from tests.support.activation import SocketUnit
from tests.support.authority import Authority, Certificate
from tests.support.daemons import Lab, free_port
from tests.support.gate import GatePlan
from tests.support.traffic import with_limits_of_all_kinds

UPSTREAM_NAME: Final = "mx.example.net"
_UPSTREAMS: Final = ("default", "second", "third")
_REPLACED: Final = 0.2  # of the time, at both ends
_CLIENTS: Final = 16
_SETTLE_S: Final = 12.0  # longer than the gate's deadline
# Short, so that a soak sees many failovers; an operator's are longer.
TIMES: Final[dict[str, int]] = {
    "connect_timeout_s": 2,
    "command_timeout_s": 3,
    "data_timeout_s": 4,
    "deadline_s": 9,
    "probe_interval_s": 2,
}


@dataclass(slots=True)
class Plan:
    """The length of a soak, its messages a second, and its luck."""

    seconds: float
    seed: int
    per_s: float = 28.0  # 100,000 messages in an hour
    workers: int = 2
    counts: Counter[str] = field(default_factory=Counter)


def upstream_section(name: str, port: int, ca_file: object, more: str = "") -> str:
    """The section of a further upstream."""
    times = "".join(f"{key} = {value}\n" for key, value in TIMES.items())
    return (
        f'[upstream.{name}]\nhost = "127.0.0.1"\nport = {port}\ntls = "required"\n'
        f'tls_name = "{UPSTREAM_NAME}"\nca_file = "{ca_file}"\n{times}{more}\n'
    )


def server_context(certificate: Certificate) -> ssl.SSLContext:
    """TLS settings of a server with that certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.cert_file, certificate.key_file)
    return context


class Soak:
    """One run, from its start to its verdict."""

    def __init__(self, lab: Lab, plan: Plan) -> None:
        self._lab, self._plan = lab, plan
        self._deliveries = Deliveries()
        self._authority = Authority(lab)
        contexts = (
            server_context(self._authority.certificate(UPSTREAM_NAME)),
            server_context(Authority(lab).certificate(UPSTREAM_NAME)),
        )
        self._upstreams = [
            FaultyUpstream(
                name, free_port(), self._deliveries, self._chance(f"upstream {name}"), contexts
            )
            for name in _UPSTREAMS
        ]
        self._state = lab.new_folder("state", 0o700)
        self._keeper = GateKeeper(lab, self._authority, self._gate_plan(), plan.counts)
        self._clients: list[SoakClient] = []
        self._readings: list[Reading] = []

    def _chance(self, purpose: str) -> Random:
        return Random(f"{self._plan.seed} {purpose}")

    def _gate_plan(self) -> GatePlan:
        first, *others = self._upstreams
        ports = (free_port(), free_port())
        sockets = SocketUnit({"listener.submission": ports[0], "smtpgate.socket": ports[1]})
        self._lab.keep(sockets)
        return GatePlan(
            first.port,
            {
                "tls": "required",
                "tls_name": UPSTREAM_NAME,
                "ca_file": self._authority.ca_file,
                **TIMES,
            },
            submission_port=ports[0],
            submissions_port=ports[1],
            state_dir=self._state,
            workers=self._plan.workers,
            sockets=sockets,
            accounts=with_limits_of_all_kinds(),
            gate_keys="max_recipients = 50",
            sections="\n".join(
                upstream_section(one.name, one.port, self._authority.ca_file) for one in others
            ),
        )

    async def run(self) -> Verdict:
        """All of it."""
        plan = self._plan
        for upstream in self._upstreams:
            await upstream.start()
        await self._keeper.start()
        context, pace = self._authority.client_context(), Pace(plan.per_s)
        port = self._keeper.gate.tls_port
        self._clients = [
            SoakClient(number, plan.seed, port, context, pace) for number in range(_CLIENTS)
        ]
        began = time.monotonic()
        sending = [asyncio.create_task(one.run()) for one in self._clients]
        troubles = [
            asyncio.create_task(be_moody(one, self._chance(f"mood {one.name}"), plan.counts))
            for one in self._upstreams
        ]
        try:
            await self._three_parts()
        finally:
            await _cancel(troubles)
            for upstream in self._upstreams:
                upstream.has_chance_faults = False
                await upstream.change("fine")
            for client in self._clients:
                client.stop()
            _, late = await asyncio.wait(sending, timeout=_SETTLE_S + 60)
            await _cancel(list(late))
        took_s = time.monotonic() - began
        await asyncio.sleep(1)
        self._keeper.gate.terminate()
        code = await asyncio.to_thread(self._keeper.gate.daemon.wait, 60)
        for upstream in self._upstreams:
            await upstream.close()
        return await self._verdict(took_s, code, len(late))

    async def _three_parts(self) -> None:
        plan, keeper = self._plan, self._keeper
        edge_s = plan.seconds * _REPLACED
        pause_s = (min(3.0, edge_s / 5), min(15.0, edge_s / 2))
        steady = self._chance("disturb")
        replacing = self._chance("replace")
        for seconds, is_quiet in (
            (edge_s, False),
            (plan.seconds - 2 * edge_s, True),
            (edge_s, False),
        ):
            troubles: list[Coroutine[Any, Any, None]] = [keeper.disturb(steady, pause_s)]
            troubles.append(
                self._measure(seconds) if is_quiet else keeper.replace(replacing, pause_s)
            )
            tasks = [asyncio.create_task(one) for one in troubles]
            done, _ = await asyncio.wait(tasks, timeout=seconds)
            await _cancel(tasks)
            for task in done:
                task.result()  # what went wrong, if anything
            await keeper.settle()

    async def _measure(self, seconds: float) -> None:
        """Readings at equal distances; the task is cancelled in the end."""
        while True:
            await asyncio.sleep(seconds / 60)
            parent = self._keeper.gate.daemon.pid
            self._readings.append(await asyncio.to_thread(read_gauge, parent))

    async def _verdict(self, took_s: float, code: int, late: int) -> Verdict:
        attempts = [one for client in self._clients for one in client.attempts]
        rows = await asyncio.to_thread(lambda: list(journal_rows(self._state)))
        verdict = judge(attempts, self._deliveries, rows)
        await judge_sums(verdict, self._state, attempts, rows)
        judge_log(verdict, [gate.daemon.log_file for gate in self._keeper.gates])
        figures, problems = growth(self._readings)
        replaced = {one.pids for one in self._readings}
        if len(replaced) > 1:
            problems.append(f"processes were replaced in the quiet time: {replaced}")
        verdict.problems += problems
        unanswered = sum(one.unanswered for one in self._clients)
        if unanswered or late or code:
            verdict.problems.append(
                f"{unanswered} replies and {late} clients waited for too long; exit {code}"
            )
        verdict.figures = {
            "seed": self._plan.seed,
            "seconds": f"{took_s:.0f}",
            "messages a second": f"{len(attempts) / took_s:.1f}",
            **verdict.figures,
            **figures,
            "troubles": dict(self._plan.counts.most_common()),
        }
        return verdict


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task


def table(verdict: Verdict) -> str:
    """The figures, one a line, and the problems."""
    lines = [f"{name:<22} {value}" for name, value in verdict.figures.items()]
    lines += [f"PROBLEM: {problem}" for problem in verdict.problems]
    return "\n".join([*lines, "good" if not verdict.problems else "NOT GOOD"])
