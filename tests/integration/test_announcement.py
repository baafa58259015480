"""The announcement of sending authorization, end to end with real parts.

A retailer owns a domain, and lets a marketer send with some of its addresses. The upstream is a
Postfix, whose bounces come back to the gate; the retailer's webhook expects Amazon SNS, the
marketer's Standard Webhooks.
"""

import base64
import json
import re
import ssl
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
import standardwebhooks
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.integration.test_consumers import PACKAGES, run
from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab, eventually, free_port, need
from tests.support.dnsserver import dns_server
from tests.support.forks import completed
from tests.support.gate import (
    SENDER,
    Gate,
    GatePlan,
    letter,
    logged_in,
    start_gate,
    txt_records,
)
from tests.support.npm import npm_folder
from tests.support.postfix import Postfix, postfix_upstream
from tests.support.recorder import recorder
from tests.support.smtpsink import SunkMessage
from tests.support.webhooks import receiving
from tests.support.world import DELEGATE, DOMAIN_NAME, IDENTITY, OWNER

PATH_DOMAIN: Final = f"bounce.{DOMAIN_NAME}"
GATE_DOMAIN: Final = "bounces.gate.example.com"
READER: Final = "bob@example.net"
GONE: Final = "jane@gone.example.net"  # the mailbox server refuses it, so Postfix bounces
OWNED: Final = f"{OWNER}/{DOMAIN_NAME}"
COMPLAINT: Final = """\
From: abuse@example.net
To: complaints@bounces.gate.example.com
Subject: complaint about a message from 192.0.2.1
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="cut"

--cut
Content-Type: text/plain

A reader reported the message as unwanted.
--cut
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: ExampleFBL/1.0
Version: 1
Original-Rcpt-To: <bob@example.net>

--cut
Content-Type: message/rfc822

Return-Path: <{path}>
From: Example News <marketing+news@ses-example.com>
Subject: News spring

Hello.
--cut--
"""
TEST_MESSAGE: Final = "AmazonSnsSubscriptionSucceeded"
SECTIONS: Final = """
[dns]
nameservers = ["127.0.0.1:{dns}"]
[feedback]
enabled = true
address = "127.0.0.1"
port = {feedback}
domain = "bounces.gate.example.com"
[notifications]
base_url = "https://localhost:{front}"
allow_plaintext = true
allow_private = true
"""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that a webhook has got."""

    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:  # noqa: ANN401 - JSON
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Webhook:
    """A party's web server: its URL, and the calls that it has got."""

    url: str
    calls: list[Call] = field(default_factory=list)

    def kinds(self) -> list[str]:
        """The kinds of its events in the order of their arrival, after SES's test message."""
        found = map(kind_of_call, self.calls)
        return [kind for kind in found if kind not in {"", TEST_MESSAGE}]


def event_in(call: Call) -> Any:  # noqa: ANN401 - JSON
    """SES's JSON in a call; empty in a call that has none."""
    document = call.document
    if "Type" not in document:
        return document
    is_event = document["Type"] == "Notification" and document["Message"].startswith("{")
    return json.loads(document["Message"]) if is_event else {}


def kind_of(event: dict[str, Any]) -> str:
    """The kind of an event; of a bounce its subtype too."""
    kind: str = event.get("notificationType") or event["eventType"]
    return f"{kind} {event['bounce']['bounceSubType']}" if kind == "Bounce" else kind


@contextmanager
def webhook() -> Iterator[Webhook]:
    with receiving(Call) as (host, calls):
        yield Webhook(f"http://me:pass@{host}/ses", calls)


@contextmanager
def front(authority: Authority, listening: HTTPServer, http_port: int) -> Iterator[None]:
    """A web server with HTTPS at localhost, which passes ``/`` on to the gate's ``[http]``."""
    certificate = authority.certificate("localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.cert_file, certificate.key_file)
    listening.socket = context.wrap_socket(listening.socket, server_side=True)
    listening.RequestHandlerClass = type("Passing", (_Passing,), {"http_port": http_port})
    with listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield
        finally:
            listening.shutdown()
            thread.join()


class _Passing(BaseHTTPRequestHandler):
    http_port: int

    def do_GET(self) -> None:
        there = f"http://{LOOPBACK}:{self.http_port}{self.path}"
        with urllib.request.urlopen(there, timeout=10) as answer:
            octets = answer.read()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(octets)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class Host:
    """The gate's host, with its neighbours."""

    def __init__(self, lab: Lab) -> None:
        self.authority = Authority(lab)
        self.listening = HTTPServer((LOOPBACK, 0), BaseHTTPRequestHandler)
        feedback = free_port()
        dns = dns_server(
            lab,
            txt_records() | {PATH_DOMAIN: "v=spf1 mx ~all"},
            settings=[f"mx-host={PATH_DOMAIN},{GATE_DOMAIN},10"],
        )
        certificate = self.authority.certificate("mx.example.com")
        self.mailboxes = recorder(lab)
        self.mailboxes.answer_rcpt = _refuse_gone
        routes = (
            f"{{{PATH_DOMAIN}=mailbox:[{LOOPBACK}]:{feedback}}} "
            f"{{{GATE_DOMAIN}=mailbox:[{LOOPBACK}]:{feedback}}}"
        )
        self.upstream: Postfix = postfix_upstream(
            lab,
            next_port=self.mailboxes.port,
            cert_file=certificate.cert_file,
            key_file=certificate.key_file,
            username="gate",
            password="open sesame",
            settings={"transport_maps": f"inline:{{ {routes} }}"},
        )
        password = lab.new_folder("password") / "password"
        password.write_text("open sesame\n")
        password.chmod(0o600)
        plan = GatePlan(
            self.upstream.port,
            {
                "tls": "required",
                "tls_name": "mx.example.com",
                "ca_file": self.authority.ca_file,
                "username": "gate@upstream.example.com",
                "password_file": password,
            },
            sections=SECTIONS.format(
                dns=dns.port, feedback=feedback, front=self.listening.server_address[1]
            ),
        )
        self.gate: Gate = start_gate(lab, self.authority, plan)
        self._config: Path = self.gate.daemon.log_file.parent / "smtpgate.toml"

    def smtpgate(self, *words: str) -> str:
        """The output of a command of the operator."""
        done = completed(*words, "--config", self._config)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def json(self, *words: str) -> Any:  # noqa: ANN401 - JSON
        return json.loads(self.smtpgate(*words, "--json"))

    def get(self, url: str) -> bytes:
        """A document of the gate's public URL."""
        context = self.authority.client_context()
        with urllib.request.urlopen(url, timeout=10, context=context) as answer:
            octets: bytes = answer.read()
            return octets

    def must_know_the_directory(self) -> None:
        """Wait until each worker has looked at the directory as it is now."""
        began_s = time.monotonic()
        url = f"http://{LOOPBACK}:{self.gate.plan.http_port}/metrics"

        def has_looked() -> bool:
            with urllib.request.urlopen(url, timeout=10) as answer:
                found = re.search(
                    rb"^smtpgate_directory_age_seconds (\S+)$", answer.read(), re.MULTILINE
                )
            assert found is not None
            return float(found[1]) < time.monotonic() - began_s

        eventually(has_looked, "each worker to look at the directory")

    def send(self, name: str, *to: str, fields: str = "") -> str:
        """The marketer sends; the id of its message."""
        with logged_in(self.gate, self.authority.client_context()) as client:
            client.mail(SENDER)
            for recipient in to:
                code, reply = client.rcpt(recipient)
                assert code == 250, reply
            code, reply = client.data(letter(name, "Hello.\r\n", more_fields=fields))
        assert code == 250, reply
        return reply.decode().split()[-1]

    def is_accepted(self, to: str) -> bool:
        """True if a message of the marketer is accepted now."""
        with logged_in(self.gate, self.authority.client_context()) as client:
            client.mail(SENDER)
            client.rcpt(to)
            code, _ = client.data(letter("again", "Hello.\r\n"))
        return code == 250

    def arrived(self, subject: str) -> SunkMessage:
        """The message with that subject, as the mailbox server got it."""
        needle = f"\r\nSubject: {subject}".encode()
        found: list[SunkMessage] = []

        def look() -> bool:
            found[:] = [one for one in self.mailboxes.messages if needle in one.header]
            return bool(found)

        eventually(look, f"a message with subject {subject!r}")
        return found[0]


def _refuse_gone(address: str, _: int) -> str:
    return f"550 5.1.1 <{address}>: User unknown" if address == GONE else "250 2.1.5 Ok"


def subscribe_the_retailer(host: Host, hook: Webhook) -> None:
    """The retailer's software expects Amazon SNS; it confirms as AWS's own receivers do."""
    topic = f"{OWNER}/feedback"
    host.smtpgate("topic", "create", topic)
    host.smtpgate("subscription", "create", topic, hook.url, "--form", "sns")
    eventually(lambda: bool(hook.calls), "the confirmation to ask for")
    asked = hook.calls[0].document
    assert asked["Type"] == "SubscriptionConfirmation"
    assert b"<SubscriptionArn>" in host.get(asked["SubscribeURL"])
    host.smtpgate(
        *("identity", "notifications", "set", OWNED),
        *("--bounce-topic", "feedback", "--complaint-topic", "feedback"),
    )


def subscribe_the_marketer(host: Host, hook: Webhook) -> str:
    """The marketer has a webhook of its own for the same identity; its secret."""
    topic = f"{DELEGATE}/ours"
    host.smtpgate("topic", "create", topic)
    made = host.json("subscription", "create", topic, hook.url, "--form", "raw", "--trust")
    host.smtpgate(
        *("identity", "notifications", "set", IDENTITY, "--for", DELEGATE),
        *("--bounce-topic", "ours", "--complaint-topic", "ours"),
    )
    secret: str = made["secret"]
    return secret


def must_be_signed_as_sns(host: Host, call: Call) -> None:
    """Check the signature by the certificate at the gate, as a receiver does."""
    document = call.document
    certificate = x509.load_pem_x509_certificate(host.get(document["SigningCertURL"]))
    names = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
    text = "".join(f"{name}\n{document[name]}\n" for name in names if name in document)
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    signature = base64.b64decode(document["Signature"])
    key.verify(signature, text.encode(), padding.PKCS1v15(), hashes.SHA1())


def must_be_understood(host: Host, retailer: Webhook, marketer: Webhook, secret: str) -> None:
    """Feed all that has arrived to software that receives such calls, unmodified."""
    sns = [call for call in retailer.calls if kind_of_call(call) not in {"", TEST_MESSAGE}]
    raw = [call for call in marketer.calls if kind_of_call(call) != TEST_MESSAGE]
    given = {
        "host": f"localhost:{host.listening.server_address[1]}",
        "sns": [{"headers": one.headers, "body": one.body.decode()} for one in sns],
        "raw": [
            {"headers": one.headers, "body": one.body.decode(), "secret": secret} for one in raw
        ],
    }
    here, ca_file = Path(__file__).parent, host.authority.ca_file
    by_python = run([sys.executable, here / "consume.py"], given, ca_file)
    assert [one[0] for one in by_python["django-ses"]] == ["200"] * len(sns)
    kinds = [one[1].split()[0] for one in by_python["django-ses"]]
    assert kinds == ["bounce", "complaint", "bounce"]
    assert [one[1].split()[0] for one in by_python["anymail"]] == [
        "bounced",
        "complained",
        "bounced",
    ]
    assert by_python["standardwebhooks"] == [["verified", "refused"]] * len(raw)
    folder = npm_folder("consumers", PACKAGES)
    by_node = run([need("node", "nodejs"), here / "consume.mjs", folder], given, ca_file)
    assert [one[0] for one in by_node["sns-validator"]] == ["valid"] * len(sns)
    assert by_node["standardwebhooks"] == [["verified", "refused"]] * len(raw)


def kind_of_call(call: Call) -> str:
    """The kind of the event in a call; empty if it has none."""
    event = event_in(call)
    return kind_of(event) if event else ""


@pytest.fixture
def host(lab: Lab) -> Iterator[Host]:
    made = Host(lab)
    with front(made.authority, made.listening, made.gate.plan.http_port):
        yield made


def test_the_announcement(host: Host) -> None:
    with webhook() as retailer, webhook() as marketer:
        host.smtpgate("identity", "mail-from", "set", OWNED, PATH_DOMAIN)
        host.smtpgate("identity", "mail-from", "check", OWNED)
        subscribe_the_retailer(host, retailer)
        secret = subscribe_the_marketer(host, marketer)

        # One of the marketer's two readers has left: the upstream takes both, and bounces one.
        first = host.send("spring", READER, GONE)
        letter_to_bob = host.arrived("News spring")
        assert letter_to_bob.mail_from.startswith("b+")
        assert letter_to_bob.mail_from.endswith(f"@{PATH_DOMAIN}")
        eventually(lambda: retailer.kinds() and marketer.kinds(), "both webhooks")
        assert retailer.kinds() == marketer.kinds() == ["Bounce NoEmail"]
        must_be_signed_as_sns(host, retailer.calls[-1])
        standardwebhooks.Webhook(secret).verify(
            marketer.calls[-1].body, marketer.calls[-1].headers
        )
        of_retailer, of_marketer = event_in(retailer.calls[-1]), event_in(marketer.calls[-1])
        assert of_retailer == of_marketer
        assert of_retailer["mail"]["messageId"] == first
        assert of_retailer["mail"]["sendingAccountId"] == DELEGATE
        assert [one["emailAddress"] for one in of_retailer["bounce"]["bouncedRecipients"]] == [
            GONE
        ]
        # And to the address that the marketer named in MAIL FROM.
        report = host.arrived("Undelivered mail")
        assert report.recipients == (SENDER,)
        assert report.mail_from == ""

        # The other reader reports the message as unwanted.
        complaint = COMPLAINT.format(path=letter_to_bob.mail_from).encode()
        host.upstream.inject(complaint, "fbl@example.net", [f"complaints@{GATE_DOMAIN}"])
        eventually(lambda: len(retailer.kinds()) == len(marketer.kinds()) == 2, "both webhooks")
        assert retailer.kinds()[1] == marketer.kinds()[1] == "Complaint"
        complained = event_in(marketer.calls[-1])["complaint"]
        assert complained["complaintFeedbackType"] == "abuse"
        assert [one["emailAddress"] for one in complained["complainedRecipients"]] == [READER]

        # Neither reader gets further mail; the marketer's messages to them bounce at once.
        listed = host.json("suppression", "list", DELEGATE)
        assert {(one["address"], one["reason"]) for one in listed} == {
            (GONE, "BOUNCE"),
            (READER, "COMPLAINT"),
        }
        host.must_know_the_directory()
        second = host.send("summer", GONE)
        eventually(lambda: len(retailer.kinds()) == len(marketer.kinds()) == 3, "both webhooks")
        assert retailer.kinds()[2] == marketer.kinds()[2] == "Bounce OnAccountSuppressionList"
        assert event_in(marketer.calls[-1])["mail"]["messageId"] == second
        assert not any(b"Subject: News summer" in one.header for one in host.mailboxes.messages)

        must_be_understood(host, retailer, marketer, secret)

        # What became of the first message, in one place.
        explained = host.smtpgate("explain", first)
        for fact in (GONE, "5.1.1", "NoEmail", "Complaint", READER):
            assert fact in explained, explained

        # The marketer answers for it; the retailer looks at its rates, and pauses it.
        (rates,) = host.json("reputation", "show", IDENTITY)
        assert rates["account"] == DELEGATE
        assert (rates["bounces"], rates["complaints"]) == (1, 1)
        reason = "too many readers have left"
        host.smtpgate(
            *("reputation", "pause", DELEGATE, "--identity", IDENTITY, "--reason", reason)
        )
        eventually(lambda: not host.is_accepted(READER), "the pause")
        host.smtpgate("reputation", "resume", DELEGATE, "--identity", IDENTITY)
        eventually(lambda: host.is_accepted("eve@example.net"), "the end of the pause")
