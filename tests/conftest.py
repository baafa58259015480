"""The options of test runs; the fixtures are in ``tests/support/fixtures.py``.

Each process imports all tests when it begins, and compiles them after a checkout. So a folder
without a test for this run is not imported, and two processes begin at different ends.
"""

import gc
import os
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import pytest

_ENOUGH_OCTETS: Final = 2 << 30
_MEMORY: Final = Path("/dev/shm")
# All tests of such a folder have its name as their mark.
_MARKED_FOLDERS: Final = frozenset({"bench", "integration"})
_NOT_SHOWN: Final = (("setup", "passed"), ("teardown", "passed"))

_LONGEST: Final = frozenset(
    f"test_{name}"
    for name in (
        *("upstream_faults", "restarts", "moto_suite", "fleet", "soak", "client_recipes"),
        *("gate_crashes", "api_clients", "recipients_clients", "workers", "postfix_upstream"),
        *("postfix_client", "store_faults", "bench_peers", "prometheus", "journal_faults"),
        *("protocol_suite", "mail_readers", "reload_workers", "event_workers"),
    )
)

# Their tests start processes that are forked from one that has imported the program
# (tests/support/forks.py). They stand together, and so one process of the tests has them all:
# for each that has one of them, that import takes two seconds.
_FORKING: Final = frozenset(
    f"test_{name}"
    for name in ("documents", "limits", "policy_commands", "sqlite_faults", "start")
)

# Imported modules and collected tests stay to the end: a collector that looks through them
# again and again takes longer than many a test.
gc.disable()


def _leaves_out(config: pytest.Config, mark: str) -> bool:
    return f"not {mark}" in config.option.markexpr


def pytest_configure(config: pytest.Config) -> None:
    """Import the fixtures, and the program with them.

    The process that only hands out tests to others would import that for nothing, while they
    wait for it. Tests without daemons have their files in memory, if there is enough of it.
    """
    if config.getoption("dist", "no") == "no" or not config.getoption("tx", None):
        config.pluginmanager.import_plugin("tests.support.fixtures")
    if hasattr(config, "workerinput"):
        _report_only_what_is_shown(config)
    if _leaves_out(config, "integration") and _has_room(_MEMORY):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))


def _report_only_what_is_shown(config: pytest.Config) -> None:
    """Have a worker send no report of which the process that hands out tests shows nothing.

    Three of four reports are of that sort, and each takes both processes longer than to run a
    small test: that a test begins, that its fixtures were made, that they were closed.
    """
    option = config.option
    if option.verbose > 0 or option.durations is not None or option.xmlpath:
        return
    plugins: list[Any] = [*config.pluginmanager.get_plugins()]
    (worker,) = (plugin for plugin in plugins if type(plugin).__name__ == "WorkerInteractor")
    send = worker.sendevent

    def send_if_shown(name: str, **what: Any) -> None:  # noqa: ANN401 - xdist's
        data = what.get("data", {})
        if name == "testreport" and (data["when"], data["outcome"]) in _NOT_SHOWN:
            return
        if name != "logstart":
            send(name, **what)

    worker.sendevent = send_if_shown


def _has_room(folder: Path) -> bool:
    return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > _ENOUGH_OCTETS


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out folders in which no test has to run."""
    name = collection_path.name
    return True if name in _MARKED_FOLDERS and _leaves_out(config, name) else None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let every second process begin at the end: each reads what the other has compiled."""
    report = yield
    worker: str = getattr(collector.config, "workerinput", {}).get("workerid", "gw0")
    if isinstance(collector, pytest.Directory) and int(worker.removeprefix("gw")) % 2:
        report.result.reverse()
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put all tests into one order, whatever the end at which this process began.

    The longest files begin, so that none of them is left alone at the end.
    """

    def place(item: pytest.Item) -> tuple[bool, bool, Path]:
        name = item.path.stem
        return name not in _LONGEST, name not in _FORKING, item.path

    items.sort(key=place)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """From here on things are made that may be thrown away.

    Few of them are in cycles, and to look for these often takes a tenth of the time.
    """
    gc.freeze()
    gc.set_threshold(100_000, 10, 10)
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """Look for lost errors once: pytest would twice, and Python at its end once more."""
    gc.collect()
    gc.freeze()
