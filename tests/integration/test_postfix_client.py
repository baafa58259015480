"""Postfix with the gate as its relayhost."""

import re
import smtplib
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab, eventually, free_port
from tests.support.dnsserver import dns_server
from tests.support.gate import (
    ACCOUNTS,
    BOUNCES_TO,
    HOSTNAME,
    LOGIN,
    SENDER,
    GatePlan,
    letter,
    start_gate,
    txt_records,
)
from tests.support.postfix import Postfix, Settings, postfix_client
from tests.support.relayhost import Relayhost
from tests.support.smtpsink import Sink, smtp_sink
from tests.support.world import DOMAIN_NAME, IDENTITY

# Postfix has all 500 in its active queue, and at most ten connections to the gate.
BURST: Settings = {
    "default_destination_concurrency_limit": 10,
    "initial_destination_concurrency": 10,
    "smtp_tls_connection_reuse": "no",
    "default_process_limit": 100,
}


def client_of(
    lab: Lab,
    authority: Authority,
    plan: GatePlan,
    *,
    wrapper_mode: bool = False,
    mailbox_port: int = 0,
    settings: Settings | None = None,
) -> Postfix:
    relay = Relayhost(
        plan.submissions_port if wrapper_mode else plan.submission_port,
        LOGIN.username,
        LOGIN.password,
        authority.ca_file,
        HOSTNAME,
        mailbox_domain=DOMAIN_NAME if mailbox_port else "",
        mailbox_port=mailbox_port,
        has_implicit_tls=wrapper_mode,
    )
    return postfix_client(lab, relay, settings=settings)


@pytest.mark.parametrize("wrapper_mode", [False, True], ids=["starttls", "implicit-tls"])
def test_mail_through_postfix_arrives_signed_and_stripped(lab: Lab, wrapper_mode: bool) -> None:
    dns = dns_server(lab, txt_records())
    authority, sink = Authority(lab), smtp_sink(lab)
    plan = GatePlan(sink.port)
    start_gate(lab, authority, plan)
    client = client_of(lab, authority, plan, wrapper_mode=wrapper_mode)

    client.inject(letter("one", "Hello Bob.\r\n"), SENDER, ["bob@example.net"])

    (kept,) = sink.wait_for(1)
    client.wait_until_empty()
    assert (kept.mail_from, kept.recipients) == (SENDER, ("bob@example.net",))
    assert b"x-ses-" not in kept.header.lower()
    assert kept.body == b"Hello Bob.\r\n"
    assert dns.dkimpy_verdict(kept.message)
    assert f"d={DOMAIN_NAME};".encode() in kept.header


def test_a_refused_message_is_bounced_to_its_sender_with_our_words(lab: Lab) -> None:
    authority, sink, mailbox = Authority(lab), smtp_sink(lab), smtp_sink(lab)
    plan = GatePlan(sink.port)
    start_gate(lab, authority, plan)
    client = client_of(lab, authority, plan, mailbox_port=mailbox.port)

    refused = letter("two", "Not allowed.\r\n", author=f"ceo@{DOMAIN_NAME}")
    client.inject(refused, BOUNCES_TO, ["bob@example.net"])

    (bounce,) = mailbox.wait_for(1)
    client.wait_until_empty()
    assert (bounce.mail_from, bounce.recipients) == ("", (BOUNCES_TO,))
    words = re.sub(rb"\s+", b" ", bounce.message).decode()
    assert "554 5.7.1 Access denied: User `arn:aws:iam::999999999999:user/mailer'" in words
    assert "is not authorized to perform `ses:SendRawEmail'" in words
    assert IDENTITY in words
    assert "Status: 5.7.1" in words
    assert sink.count() == 0


def test_a_bounce_of_postfix_passes_to_the_author_of_the_mail_alone(lab: Lab) -> None:
    authority, sink = Authority(lab), smtp_sink(lab)
    plan = GatePlan(sink.port)
    start_gate(lab, authority, plan)
    client = client_of(lab, authority, plan)

    # Postfix has no mailbox of its own here: its bounce goes through the gate too.
    refused = letter("two", "Not allowed.\r\n", author=f"ceo@{DOMAIN_NAME}")
    client.inject(refused, BOUNCES_TO, ["bob@example.net"])

    (bounce,) = sink.wait_for(1)
    client.wait_until_empty()
    assert (bounce.mail_from, bounce.recipients) == ("", (BOUNCES_TO,))
    words = re.sub(rb"\s+", b" ", bounce.message).decode()
    assert re.search(r"From: [^:]*MAILER-DAEMON@client.example.com", words)
    assert "Access denied: User `arn:aws:iam::999999999999:user/mailer'" in words
    assert b"dkim-signature" not in bounce.header.lower()

    # One that would go to another recipient ends here.
    client.inject(refused, "jane@example.net", ["bob@example.net"])
    eventually(lambda: "Email address is not verified" in client.log(), "a refused bounce")
    client.wait_until_empty()
    assert sink.count() == 1


def test_postfix_defers_while_the_gate_is_down_and_delivers_when_it_is_back(lab: Lab) -> None:
    authority, sink = Authority(lab), smtp_sink(lab)
    plan = GatePlan(sink.port)
    client = client_of(lab, authority, plan)

    client.inject(letter("three", "Patience.\r\n"), SENDER, ["bob@example.net"])
    client.wait_until_deferred("Connection refused")
    start_gate(lab, authority, plan)
    client.flush()

    (kept,) = sink.wait_for(1)
    client.wait_until_empty()
    assert kept.body == b"Patience.\r\n"


def test_postfix_defers_while_the_upstream_is_down_and_delivers_when_it_is_back(
    lab: Lab,
) -> None:
    authority, sink_port = Authority(lab), free_port()
    plan = GatePlan(sink_port)
    start_gate(lab, authority, plan)
    client = client_of(lab, authority, plan)

    client.inject(letter("four", "Patience again.\r\n"), SENDER, ["bob@example.net"])
    client.wait_until_deferred("451 4.4.1 Upstream mail server is not reachable")
    sink = smtp_sink(lab, port=sink_port)
    client.flush()

    (kept,) = sink.wait_for(1)
    client.wait_until_empty()
    assert kept.body == b"Patience again.\r\n"


def inject_burst(client: Postfix, names: list[str]) -> None:
    """Hand the messages to Postfix over ten connections."""

    def inject(some: list[str]) -> None:
        with smtplib.SMTP(LOOPBACK, client.port, timeout=30) as smtp:
            for name in some:
                smtp.sendmail(SENDER, ["bob@example.net"], letter(name, f"Body of {name}.\r\n"))

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(inject, [names[start::10] for start in range(10)]))


@contextmanager
def burst_under_way(client: Postfix, sink: Sink, names: list[str]) -> Iterator[None]:
    """Run the block when some of the messages have arrived, and most have not."""
    with ThreadPoolExecutor(1) as pool:
        injected = pool.submit(inject_burst, client, names)
        eventually(lambda: sink.count() >= 10, "the first messages of the burst")
        yield
        injected.result()


def arrivals(sink: Sink) -> Counter[str]:
    """The number of times that each message arrived, whole."""
    found: Counter[str] = Counter()
    for message in sink.messages():
        (name,) = re.findall(rb"(?im)^message-id: <([^@]+)@", message.header)
        assert message.body == b"Body of %s.\r\n" % name
        found[name.decode()] += 1
    return found


def test_a_burst_over_ten_connections_arrives_exactly_once_each(lab: Lab) -> None:
    authority, sink = Authority(lab), smtp_sink(lab)
    plan = GatePlan(sink.port)
    gate = start_gate(lab, authority, plan)
    client = client_of(lab, authority, plan, settings=BURST)
    names = [f"burst-{number:03}" for number in range(500)]

    inject_burst(client, names)
    client.wait_until_empty(timeout_s=120)

    assert arrivals(sink) == Counter(names)
    gate.terminate()
    assert gate.daemon.wait() == 0  # its log is whole by then; lines are written in batches
    accepted = [line for line in gate.log_lines() if line.get("outcome") == "accepted"]
    assert len(accepted) == 500
    assert len({line["id"] for line in accepted}) == 500


def test_a_restart_within_a_burst_neither_loses_nor_doubles_mail(lab: Lab) -> None:
    authority, sink = Authority(lab), smtp_sink(lab)
    plan = GatePlan(sink.port)
    gate = start_gate(lab, authority, plan)
    client = client_of(lab, authority, plan, settings=BURST)
    names = [f"restart-{number:03}" for number in range(200)]

    with burst_under_way(client, sink, names):
        gate.terminate()
        assert gate.daemon.wait() == 0
    assert client.queue(), "the gate was restarted too late"
    start_gate(lab, authority, plan)
    client.flush()
    client.wait_until_empty(timeout_s=120)

    assert arrivals(sink) == Counter(names)


def test_a_gate_that_is_killed_within_a_burst_loses_nothing(lab: Lab) -> None:
    authority, sink = Authority(lab), smtp_sink(lab)
    plan = GatePlan(sink.port)
    gate = start_gate(lab, authority, plan)
    client = client_of(lab, authority, plan, settings=BURST)
    names = [f"killed-{number:03}" for number in range(200)]

    with burst_under_way(client, sink, names):
        gate.kill()
    assert client.queue(), "the gate was killed too late"
    start_gate(lab, authority, plan)
    client.flush()
    client.wait_until_empty(timeout_s=120)

    found = arrivals(sink)
    assert set(found) == set(names)
    # Messages between the upstream's acceptance and our 250 come twice (RFC 1047): at most
    # one message for each of the ten connections.
    assert found.total() <= len(names) + 10


def test_a_queue_at_the_account_s_rate_drains_in_nominal_time_and_nothing_is_deferred(
    lab: Lab,
) -> None:
    """Postfix puts off what it gets a 454 for by five minutes; here it gets none."""
    authority, sink = Authority(lab), smtp_sink(lab)
    rate, names = 20, [f"paced-{number:03}" for number in range(100)]
    accounts = ACCOUNTS.replace("max_send_rate_per_s = 10000", f"max_send_rate_per_s = {rate}")
    plan = GatePlan(sink.port, accounts=accounts)
    gate = start_gate(lab, authority, plan)
    client = client_of(lab, authority, plan, settings={"default_process_limit": 100})

    started = time.monotonic()
    inject_burst(client, names)
    client.wait_until_empty(timeout_s=60)
    took_s = time.monotonic() - started

    assert arrivals(sink) == Counter(names)
    gate.terminate()
    assert gate.daemon.wait() == 0
    lines = [line for line in gate.log_lines() if line["event"] == "submission"]
    assert {line["outcome"] for line in lines} == {"accepted"}
    assert sum("paced_ms" in line for line in lines) > len(names) / 4
    nominal_s = len(names) / rate
    assert nominal_s - 1 <= took_s + 0.5, "the bucket holds one second's worth"
    assert took_s < 4 * nominal_s, "a machine may be slow, and an MTA's retry is after minutes"
