"""smtpgate with more to hold: ``python -m tests.bench.watched_gate NAMES SERIES TURNS WORDS…``.

On SIGUSR2 a process that takes mail asks its directory for each name of the file NAMES, as
messages would. The metrics have SERIES identities from the start. Long turns of each process's
event loop are appended to the file TURNS. The other words are those of the program's command
line. With ``SMTPGATE_BENCH_WHERE`` set, the file also says what the loop did.
"""

import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path

from smtpgate.cli import main
from smtpgate.directory.live import LiveDirectory
from smtpgate.gate.host import Host
from smtpgate.gate.service import SmtpService
from smtpgate.metrics.pauses import Pauses
from tests.bench.turns import TurnRecorder

_AT_ONCE = 4


async def _ask(directory: LiveDirectory, names: list[str]) -> None:
    while names:
        _ = await directory.identities(names.pop())


def _fill_cache(service: SmtpService, names: Path) -> None:
    left = names.read_text().split()
    for _ in range(_AT_ONCE):
        _ = service.tasks.start(_ask(service.directory, left))


def _add_series(host: Host, series: int) -> None:
    for number in range(series):
        pair = f"arn:aws:ses:us-east-1:888888888888:identity/d{number}.example", "8" * 12
        for outcome in ("accepted", "refused", "deferred"):
            host.metrics._shares.count(pair, outcome, 1, host.clock.monotonic())


def _watch(names: Path, series: int, turns: Path) -> None:
    listen, start_host, start_pauses = SmtpService.listen, Host.start, Pauses.start

    async def listening(self: SmtpService) -> None:
        await listen(self)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR2, partial(_fill_cache, self, names))

    async def host_started(self: Host) -> None:
        await start_host(self)
        _add_series(self, series)

    def pauses_started(self: Pauses) -> None:
        start_pauses(self)
        TurnRecorder(turns, is_asking_where="SMTPGATE_BENCH_WHERE" in os.environ).start()

    SmtpService.listen = listening  # type: ignore[method-assign]
    Host.start = host_started  # type: ignore[method-assign]
    Pauses.start = pauses_started  # type: ignore[method-assign]


if __name__ == "__main__":
    _watch(Path(sys.argv.pop(1)), int(sys.argv.pop(1)), Path(sys.argv.pop(1)))
    main()
