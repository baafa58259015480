"""`smtpgate trace' and `smtpgate top' of a gate with two workers, as an operator gives them."""

import os
import signal
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.authority import Authority
from tests.support.daemons import Lab, eventually
from tests.support.gate import (
    LOGIN,
    SENDER,
    Gate,
    GatePlan,
    letter,
    logged_in,
    start_gate,
    workers_of,
)
from tests.support.json_lines import json_lines
from tests.support.recorder import recorder
from tests.support.world import DELEGATE


@pytest.fixture
def authority(lab: Lab) -> Authority:
    return Authority(lab)


def ended(gate: Gate) -> list[int]:
    """The lines that were shown, of each trace that has ended."""
    return [line["lines"] for line in gate.log_lines() if line["event"] == "trace ended"]


@contextmanager
def command(gate: Gate, output: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command that runs beside the gate, and has begun."""
    argv = [sys.executable, "-m", "smtpgate", *words, "--config", str(gate.config)]
    with (
        output.open("w") as file,
        subprocess.Popen(argv, stdout=file, stderr=subprocess.PIPE, text=True) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def begun(gate: Gate) -> int:
    return sum(line["event"] == "trace begun" for line in gate.log_lines())


def test_sessions_of_all_workers_are_shown_and_a_killed_worker_is_named(
    lab: Lab, authority: Authority
) -> None:
    gate = start_gate(lab, authority, GatePlan(recorder(lab).port, workers=2))
    context = authority.client_context()
    output = lab.new_folder("trace") / "output"
    with (
        command(gate, output, "trace", "--account", DELEGATE, "--json") as trace,
        ExitStack() as clients,
    ):
        eventually(lambda: begun(gate) == 1, "the trace begins")
        for number in range(12):
            client = clients.enter_context(logged_in(gate, context))
            client.sendmail(SENDER, "bob@example.net", letter(f"m{number}", "Hello.\r\n"))
        eventually(lambda: output.read_text().count('"MAIL FROM:') == 12, "all are shown")
        os.kill(workers_of(gate)["0"], signal.SIGKILL)
        eventually(lambda: "the worker has ended" in output.read_text(), "its end is shown")
        trace.send_signal(signal.SIGINT)
        _, said = trace.communicate(timeout=30)
    assert trace.returncode == 0, said
    shown = output.read_text()
    lines = json_lines(shown)
    sent = [line for line in lines if line["text"].upper().startswith("MAIL FROM:")]
    assert sum(line["side"] == "client" for line in sent) == 12
    assert sum(line["side"] == "upstream" for line in sent) == 12
    assert len({line["session"] for line in sent}) == 12
    assert {line["upstream"] for line in sent} == {"", "default"}
    notes = [line["text"] for line in lines if line["kind"] == "note"]
    assert "worker 0: the worker has ended" in notes
    assert LOGIN.password not in shown
    assert "Hello." not in shown
    eventually(lambda: ended(gate) == [len(lines)], "the log has the number of lines")


def test_a_login_that_fails_is_shown_by_its_address_and_no_reader_leaves_no_trace(
    lab: Lab, authority: Authority
) -> None:
    gate = start_gate(lab, authority, GatePlan(recorder(lab).port, workers=2))
    context = authority.client_context()
    output = lab.new_folder("trace") / "output"
    with command(gate, output, "trace", "--address", "127.0.0.0/8") as trace:
        eventually(lambda: begun(gate) == 1, "the trace begins")
        with smtplib.SMTP("127.0.0.1", gate.port, timeout=30) as client:
            client.starttls(context=context)
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login(LOGIN.username, "a password of another user")
        eventually(lambda: "connection closed" in output.read_text(), "the end is shown")
        trace.send_signal(signal.SIGKILL)
        eventually(lambda: "trace ended" in str(gate.log_lines()), "the trace ends")
    text = output.read_text()
    assert "client -- login refused: invalid-credentials\n" in text
    assert "client S: 535 " in text
    assert "password" not in text


def test_top_counts_the_sessions_and_messages_of_all_workers(
    lab: Lab, authority: Authority
) -> None:
    gate = start_gate(lab, authority, GatePlan(recorder(lab).port, workers=2))
    context, output = authority.client_context(), lab.new_folder("top") / "output"

    def shown() -> list[dict[str, Any]]:
        return json_lines(output.read_text())

    with (
        command(gate, output, "top", "--json", "--interval", "0.3") as top,
        ExitStack() as clients,
    ):
        eventually(shown, "it begins")
        for number in range(8):
            client = clients.enter_context(logged_in(gate, context))
            client.sendmail(SENDER, "bob@example.net", letter(f"t{number}", "Hello.\r\n"))

        def messages() -> int:
            return sum(row["messages"] for load in shown() for row in load["senders"])

        eventually(lambda: messages() == 8, "all messages are counted")
        eventually(
            lambda: (
                shown()[-1]["sessions"]
                == [
                    {
                        "listener": "submission",
                        "account": DELEGATE,
                        "state": "idle",
                        "sessions": 8,
                    }
                ]
            ),
            "all sessions are counted",
        )
        top.send_signal(signal.SIGINT)
        _, said = top.communicate(timeout=30)
    assert top.returncode == 0, said
    assert shown()[-1]["workers"] == 2
    assert shown()[-1]["problems"] == []
    assert [one["name"] for one in shown()[-1]["upstreams"]] == ["default"]
