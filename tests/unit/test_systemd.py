import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from smtpgate.gate.systemd import feed_watchdog_until, notify, watchdog_interval_s
from tests.support.clock import move_loop, settle
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
