"""The journal on a full disk, on a PostgreSQL that gives no answer, in a gate that dies."""

import asyncio
import re
import smtplib
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import text

from smtpgate.clock import SystemClock
from smtpgate.config.sections import JournalConfig
from smtpgate.core.events import SubmissionDone
from smtpgate.demo.sink import Sink
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.rows import row_of, with_verdict
from smtpgate.journal.statements import Entry, RecordStatements
from smtpgate.ports import JournalUnavailableError
from smtpgate.sql.database import sqlite_url
from tests.support.authority import Authority
from tests.support.clock import MovableClock
from tests.support.daemons import LOOPBACK, Lab, eventually, small_disk
from tests.support.dialog import Dialog, close_dialogs
from tests.support.gate import LOGIN, SENDER, Gate, GatePlan, letter, start_gate
from tests.support.journal import (
    all_rows,
    journal_in,
    must_add_up,
    open_journal,
    store_of,
    submission,
)
from tests.support.ledgers import soon
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.recorder import recorder
from tests.support.records import submission_record
from tests.support.waiting import until


@pytest.fixture
def disk(lab: Lab) -> Iterator[Path]:
    """A disk of its own, 2 MiB large."""
    with small_disk(lab, 2) as folder:
        yield folder


async def fill(journal: LiveJournal, clock: MovableClock) -> None:
    while True:
        await journal.finish(submission(clock))


async def has_no_problem(journal: LiveJournal) -> bool:
    return journal.problem is None


async def test_a_full_disk_takes_nothing_until_there_is_room(
    disk: Path, tmp_path: Path, clock: MovableClock
) -> None:
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(512 * 1024))
    async with open_journal(journal_in(disk), disk, clock=clock) as journal:
        with pytest.raises(JournalUnavailableError, match="database or disk is full"):
            await fill(journal, clock)
        passed = journal.tally.records
        for _ in range(3):
            with pytest.raises(JournalUnavailableError):
                await journal.finish(submission(clock))
        assert len(await all_rows(journal.store)) == passed
        assert journal.owed == 4
        ballast.unlink()
        await soon(lambda: has_no_problem(journal), True)
        assert journal.owed == 0
        assert len(await all_rows(journal.store)) == passed + 4


def stopped(server: PostgresServer) -> Callable[[], None]:
    server.stop()
    return server.start


def frozen(server: PostgresServer) -> Callable[[], None]:
    server.freeze()
    return server.thaw


@pytest.mark.parametrize("fault", [stopped, frozen])
async def test_a_server_that_gives_no_answer_holds_nobody_up_for_long(
    lab: Lab,
    tmp_path: Path,
    clock: MovableClock,
    fault: Callable[[PostgresServer], Callable[[], None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("smtpgate.journal.writer._COMMIT_S", 1.0)
    server = postgres_server(lab)
    url = server.create_database("journal")
    async with open_journal(url, tmp_path, clock=clock) as journal:
        begun, later = submission(clock), submission(clock)
        await journal.begin(begun)
        mend = fault(server)
        with pytest.raises(JournalUnavailableError):
            await journal.finish(begun)
        for _ in range(100):
            with pytest.raises(JournalUnavailableError):  # at once
                await journal.begin(later)
        mend()
        await soon(lambda: has_no_problem(journal), True, 30)
        await journal.finish(later)
        outcomes = {row.id: row.outcome for row in await all_rows(journal.store)}
        assert set(outcomes) == {
            begun.submission.message_id,
            later.submission.message_id,
        }
        assert set(outcomes.values()) == {"accepted"}
        assert journal.tally.lost == 0


class Senders(threading.Thread):
    """Sends one message after another until the gate is gone; keeps the ids of the replies."""

    def __init__(self, gate: Gate, context: ssl.SSLContext) -> None:
        super().__init__()
        self._gate = gate
        self._context = context
        self.output: list[str] = []

    def run(self) -> None:
        """Until the gate is gone."""
        try:
            with closing(smtplib.SMTP(LOOPBACK, self._gate.port, timeout=20)) as client:
                client.starttls(context=self._context)
                client.login(LOGIN.username, LOGIN.password)
                while True:
                    self._send(client)
        except (smtplib.SMTPException, OSError):
            return

    def _send(self, client: smtplib.SMTP) -> None:
        client.mail(SENDER)
        client.rcpt("bob@example.net")
        code, words = client.data(letter("x", "Hello.\r\n"))
        found = re.search(r"0100[0-9a-f-]{50,}", words.decode())
        assert code == 250
        assert found is not None
        self.output.append(found[0])


async def test_a_gate_that_is_killed_has_written_what_it_reported(lab: Lab) -> None:
    authority, upstream = Authority(lab), recorder(lab)
    gate = start_gate(lab, authority, GatePlan(upstream.port))
    senders = [Senders(gate, authority.client_context()) for _ in range(4)]
    for sender in senders:
        sender.start()
    eventually(lambda: all(len(sender.output) > 20 for sender in senders), "messages")
    gate.kill()
    for sender in senders:
        sender.join()
    (path,) = lab.folder.glob("*/state/journal.sqlite")
    store = store_of(sqlite_url(path), path.parent)
    try:
        rows = {row.id: row.outcome for row in await all_rows(store)}
    finally:
        await store.close()
    output = {message_id for sender in senders for message_id in sender.output}
    assert {rows.get(message_id) for message_id in output} == {"accepted"}
    assert len(upstream.messages) <= len(rows)
    assert set(rows.values()) <= {"accepted", "relaying"}


class Silent(Sink):
    """Takes a message, and never says what it made of it."""

    def __init__(self) -> None:
        super().__init__()
        self.has_it = asyncio.Event()

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, _envelope: Envelope
    ) -> str:
        self.has_it.set()
        await asyncio.Event().wait()
        raise AssertionError


def _in_doubt(gate: Gate) -> Iterator[Mapping[str, Any]]:
    return (line for line in gate.log_lines() if line["event"] == "journal-in-doubt")


async def test_what_a_killed_gate_was_relaying_is_in_doubt_when_it_starts_again(
    lab: Lab,
) -> None:
    authority, upstream, state = Authority(lab), Silent(), lab.new_folder("state", 0o700)
    await upstream.start()
    plan = GatePlan(upstream.port, state_dir=state)
    gate = await asyncio.to_thread(start_gate, lab, authority, plan)
    dialog = await Dialog.open(plan.submissions_port, authority.client_context())
    try:
        await dialog.reply()
        password = b64encode(f"\0{LOGIN.username}\0{LOGIN.password}".encode()).decode()
        for line in ("EHLO x.example", f"AUTH PLAIN {password}", f"MAIL FROM:<{SENDER}>"):
            await dialog.say(line)
        await dialog.say("RCPT TO:<bob@example.net>")
        assert (await dialog.say("DATA")).startswith("354")
        await dialog.send(letter("x", "Hello.\r\n") + b".\r\n")
        await asyncio.wait_for(upstream.has_it.wait(), 30)
        await asyncio.to_thread(gate.kill)
        gate = await asyncio.to_thread(start_gate, lab, authority, plan)
        store = store_of(sqlite_url(state / "journal.sqlite"), state)
        try:
            (row,) = await all_rows(store)
        finally:
            await store.close()
        assert (row.outcome, row.reason) == ("in-doubt", "in-doubt")
        # The journal is open before its events are in the log.
        await until(lambda: [*_in_doubt(gate)])
        assert [line["records"] for line in _in_doubt(gate)] == [1]
    finally:
        await close_dialogs()
        await upstream.close()


async def test_two_gates_share_a_journal_in_postgresql(lab: Lab, tmp_path: Path) -> None:
    url = postgres_server(lab).create_database("journal")
    clock = SystemClock()
    async with (
        open_journal(url, tmp_path, clock=clock) as one,
        open_journal(url, tmp_path, clock=clock, settings=JournalConfig()) as other,
    ):
        events = [submission(clock) for _ in range(40)]
        for number, event in enumerate(events):
            await (one if number % 2 else other).begin(event)
            await (one if number % 2 else other).finish(event)
        assert len(await all_rows(one.store)) == 40


@pytest.mark.parametrize("is_begun", [False, True])
async def test_a_transaction_that_ends_unseen_after_the_next_try_began_counts_once(
    lab: Lab, tmp_path: Path, *, is_begun: bool
) -> None:
    """As when a frozen server had the commit, and goes on with it while it is tried again."""
    clock = SystemClock()
    url = postgres_server(lab).create_database("journal")
    async with open_journal(url, tmp_path, clock=clock) as journal:
        event = submission(clock)
        if is_begun:
            await journal.begin(event)
        entry = verdict_of(event, is_begun=is_begun)
        async with journal.store.database.writing() as unseen:
            await unseen.run_sync(
                lambda connection: RecordStatements().write(connection, [entry])
            )
            journal.writer.owe(entry)
            retry = asyncio.ensure_future(journal.writer.retry())
            await soon(lambda: waits_for_a_lock(journal), True)
        await retry
        (row,) = await all_rows(journal.store)
        assert row.outcome == "accepted"
        await must_add_up(journal.store)


def verdict_of(event: SubmissionDone, *, is_begun: bool) -> Entry:
    record = submission_record(event, keep_recipients=True, keep_subject=False)
    row, texts = row_of(record)
    row = with_verdict(row, record.verdict)
    return Entry(row=row, texts=texts, early_terms=b"", is_begun=is_begun)


async def waits_for_a_lock(journal: LiveJournal) -> bool:
    query = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    async with journal.store.reading() as connection:
        return bool((await connection.execute(query)).scalar_one())
