"""The number of workers, and the part of the host's bounds that each of them has.

Connections of clients and octets in flight are counted together (see shared_sums.py). What is
here is divided instead, because a worker cannot use what another one keeps: its connections to
the upstream, its cache, its lines of the log.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from smtpgate.config import Config
from smtpgate.config.upstream import UpstreamConfig

_MOST: Final = 8
_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN_CGROUP: Final = Path("/proc/self/cgroup")


def number_of_workers(config: Config) -> int:
    """The configured number; by default one a core that the process may use, at most 8.

    Each worker needs a connection to each upstream, so there are no more than these. A ledger
    in memory belongs to one process.
    """
    if config.ledger.kind == "memory":
        return 1
    wanted = config.gate.workers or min(usable_cores(), _MOST)
    return min(wanted, *(upstream.max_connections for upstream in config.upstreams))


def usable_cores(own: Path = _OWN_CGROUP, root: Path = _CGROUPS) -> int:
    """The cores that this process may use, by its affinity and the quotas of its cgroups.

    ``own`` names its cgroup (cgroups(7)). A quota of the unit bounds it, and so does one of a
    slice or a container that has the unit.
    """
    cores = len(os.sched_getaffinity(0))
    for folder in _cgroups(own, root):
        try:
            quota, _, period = (folder / "cpu.max").read_text().strip().partition(" ")
            if quota != "max":
                cores = min(cores, -(-int(quota) // int(period)))
        except (OSError, ValueError):
            continue  # none with a quota
    return max(cores, 1)


def _cgroups(own: Path, root: Path) -> Iterator[Path]:
    """The folders of its cgroup and of those above it; none without cgroups of version 2."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        if line.startswith("0::"):
            folder = root / line.removeprefix("0::").strip("/")
            yield from (one for one in (folder, *folder.parents) if one.is_relative_to(root))


def part(whole: int, number: int, workers: int) -> int:
    """The part of one worker: as equal as they can be, the parts add up to the whole."""
    return whole // workers + (number < whole % workers)


def config_of_worker(config: Config, number: int, workers: int) -> Config:
    """The configuration of the worker of that number, with its part of what is divided."""
    cache = {"cache_octets": max(1_000_000, config.directory.cache_octets // workers)}
    lines = {"refusals_per_minute": _at_least(config.log.refusals_per_minute, workers)}
    return config.model_copy(
        update={
            "upstreams": tuple(
                _upstream_of_worker(upstream, number, workers, has_own_mail=config.has_outbox)
                for upstream in config.upstreams
            ),
            "directory": config.directory.model_copy(update=cache),
            "log": config.log.model_copy(update=lines),
        }
    )


def _upstream_of_worker(
    upstream: UpstreamConfig, number: int, workers: int, *, has_own_mail: bool
) -> UpstreamConfig:
    # The parent has one connection for its own mail, if there are enough.
    parents = 1 if has_own_mail and upstream.max_connections > workers else 0
    return upstream.model_copy(
        update={
            "max_connections": part(upstream.max_connections - parents, number, workers),
            "max_connections_per_account": max(
                1, part(upstream.account_share, number, workers)
            ),
            "max_waiting_per_account": _at_least(upstream.max_waiting_per_account, workers),
        }
    )


def _at_least(whole: int, workers: int) -> int:
    """An equal part, rounded up: each worker has some of it."""
    return -(-whole // workers)
