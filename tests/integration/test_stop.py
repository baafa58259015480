"""SIGTERM while messages are in flight."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.authority import Authority
from tests.support.daemons import Lab, eventually, listens
from tests.support.gate import SENDER, GatePlan, letter, logged_in, start_gate
from tests.support.recorder import recorder


@pytest.mark.parametrize("workers", [1, 2])
def test_a_transaction_at_the_upstream_finishes_and_idle_sessions_get_421(
    lab: Lab, workers: int
) -> None:
    authority, upstream = Authority(lab), recorder(lab)
    gate = start_gate(lab, authority, GatePlan(upstream.port, workers=workers))
    context = authority.client_context()
    with (
        logged_in(gate, context) as busy,
        logged_in(gate, context) as idle,
        ThreadPoolExecutor(1) as pool,
    ):
        upstream.hold()
        sending = pool.submit(
            busy.sendmail, SENDER, ["bob@example.net"], letter("last", "Made it.\r\n")
        )
        upstream.wait_for_arrival()
        gate.terminate()
        assert idle.getreply()[0] == 421  # RFC 5321 §3.8
        eventually(lambda: not listens(gate.port), "the listener to be closed")
        assert not sending.done()
        assert gate.daemon.is_running
        upstream.release()
        assert sending.result(30) == {}
        assert busy.getreply()[0] == 421

    assert gate.daemon.wait() == 0
    assert [kept.body for kept in upstream.messages] == [b"Made it.\r\n"]
    ends = [line for line in gate.log_lines() if line["event"] in ("submission", "stopped")]
    assert [line["event"] for line in ends] == ["submission", "stopped"]
    assert ends[-1]["transactions_cut_off"] == 0


def test_the_watchdog_is_fed_also_while_the_gate_drains(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        address = str(lab.new_folder("run") / "notify")
        manager.bind(address)
        manager.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        authority, upstream = Authority(lab), recorder(lab)
        gate = start_gate(lab, authority, GatePlan(upstream.port))
        with (
            logged_in(gate, authority.client_context()) as busy,
            ThreadPoolExecutor(1) as pool,
        ):
            upstream.hold()
            sending = pool.submit(
                busy.sendmail, SENDER, ["bob@example.net"], letter("last", "Made it.\r\n")
            )
            upstream.wait_for_arrival()
            gate.terminate()
            while manager.recv(100) != b"STOPPING=1":
                pass
            assert [manager.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
            upstream.release()
            assert sending.result(30) == {}
        assert gate.daemon.wait() == 0


def test_a_message_half_way_in_is_taken_to_its_end(lab: Lab) -> None:
    authority, upstream = Authority(lab), recorder(lab)
    gate = start_gate(lab, authority, GatePlan(upstream.port))
    with logged_in(gate, authority.client_context()) as client:
        client.mail(SENDER)
        client.rcpt("bob@example.net")
        assert client.docmd("DATA")[0] == 354
        message = letter("half", "First half, second half.\r\n")
        client.send(message[:-20])

        gate.terminate()
        eventually(lambda: not listens(gate.port), "the listener to be closed")
        client.send(message[-20:] + b".\r\n")

        assert client.getreply()[0] == 250
        assert client.getreply()[0] == 421

    assert gate.daemon.wait() == 0
    assert [kept.body for kept in upstream.messages] == [b"First half, second half.\r\n"]
