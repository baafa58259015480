"""A PostgreSQL server that crashes or freezes under a gate that has mail to decide about.

Nothing that was let through may get lost, nothing may be let through that was not looked up,
and the gate recovers by itself.
"""

import smtplib
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from typing import Final

import pytest

from smtpgate.directory.keys import update_access_key
from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab, eventually
from tests.support.directory import ACTOR, open_store
from tests.support.gate import LOGIN, SENDER, Gate, GatePlan, letter, start_gate
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.recorder import recorder

STRANGER: Final = "somebody@unheard-of.example"


def is_ready(gate: Gate) -> bool:
    """True if the gate says that it takes new mail."""
    address = f"http://{LOOPBACK}:{gate.plan.http_port}/readyz"
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


class Senders(threading.Thread):
    """Sends one message after the other, over new sessions when one breaks."""

    def __init__(self, gate: Gate, context: ssl.SSLContext, name: str) -> None:
        super().__init__(name=name)
        self._gate = gate
        self._context = context
        self.accepted: list[str] = []
        self.codes: list[int] = []
        self.is_over = threading.Event()

    def run(self) -> None:
        """Until it is over."""
        while not self.is_over.is_set():
            try:
                with closing(smtplib.SMTP(LOOPBACK, self._gate.port, timeout=20)) as client:
                    client.starttls(context=self._context)
                    client.login(LOGIN.username, LOGIN.password)
                    self._send_on(client)
            except smtplib.SMTPResponseException as error:
                self.codes.append(error.smtp_code)
            except smtplib.SMTPRecipientsRefused as error:
                self.codes += [code for code, _ in error.recipients.values()]
            except smtplib.SMTPServerDisconnected:
                continue  # before it read why; the next session gets it

    def _send_on(self, client: smtplib.SMTP) -> None:
        while not self.is_over.is_set():
            name = f"{self.name}-{len(self.accepted)}"
            _ = client.sendmail(SENDER, ["bob@example.net"], letter(name, f"{name}\r\n"))
            self.accepted.append(name)


def crash(server: PostgresServer) -> Callable[[], None]:
    server.stop()
    return server.start


def freeze(server: PostgresServer) -> Callable[[], None]:
    server.freeze()
    return server.thaw


@pytest.mark.parametrize("fault", [crash, freeze])
async def test_mail_is_decided_from_memory_and_nothing_new_is_let_through(
    lab: Lab, fault: Callable[[PostgresServer], Callable[[], None]]
) -> None:
    server = postgres_server(lab)
    url = server.create_database("directory")
    async with open_store(url):
        pass  # the tables are there now; a start makes none in PostgreSQL
    authority, upstream = Authority(lab), recorder(lab)
    gate = start_gate(lab, authority, GatePlan(upstream.port, directory_url=url))
    context = authority.client_context()
    senders = [Senders(gate, context, f"sender{number}") for number in range(3)]
    for sender in senders:
        sender.start()
    try:
        eventually(lambda: all(sender.accepted for sender in senders), "the first messages")
        mend = fault(server)
        eventually(lambda: not is_ready(gate), "the gate to notice")
        before = sum(len(sender.accepted) for sender in senders)
        # A user that is not in the cache is neither accepted, nor refused for good.
        with closing(smtplib.SMTP(LOOPBACK, gate.port, timeout=20)) as client:
            client.starttls(context=context)
            client.login(LOGIN.username, LOGIN.password)
            with pytest.raises(smtplib.SMTPDataError) as refused:
                client.sendmail(
                    STRANGER, ["bob@example.net"], letter("new", "x\r\n", author=STRANGER)
                )
        assert refused.value.smtp_code == 451
        assert "directory-unavailable" in str(refused.value.smtp_error)
        eventually(
            lambda: sum(len(sender.accepted) for sender in senders) > before + 10,
            "mail to go on from memory",
        )
        mend()
        eventually(lambda: is_ready(gate), "the gate to recover")
        async with open_store(url) as store, store.changing(ACTOR) as change:
            _ = await update_access_key(
                change, LOGIN.username, {"is_active": False}, action="disable"
            )
        revoked_at = time.monotonic()
        eventually(lambda: all(sender.codes for sender in senders), "the key to be refused")
        assert time.monotonic() - revoked_at < 10
    finally:
        for sender in senders:
            sender.is_over.set()
        for sender in senders:
            sender.join()
    accepted = {name for sender in senders for name in sender.accepted}
    arrived = {kept.body.decode().strip() for kept in upstream.messages}
    assert accepted <= arrived
    assert "x" not in arrived
    assert {code for sender in senders for code in sender.codes} <= {421, 535, 554}
