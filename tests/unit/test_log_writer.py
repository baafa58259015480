import asyncio
import errno
import os
import select
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from smtpgate.log.writer import _STANDARD, LineWriter


class Writes:
    """Stands before ``os.write``: who calls it, and when it may go on."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.threads: set[threading.Thread] = set()
        self._began = threading.Event()
        self._write = os.write

    def __call__(self, descriptor: int, octets: memoryview) -> int:
        self.threads.add(threading.current_thread())
        self._began.set()
        assert self.may_go_on.wait(10)
        return self._write(descriptor, octets)

    async def began(self) -> None:
        """Wait for the first write."""
        assert await asyncio.to_thread(self._began.wait, 10)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    writes = Writes()
    monkeypatch.setattr("smtpgate.log.writer.os.write", writes)
    return writes


def output(dropped: int) -> bytes:
    return b"%d dropped\n" % dropped


def writer(path: Path | str, max_waiting_octets: int = 2**20) -> LineWriter:
    return LineWriter(str(path), on_dropped=output, max_waiting_octets=max_waiting_octets)


def test_without_an_event_loop_a_line_is_written_at_once(tmp_path: Path) -> None:
    writer(tmp_path / "log").add(b"one\n")
    assert (tmp_path / "log").read_bytes() == b"one\n"


def test_a_file_that_is_there_is_continued(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"before\n")
    writer(tmp_path / "log").add(b"one\n")
    assert (tmp_path / "log").read_bytes() == b"before\none\n"


def test_others_cannot_read_the_file(tmp_path: Path) -> None:
    writer(tmp_path / "log")
    assert (tmp_path / "log").stat().st_mode & 0o007 == 0


@pytest.mark.parametrize(("target", "kept"), [("stdout", "out"), ("stderr", "err")])
def test_the_standard_streams_are_targets(
    target: str, kept: str, capfd: pytest.CaptureFixture[str]
) -> None:
    writer(target).add(b"one\n")
    assert getattr(capfd.readouterr(), kept) == "one\n"


async def test_lines_keep_their_order_and_are_written_without_being_asked(
    tmp_path: Path, writes: Writes
) -> None:
    log = writer(tmp_path / "log")
    for number in range(500):
        log.add(b"%d\n" % number)
        if number % 50 == 0:
            await asyncio.sleep(0)
    await writes.began()
    await log.flush()
    lines = (tmp_path / "log").read_bytes().splitlines()
    assert lines == [b"%d" % number for number in range(500)]
    assert threading.current_thread() not in writes.threads, "the event loop's own"


async def test_everything_is_written_when_the_log_is_closed(tmp_path: Path) -> None:
    log = writer(tmp_path / "log")
    log.add(b"one\n")
    await log.close()
    assert (tmp_path / "log").read_bytes() == b"one\n"
    log.add(b"a late one\n")
    assert (tmp_path / "log").read_bytes() == b"one\na late one\n"


async def test_a_reader_that_stopped_costs_lines_but_never_holds_up_who_logs(
    tmp_path: Path, writes: Writes
) -> None:
    os.mkfifo(tmp_path / "log")
    reading = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    log = writer(tmp_path / "log", max_waiting_octets=200_000)
    log.add(b"y" * 199_999 + b"\n")  # more than a pipe holds
    await writes.began()
    for _ in range(2004):
        log.add(b"x" * 99 + b"\n")
    closing = asyncio.ensure_future(log.close())
    os.set_blocking(reading, True)
    with os.fdopen(reading, "rb") as pipe:
        octets = await asyncio.to_thread(pipe.read)
        await closing
    assert octets.count(b"x\n") == 2000
    assert octets.endswith(b"4 dropped\n")


async def test_while_the_target_takes_nothing_flushes_do_not_queue_up(
    tmp_path: Path, writes: Writes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smtpgate.log.writer._WAIT_S", 0)
    log = writer(tmp_path / "log")
    writes.may_go_on.clear()
    log.add(b"0\n")
    await writes.began()
    before = len(asyncio.all_tasks())
    for number in range(1, 20):
        log.add(b"%d\n" % number)
        await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == before
    writes.may_go_on.set()
    await log.close()
    lines = (tmp_path / "log").read_bytes().splitlines()
    assert lines == [b"%d" % number for number in range(20)]


@pytest.fixture
def full_pipe() -> Iterator[tuple[int, int]]:
    """A pipe that takes nothing before it is read: its two ends."""
    reader, filler = os.pipe()
    os.set_blocking(filler, False)
    with suppress(BlockingIOError):
        while True:
            os.write(filler, b"." * select.PIPE_BUF)
    os.set_blocking(filler, True)
    yield reader, filler
    os.close(reader)
    os.close(filler)


async def test_the_end_does_not_wait_for_a_reader_that_reads_no_more(
    full_pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_STANDARD, "stdout", full_pipe[1])
    log = LineWriter("stdout", on_dropped=output, close_s=0.02)
    log.add(b"one\n")
    async with asyncio.timeout(10):
        await log.close()
    log.add(b"two\n")
    assert (log.problem, log.lost) == ("stdout: its reader takes nothing", 2)


async def test_lines_that_wait_for_the_reader_of_a_full_pipe_come_whole_and_in_order(
    full_pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_STANDARD, "stdout", full_pipe[1])
    log = LineWriter("stdout", on_dropped=output)
    lines = b"".join(b"%06d\n" % number for number in range(3000))
    log.add(lines)
    closing = asyncio.create_task(log.close())
    found = b""
    while not found.endswith(lines):
        found += await asyncio.to_thread(os.read, full_pipe[0], 1000)
    await closing
    assert (log.problem, log.lost) == (None, 0)


def test_lines_that_could_not_be_written_are_counted_and_reported_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int, octets: memoryview) -> int:
        if is_full:
            raise OSError(errno.ENOSPC, "no space left on device")
        return real_write(_descriptor, octets)

    real_write, is_full = os.write, True
    log = writer(tmp_path / "log")
    monkeypatch.setattr("smtpgate.log.writer.os.write", full)
    log.add(b"one\n")
    log.add(b"two\n")
    is_full = False
    log.add(b"three\n")
    log.add(b"four\n")
    assert (tmp_path / "log").read_bytes() == b"three\n2 dropped\nfour\n"


def test_half_a_line_that_was_written_does_not_spoil_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: Iterator[int | OSError] = iter(
        [3, OSError(errno.ENOSPC, "no space left on device")]
    )

    def cut(descriptor: int, octets: memoryview) -> int:
        answer = next(answers, None)
        if isinstance(answer, OSError):
            raise answer
        return real_write(descriptor, octets if answer is None else octets[:answer])

    real_write = os.write
    log = writer(tmp_path / "log")
    monkeypatch.setattr("smtpgate.log.writer.os.write", cut)
    log.add(b"a long line\n")
    log.add(b"the next\n")
    assert (tmp_path / "log").read_bytes() == b"a l\nthe next\n1 dropped\n"


def test_a_file_that_was_rotated_away_is_made_again(tmp_path: Path) -> None:
    log = writer(tmp_path / "log")
    log.add(b"one\n")
    (tmp_path / "log").rename(tmp_path / "log.1")
    log.add(b"two\n")
    assert (tmp_path / "log.1").read_bytes() == b"one\n"
    assert (tmp_path / "log").read_bytes() == b"two\n"
