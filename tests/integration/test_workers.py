"""A gate with several processes: workers end, hang and are replaced, and sums stay right."""

import asyncio
import os
import re
import signal
import smtplib
import socket
import sqlite3
import ssl
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from smtpgate.directory.key_watch import decode
from smtpgate.journal.store import JournalStore
from smtpgate.ports import JournalUnavailableError
from smtpgate.sql.database import Database, parse_url
from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab, eventually
from tests.support.gate import (
    ACCOUNTS,
    SENDER,
    Gate,
    GatePlan,
    letter,
    logged_in,
    start_gate,
    workers_of,
)
from tests.support.postgres import postgres_server
from tests.support.recorder import Recorder, recorder

REFUSED_OCTETS = (
    'smtpgate_budget_exhausted_total{budget="inflight-octets",listener="submission"}'
)
HASTY = ("tests.support.hasty",)
ACCEPTED = 'smtpgate_submissions_total{outcome="accepted",reason="accepted"}'


def send(gate: Gate, context: ssl.SSLContext, name: str) -> None:
    """Send one message over a connection of its own."""
    with logged_in(gate, context) as client:
        assert client.sendmail(SENDER, ["bob@example.net"], letter(name, "Hello.\r\n")) == {}


def metrics(gate: Gate) -> dict[str, float]:
    """The samples of a scrape."""
    url = f"http://{LOOPBACK}:{gate.plan.http_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def events(gate: Gate, event: str) -> list[dict[str, object]]:
    """The lines of the log about that event."""
    return [line for line in gate.log_lines() if line["event"] == event]


def is_there(pid: int) -> bool:
    """True if a process of that id runs; one that has ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # before it is opened, or read
        return False
    return state != "Z"


def children_of(pid: int) -> set[int]:
    """All processes below that one."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found |= {child} | children_of(child)
    return found


@pytest.fixture
def authority(lab: Lab) -> Authority:
    return Authority(lab)


@pytest.fixture
def upstream(lab: Lab) -> Recorder:
    return recorder(lab)


def test_every_message_is_counted_once_by_all_workers_together(
    lab: Lab, authority: Authority, upstream: Recorder
) -> None:
    gate = start_gate(lab, authority, GatePlan(upstream.port, workers=4))
    context = authority.client_context()
    with ExitStack() as stack:
        open_ = [stack.enter_context(logged_in(gate, context)) for _ in range(8)]
        for number, client in enumerate(open_ * 2):
            client.sendmail(SENDER, ["bob@example.net"], letter(f"m{number}", "Hello.\r\n"))
        seen = metrics(gate)
        assert seen[ACCEPTED] == 16
        assert seen["smtpgate_message_octets_count"] == 16
        assert seen['smtpgate_auth_successes_total{listener="submission"}'] == 8
        assert seen['smtpgate_sessions{listener="submission"}'] == 8
        assert seen["smtpgate_workers"] == 4
        assert seen["process_open_fds"] > 5 * 10, "those of all processes"
        assert 1 <= seen['smtpgate_upstream_connections{state="idle",upstream="default"}'] <= 8
        # One of the 20 connections is the parent's, for reports.
        assert seen['smtpgate_upstream_connection_limit{upstream="default"}'] == 19
        assert seen["smtpgate_loop_delay_seconds_count"] > 0
    gate.terminate()
    assert gate.daemon.wait() == 0
    assert len(events(gate, "submission")) == 16
    assert len(events(gate, "started")) == len(events(gate, "stopped")) == 1


def test_the_uses_of_a_key_at_all_workers_are_one_profile(
    lab: Lab, authority: Authority, upstream: Recorder
) -> None:
    state = lab.folder / "state-of-keys"
    gate = start_gate(lab, authority, GatePlan(upstream.port, workers=2, state_dir=state))
    context = authority.client_context()
    for number in range(10):
        send(gate, context, f"m{number}")
    gate.terminate()
    assert gate.daemon.wait() == 0
    with closing(sqlite3.connect(state / "directory.sqlite")) as database:
        ((octets,),) = database.execute("SELECT profile FROM key_profiles").fetchall()
    profile = decode(octets)
    assert profile is not None
    assert sum(day.messages for day in profile.days.values()) == 10
    assert list(profile.networks) == ["127.0.0.0/24"]


def test_a_worker_that_is_killed_is_replaced_and_what_it_counted_stays(
    lab: Lab, authority: Authority, upstream: Recorder
) -> None:
    gate = start_gate(lab, authority, GatePlan(upstream.port, workers=2))
    context = authority.client_context()
    for number in range(6):
        send(gate, context, f"before-{number}")
    before = metrics(gate)
    victim = workers_of(gate)["1"]
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: events(gate, "worker started"), "another worker")
    after = metrics(gate)
    assert after[ACCEPTED] == before[ACCEPTED] == 6
    for name in ('smtpgate_directory_answers_total{from="database"}', "smtpgate_paced_total"):
        assert after[name] >= before[name]
    assert after["process_cpu_seconds_total"] >= before["process_cpu_seconds_total"]
    assert after["smtpgate_workers"] == 2
    assert after['smtpgate_worker_restarts_total{reason="killed"}'] == 1
    (ended,) = events(gate, "worker ended")
    assert (ended["pid"], ended["reason"], ended["status"]) == (victim, "killed", "SIGKILL")
    for number in range(6):
        send(gate, context, f"after-{number}")
    assert metrics(gate)[ACCEPTED] == 12


def test_a_worker_that_hangs_is_killed_and_replaced(
    lab: Lab, authority: Authority, upstream: Recorder
) -> None:
    plan = GatePlan(upstream.port, workers=2, gate_keys="worker_timeout_s = 2")
    gate = start_gate(lab, authority, plan)
    victim = workers_of(gate)["0"]
    os.kill(victim, signal.SIGSTOP)
    eventually(lambda: events(gate, "worker started"), "another worker")
    assert [line["pid"] for line in events(gate, "worker hung")] == [victim]
    assert metrics(gate)['smtpgate_worker_restarts_total{reason="hung"}'] == 1
    assert not is_there(victim)
    send(gate, authority.client_context(), "after")


def test_a_worker_that_gets_sigterm_drains_and_another_takes_its_place(
    lab: Lab, authority: Authority, upstream: Recorder
) -> None:
    gate = start_gate(lab, authority, GatePlan(upstream.port, workers=2))
    os.kill(workers_of(gate)["0"], signal.SIGTERM)
    eventually(lambda: events(gate, "worker started"), "another worker")
    (ended,) = events(gate, "worker ended")
    assert (ended["reason"], ended["status"], ended["level"]) == ("exited", 0, "info")
    send(gate, authority.client_context(), "after")


def test_workers_end_with_their_parent_and_leave_its_ports(
    lab: Lab, authority: Authority, upstream: Recorder
) -> None:
    gate = start_gate(lab, authority, GatePlan(upstream.port, workers=2, program=HASTY))
    below = children_of(gate.daemon.pid)
    assert len(below) == 3, "the fork server and two workers"
    os.kill(workers_of(gate)["1"], signal.SIGSTOP)
    gate.kill()
    eventually(lambda: not any(map(is_there, below)), "all to end", 30)
    start_gate(lab, authority, gate.plan)


def test_workers_end_though_their_parent_had_not_read_of_the_end_of_one(
    lab: Lab, authority: Authority, upstream: Recorder
) -> None:
    gate = start_gate(lab, authority, GatePlan(upstream.port, workers=2, program=HASTY))
    below, workers = children_of(gate.daemon.pid), workers_of(gate)
    os.kill(gate.daemon.pid, signal.SIGSTOP)
    os.kill(workers["0"], signal.SIGKILL)
    eventually(lambda: not is_there(workers["0"]), "the fork server to see it")
    os.kill(workers["1"], signal.SIGSTOP)
    gate.kill()
    eventually(lambda: not any(map(is_there, below)), "all to end", 30)


def test_when_workers_cannot_be_forked_any_more_the_gate_ends_and_says_so(
    lab: Lab, authority: Authority, upstream: Recorder
) -> None:
    gate = start_gate(lab, authority, GatePlan(upstream.port, workers=2))
    below = children_of(gate.daemon.pid)
    (fork_server,) = below - set(workers_of(gate).values())
    os.kill(fork_server, signal.SIGKILL)
    assert gate.daemon.wait() == 1
    assert events(gate, "fork server ended")
    eventually(lambda: not any(map(is_there, below)), "all to end")


def test_workers_without_a_store_of_the_parent_count_together_and_end_with_it(
    lab: Lab, authority: Authority, upstream: Recorder
) -> None:
    plan = GatePlan(
        upstream.port,
        workers=2,
        accounts=ACCOUNTS.replace("max_24h_send = 100000", "max_24h_send = 6"),
        sections="[journal]\nenabled = false\n",
    )
    gate = start_gate(lab, authority, plan)
    context = authority.client_context()
    for number in range(6):
        send(gate, context, f"m{number}")
    with pytest.raises(smtplib.SMTPResponseException) as refused:
        send(gate, context, "over")
    assert refused.value.smtp_code == 454
    below = children_of(gate.daemon.pid)
    gate.kill()
    eventually(lambda: not any(map(is_there, below)), "all to end", 30)


def test_connections_of_a_client_are_counted_over_all_workers(
    lab: Lab, authority: Authority, upstream: Recorder
) -> None:
    bound = "max_connections_per_client = 6\n"
    plan = GatePlan(upstream.port, workers=4, listener_keys=bound)
    gate = start_gate(lab, authority, plan)

    def greeting() -> tuple[socket.socket, bytes]:
        connection = socket.create_connection((LOOPBACK, gate.port), timeout=10)
        return connection, connection.recv(200)

    with ExitStack() as stack:
        found = [greeting() for _ in range(12)]
        for connection, _ in found:
            stack.enter_context(connection)
        codes = sorted(text[:3] for _, text in found)
        assert codes == [b"220"] * 6 + [b"421"] * 6
    seen = metrics(gate)
    name = (
        'smtpgate_budget_exhausted_total{budget="connections-per-client",listener="submission"}'
    )
    assert seen[name] == 6


def test_what_killed_workers_counted_refuses_nobody(
    lab: Lab, authority: Authority, upstream: Recorder
) -> None:
    bounds = (
        "max_inflight_octets = 2000000\nmax_message_octets = 1000000\n"
        "max_inflight_share = 1.0\nreserved_inflight_octets = 0\n"
    )
    plan = GatePlan(
        upstream.port,
        workers=2,
        gate_keys=bounds,
        listener_keys="max_connections_per_client = 4\n",
    )
    gate = start_gate(lab, authority, plan)
    context, half = authority.client_context(), letter("large", "0123456789" * 7 + "\r\n")
    half += b"0123456789012345678901234567890123456789\r\n" * 20_000
    with ExitStack() as stack:
        for _ in range(2):
            client = stack.enter_context(logged_in(gate, context))
            client.mail(SENDER)
            client.rcpt("bob@example.net")
            assert client.docmd("DATA")[0] == 354
            client.send(half)
        for _ in range(2):
            stack.enter_context(logged_in(gate, context))
        for worker in workers_of(gate).values():
            os.kill(worker, signal.SIGKILL)
        eventually(lambda: len(events(gate, "worker started")) == 2, "other workers")
        again = [stack.enter_context(logged_in(gate, context)) for _ in range(4)]
        for client in again[:2]:
            assert client.sendmail(SENDER, ["bob@example.net"], half) == {}


def test_octets_in_flight_are_counted_over_all_workers(
    lab: Lab, authority: Authority, upstream: Recorder
) -> None:
    bounds = (
        "max_inflight_octets = 2000000\nmax_message_octets = 1000000\n"
        "max_inflight_share = 1.0\nreserved_inflight_octets = 0\n"
    )
    plan = GatePlan(upstream.port, workers=4, gate_keys=bounds)
    gate = start_gate(lab, authority, plan)
    context, body = authority.client_context(), "0123456789" * 7 + "\r\n"
    message = letter("large", body * 9722)  # 700,000 octets
    with ExitStack() as stack:
        clients = [stack.enter_context(logged_in(gate, context)) for _ in range(4)]
        for client in clients:
            client.mail(SENDER)
            client.rcpt("bob@example.net")
            assert client.docmd("DATA")[0] == 354
        upstream.hold()
        for client in clients[:2]:
            client.send(message + b".\r\n")
        busy = 'smtpgate_upstream_connections{state="busy",upstream="default"}'
        eventually(lambda: metrics(gate)[busy] == 2, "two to be at the upstream")
        for client in clients[2:]:
            client.send(message + b".\r\n")
            assert client.getreply()[0] == 452
        upstream.release()
        assert [client.getreply()[0] for client in clients[:2]] == [250, 250]
    assert metrics(gate)[REFUSED_OCTETS] == 2


@pytest.mark.parametrize("workers", [1, 4])
def test_messages_are_deferred_while_the_store_is_locked_and_pass_afterwards(
    lab: Lab, authority: Authority, upstream: Recorder, workers: int
) -> None:
    state = lab.new_folder("state", 0o700)
    plan = GatePlan(
        upstream.port, workers=workers, state_dir=state, sections="[ledger]\ntimeout_s = 1\n"
    )
    gate = start_gate(lab, authority, plan)
    context = authority.client_context()
    send(gate, context, "before")
    with closing(sqlite3.connect(state / "ledger.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(smtplib.SMTPDataError) as deferred:
            send(gate, context, "meanwhile")
        other.execute("ROLLBACK")
    assert deferred.value.smtp_code == 451
    send(gate, context, "after")
    eventually(lambda: bool(events(gate, "ledger-counts-again")), "the end of the outage")
    assert len(events(gate, "ledger-failed")) == 1, "one line an outage, not one a worker"


def read_on(manager: socket.socket) -> None:
    """Read as long as the gate shows that it lives."""
    while manager.recv(100) == b"WATCHDOG=1":
        pass


def test_the_watchdog_is_fed_only_while_a_worker_answers(
    lab: Lab, authority: Authority, upstream: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        address = str(lab.new_folder("run") / "notify")
        manager.bind(address)
        manager.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        gate = start_gate(lab, authority, GatePlan(upstream.port, workers=2))
        assert manager.recv(100) == b"READY=1"
        assert manager.recv(100) == b"WATCHDOG=1"
        workers = workers_of(gate).values()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        manager.settimeout(1)
        with pytest.raises(TimeoutError):  # long before a worker counts as hung
            read_on(manager)
        manager.settimeout(30)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        assert manager.recv(100) == b"WATCHDOG=1"
        gate.terminate()
        while manager.recv(100) != b"STOPPING=1":
            pass
        assert gate.daemon.wait() == 0
    assert not events(gate, "worker hung")


def test_a_certificate_that_was_renewed_is_at_every_worker_after_a_reload(
    lab: Lab, authority: Authority, upstream: Recorder
) -> None:
    gate = start_gate(lab, authority, GatePlan(upstream.port, workers=2))
    renewed = authority.renew("gate.example.com")
    gate.daemon.signal(signal.SIGHUP)
    eventually(lambda: len(events(gate, "certificate loaded")) == 2, "the certificates")

    def shown() -> bytes | None:
        with (
            socket.create_connection((LOOPBACK, gate.tls_port), timeout=10) as plain,
            authority.client_context().wrap_socket(
                plain, server_hostname="gate.example.com"
            ) as secure,
        ):
            return secure.getpeercert(binary_form=True)

    eventually(lambda: {shown() for _ in range(12)} == {renewed}, "the new certificate")

    for worker in workers_of(gate).values():
        os.kill(worker, signal.SIGKILL)
    eventually(lambda: len(events(gate, "worker started")) == 2, "other workers")
    assert {shown() for _ in range(12)} == {renewed}, "workers that began after it have it too"


@pytest.mark.parametrize("journal", ["sqlite", "postgresql"])
def test_the_parent_reports_recipients_that_the_upstream_refused_to_a_worker(
    lab: Lab, authority: Authority, upstream: Recorder, journal: str
) -> None:
    upstream.answer_rcpt = lambda address, _: (
        "550 5.1.1 no such user" if address.startswith("bad") else "250 2.1.5 Ok"
    )
    sections = ""
    state = lab.new_folder("state", 0o700)
    if journal == "postgresql":
        url = postgres_server(lab).create_database("journal")
        sections = f'[journal]\nurl = "{url}"\n'
        database = Database(parse_url(url), JournalUnavailableError)
        asyncio.run(made(JournalStore(database=database, key_file=state / "journal.key")))
    plan = GatePlan(upstream.port, workers=2, sections=sections, state_dir=state)
    gate = start_gate(lab, authority, plan)
    context = authority.client_context()
    for number in range(4):
        to = [f"bob{number}@example.net", f"bad{number}@example.net"]
        with logged_in(gate, context) as client:
            assert client.sendmail(SENDER, to, letter(str(number), "Hello.\r\n")) == {}
    eventually(lambda: len(upstream.messages) == 8, "four messages and four reports")
    reports = [one for one in upstream.messages if not one.mail_from]
    assert [one.recipients for one in reports] == [(SENDER,)] * 4
    about = {found for one in reports for found in re.findall(rb"rfc822;bad(\d)@", one.message)}
    assert about == {b"0", b"1", b"2", b"3"}

    def carried_to(kind: str) -> float:
        labels = {"outcome": "sent", "destination": kind}
        return sum_of(gate, "smtpgate_outbox_attempts_total", labels)

    eventually(lambda: carried_to("mail") == 4, "the metric of the reports")
    # Each refused recipient is also put on the suppression list, by a task of its own.
    eventually(lambda: carried_to("list") == 4, "the metric of the list")
    gate.terminate()
    assert gate.daemon.wait() == 0


async def made(store: JournalStore) -> None:
    await store.open(may_upgrade=True)
    await store.close()


def sum_of(gate: Gate, name: str, labels: Mapping[str, str]) -> float:
    """The sum of a metric's samples with those labels."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(
        value
        for sample, value in metrics(gate).items()
        if sample.startswith(f"{name}{{") and all(one in sample for one in wanted)
    )
