"""Events of a gate with workers: workers decide who gets them, and the parent sends them."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab, eventually
from tests.support.forks import completed
from tests.support.gate import SENDER, GatePlan, letter, logged_in, start_gate
from tests.support.recorder import recorder
from tests.support.webhooks import receiving
from tests.support.world import DELEGATE, IDENTITY

pytestmark = pytest.mark.integration

_SECTIONS = "[notifications]\nallow_plaintext = true\nallow_private = true\n"


def json_of(_: object, body: bytes) -> Any:  # noqa: ANN401 - JSON
    return json.loads(body)


def smtpgate(config: Path, *words: str) -> None:
    done = completed(*words, "--config", config)
    assert done.returncode == 0, done.stderr


def test_each_worker_s_messages_have_their_events(lab: Lab) -> None:
    upstream, authority = recorder(lab), Authority(lab)
    plan = GatePlan(upstream.port, workers=2, sections=_SECTIONS)
    gate = start_gate(lab, authority, plan)
    config = gate.daemon.log_file.parent / "smtpgate.toml"
    topic, its_set = f"{DELEGATE}/events", f"{DELEGATE}/spring"
    with receiving(json_of) as (host, bodies):
        smtpgate(config, "topic", "create", topic)
        smtpgate(
            config,
            "subscription",
            "create",
            topic,
            f"http://{host}/",
            "--form",
            "raw",
            "--trust",
        )
        smtpgate(config, "configuration-set", "create", its_set)
        add = ("configuration-set", "add-destination", its_set, "all")
        smtpgate(config, *add, "--types", "SEND", "--topic", "events")
        named = "X-SES-CONFIGURATION-SET: spring\r\n"
        for number in range(8):
            with logged_in(gate, authority.client_context()) as client:
                message = letter(f"m{number}", "Hello.\r\n", more_fields=named)
                assert client.sendmail(SENDER, ["bob@example.net"], message) == {}
        eventually(lambda: len(bodies) == 8, "an event of each message")
    subjects = {body["mail"]["commonHeaders"]["subject"] for body in bodies}
    assert subjects == {f"News m{number}" for number in range(8)}
    assert {body["eventType"] for body in bodies} == {"Send"}


def test_workers_suppress_what_the_parent_has_put_on_a_list(lab: Lab) -> None:
    upstream, authority = recorder(lab), Authority(lab)
    gate = start_gate(lab, authority, GatePlan(upstream.port, workers=2, sections=_SECTIONS))
    config = gate.daemon.log_file.parent / "smtpgate.toml"
    topic = f"{DELEGATE}/events"
    identity = ("identity", "notifications", "set", IDENTITY, "--for", DELEGATE)
    with receiving(json_of) as (host, bodies):
        smtpgate(config, "topic", "create", topic)
        smtpgate(
            config,
            "subscription",
            "create",
            topic,
            f"http://{host}/",
            "--form",
            "raw",
            "--trust",
        )
        smtpgate(config, *identity, "--bounce-topic", "events", "--complaint-topic", "events")
        smtpgate(config, "suppression", "add", DELEGATE, "jane@example.net")
        recipients = ["jane@example.net", "complaint@simulator.amazonses.com"]
        sent = 0

        def has_bounced_often() -> bool:
            """Each worker sees the change within a second, by itself."""
            nonlocal sent
            with logged_in(gate, authority.client_context()) as client:
                message = letter(f"m{sent}", "Hello.\r\n")
                assert client.sendmail(SENDER, recipients, message) == {}
            sent += 1
            return sum("bounce" in body for body in bodies) >= 8

        eventually(has_bounced_often, "bounces of a suppressed address")
        eventually(lambda: sum("complaint" in body for body in bodies) == sent, "complaints")
    reasons = {body["bounce"]["bounceSubType"] for body in bodies if "bounce" in body}
    assert reasons == {"OnAccountSuppressionList"}


def test_records_of_a_mail_server_come_to_the_parent(lab: Lab) -> None:
    upstream, authority = recorder(lab), Authority(lab)
    credential = lab.new_folder("credential") / "feedback.credential"
    credential.write_text("0123456789abcdef" * 2 + "\n")
    credential.chmod(0o600)
    feedback = f'[feedback]\ncredential_file = "{credential}"\n'
    plan = GatePlan(upstream.port, workers=2, sections=_SECTIONS + feedback)
    gate = start_gate(lab, authority, plan)
    config = gate.daemon.log_file.parent / "smtpgate.toml"
    topic = f"{DELEGATE}/events"
    with receiving(json_of) as (host, bodies):
        smtpgate(config, "topic", "create", topic)
        smtpgate(
            config,
            "subscription",
            "create",
            topic,
            f"http://{host}/",
            "--form",
            "raw",
            "--trust",
        )
        notify = ("identity", "notifications", "set", IDENTITY, "--for", DELEGATE)
        smtpgate(config, *notify, "--delivery-topic", "events")
        records = []
        for number in range(6):
            with logged_in(gate, authority.client_context()) as client:
                client.mail(SENDER)
                client.rcpt("bob@example.net")
                code, reply = client.data(letter(f"m{number}", "Hello.\r\n"))
                assert code == 250
            message_id = reply.decode().split()[-1]
            records.append(
                {
                    "type": "Delivery",
                    "id": f"{number:032x}",
                    "sender": SENDER,
                    "recipient": "bob@example.net",
                    "timestamp": 1_700_000_000,
                    "headers": {"Received": f"by gate.example.com id {message_id};"},
                }
            )
        for _ in range(2):
            body = "\n".join(map(json.dumps, records)).encode()
            assert posted(gate.plan.http_port, body, credential.read_text().strip()) == {
                "accepted": 6,
                "ignored": 0,
                "unknown": 0,
                "unread": 0,
                "problems": [],
            }
        eventually(
            lambda: len([one for one in bodies if "delivery" in one]) == 6,
            "a notification of each delivery",
        )
    tests = [one for one in bodies if "delivery" not in one]
    assert [one["notificationType"] for one in tests] == ["AmazonSnsSubscriptionSucceeded"]


def posted(port: int, body: bytes, credential: str) -> Any:  # noqa: ANN401 - JSON
    request = urllib.request.Request(
        f"http://{LOOPBACK}:{port}/feedback",
        data=body,
        headers={"Authorization": f"Bearer {credential}"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())
