"""A gate with workers and two upstreams, of which the first goes away and comes back."""

import json
import urllib.error
import urllib.request
from typing import Any

from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab, eventually
from tests.support.forks import completed
from tests.support.gate import SENDER, Gate, GatePlan, letter, logged_in, start_gate
from tests.support.recorder import recorder


def readiness(gate: Gate) -> tuple[int, dict[str, str]]:
    """The status of /readyz, and its checks."""
    address = f"http://{LOOPBACK}:{gate.plan.http_port}/readyz"
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status, json.load(answer)["checks"]
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)["checks"]


def explained(gate: Gate, message_id: str) -> str:
    """The words of `smtpgate explain'."""
    shown = completed("explain", message_id, "--config", gate.config)
    assert shown.returncode == 0, shown.stderr
    return " ".join(shown.stdout.split())


def send(gate: Gate, authority: Authority, count: int, name: str) -> None:
    for number in range(count):
        with logged_in(gate, authority.client_context()) as client:
            message = letter(f"{name}{number}", "Hello.\r\n")
            assert client.sendmail(SENDER, ["bob@example.net"], message) == {}


def submissions(gate: Gate) -> list[dict[str, Any]]:
    return [line for line in gate.log_lines() if line["event"] == "submission"]


def test_messages_go_to_the_next_upstream_and_back(lab: Lab) -> None:
    authority = Authority(lab)
    first, second = recorder(lab), recorder(lab)
    plan = GatePlan(
        first.port,
        workers=2,
        sections=(
            f'[upstream.backup]\nhost = "{LOOPBACK}"\nport = {second.port}\n'
            'tls = "off"\npriority = 20\n'
        ),
    )
    gate = start_gate(lab, authority, plan)
    send(gate, authority, 4, "before")
    assert (len(first.messages), len(second.messages)) == (4, 0)

    first.close()
    send(gate, authority, 20, "away")
    assert len(second.messages) == 20
    eventually(lambda: "down" in readiness(gate)[1]["upstream.default"], "the first is down")
    status, checks = readiness(gate)
    assert status == 200, "the other one is there"
    assert checks["upstream.backup"] == "up"
    last = submissions(gate)[-1]
    assert (last["outcome"], last["upstream"]) == ("accepted", "backup")
    assert last["tried"][0]["upstream"] == "default"
    words = explained(gate, last["id"])
    assert "default was not used:" in words
    assert "backup replied: 250" in words

    again = recorder(lab, port=first.port)
    eventually(lambda: readiness(gate)[1]["upstream.default"] == "up", "the first is back")
    send(gate, authority, 6, "back")
    assert len(again.messages) + len(second.messages) == 26
    assert again.messages
    gate.terminate()
    assert gate.daemon.wait() == 0
    assert len(submissions(gate)) == 30
    states = [one["state"] for one in gate.log_lines() if one["event"] == "upstream-state"]
    assert {"open", "half-open", "closed"} >= set(states) >= {"open", "half-open"}
