"""Mail servers as clients, and an upstream that refuses or defers some of the recipients."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email import message_from_bytes
from typing import Protocol

import pytest

from tests.support.authority import Authority
from tests.support.daemons import Lab, eventually
from tests.support.exim import exim_client
from tests.support.gate import BOUNCES_TO, HOSTNAME, LOGIN, Gate, GatePlan, letter, start_gate
from tests.support.nullmailer import nullmailer_client
from tests.support.opensmtpd import opensmtpd_client
from tests.support.postfix import postfix_client
from tests.support.recorder import Recorder, recorder
from tests.support.relayhost import Relayhost
from tests.support.smtpsink import SunkMessage
from tests.support.world import DOMAIN_NAME

GONE = "550 5.1.1 Nobody of that name lives here"
BUSY = "450 4.2.0 That mailbox is busy"
TOO_MANY = "452 4.5.3 No more recipients, please"


class MailServer(Protocol):
    """The part of a test that is run with each of them."""

    def inject(self, message: bytes, sender: str, recipients: Sequence[str]) -> None: ...
    def flush(self) -> None: ...
    def listing(self) -> str: ...
    def log(self) -> str: ...
    def wait_until_empty(self) -> None: ...


# These send a message to the recipients that are left when others are refused.
SERVERS: dict[str, Callable[[Lab, Relayhost], MailServer]] = {
    "postfix": postfix_client,
    "exim": exim_client,
    "opensmtpd": opensmtpd_client,
}


# nullmailer gives the message up at the first recipient that is refused.
CLIENTS = {**SERVERS, "nullmailer": nullmailer_client}


def as_named(address: str, _: int) -> str:
    """The answer that the recipient's name stands for."""
    if address.startswith("bad"):
        return GONE
    return BUSY if address.startswith("busy") else "250 2.1.5 Ok"


@dataclass(frozen=True, slots=True)
class Way:
    """A mail server, the gate, and the upstream; and where the server's bounces go."""

    server: MailServer
    gate: Gate
    upstream: Recorder
    mailbox: Recorder

    def arrived(self) -> Counter[str]:
        """The number of times that the upstream took the message for each recipient."""
        return Counter(to for kept in self.upstream.messages for to in kept.recipients)

    def asked(self) -> Counter[str]:
        """The number of times that the upstream was asked about each recipient."""
        return Counter(to for to, _ in self.upstream.answered)

    def failed(self) -> list[str]:
        """The bounces; OpenSMTPD's warnings, which many tries bring about, are none."""
        return [text for text in map(words_of, self.mailbox.messages) if "Action: fail" in text]

    def run_until(self, done: Callable[[], bool], what: str) -> None:
        """Run the server's queue again and again until so."""

        def ask() -> bool:
            if not done():
                self.server.flush()
            return done()

        eventually(ask, f"{what}; the queue:\n{self.server.listing()}")


@pytest.fixture(params=SERVERS)
def way(lab: Lab, request: pytest.FixtureRequest) -> Way:
    return open_way(lab, request.param)


def open_way(
    lab: Lab,
    server: str,
    *,
    has_mailbox: bool = True,
    warns_of_delay: bool = False,
    has_implicit_tls: bool = False,
) -> Way:
    authority, upstream, mailbox = Authority(lab), recorder(lab), recorder(lab)
    upstream.answer_rcpt = as_named
    plan = GatePlan(upstream.port, has_movable_clock=True)
    relay = Relayhost(
        plan.submissions_port if has_implicit_tls else plan.submission_port,
        LOGIN.username,
        LOGIN.password,
        authority.ca_file,
        HOSTNAME,
        DOMAIN_NAME if has_mailbox else "",
        mailbox.port if has_mailbox else 0,
        warns_of_delay,
        has_implicit_tls,
    )
    gate = start_gate(lab, authority, plan)
    return Way(CLIENTS[server](lab, relay), gate, upstream, mailbox)


def words_of(bounce: SunkMessage) -> str:
    return re.sub(r"\s+", " ", bounce.message.decode())


def test_the_others_have_the_mail_at_the_first_try_and_the_gate_reports_the_bad_one(
    way: Way,
) -> None:
    good = ["good1@example.net", "good2@example.net"]

    way.server.inject(
        letter("one", "Hello.\r\n"), BOUNCES_TO, [good[0], "bad1@example.net", good[1]]
    )
    way.run_until(lambda: len(way.upstream.messages) == 2, "the mail and the report")
    way.server.wait_until_empty()

    _, report = way.upstream.messages
    assert way.arrived() == Counter([*good, BOUNCES_TO])
    assert way.asked() == Counter([*good, "bad1@example.net", BOUNCES_TO]), "at the first try"
    assert (report.mail_from, report.recipients) == ("", (BOUNCES_TO,))
    parsed = message_from_bytes(report.message)
    assert parsed.get_content_type() == "multipart/report"
    words = words_of(report)
    assert GONE in words
    assert "Final-Recipient: rfc822;bad1@example.net Action: failed" in words
    assert not any(f"rfc822;{to}" in words for to in good)
    assert not way.mailbox.messages, "the server has nothing to report"


def test_a_deferred_recipient_holds_back_nobody_and_has_the_mail_when_the_upstream_takes_it(
    way: Way,
) -> None:
    way.server.inject(
        letter("two", "Hello.\r\n"), BOUNCES_TO, ["good1@example.net", "busy1@example.net"]
    )
    way.run_until(lambda: bool(way.upstream.messages), "the good one to have the mail")

    assert way.arrived() == Counter(["good1@example.net"])
    eventually(lambda: BUSY in way.server.log(), "the reason why the busy one waits")
    assert "busy1@example.net" in way.server.listing()
    assert "good1@example.net" not in way.server.listing()
    assert way.asked()["busy1@example.net"] == 1

    way.upstream.answer_rcpt = lambda *_: "250 2.1.5 Ok"
    way.gate.move_clock()
    way.run_until(lambda: len(way.upstream.messages) == 2, "the busy one to have the mail")
    way.server.wait_until_empty()

    assert way.arrived() == Counter(["good1@example.net", "busy1@example.net"])
    assert not way.failed()


def test_sixty_recipients_reach_an_upstream_that_takes_ten_at_once(way: Way) -> None:
    # More than the gate takes, too; and more than 25 of them are refused at RCPT.
    to = [f"good{number}@example.net" for number in range(60)]
    way.upstream.answer_rcpt = lambda _, count: TOO_MANY if count >= 10 else "250 2.1.5 Ok"

    way.server.inject(letter("three", "Hello.\r\n"), BOUNCES_TO, to)
    way.run_until(lambda: len(way.arrived()) == 60, "all to have the mail")
    way.server.wait_until_empty()

    assert way.arrived() == Counter(to)
    refused = [to for to, reply in way.upstream.answered if reply == TOO_MANY]
    assert len(refused) == 40, "only the first try had more than the upstream takes"
    assert not way.failed()


FORMS = {"postfix": "report", "exim": "report", "opensmtpd": "mixed", "nullmailer": "report"}


def assert_is_report(kept: SunkMessage, server: str, reply: str) -> None:
    assert (kept.mail_from, kept.recipients) == ("", (BOUNCES_TO,))
    parsed = message_from_bytes(kept.message)
    assert parsed.get_content_type() == f"multipart/{FORMS[server]}"
    assert "mailer-daemon@client.example.com" in parsed["From"].lower()
    assert "message/delivery-status" in [part.get_content_type() for part in parsed.walk()]
    assert reply in words_of(kept)


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_s_bounce_and_its_warning_of_a_delay_reach_the_author_through_the_gate(
    lab: Lab, server: str
) -> None:
    way = open_way(lab, server, has_mailbox=False, warns_of_delay=True)

    way.server.inject(letter("four", "Hello.\r\n"), BOUNCES_TO, ["bad1@example.net"])
    (bounce,) = way.upstream.wait_for(1)
    way.server.wait_until_empty()
    way.server.inject(letter("five", "Hello.\r\n"), BOUNCES_TO, ["busy1@example.net"])
    way.run_until(lambda: len(way.upstream.messages) == 2, "the author to have the warning")

    assert_is_report(bounce, server, GONE)
    assert_is_report(way.upstream.messages[1], server, BUSY)


@pytest.mark.parametrize("has_implicit_tls", [False, True], ids=["starttls", "implicit"])
def test_nullmailer_sends_over_verified_tls_with_its_login(
    lab: Lab, *, has_implicit_tls: bool
) -> None:
    way = open_way(lab, "nullmailer", has_mailbox=False, has_implicit_tls=has_implicit_tls)
    to = ["good1@example.net", "good2@example.net"]

    way.server.inject(letter("six", "Hello.\r\n"), BOUNCES_TO, to)
    (kept,) = way.upstream.wait_for(1)

    assert not way.server.listing()
    assert way.arrived() == Counter(to)
    assert "with ESMTPSA" in words_of(kept)


def test_nullmailer_sends_to_the_others_when_a_recipient_is_bad(lab: Lab) -> None:
    way = open_way(lab, "nullmailer", has_mailbox=False)
    to = [f"{name}@example.net" for name in ("good1", "bad1", "good2")]

    way.server.inject(letter("seven", "Hello.\r\n"), BOUNCES_TO, to)
    way.run_until(lambda: len(way.upstream.messages) == 2, "the mail and the report")

    assert not way.server.listing()
    assert way.arrived() == Counter([to[0], to[2], BOUNCES_TO])
    assert "Final-Recipient: rfc822;bad1@example.net" in words_of(way.upstream.messages[1])


def test_nullmailer_keeps_a_message_for_all_recipients_until_the_last_one_is_taken(
    lab: Lab,
) -> None:
    way = open_way(lab, "nullmailer", has_mailbox=False)
    to = ["good1@example.net", "busy1@example.net"]

    way.server.inject(letter("eight", "Hello.\r\n"), BOUNCES_TO, to)
    way.server.flush()
    assert f"smtp: Failed: {BUSY}" in way.server.log(), "at RCPT, at the second try"
    assert way.server.listing().split() == [BOUNCES_TO, *to]
    assert not way.upstream.messages

    way.upstream.answer_rcpt = lambda *_: "250 2.1.5 Ok"
    way.gate.move_clock()
    way.server.wait_until_empty()

    assert way.arrived() == Counter(to)
