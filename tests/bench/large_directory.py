"""A directory of a million identities: how it starts, answers and decides, and what it takes.

    .venv/bin/python -m tests.bench.large_directory --accounts 100000 --identities 1000000

Makes a SQLite directory of that size, and one of a hundredth of it beside which no time may
have grown, and takes both away again. Figures are printed and not judged.
"""

import argparse
import asyncio
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Concatenate, Final, ParamSpec

from tests.bench.bulk import ADDRESSES, KINDS, Size, fill
from tests.bench.directory_figures import (
    answers,
    decisions,
    memory,
    residence,
    start,
)
from tests.support.directory import open_store, sqlite_in

P = ParamSpec("P")
Figures = dict[str, float]
_SMALLER: Final = 100
_MAX_OCTETS: Final = 64 * 1024 * 1024
_WEIGHED: Final = (*KINDS, "access key", f"{ADDRESSES} addresses")


def _print(title: str, figures: Figures) -> None:
    print(f"\n{title}")
    for what, figure in figures.items():
        print(f"  {what:<48} {figure:>14,.3f}", flush=True)


def _alone(
    measure: Callable[Concatenate[str, Size, P], Figures],
    url: str,
    size: Size,
    *args: P.args,
    **kwargs: P.kwargs,
) -> Figures:
    """One measurement in a process that did nothing before."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, url, size, *args, **kwargs).result()


async def _filled(url: str, size: Size) -> None:
    async with open_store(url) as store:
        await fill(store, size)


def _built(folder: Path, size: Size) -> str:
    url = sqlite_in(folder)
    begin = time.perf_counter()
    asyncio.run(_filled(url, size))
    took_s = time.perf_counter() - begin
    octets = sum(path.stat().st_size for path in folder.iterdir())
    title = f"{size.accounts:,} accounts, {size.identities:,} identities: built"
    _print(title, {"seconds": took_s, "MiB": octets / 2**20})
    return url


def measure_all(folder: Path, size: Size, touched: int) -> None:
    """Build a directory there and print every figure of it."""
    url = _built(folder, size)
    _print("start", _alone(start, url, size))
    _print("answers", _alone(answers, url, size))
    _print("decisions", _alone(decisions, url, size))
    if touched:
        _print("memory", _alone(residence, url, size, touched, _MAX_OCTETS))
        for kind in _WEIGHED:
            _print(f"an entry: {kind}", _alone(memory, url, size, kind))


def main() -> None:
    """Measure the small directory and the large one, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--identities", type=int, default=1_000_000)
    parser.add_argument("--touched", type=int, default=200_000, help="for the memory")
    parser.add_argument("--folder", type=Path, help="where there is room for 2 GB")
    given = parser.parse_args()
    sizes = {
        Size(max(given.accounts // _SMALLER, 1), max(given.identities // _SMALLER, 1000)): 0,
        Size(given.accounts, given.identities): given.touched,
    }
    for size, touched in sizes.items():
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            measure_all(Path(folder), size, touched)


if __name__ == "__main__":
    main()
