"""smtpgate with more to hold: ``python -m tests.bench.watched_gate NAMES SERIES WORDS…``.

SIGUSR2 has the directory asked for each name of the file NAMES, as messages would. The metrics
have SERIES identities from the start. The other words are those of the program's command line.
"""

import asyncio
import signal
import sys
from functools import partial
from pathlib import Path

from smtpgate.cli import main
from smtpgate.directory.live import LiveDirectory
from smtpgate.gate.gate import Gate

_AT_ONCE = 4


async def _ask(directory: LiveDirectory, names: list[str]) -> None:
    while names:
        _ = await directory.identities(names.pop())


def _fill_cache(gate: Gate, names: Path) -> None:
    left = names.read_text().split()
    for _ in range(_AT_ONCE):
        _ = gate.tasks.start(_ask(gate.directory, left))


def _watch(names: Path, series: int) -> None:
    start = Gate.start

    async def started(self: Gate, *args: object) -> None:
        await start(self, *args)  # type: ignore[arg-type]
        for number in range(series):
            pair = f"arn:aws:ses:us-east-1:888888888888:identity/d{number}.example", "8" * 12
            for outcome in ("accepted", "refused", "deferred"):
                self.metrics._shares.count(pair, outcome, 1, self.clock.monotonic())
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR2, partial(_fill_cache, self, names))

    Gate.start = started  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    _watch(Path(sys.argv.pop(1)), int(sys.argv.pop(1)))
    main()
