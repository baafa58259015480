"""Mail that comes back: what the listener takes, and what becomes of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from pathlib import Path
from typing import Final

import pytest

from smtpgate.gate.gate import Gate
from smtpgate.ports import JournalUnavailableError
from tests.support.dialog import Dialog
from tests.support.inprocess import client_tls, login, open_gate, send
from tests.support.tenants import add_mail_from
from tests.support.upstream_server import UpstreamServer, open_upstream
from tests.support.waiting import until
from tests.support.world import OWNER
from tests.system.test_refused_in_part import groups, reports_in
from tests.system.test_return_path import FEEDBACK, OWN, paths

pytestmark = pytest.mark.slow

JANE = "jane@example.net"
COMPLAINTS = "complaints@bounces.gate.example.com"
BOUNCE = """\
From: MAILER-DAEMON@mx.example.net
To: {path}
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="cut"

--cut
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net

Final-Recipient: rfc822; {recipient}
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 <{recipient}>: User unknown

--cut--
"""
COMPLAINT = """\
From: abuse@example.net
To: complaints@bounces.gate.example.com
Subject: complaint
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="cut"

--cut
Content-Type: text/plain

An email abuse report.
--cut
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: SomeGenerator/1.0
Version: 1
Original-Rcpt-To: <jane@example.net>

--cut
Content-Type: message/rfc822

Return-Path: <{path}>
From: Marketing <marketing@ses-example.com>
Subject: Spring

Hello.
--cut--
"""
NOT_KEPT = "[journal]\nrecipients = false\n"
VACATION = (
    "From: jane@example.net\nTo: {path}\nSubject: Away\nAuto-Submitted: auto-replied\n\nAway.\n"
)


@asynccontextmanager
async def sent(
    folder: Path, settings: str = "", *, to: tuple[str, ...] = (JANE,)
) -> AsyncIterator[tuple[Gate, UpstreamServer, str]]:
    """A gate that has sent a message, its upstream, and the return path of the message."""
    async with (
        open_upstream() as upstream,
        open_gate(folder, port=upstream.port, sections=FEEDBACK + settings) as (gate, _),
    ):
        await add_mail_from(gate.store, "ses-example.com", OWNER)
        await gate.service.catch_up()
        assert (await send(await login(gate), to=to)).startswith("250")
        (path,) = paths(upstream)
        yield gate, upstream, path


async def server(gate: Gate) -> Dialog:
    """A mail server that has said EHLO to the listener."""
    assert gate.host.feedback is not None
    dialog = await Dialog.open(gate.host.feedback.port)
    assert (await dialog.reply()).startswith("220 gate.example")
    assert (await dialog.say("EHLO mx.example.net")).startswith("250")
    assert (await dialog.say("MAIL FROM:<>")).startswith("250")
    return dialog


async def bring(gate: Gate, text: str, path: str) -> str:
    """The reply to a message."""
    dialog = await server(gate)
    assert (await dialog.say(f"RCPT TO:<{path}>")).startswith("250")
    assert (await dialog.say("DATA")).startswith("354")
    octets = text.replace("\n", "\r\n").encode()
    await dialog.send(octets + b".\r\n")
    return await dialog.reply()


async def test_only_addresses_that_the_gate_made_are_taken(tmp_path: Path) -> None:
    async with sent(tmp_path) as (gate, _, path):
        dialog = await server(gate)
        local_part, _, domain = path.partition("@")
        forged = local_part[:-1] + ("a" if local_part[-1] != "a" else "b")
        for address in (
            OWN,
            f"{forged}@{domain}",
            f"{local_part}@ses-example.com",
            f"bounce@{domain}",
            "postmaster@example.net",
        ):
            assert (await dialog.say(f"RCPT TO:<{address}>")).startswith("550 5.1.1")
        for address in (path, path.upper(), COMPLAINTS):
            assert (await dialog.say(f"RCPT TO:<{address}>")).startswith("250")


@pytest.mark.slow
async def test_a_bounce_reaches_the_address_that_the_message_was_sent_from(
    tmp_path: Path,
) -> None:
    async with sent(tmp_path) as (gate, upstream, path):
        for _ in range(2):  # a server that did not see the reply brings it again
            text = BOUNCE.format(path=path, recipient=JANE)
            assert (await bring(gate, text, path)).startswith("250")
        await until(lambda: len(upstream.messages) == 2)
        (report,) = reports_in(upstream)
        assert report["To"] == OWN
        _, of_jane = groups(report)
        assert of_jane["Final-Recipient"] == f"rfc822;{JANE}"
        assert (of_jane["Action"], of_jane["Status"]) == ("failed", "5.1.1")
        assert paths(upstream)[-1] == ""


@pytest.mark.parametrize("keeps", [True, False], ids=["with recipients", "without"])
async def test_a_recipient_cannot_have_the_others_bounce(
    tmp_path: Path, *, keeps: bool
) -> None:
    to, settings = (JANE, "joe@example.net"), "" if keeps else NOT_KEPT
    async with sent(tmp_path, settings, to=to) as (gate, upstream, path):
        text = BOUNCE.format(path=path, recipient="stranger@example.org")
        assert (await bring(gate, text, path)).startswith("250")
        # It is about nobody that the message went to: a person may look at it.
        await until(lambda: len(upstream.messages) == 2)
        forwarded = message_from_bytes(upstream.messages[1], policy=policy.default)
        assert forwarded["From"] == "MAILER-DAEMON@mx.example.net"


@pytest.mark.parametrize("to", [(JANE,), (JANE, "joe@example.net")], ids=["one", "two"])
async def test_the_journal_proves_recipients_that_it_does_not_keep(
    tmp_path: Path, to: tuple[str, ...]
) -> None:
    async with sent(tmp_path, NOT_KEPT, to=to) as (gate, upstream, path):
        for recipient in (JANE.upper(), JANE, "stranger@example.org"):
            text = BOUNCE.format(path=path, recipient=recipient)
            assert (await bring(gate, text, path)).startswith("250")
        await until(lambda: len(upstream.messages) == 3)
        (report,) = [
            one
            for one in reports_in(upstream)
            if one["Subject"].startswith("Undelivered mail:")
        ]
        _, of_jane = groups(report)
        assert of_jane["Final-Recipient"] == f"rfc822;{JANE}"


async def test_an_answer_goes_on_to_the_address_that_the_message_was_sent_from(
    tmp_path: Path,
) -> None:
    async with sent(tmp_path) as (gate, upstream, path):
        reply = await bring(gate, VACATION.format(path=path), path)
        assert reply.startswith("250")
        assert b"Subject: Away" in upstream.messages[1]
        (*_, forwarded_to, _) = upstream.visits[0].commands
        assert forwarded_to == f"RCPT TO:<{OWN}>"
        upstream.answers["MESSAGE"] = "452 4.3.1 full"
        assert (await bring(gate, VACATION.format(path=path), path)).startswith("452 4.3.1")


async def test_an_answer_is_sent_on_once_in_whatever_letter_case_it_comes(
    tmp_path: Path,
) -> None:
    async with sent(tmp_path) as (gate, upstream, path):
        dialog = await server(gate)
        for address in (path, path.upper(), path.replace("b+", "B+")):
            assert (await dialog.say(f"RCPT TO:<{address}>")).startswith("250")
        await dialog.say("DATA")
        await dialog.send(VACATION.format(path=path).replace("\n", "\r\n").encode() + b".\r\n")
        assert (await dialog.reply()).startswith("250")
        assert len(upstream.messages) == 2


async def test_a_message_that_goes_round_in_circles_is_refused(tmp_path: Path) -> None:
    async with sent(tmp_path) as (gate, upstream, path):
        text = "Received: from a by b\n" * 51 + VACATION.format(path=path)
        assert (await bring(gate, text, path)).startswith("554 5.4.6")
        assert len(upstream.messages) == 1


async def test_a_bare_line_end_smuggles_nothing_and_a_long_line_is_read(
    tmp_path: Path,
) -> None:
    async with sent(tmp_path) as (gate, upstream, path):
        dialog = await server(gate)
        await dialog.say(f"RCPT TO:<{path}>")
        await dialog.say("DATA")
        long = b"x" * 5000
        await dialog.send(b"Subject: away\r\n\r\na\n.\nMAIL FROM:<>\rb" + long + b"\r\n.\r\n")
        assert (await dialog.reply()).startswith("250")
        assert upstream.messages[1] == (
            b"Subject: away\r\n\r\na\r\n.\r\nMAIL FROM:<>\r\nb" + long + b"\r\n"
        )


async def test_answers_can_be_dropped(tmp_path: Path) -> None:
    async with sent(tmp_path, 'answers = "drop"\n') as (gate, upstream, path):
        assert (await bring(gate, VACATION.format(path=path), path)).startswith("250")
        assert len(upstream.messages) == 1


async def test_a_complaint_counts_if_it_shows_the_return_path(tmp_path: Path) -> None:
    async with sent(tmp_path) as (gate, upstream, path):
        forged = path.replace(path.partition("@")[0][-4:] + "@", "aaaa@")
        for shown in ("marketing@ses-example.com", forged, path):
            text = COMPLAINT.format(path=shown)
            assert (await bring(gate, text, COMPLAINTS)).startswith("250")
        await until(lambda: len(upstream.messages) == 2)
        report = message_from_bytes(upstream.messages[1], policy=policy.default)
        assert report["To"] == OWN


async def test_what_cannot_be_kept_stays_with_its_sender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sent(tmp_path) as (gate, upstream, path):

        async def fail(*_: object) -> int:
            raise JournalUnavailableError("the disk is full")

        monkeypatch.setattr("smtpgate.outbox.queue.TaskQueue.add", fail)
        text = BOUNCE.format(path=path, recipient=JANE)
        reply = await bring(gate, text, path)
        assert reply.startswith("451 4.3.0 Report cannot be kept now")
        assert "disk" not in reply
        assert len(upstream.messages) == 1


async def test_connections_of_all_servers_and_of_one_are_bounded(tmp_path: Path) -> None:
    async with sent(tmp_path, "max_connections_per_client = 2\n") as (gate, _, _):
        first, _second = await server(gate), await server(gate)
        assert gate.host.feedback is not None
        third = await Dialog.open(gate.host.feedback.port)
        assert (await third.reply()).startswith("421 4.3.2")
        await first.say("QUIT")
        await until(lambda: gate.host.feedback is not None and gate.host.feedback.sessions == 1)
        await server(gate)


_POSTMASTERS: Final = (
    "postmaster@bounces.gate.example.com",
    "Postmaster@gate.example",
    "POSTMASTER",
)


async def test_mail_to_the_postmaster_goes_to_the_operator_s_address(tmp_path: Path) -> None:
    setting = 'postmaster = "hostmaster@example.com"\n'
    async with sent(tmp_path, setting) as (gate, upstream, _):
        for number, address in enumerate(_POSTMASTERS, 2):
            text = "From: a@example.net\nSubject: your mail\n\nPlease stop.\n"
            assert (await bring(gate, text, address)).startswith("250")
            assert len(upstream.messages) == number
            (*_, forwarded_to, _) = upstream.visits[0].commands
            assert forwarded_to == "RCPT TO:<hostmaster@example.com>"
        assert paths(upstream)[-1] == ""
        upstream.answers["MESSAGE"] = "452 4.3.1 full"
        assert (await bring(gate, "From: a@example.net\n\nx\n", "postmaster")).startswith("452")


async def test_without_such_an_address_mail_to_the_postmaster_is_refused(
    tmp_path: Path,
) -> None:
    async with sent(tmp_path) as (gate, _, _):
        dialog = await server(gate)
        for address in _POSTMASTERS:
            reply = await dialog.say(f"RCPT TO:<{address}>")
            assert reply.startswith("550 5.1.1 Postmaster has no mailbox here")


async def test_an_answer_that_the_upstream_can_never_take_is_refused_for_good(
    tmp_path: Path,
) -> None:
    async with sent(tmp_path) as (gate, upstream, path):
        text = VACATION.format(path=path)
        upstream.offers = ("8BITMIME",)
        upstream.drop_all()
        assert (
            await bring(gate, text.replace("Away.", "Fort f\u00fcr immer."), path)
        ).startswith("250")
        assert "BODY=8BITMIME" in " ".join(upstream.visits[-1].commands)
        reply = await bring(gate, text.replace("Away\n", "\u00fcber\n", 1), path)
        assert reply.startswith("554 5.6.3")


async def test_a_report_comes_over_tls_where_there_is_a_certificate(tmp_path: Path) -> None:
    setting = 'tls_cert_file = "tls.crt"\ntls_key_file = "tls.key"\n'
    async with sent(tmp_path, setting) as (gate, upstream, path):
        assert gate.host.feedback is not None
        dialog = await Dialog.open(gate.host.feedback.port)
        await dialog.reply()
        assert "250-STARTTLS" in (await dialog.say("EHLO mx.example.net"))
        assert (await dialog.say("STARTTLS")).startswith("220")
        await dialog.start_tls(client_tls())
        for command in ("EHLO mx.example.net", "MAIL FROM:<>", f"RCPT TO:<{path}>"):
            assert (await dialog.say(command)).startswith("250")
        assert (await dialog.say("DATA")).startswith("354")
        text = BOUNCE.format(path=path, recipient=JANE).replace("\n", "\r\n")
        await dialog.send(text.encode() + b".\r\n")
        assert (await dialog.reply()).startswith("250")
        await until(lambda: len(upstream.messages) == 2)
        metrics = gate.metrics.render().decode()
        name = "smtpgate_certificate_not_after_timestamp_seconds"
        assert f'{name}{{listener="[feedback]",name="gate.example"}}' in metrics
