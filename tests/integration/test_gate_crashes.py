"""Four gates share a host's databases and are killed again and again while mail goes through.

Afterwards every sum is exact: what the ledger has counted, for the account and each limit
within it, what the journal has, and what usage adds up to. ``SMTPGATE_CRASH_SUBMISSIONS`` says
how many submissions; 100000 takes some ten minutes.
"""

import asyncio
import os
import re
import sqlite3
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aiosmtpd.smtp import SMTP, Envelope, Session

from smtpgate.core.limits import Subject
from smtpgate.journal.rows import moment
from smtpgate.ledger.sqlite import SqliteLedger
from smtpgate.smtp.sink import Sink
from smtpgate.sql.database import sqlite_url
from tests.support.authority import Authority
from tests.support.daemons import Lab, eventually
from tests.support.dialog import Dialog, close_dialogs
from tests.support.gate import (
    ACCOUNTS,
    BOUNCES_TO,
    DELEGATE_ID,
    DOMAIN,
    IDENTITY_ARN,
    LOGIN,
    OWNER_ID,
    Gate,
    GatePlan,
    letter,
    start_gate,
)
from tests.support.journal import all_rows, must_add_up, store_of
from tests.support.ledgers import used_24h

GATES: Final = 4
CLIENTS: Final = 2  # of each gate
SUBMISSIONS: Final = int(os.environ.get("SMTPGATE_CRASH_SUBMISSIONS", "600"))
KILLS: Final = max(GATES, SUBMISSIONS // 500)
REFUSED_EVERY: Final = 10
SUBJECTS: Final = (
    Subject(DELEGATE_ID),
    Subject(DELEGATE_ID, "user", "mailer"),
    Subject(DELEGATE_ID, "access-key", LOGIN.username),
    Subject(DELEGATE_ID, "identity", IDENTITY_ARN),
)
_ID: Final = re.compile(r"(?:Ok |; )(0100[0-9a-f-]+)")
_NAME: Final = re.compile(rb"Message-ID: <([^@]+)@")
_RECEIVED_ID: Final = re.compile(rb"\sid (0100[0-9a-f-]+);?\s")


class Judge(Sink):
    """Takes nine messages of ten, and keeps only what the sender and the gate call them."""

    def __init__(self) -> None:
        super().__init__()
        self.accepted: dict[str, str] = {}
        self._heard = 0

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        self._heard += 1
        if self._heard % REFUSED_EVERY == 0:
            return "554 5.7.1 not today"
        content = envelope.original_content or b""
        name, its_id = _NAME.search(content), _RECEIVED_ID.search(content)
        assert name is not None
        assert its_id is not None
        self.accepted[name[1].decode()] = its_id[1].decode()
        return "250 2.0.0 taken"


@dataclass(frozen=True, slots=True)
class Submitted:
    """A message whose final dot was sent; without a reply the gate was killed before it."""

    name: str
    recipients: int
    began: datetime
    ended: datetime
    code: str = ""
    id: str = ""


class Client:
    """Sends message after message; its number of recipients tells it from the others."""

    def __init__(self, plan: GatePlan, recipients: int, context: ssl.SSLContext) -> None:
        self.sent: list[Submitted] = []
        self._port = plan.submissions_port
        self._recipients = recipients
        self._context = context

    async def send_on(self) -> None:
        """For ever; a gate that is away is waited for."""
        while True:
            with suppress(OSError, EOFError, asyncio.TimeoutError):
                await self._session()
            await asyncio.sleep(0.05)

    async def _session(self) -> None:
        dialog = await Dialog.open(self._port, self._context)
        try:
            await self._expect(dialog, "220")
            for line in ("EHLO client.example", f"AUTH PLAIN {_plain()}"):
                await dialog.send(line.encode() + b"\r\n")
                await self._expect(dialog, "2")
            while True:
                await self._submit(dialog)
        finally:
            await dialog.close()

    async def _expect(self, dialog: Dialog, code: str) -> str:
        reply = await dialog.reply()
        if not reply:
            raise EOFError
        assert reply.startswith(code), reply
        return reply

    async def _submit(self, dialog: Dialog) -> None:
        commands = [
            f"MAIL FROM:<{BOUNCES_TO}>",
            *(f"RCPT TO:<bob{one}@example.net>" for one in range(self._recipients)),
            "DATA",
        ]
        await dialog.send("".join(f"{command}\r\n" for command in commands).encode())
        for _ in commands[1:]:
            await self._expect(dialog, "250")
        await self._expect(dialog, "354")
        name, began = f"m{self._recipients}-{len(self.sent)}", datetime.now(UTC)
        code = said = ""
        try:
            await dialog.send(letter(name, "Hello.\r\n") + b".\r\n")
            said = await dialog.reply()
            code = said[:3]
        finally:
            found = _ID.search(said)
            its_id = found[1] if found else ""
            ended = datetime.now(UTC)
            self.sent.append(Submitted(name, self._recipients, began, ended, code, its_id))
        if not said:
            raise EOFError
        assert code in ("250", "554"), said


def _plain() -> str:
    return b64encode(f"\0{LOGIN.username}\0{LOGIN.password}".encode()).decode()


def with_limits_of_all_kinds() -> str:
    """The accounts, each limit within the delegate's counted too; none is ever reached."""
    text, many = ACCOUNTS, "max_24h_send = 1000000000\n"
    for line, more in (
        ("max_24h_send = 100000\n", ""),
        (f"[accounts.{DELEGATE_ID}]\n", many),
        (f"[accounts.{DELEGATE_ID}.users.mailer]\n", many),
        (f"[[accounts.{DELEGATE_ID}.users.mailer.access_keys]]\n", many),
        (f'[accounts.{OWNER_ID}.identities."{DOMAIN}"]\n', f"caps.{DELEGATE_ID}.{many}"),
    ):
        assert line in text
        text = text.replace(line, f"{line}{more}" if more else "")
    return text


async def kill_again_and_again(
    gates: list[Gate], again: Callable[[Gate], Gate], sent: Callable[[], int]
) -> None:
    """Kill a gate after each share of the submissions, and start it again."""
    for number in range(KILLS):
        wanted = SUBMISSIONS * (number + 1) // KILLS
        await asyncio.to_thread(eventually, lambda: sent() >= wanted, f"{wanted} messages", 120)  # noqa: B023
        victim = gates[number % GATES]
        await asyncio.to_thread(victim.kill)
        gates[number % GATES] = await asyncio.to_thread(again, victim)


async def test_every_sum_is_exact_whoever_is_killed_when(lab: Lab) -> None:
    judge, authority, state = Judge(), Authority(lab), lab.new_folder("state", 0o700)
    await judge.start()
    accounts = with_limits_of_all_kinds()
    plans = [GatePlan(judge.port, state_dir=state, accounts=accounts) for _ in range(GATES)]

    def start(plan: GatePlan) -> Gate:
        return start_gate(lab, authority, plan)

    gates = [await asyncio.to_thread(start, plan) for plan in plans]
    context = authority.client_context()
    clients = [Client(plan, 1 + at, context) for at, plan in enumerate(plans * CLIENTS)]
    began = time.monotonic()
    sending = [asyncio.create_task(client.send_on()) for client in clients]
    try:
        await kill_again_and_again(
            gates, lambda gate: start(gate.plan), lambda: sum(len(one.sent) for one in clients)
        )
    finally:
        for task in sending:
            task.cancel()
        ends = await asyncio.gather(*sending, return_exceptions=True)
        await close_dialogs()
        await judge.close()
    assert {type(end) for end in ends} == {asyncio.CancelledError}, ends
    took_s = time.monotonic() - began
    for gate in gates:
        await asyncio.to_thread(gate.kill)
    sent = [one for client in clients for one in client.sent]
    print(  # noqa: T201 - the figures are for people
        f"\n{len(sent)} submissions by {GATES} gates in {took_s:.0f} s, {KILLS} kills; "
        f"{sum(not one.code for one in sent)} without a reply"
    )
    await must_be_counted(state, sent, judge.accepted)
    await must_be_in_the_journal(state, sent, judge.accepted)


async def must_be_counted(
    state: Path, sent: Sequence[Submitted], accepted: Mapping[str, str]
) -> None:
    """Each limit has counted what was accepted, and what nobody settled; nothing else."""
    path = state / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        still_open = file.execute("SELECT at_us, recipients FROM reservation").fetchall()
    counted = 0
    for one in sent:
        is_open = not one.code and any(
            one.recipients == recipients and one.began <= moment(at_us) <= one.ended
            for at_us, recipients in still_open
        )
        if one.code == "250" or (not one.code and one.name in accepted) or is_open:
            counted += one.recipients
    ledger, now = SqliteLedger(path), datetime.now(UTC)
    try:
        assert [await used_24h(ledger, subject, now) for subject in SUBJECTS] == [counted] * 4
    finally:
        await ledger.close()


async def must_be_in_the_journal(
    state: Path, sent: Sequence[Submitted], accepted: Mapping[str, str]
) -> None:
    """What was answered has its row with that verdict, what was relayed has a row."""
    store = store_of(sqlite_url(state / "journal.sqlite"), state)
    try:
        rows = {row.id: row for row in await all_rows(store)}
        for one in sent:
            if one.code:
                row = rows[one.id]
                outcome = "accepted" if one.code == "250" else "refused"
                assert (row.outcome, row.recipients) == (outcome, one.recipients)
        assert set(accepted.values()) <= rows.keys()
        assert len(rows) <= len(sent)
        await must_add_up(store)
    finally:
        await store.close()
