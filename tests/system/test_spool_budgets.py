"""The bounds on messages in files, and a disk that is full."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from smtpgate.gate.gate import Gate
from tests.support.clock import move_loop
from tests.support.inprocess import login, send
from tests.support.large import (
    HEAD,
    LINE,
    SMALL_SPOOL,
    begin,
    open_files,
    open_spooling_gate,
)
from tests.support.waiting import until
from tests.system.test_budgets import exhausted
from tests.system.test_reload import change

pytestmark = pytest.mark.slow


async def test_messages_in_files_are_bounded_by_their_octets(tmp_path: Path) -> None:
    gate_settings = "max_message_octets = 300000\nmax_spooled_octets = 500000\n"
    gate_settings += "max_inflight_share = 1\n"
    async with open_spooling_gate(tmp_path, gate=gate_settings) as (gate, sink):
        first = await begin(gate, HEAD + LINE * 4000)
        await until(lambda: open_files(tmp_path) == 1)
        second = await login(gate)
        assert (await send(second, HEAD + LINE * 4000)).startswith(
            "452 4.3.1 Too many messages"
        )
        assert await exhausted(gate, tmp_path, "spooled-octets", "plain") == 1
        assert (await send(second, HEAD + LINE * 900)).startswith("250"), "it fits into memory"
        await first.send(b".\r\n")
        assert (await first.reply()).startswith("250")
        assert (await send(second, HEAD + LINE * 4000)).startswith("250")
        assert len(sink.messages) == 3


async def test_messages_in_files_are_bounded_by_their_number(tmp_path: Path) -> None:
    async with open_spooling_gate(tmp_path, gate="reserved_descriptors = 64") as (gate, _):
        dialogs = [await begin(gate, HEAD + LINE * 1100) for _ in range(32)]
        await until(lambda: open_files(tmp_path) == 32)
        another = await login(gate)
        assert (await send(another, HEAD + LINE * 1100)).startswith(
            "452 4.3.1 Too many messages"
        )
        for dialog in dialogs:
            await dialog.close()
        await until(lambda: open_files(tmp_path) == 0)
        assert (await send(another, HEAD + LINE * 1100)).startswith("250")


async def test_a_reload_leaves_the_files_of_messages_that_are_coming_in_counted(
    tmp_path: Path,
) -> None:
    async with open_spooling_gate(tmp_path, gate="reserved_descriptors = 64") as (gate, _):
        dialogs = [await begin(gate, HEAD + LINE * 1100) for _ in range(32)]
        await until(lambda: open_files(tmp_path) == 32)
        change(tmp_path, "drain_s = 5", "drain_s = 4")
        assert (await gate.reload()).changed == ("gate.drain_s",)
        another = await login(gate)
        assert (await send(another, HEAD + LINE * 1100)).startswith("452")
        await dialogs[0].close()
        await until(lambda: open_files(tmp_path) == 31)
        assert (await send(another, HEAD + LINE * 1100)).startswith("250")
        for dialog in dialogs:
            await dialog.close()


async def test_a_message_whose_refusal_is_delayed_has_no_file_and_is_still_counted(
    tmp_path: Path,
) -> None:
    limits = "[limits]\nmax_refusals = 1\nrefusals_per_minute = 1\nrefusal_delay_s = 3\n"
    async with open_spooling_gate(tmp_path, sections=SMALL_SPOOL + limits) as (gate, _):
        denied = HEAD.replace(b"marketing@", b"sales@")
        dialog = await begin(gate, denied + LINE * 4000)
        await until(lambda: open_files(tmp_path) == 1)
        await dialog.send(b".\r\n")
        await until(lambda: open_files(tmp_path) == 0)
        await move_loop(2)
        intake = gate.listeners["plain"].parts.intake
        assert intake.taken > 0, "its session keeps octets of it until the reply"
        await move_loop(1)
        assert (await dialog.reply()).startswith("554 5.7.1 Access denied")
        await until(lambda: (intake.taken, intake.spooled.taken, intake.files) == (0, 0, 0))


# -- a disk that is full, or away --------------------------------------------------------------


@contextmanager
def full_disk(octets: int) -> Iterator[None]:
    """No file grows beyond so many octets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def storage_events(gate: Gate, folder: Path) -> list[str]:
    await gate.log.flush()
    lines = (folder / "log").read_text().splitlines()
    return [line for line in lines if '"storage ' in line]


async def test_a_message_that_the_disk_has_no_room_for_is_deferred_before_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = os.statvfs(tmp_path)
    numbers = list(disk)
    numbers[4] = 3_000_000 // disk.f_frsize + 1  # f_bavail
    async with open_spooling_gate(tmp_path) as (gate, _):
        dialog = await login(gate)
        sender = "MAIL FROM:<marketing@ses-example.com>"
        with monkeypatch.context() as patch:
            patch.setattr(os, "statvfs", lambda _: os.statvfs_result(numbers))
            refused = "452 4.3.1 Insufficient system storage, try again later"
            assert await dialog.say(f"{sender} SIZE=2100000") == refused
            group = f"{sender} SIZE=2100000\r\nRCPT TO:<jane@example.net>\r\nDATA\r\n"
            await dialog.send(group.encode())
            replies = [await dialog.reply() for _ in range(3)]
            assert [reply[:3] for reply in replies] == ["452", "503", "503"]
            for size in ("", " SIZE=65536", " SIZE=2000000"):
                assert (await dialog.say(f"{sender}{size}")).startswith("250")
                assert (await dialog.say("RSET")).startswith("250")
        assert (await dialog.say(f"{sender} SIZE=2100000")).startswith("250")
        assert await exhausted(gate, tmp_path, "storage", "plain") == 2
        (failed,) = await storage_events(gate, tmp_path)
        assert "No space left on device" in failed
        await dialog.close()


async def test_a_full_disk_defers_large_messages_and_no_others(tmp_path: Path) -> None:
    large = HEAD + LINE * 12_000
    async with open_spooling_gate(tmp_path) as (gate, sink):
        dialog = await login(gate)
        with full_disk(700_000):
            for _ in range(2):
                reply = await send(dialog, large)
                assert reply == "452 4.3.1 Insufficient system storage, try again later"
            assert (await send(dialog, HEAD + LINE)).startswith("250")
        assert (await send(dialog, large)).startswith("250")
        assert len(sink.messages) == 2
        assert await exhausted(gate, tmp_path, "storage", "plain") == 2
        failed, usable = await storage_events(gate, tmp_path)
        assert '"storage unusable"' in failed
        assert "File too large" in failed
        assert '"storage usable"' in usable
