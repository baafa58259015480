"""The troubles of a soak: upstreams in moods, reloads, certificates, kills, restarts."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Final

from tests.soak.gauge import processes_of, workers_below
from tests.soak.upstream import MOODS, FaultyUpstream
from tests.support.authority import Authority
from tests.support.daemons import Lab, eventually
from tests.support.gate import HOSTNAME, Gate, GatePlan, start_gate

_GOOD_S: Final = (3.0, 15.0)
_BAD_S: Final = (0.5, 6.0)


async def be_moody(upstream: FaultyUpstream, chance: Random, counts: Counter[str]) -> None:
    """One mood after the other, with good times between them."""
    while True:
        await asyncio.sleep(chance.uniform(*_GOOD_S))
        mood = chance.choice(MOODS)
        counts[f"upstream {mood}"] += 1
        await upstream.change(mood)
        await asyncio.sleep(chance.uniform(*_BAD_S))
        await upstream.change("fine")


class GateKeeper:
    """Has the gate, and does to it what operators and accidents do."""

    def __init__(
        self, lab: Lab, authority: Authority, plan: GatePlan, counts: Counter[str]
    ) -> None:
        self.gates: list[Gate] = []
        self.counts = counts
        self._lab, self._authority, self._plan = lab, authority, plan
        self._change: asyncio.Future[None] | None = None

    @property
    def gate(self) -> Gate:
        """The one that runs."""
        return self.gates[-1]

    async def start(self) -> None:
        """Start one, with the sockets of the one before."""
        made = await asyncio.to_thread(start_gate, self._lab, self._authority, self._plan)
        self.gates.append(made)

    async def disturb(self, chance: Random, pause_s: tuple[float, float]) -> None:
        """Reloads and certificates, as long as this is not cancelled; processes stay."""
        while True:
            await asyncio.sleep(chance.uniform(*pause_s))
            change = chance.choice((self.reload, self.spoil, self.renew))
            self.counts[change.__name__] += 1
            await change()

    async def replace(self, chance: Random, pause_s: tuple[float, float]) -> None:
        """Killed workers and restarts, as long as this is not cancelled."""
        while True:
            await asyncio.sleep(chance.uniform(*pause_s))
            choices: tuple[Callable[[], Awaitable[None]], ...] = (
                self.kill_worker,
                self.kill_worker,
                self.restart,
                self.kill_all,
            )
            change = chance.choice(choices)
            self.counts[change.__name__] += 1
            self._change = asyncio.ensure_future(change())
            await asyncio.shield(self._change)

    async def settle(self) -> None:
        """Wait for the end of a replacement that had begun."""
        if self._change is not None:
            await self._change
            self._change = None

    async def reload(self) -> None:
        """Change a key, and send SIGHUP."""
        text = self.gate.config.read_text()
        old, new = ("50", "60") if "max_recipients = 50" in text else ("60", "50")
        changed = text.replace(f"max_recipients = {old}", f"max_recipients = {new}")
        self.gate.config.write_text(changed)
        self.gate.daemon.signal(signal.SIGHUP)

    async def spoil(self) -> None:
        """Reload a configuration that is wrong, and put the right one back."""
        config = self.gate.config
        text = config.read_text()
        config.write_text(text.replace("max_recipients", "max_recipient"))
        self.gate.daemon.signal(signal.SIGHUP)
        try:
            await asyncio.sleep(1)
        finally:
            config.write_text(text)

    async def renew(self) -> None:
        """Put another certificate into the files, and send SIGHUP."""
        self._authority.renew(HOSTNAME)
        self.gate.daemon.signal(signal.SIGHUP)

    async def kill_worker(self) -> None:
        """Kill one, and wait for the next."""
        parent = self.gate.daemon.pid
        before = workers_below(parent)
        victim = before[self.counts["kill_worker"] % len(before)]
        os.kill(victim, signal.SIGKILL)

        def is_replaced() -> bool:
            now = workers_below(parent)
            return len(now) == self._plan.workers and victim not in now

        await asyncio.to_thread(eventually, is_replaced, "another worker", 60)

    async def restart(self) -> None:
        """Stop the gate as an operator does, and start the next."""
        self.gate.terminate()
        assert await asyncio.to_thread(self.gate.daemon.wait, 60) == 0
        await self.start()

    async def kill_all(self) -> None:
        """Kill the parent; the workers end by themselves."""
        pids = processes_of(self.gate.daemon.pid)
        await asyncio.to_thread(self.gate.kill)

        def are_gone() -> bool:
            return not any(Path(f"/proc/{pid}").exists() for pid in pids)

        await asyncio.to_thread(eventually, are_gone, "the workers to end", 60)
        await self.start()
