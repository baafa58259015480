"""Restarts with sockets that another process has too, as systemd: no client notices them."""

import smtplib
import threading
from collections import Counter
from contextlib import suppress

import pytest

from tests.support.activation import SocketUnit
from tests.support.authority import Authority
from tests.support.daemons import Lab, eventually, free_port
from tests.support.gate import SENDER, Gate, GatePlan, letter, logged_in, start_gate
from tests.support.recorder import message_ids, recorder

# Enough that some fifty pass between two restarts.
MESSAGES = 600
RESTARTS = 10
CLIENTS = 8
# One connection in four is used for a second message; the others have one, as most programs do.
SECOND = 4


@pytest.fixture
def authority(lab: Lab) -> Authority:
    return Authority(lab)


class Senders:
    """Clients that send all messages, each at the first try of a fresh connection.

    A second message of a connection may find the session ended (421): it is sent over another.
    """

    def __init__(self, gate: Gate, authority: Authority) -> None:
        self._gate, self._context = gate, authority.client_context()
        self._names = iter(range(MESSAGES))
        self._lock = threading.Lock()
        self.accepted: list[str] = []
        self.ended = 0
        self.problems: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _next(self) -> int | None:
        with self._lock:
            return next(self._names, None)

    def _run(self) -> None:
        try:
            while (number := self._next()) is not None:
                with logged_in(self._gate, self._context) as client:
                    self._send(client, number)
                    second = self._next() if number % SECOND == 0 else None
                    if second is not None and not self._is_sent(client, second):
                        self.ended += 1
                        with logged_in(self._gate, self._context) as another:
                            self._send(another, second)
                    with suppress(smtplib.SMTPServerDisconnected):
                        assert client.quit()[0] in {221, 421}
        except (OSError, smtplib.SMTPException, AssertionError) as error:
            self.problems.append(error)

    def _is_sent(self, client: smtplib.SMTP, number: int) -> bool:
        """False if the session had ended."""
        try:
            self._send(client, number)
        except smtplib.SMTPServerDisconnected:
            return False
        except smtplib.SMTPSenderRefused as refusal:
            if refusal.smtp_code == 421:
                return False
            raise
        return True

    def _send(self, client: smtplib.SMTP, number: int) -> None:
        name = f"m{number}"
        assert client.sendmail(SENDER, ["bob@example.net"], letter(name, "Hello.\r\n")) == {}
        self.accepted.append(f"<{name}@example.com>")

    def join(self) -> None:
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive()


@pytest.mark.parametrize("workers", [1, 2])
def test_no_message_is_refused_or_sent_twice_by_ten_restarts(
    lab: Lab, authority: Authority, workers: int
) -> None:
    upstream, ports = recorder(lab), (free_port(), free_port())
    # The first socket has the name of its section, the second that of its unit.
    sockets = SocketUnit({"listener.submission": ports[0], "smtpgate.socket": ports[1]})
    lab.keep(sockets)
    plan = GatePlan(
        upstream.port,
        submission_port=ports[0],
        submissions_port=ports[1],
        state_dir=lab.new_folder("state", 0o700),
        workers=workers,
        sockets=sockets,
    )
    gate = start_gate(lab, authority, plan)
    senders = Senders(gate, authority)
    try:
        for restart in range(RESTARTS):
            wanted = (restart + 1) * MESSAGES // (RESTARTS + 2)
            eventually(lambda: len(senders.accepted) >= wanted or senders.problems, "mail", 120)  # noqa: B023
            gate.terminate()
            assert gate.daemon.wait() == 0
            gate = start_gate(lab, authority, plan)
    finally:
        senders.join()
    assert senders.problems == []
    assert len(senders.accepted) == MESSAGES
    taken = Counter(message_ids(upstream))
    assert set(taken) == set(senders.accepted)
    assert [name for name, times in taken.items() if times > 1] == []
    assert senders.ended < RESTARTS * CLIENTS // 2
    gate.terminate()
    assert gate.daemon.wait() == 0
