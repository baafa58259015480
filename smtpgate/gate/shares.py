"""The number of workers, and the part of the host's bounds that each of them has.

Connections of clients and octets in flight are counted together (see shared_sums.py). What is
here is divided instead, because a worker cannot use what another one keeps: its connections to
the upstream, its cache, its lines of the log.
"""

import os
from pathlib import Path
from typing import Final

from smtpgate.config import Config

_MOST: Final = 8
_CPU_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")


def number_of_workers(config: Config) -> int:
    """The configured number; by default one a core that the process may use, at most 8.

    Each worker needs a connection to the upstream, so there are no more than these. A ledger
    in memory belongs to one process.
    """
    if config.ledger.kind == "memory":
        return 1
    wanted = config.gate.workers or min(usable_cores(), _MOST)
    return min(wanted, config.sole_upstream.max_connections)


def usable_cores(quota_file: Path = _CPU_QUOTA) -> int:
    """The cores that this process may use, by its affinity and the quota of its cgroup."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, _, period = quota_file.read_text().strip().partition(" ")
        if quota != "max":
            cores = min(cores, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no cgroup, or none with a quota
    return max(cores, 1)


def part(whole: int, number: int, workers: int) -> int:
    """The part of one worker: as equal as they can be, the parts add up to the whole."""
    return whole // workers + (number < whole % workers)


def config_of_worker(config: Config, number: int, workers: int) -> Config:
    """The configuration of the worker of that number, with its part of what is divided."""
    upstream = config.upstreams[0]
    shares = {
        "max_connections": part(upstream.max_connections, number, workers),
        "max_connections_per_account": max(1, part(upstream.account_share, number, workers)),
        "max_waiting_per_account": _at_least(upstream.max_waiting_per_account, workers),
    }
    cache = {"cache_octets": max(1_000_000, config.directory.cache_octets // workers)}
    lines = {"refusals_per_minute": _at_least(config.log.refusals_per_minute, workers)}
    return config.model_copy(
        update={
            "upstreams": (upstream.model_copy(update=shares),),
            "directory": config.directory.model_copy(update=cache),
            "log": config.log.model_copy(update=lines),
        }
    )


def _at_least(whole: int, workers: int) -> int:
    """An equal part, rounded up: each worker has some of it."""
    return -(-whole // workers)
