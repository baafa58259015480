"""``make soak``: an hour of it, or ``SMTPGATE_SOAK_S`` seconds.

The seed is printed; ``SMTPGATE_SOAK_SEED`` has it done again, as far as processes do the same
twice. ``SMTPGATE_SOAK_KEEP`` is a folder for the logs and databases of a bad run.
"""

import asyncio
import os
import shutil
import sys
from random import SystemRandom
from typing import Final

from tests.soak.soak import Plan, Soak, table
from tests.support.daemons import Lab

_HOUR_S: Final = 3600.0


def main() -> int:
    """Run one; 1 if anything was wrong."""
    seconds = float(os.environ.get("SMTPGATE_SOAK_S", _HOUR_S))
    seed = int(os.environ.get("SMTPGATE_SOAK_SEED") or SystemRandom().randrange(10**6))
    _say(f"a soak of {seconds:.0f} s, seed {seed}")
    with Lab() as lab:
        verdict = asyncio.run(Soak(lab, Plan(seconds, seed)).run())
        _say(table(verdict))
        kept = os.environ.get("SMTPGATE_SOAK_KEEP")
        if verdict.problems and kept:
            shutil.copytree(lab.folder, kept, dirs_exist_ok=True)
    return 1 if verdict.problems else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
