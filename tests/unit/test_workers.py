"""Sums in shared memory, waits, pings, parts and frames of workers, without processes."""

import asyncio
import errno
import os
import socket
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpgate.admission import Note, RecipientsNote, RecipientsSeen, RefusedMessage
from smtpgate.clock import SystemClock
from smtpgate.config import load_config
from smtpgate.control import FromWorker
from smtpgate.core.address import ReversePath, parse_mailbox
from smtpgate.core.limits.sums import LocalSums, SumKey, Sums
from smtpgate.core.reply import Reply
from smtpgate.gate.crew import Crew, Member
from smtpgate.gate.frames import (
    AnswerValue,
    Ask,
    CatchUpPart,
    Drain,
    Noted,
    Serving,
    Settings,
    Setup,
    decode_for_parent,
    decode_for_worker,
    encode,
)
from smtpgate.gate.host import Host
from smtpgate.gate.shares import (
    config_of_worker,
    number_of_workers,
    part,
    usable_cores,
)
from smtpgate.gate.upstream import new_upstream
from smtpgate.log import JsonLog
from smtpgate.tasks import TaskOwner
from smtpgate.workers.channel import Channel, FrameTooLongError
from smtpgate.workers.fork_server import ForkServer, ForkServerError, _Server
from smtpgate.workers.shared_sums import SharedSums
from smtpgate.workers.watch import Heartbeat, Restarts
from tests.support.waiting import until
from tests.support.world import DELEGATE

KEYS = ("all", "one", "two", "three")
STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(KEYS), st.integers(-50, 100)), max_size=60
)

CONFIG = """\
[gate]
hostname = "gate.example.com"
{gate}
[listener.plain]
port = 0
tls = "none"
allow_plaintext_auth = true
[upstream.default]
host = "127.0.0.1"
port = 2525
tls = "off"
{upstream}
{sections}
"""


# -- sums in shared memory ---------------------------------------------------------------------


@given(STEPS)
def test_workers_count_together_what_one_process_would(
    steps: list[tuple[int, str, int]],
) -> None:
    shared, local = SharedSums(4, ["all"]), LocalSums()
    workers = [shared.of_worker(number) for number in range(4)]
    for number, key, by in steps:
        if by < 0:
            workers[number].subtract(key, -by)
            local.subtract(key, -by)
        else:
            assert workers[number].add(key, by) == local.add(key, by)
    for key in KEYS:
        assert {worker.sum(key) for worker in workers} == {local.sum(key)}


def test_keys_that_are_counted_together_have_the_sums_of_each() -> None:
    shared, local = SharedSums(2, ["all"]), LocalSums()
    workers = [shared.of_worker(number) for number in range(2)]
    pairs: list[tuple[SumKey, ...]] = [
        ("all", ("all", "one")),
        ("all", ("all", "two")),
        (("all", "one"), "all"),
    ]
    every: list[Sums] = [*workers, local]
    for number, keys in enumerate(pairs):
        worker = workers[number % 2]
        assert worker.add_to_all(keys, 5 + number) == local.add_to_all(keys, 5 + number)
    for sums in every:
        assert [sums.sum(key) for key in ("all", ("all", "one"), ("all", "two"))] == [18, 12, 6]
    for sums in every[::2]:
        sums.subtract_from_all(pairs[0], 4)
        assert [sums.sum(key) for key in ("all", ("all", "one"), ("all", "two"))] == [14, 8, 6]


@given(STEPS, st.integers(0, 3))
def test_what_a_worker_counted_is_forgotten_with_it(
    steps: list[tuple[int, str, int]], ended: int
) -> None:
    shared, left = SharedSums(4, ["all"]), Counter[str]()
    workers = [shared.of_worker(number) for number in range(4)]
    for number, key, by in steps:
        workers[number].add(key, by)
        left[key] += 0 if number == ended else by
    shared.clear(ended)
    assert {key: workers[ended].sum(key) for key in KEYS} == {key: left[key] for key in KEYS}


def test_a_sum_of_many_keys_is_never_too_low() -> None:
    shared = SharedSums(2)
    one, other = shared.of_worker(0), shared.of_worker(1)
    for number in range(3000):
        one.add(f"client {number}", 1)
        other.add(f"client {number}", 2)
    sums = [one.sum(f"client {number}") for number in range(3000)]
    assert min(sums) == 3
    assert sums.count(3) > 2700, "chance makes few too high"


def test_sums_are_seen_in_forked_processes() -> None:
    shared = SharedSums(2, ["all"])
    pid = os.fork()
    if pid == 0:
        shared.of_worker(1).add("all", 7)
        os._exit(0)
    os.waitpid(pid, 0)
    assert shared.of_worker(0).add("all", 1) == 8


# -- replacing workers -------------------------------------------------------------------------


def test_workers_that_end_soon_are_replaced_later_each_time() -> None:
    restarts = Restarts()
    waits = [restarts.wait_s(1) for _ in range(12)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (0.1, 30)


def test_a_worker_that_lived_for_long_is_replaced_at_once() -> None:
    restarts = Restarts()
    for _ in range(5):
        restarts.wait_s(1)
    assert restarts.wait_s(3600) == 0
    assert restarts.wait_s(1) == 0.1


def test_a_worker_hangs_after_so_many_pings_without_an_answer() -> None:
    heartbeat = Heartbeat(3)
    assert [heartbeat.is_hung_at_ping() for _ in range(3)] == [False] * 3
    heartbeat.answered()
    assert [heartbeat.is_hung_at_ping() for _ in range(4)] == [False, False, False, True]


# -- parts -------------------------------------------------------------------------------------


def load(folder: Path, gate: str = "", upstream: str = "", sections: str = "") -> Path:
    path = folder / "smtpgate.toml"
    path.write_text(CONFIG.format(gate=gate, upstream=upstream, sections=sections))
    return path


@given(st.integers(0, 1000), st.integers(1, 64))
def test_parts_add_up_and_differ_by_one_at_most(whole: int, workers: int) -> None:
    parts = [part(whole, number, workers) for number in range(workers)]
    assert sum(parts) == whole
    assert max(parts) - min(parts) <= 1


@pytest.mark.parametrize("workers", [1, 2, 3, 8, 20])
def test_workers_divide_the_connections_to_the_upstream(tmp_path: Path, workers: int) -> None:
    config = load_config(load(tmp_path))
    parts = [
        config_of_worker(config, number, workers).upstreams[0] for number in range(workers)
    ]
    of_parent = 1 if config.upstreams[0].max_connections > workers else 0
    assert (
        sum(one.max_connections for one in parts) + of_parent
        == config.upstreams[0].max_connections
    )
    assert all(1 <= one.account_share <= one.max_connections for one in parts)
    assert sum(one.account_share for one in parts) <= max(
        workers, config.upstreams[0].account_share
    )


def test_there_are_no_more_workers_than_connections_to_the_upstream(tmp_path: Path) -> None:
    one = load_config(load(tmp_path, upstream="max_connections = 1"))
    assert number_of_workers(one) == 1
    four = load_config(load(tmp_path, gate="workers = 4"))
    assert number_of_workers(four) == 4


def test_upstreams_are_checked_before_there_is_an_event_loop(tmp_path: Path) -> None:
    config = load_config(load(tmp_path))
    assert len(new_upstream(config, SystemClock(), TaskOwner()).pools) == len(config.upstreams)


def test_a_ledger_in_memory_has_one_worker(tmp_path: Path) -> None:
    config = load_config(load(tmp_path, sections='[ledger]\nkind = "memory"'))
    assert number_of_workers(config) == 1


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 99), ("150000 100000", 2), ("50000 100000", 1), ("what", 99)],
)
def test_the_quota_of_the_cgroup_bounds_the_cores(
    tmp_path: Path, quota: str, cores: int
) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(f"{quota}\n")
    own = tmp_path / "cgroup"
    own.write_text("0::/\n")
    assert usable_cores(own, tmp_path) == min(cores, len(os.sched_getaffinity(0)))


def test_a_quota_of_the_unit_or_of_a_slice_above_it_bounds_the_cores(tmp_path: Path) -> None:
    own, unit = tmp_path / "cgroup", tmp_path / "system.slice" / "smtpgate.service"
    own.write_text("1:name=systemd:/other\n0::/system.slice/smtpgate.service\n")
    unit.mkdir(parents=True)
    (unit / "cpu.max").write_text("max 100000\n")
    (unit.parent / "cpu.max").write_text("100000 100000\n")
    assert usable_cores(own, tmp_path) == 1
    (unit.parent / "cpu.max").unlink()
    (unit / "cpu.max").write_text("70000 100000\n")
    assert usable_cores(own, tmp_path) == 1


def test_without_cgroups_the_affinity_alone_bounds_the_cores(tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "missing", tmp_path) == len(os.sched_getaffinity(0))


# -- frames and channels -----------------------------------------------------------------------


def test_notes_of_a_worker_come_to_the_others_as_they_were() -> None:
    path, bob = ReversePath(parse_mailbox("ann@example.com")), parse_mailbox("bob@example.net")
    reply = Reply(450, "4.2.0", "Mailbox busy")
    notes: tuple[Note, ...] = (
        RefusedMessage(DELEGATE),
        RecipientsNote(DELEGATE, path, [(bob, reply)]),
        RecipientsSeen(DELEGATE, ReversePath(None), [bob]),
    )
    for noted in map(Noted, notes):
        assert decode_for_parent(encode(noted)) == noted
        assert decode_for_worker(encode(noted)) == noted


async def test_frames_arrive_whole_and_in_order_and_then_the_end() -> None:
    ours, theirs = socket.socketpair()
    got: list[bytes] = []
    ended = asyncio.Event()
    sender = await Channel.open(ours, got.extend, lambda: None)
    sender.listen()
    receiver = await Channel.open(theirs, got.extend, ended.set)
    receiver.listen()
    frames = [b"", b"one", bytes(300_000), b"last"]
    for frame in frames:
        sender.send(frame)
    await sender.end()
    await ended.wait()
    assert got == frames
    assert sender.is_closed
    sender.send(b"too late")


async def test_what_is_sent_before_there_is_a_socket_arrives_too() -> None:
    ours, theirs = socket.socketpair()
    got: list[bytes] = []
    ended = asyncio.Event()
    sender = Channel(got.extend, lambda: None)
    sender.send(b"early")
    assert not sender.is_closed
    receiver = await Channel.open(theirs, got.extend, ended.set)
    receiver.listen()
    await sender.attach(ours)
    sender.send(b"late")
    await sender.end()
    await ended.wait()
    assert got == [b"early", b"late"]


@given(st.lists(st.binary(max_size=9), max_size=6), st.integers(1, 12))
def test_frames_are_the_same_wherever_a_read_ends(frames: list[bytes], size: int) -> None:
    octets = b"".join(struct.pack("!I", len(frame)) + frame for frame in frames)
    reads: list[Sequence[bytes]] = []
    channel = Channel(reads.append, lambda: None)
    channel.listen()
    for start in range(0, len(octets), size):
        channel.data_received(octets[start : start + size])
    assert [frame for read in reads for frame in read] == frames
    assert all(reads), "nothing is passed on where no frame is complete"


def test_frames_that_are_read_early_are_passed_on_once_the_channel_listens() -> None:
    got: list[bytes] = []
    channel = Channel(got.extend, lambda: None)
    channel.data_received(b"\0\0\0\5ear")
    channel.data_received(b"ly\0\0\0\1")
    assert got == []
    channel.listen()
    assert got == [b"early"]
    channel.data_received(b"a")
    assert got == [b"early", b"a"]


def test_frames_of_one_read_are_passed_on_together_also_before_what_is_none() -> None:
    got: list[Sequence[bytes]] = []
    channel = Channel(got.append, lambda: None)
    channel.listen()
    with pytest.raises(FrameTooLongError):
        channel.data_received(b"\0\0\0\1a\0\0\0\1b" + b"\xff" * 9)
    assert got == [[b"a", b"b"]]


async def test_octets_that_are_no_frame_end_the_channel() -> None:
    ours, theirs = socket.socketpair()
    strays: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: strays.append(context))
    ended = asyncio.Event()
    receiver = await Channel.open(theirs, lambda _: None, ended.set)
    receiver.listen()
    with ours:
        ours.sendall(b"GET / HTTP/1.1\r\n")
        await ended.wait()
    assert receiver.is_closed
    assert len(strays) == 1


async def test_a_fork_server_is_not_forked_beside_a_thread() -> None:
    await asyncio.to_thread(lambda: None)
    with pytest.raises(ForkServerError):
        ForkServer.start(lambda _number, _channel, _line: 0, lambda: None)


# -- a fork server that the test plays ---------------------------------------------------------


class PlayedForkServer:
    """The other end of a ForkServer: takes its requests, and answers when the test wants."""

    def __init__(self) -> None:
        ours, self._requests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._requests.settimeout(10)
        self.parents_side = ForkServer(ours, os.getpid())

    async def asked_to_fork(self) -> socket.socket:
        """Wait for a request; the worker's end of the channel."""
        _, descriptors, _, _ = await asyncio.to_thread(socket.recv_fds, self._requests, 100, 2)
        channel, line = (socket.socket(fileno=one) for one in descriptors)
        line.close()
        return channel

    def report(self, what: bytes, value: int, pid: int) -> None:
        """Send a report."""
        self._requests.send(struct.pack("!ciI", what, value, pid))

    def close(self) -> None:
        """Be gone."""
        self._requests.close()


async def forked(work: "asyncio.Task[tuple[int, socket.socket, socket.socket]]") -> int:
    """The process id of a worker, whose sockets are closed."""
    pid, *sockets = await work
    for one in sockets:
        one.close()
    return pid


@pytest.fixture
def played() -> Iterator[PlayedForkServer]:
    fork_server = PlayedForkServer()
    yield fork_server
    fork_server.close()


def crew_of(folder: Path, played: PlayedForkServer, workers: int = 1) -> Crew:
    log = JsonLog(load_config(load(folder)).log, clock=SystemClock())
    host = SimpleNamespace(clock=SystemClock(), log=log, stores=SimpleNamespace(owner=None))
    return Crew(
        load_config(load(folder)),
        workers,
        played.parents_side,
        [SharedSums(workers)],
        cast("Host", host),
        lambda: Setup(Settings(0, b"", {})),
        lambda: None,
    )


async def test_the_answer_to_a_fork_that_was_given_up_is_not_taken_for_the_next_one(
    played: PlayedForkServer,
) -> None:
    server = played.parents_side
    server.listen(lambda _pid, _status: None, lambda: None)
    given_up = asyncio.create_task(server.fork(0))
    (await played.asked_to_fork()).close()
    given_up.cancel()
    await asyncio.wait([given_up])
    again = asyncio.create_task(server.fork(0))
    (await played.asked_to_fork()).close()
    played.report(b"f", 0, 1001)
    played.report(b"f", 0, 1002)
    assert await forked(again) == 1002
    await server.close()


@pytest.mark.parametrize("call", ["socketpair", "send_fds"])
async def test_a_fork_for_which_there_are_no_free_files_can_be_asked_for_again(
    played: PlayedForkServer, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    server = played.parents_side
    server.listen(lambda _pid, _status: None, lambda: None)

    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(socket, call, fail)
        with pytest.raises(ForkServerError, match="Too many open files"):
            await server.fork(0)
    again = asyncio.create_task(server.fork(0))
    (await played.asked_to_fork()).close()
    played.report(b"f", 0, 1001)
    assert await forked(again) == 1001
    await server.close()


async def test_a_worker_can_be_sent_frames_from_its_fork_on(
    tmp_path: Path, played: PlayedForkServer
) -> None:
    crew = crew_of(tmp_path, played)
    starting = asyncio.create_task(crew.start())
    frames: list[bytes] = []
    gone = asyncio.Event()
    worker = Channel(frames.extend, gone.set)
    connection = await played.asked_to_fork()
    played.report(b"f", 0, 1001)
    while not crew.members:  # noqa: ASYNC110 - the first moment is what is tested
        await asyncio.sleep(0)
    asking = asyncio.create_task(anext(crew.ask(CatchUpPart())))
    await asyncio.sleep(0)
    await worker.attach(connection)
    worker.listen()
    worker.send(encode(Serving()))
    await starting
    draining = asyncio.create_task(crew.drain(1, 1))
    await until(lambda: Drain(1, 1) in map(decode_for_worker, frames))
    assert Ask(1, "catch-up", b"{}") in map(decode_for_worker, frames)
    worker.send(encode(AnswerValue(1, ["loaded"])))
    assert await asking == FromWorker(0, ["loaded"])
    await worker.end()
    played.report(b"x", 0, 1001)
    assert await draining == 0
    assert gone.is_set()


async def test_a_worker_that_cannot_follow_is_drained_and_another_one_takes_its_place(
    tmp_path: Path, played: PlayedForkServer
) -> None:
    crew = crew_of(tmp_path, played)
    starting = asyncio.create_task(crew.start())
    frames: list[bytes] = []
    worker = Channel(frames.extend, lambda: None)
    connection = await played.asked_to_fork()
    played.report(b"f", 0, 1001)
    await worker.attach(connection)
    worker.listen()
    worker.send(encode(Serving()))
    await starting
    crew.replace(0, Drain(2, 3))
    crew.replace(7, Drain(2, 3))  # there is none
    await until(lambda: Drain(2, 3) in map(decode_for_worker, frames))
    await worker.end()
    played.report(b"x", 0, 1001)
    next_one = await played.asked_to_fork()
    played.report(b"f", 0, 1002)
    await until(lambda: [one.pid for one in crew.members] == [1002])
    draining = asyncio.create_task(crew.drain(1, 1))
    await asyncio.sleep(0)
    next_one.close()
    played.report(b"x", 0, 1002)
    assert await draining == 0


async def test_a_worker_that_is_being_forked_when_the_gate_drains_drains_too(
    tmp_path: Path, played: PlayedForkServer
) -> None:
    crew = crew_of(tmp_path, played)
    starting = asyncio.create_task(crew.start())
    frames: list[bytes] = []
    worker = Channel(frames.extend, lambda: None)
    connection = await played.asked_to_fork()
    draining = asyncio.create_task(crew.drain(1, 1))
    await asyncio.sleep(0)
    played.report(b"f", 0, 1001)
    await worker.attach(connection)
    worker.listen()
    await until(lambda: Drain(1, 1) in map(decode_for_worker, frames))
    await worker.end()
    played.report(b"x", 0, 1001)
    assert await draining == 0
    starting.cancel()
    await asyncio.wait([starting])


async def test_a_place_that_is_not_filled_because_the_gate_drains_is_no_error(
    tmp_path: Path, played: PlayedForkServer, capfd: pytest.CaptureFixture[str]
) -> None:
    crew = crew_of(tmp_path, played, workers=2)
    starting = asyncio.create_task(crew.start())
    frames: list[bytes] = []
    worker = Channel(frames.extend, lambda: None)
    connection = await played.asked_to_fork()
    draining = asyncio.create_task(crew.drain(1, 1))  # the other place waits for its turn
    await asyncio.sleep(0)
    played.report(b"f", 0, 1001)
    await worker.attach(connection)
    worker.listen()
    await until(lambda: Drain(1, 1) in map(decode_for_worker, frames))
    await worker.end()
    played.report(b"x", 0, 1001)
    assert await draining == 0
    starting.cancel()
    await asyncio.wait([starting])
    await crew._log.close()
    assert "not started" not in "".join(capfd.readouterr())


def test_a_request_whose_descriptor_did_not_come_is_answered_by_an_error() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server = _Server(theirs, lambda _number, _channel, _line: 0, lambda: None)
    with ours, theirs, server._wakeup, server._woken:
        ours.send(struct.pack("!cI", b"f", 1))
        assert server._obey(), "the fork server goes on"
        assert struct.unpack("!ciI", ours.recv(100)) == (b"e", errno.EMFILE, 0)


async def test_a_worker_that_hangs_is_killed_again_as_long_as_it_hangs(
    tmp_path: Path, played: PlayedForkServer
) -> None:
    crew, requests = crew_of(tmp_path, played), played._requests
    member = Member(0, 0, 1, lambda _member, _frames: None)
    member.pid = 1001
    with suppress(BlockingIOError):
        while True:  # the fork server reads nothing, and its queue is full
            played.parents_side._connection.send(b"full")
    crew._kill(member)
    requests.settimeout(0)
    with suppress(BlockingIOError):
        while True:
            assert requests.recv(100) == b"full"
    crew._kill(member)
    assert struct.unpack("!cI", requests.recv(100)) == (b"k", 1001)
    played.parents_side._connection.close()
