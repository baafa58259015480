import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from smtpgate.gate.systemd import feed_watchdog_until, notify, watchdog_interval_s
from tests.support.activation import SocketUnit
from tests.support.clock import move_loop, settle
from tests.support.source import ROOT
from tests.support.waiting import until


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The service manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield receiver


def test_states_reach_the_service_manager_one_a_datagram(manager: socket.socket) -> None:
    assert notify("READY=1")
    assert notify("STOPPING=1")
    assert manager.recv(100) == b"READY=1"
    assert manager.recv(100) == b"STOPPING=1"


def test_an_abstract_socket_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"smtpgate-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name}")
        receiver.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        assert notify("READY=1")
        assert receiver.recv(100) == b"READY=1"


def test_without_a_service_manager_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")


def test_a_manager_that_is_gone_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert not notify("READY=1")


@pytest.mark.parametrize(
    ("limit_us", "pid", "interval_s"),
    [
        ("30000000", "ours", 15.0),
        ("30000000", "", 15.0),
        ("30000000", "1", None),
        ("", "", None),
        ("0", "", None),
        ("soon", "", None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_asks(
    monkeypatch: pytest.MonkeyPatch, limit_us: str, pid: str, interval_s: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", limit_us)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "ours" else pid)
    assert watchdog_interval_s() == interval_s


async def test_the_watchdog_is_fed_until_the_end(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "2000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    stop = asyncio.Event()
    feeding = asyncio.ensure_future(feed_watchdog_until(stop, lambda: True))
    for _ in range(3):
        assert await asyncio.to_thread(manager.recv, 100) == b"WATCHDOG=1"
    stop.set()
    await feeding


async def test_one_bad_moment_does_not_cost_the_watchdog_a_whole_interval(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "100000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    stop, looks = asyncio.Event(), list[None]()

    def is_well() -> bool:
        looks.append(None)
        return len(looks) > 1

    feeding = asyncio.ensure_future(feed_watchdog_until(stop, is_well))
    await settle()
    await move_loop(50)
    await until(lambda: len(looks) == 1)
    await settle()
    await move_loop(40)
    await until(lambda: len(looks) == 2, timeout_s=5)
    assert manager.recv(100) == b"WATCHDOG=1"
    stop.set()
    await feeding


async def test_without_a_watchdog_the_end_is_waited_for_in_silence(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    stop = asyncio.Event()
    feeding = asyncio.ensure_future(feed_watchdog_until(stop, lambda: True))
    await asyncio.sleep(0)
    stop.set()
    await feeding
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(100)


# -- sockets from it ---------------------------------------------------------------------------

_PRINTS: Final = """
import os
from smtpgate.gate.errors import OpenError
from smtpgate.gate.systemd import passed_sockets
try:
    for name, one in passed_sockets():
        print(name, one.getsockname()[1], one.get_inheritable(), one.fileno())
except OpenError as error:
    print(error)
print([key for key in os.environ if key.startswith("LISTEN_")], passed_sockets())
"""


def printed(unit: SocketUnit, **environment: str) -> list[str]:
    """The output of a process that is passed the sockets, with more in its environment."""
    changes = "".join(
        f"os.environ[{key!r}] = {value!r}\n" for key, value in environment.items()
    )
    program = [sys.executable, "-c", f"import os\n{changes}{_PRINTS}"]
    done = subprocess.run(
        unit.words(program),
        pass_fds=unit.descriptors,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.splitlines()


@pytest.fixture
def unit() -> Iterator[SocketUnit]:
    found = SocketUnit({"listener.a": 0, "http": 0})
    yield found
    found.close()


@pytest.mark.slow
def test_sockets_are_taken_once_with_their_names_and_by_no_child(unit: SocketUnit) -> None:
    first, second, after = printed(unit)
    assert re.fullmatch(r"listener\.a \d+ False 3", first)
    assert re.fullmatch(r"http \d+ False 4", second)
    assert after == "[] []"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"LISTEN_PID": "1"}, []),
        ({"LISTEN_FDS": ""}, []),
        ({"LISTEN_FDS": "many"}, ["LISTEN_FDS: 'many' is not a number of sockets"]),
        ({"LISTEN_FDS": "9999"}, ["LISTEN_FDS: '9999' is not a number of sockets"]),
        ({"LISTEN_FDNAMES": "one"}, ["LISTEN_FDNAMES: has 1 names for 2 sockets"]),
    ],
)
def test_variables_for_others_are_ignored_and_wrong_ones_stop_the_start(
    unit: SocketUnit, environment: dict[str, str], said: list[str]
) -> None:
    assert printed(unit, **environment) == [*said, "[] []"]
