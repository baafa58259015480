"""Reports of all forms, read into one value."""

import base64
import json
from typing import Any

from smtpgate.core.feedback.bounds import (
    MAX_DIAGNOSTIC,
    MAX_FIELDS,
    MAX_RECIPIENTS,
    MAX_VALUE,
)
from smtpgate.core.feedback.classify import classify, commands_in, delay_type
from smtpgate.core.feedback.mime import read_message
from smtpgate.core.feedback.original import id_in
from smtpgate.core.feedback.phrases import GENERIC_PHRASES, PHRASES, STATUSES, SUBJECTS
from smtpgate.core.feedback.report import FeedbackReport
from smtpgate.core.feedback.return_path import return_path
from tests.support.cases import load_cases
from tests.support.reports import read_report, status_report
from tests.support.rows import rows

ID = "0100019b7c0000aa-66666666-7777-8888-9999-aaaaaaaaaaaa-000000"


def report(text: str) -> FeedbackReport:
    return read_report(text.encode())


def _text(*addresses: str) -> str:
    return status_report(addresses).decode()


@rows("case", load_cases("feedback/kinds.toml"), ids=lambda case: str(case["note"]))
def test_status_reply_and_words_make_type_and_subtype(case: dict[str, str]) -> None:
    kind = classify(
        case.get("status", ""),
        case.get("reply", ""),
        case.get("text", ""),
        shown=commands_in(case.get("transcript", "")),
    )
    assert f"{kind.type} {kind.subtype}" == case["kind"]


@rows("case", load_cases("feedback/notices.toml"), ids=lambda case: str(case["note"]))
def test_a_notice_names_its_recipients_and_their_kinds(case: dict[str, Any]) -> None:
    read = report(case["text"])
    assert read.kind == case.get("kind", "bounce")
    found = [
        f"{one.address} {one.kind.type} {one.kind.subtype}" if one.kind else one.address
        for one in read.recipients
    ]
    assert found == case["recipients"]


@rows(
    "status,text,expected",
    [
        ("4.2.2", "mailbox full", "MailboxFull"),
        ("4.7.1", "looks like spam", "SpamDetected"),
        (
            "4.4.1",
            "connect to mx.example.net: Connection refused",
            "TransientCommunicationFailure",
        ),
        ("4.3.0", "", "RecipientServerError"),
        ("4.7.0", "try again later", "General"),
        ("", "", "Undetermined"),
    ],
)
def test_a_delay_has_a_type_in_the_words_of_amazon_ses(
    status: str, text: str, expected: str
) -> None:
    assert delay_type(status, "", text) == expected


def test_no_phrase_stands_in_two_rows_and_each_can_match() -> None:
    rows_ = (row for table in (PHRASES, GENERIC_PHRASES) for _, row in table)
    phrases = [" * ".join(one.pieces) for row in rows_ for one in row]
    assert sorted(phrases) == sorted(set(phrases))
    assert all(one == one.lower() and "  " not in one and one.strip("*") for one in phrases)


def test_statuses_are_of_the_grammar_of_rfc_3463() -> None:
    assert all(one[0] in "45" and one.count(".") == 2 for one in STATUSES)
    assert all(one[0] in "45" and one.count(".") == 1 for one in SUBJECTS)


def test_an_address_beyond_ascii_is_read_in_both_forms_of_rfc_6533() -> None:
    for written in ("utf-8; j\u00e9@ex\u00e4mple.net", "utf-8; j\\x{E9}@ex\\x{E4}mple.net"):
        text = _text("X").replace("rfc822; X", written)
        (one,) = report(text).recipients
        assert one.address == "j\u00e9@ex\u00e4mple.net"


def test_a_status_in_base64_and_one_in_capitals_are_read() -> None:
    head, _, fields = _text("jane@example.net").partition("delivery-status\n\n")
    fields = fields.removesuffix("\n--x--\n")
    encoded = base64.encodebytes(fields.encode()).decode()
    text = (
        f"{head.replace('message/', 'MESSAGE/GLOBAL-')}delivery-status\n"
        f"Content-Transfer-Encoding: Base64\n\n{encoded}\n--x--\n"
    )
    assert [one.address for one in report(text).recipients] == ["jane@example.net"]


def test_the_recipient_before_forwarding_is_kept() -> None:
    text = (
        status_report(["box@internal.example.net"])
        .decode()
        .replace(
            "Action:",
            "Original-Recipient: rfc822;jane@example.net\nRemote-MTA: dns;mx.example\nAction:",
        )
    )
    (one,) = report(text).recipients
    assert (one.address, one.original) == ("box@internal.example.net", "jane@example.net")
    assert one.sent_to == "jane@example.net"
    assert one.remote_mta == "mx.example"


def test_the_message_is_known_by_our_return_path() -> None:
    path = return_path(ID, "bounce.example.com", b"k" * 32)
    read = report(_text("a@example.net").replace("b+x@bounce.example.com", path))
    assert read.original.message_id == ID
    assert len(read.original.tag) == 20


def test_the_message_is_known_by_envelope_id_or_message_id() -> None:
    text = _text("a@example.net")
    mta = "Reporting-MTA: dns; mx.example.net\n"
    by_envelope = report(text.replace(mta, f"{mta}Original-Envelope-Id: {ID}\n"))
    assert by_envelope.original.message_id == by_envelope.original.envelope_id == ID
    returned = (
        f"--x\nContent-Type: message/rfc822\n\nMessage-ID: <{ID}@gate.example.com>\n\n--x--"
    )
    by_field = report(text.replace("--x--", returned))
    assert by_field.original.message_id == ID
    assert by_field.original.header_message_id == f"<{ID}@gate.example.com>"


def test_a_foreign_message_has_no_id_of_ours() -> None:
    read = report(_text("a@example.net"))
    assert read.original.message_id is None


@rows(
    "action,status,kind",
    [
        ("failed", "5.1.1", "bounce"),
        ("delayed", "4.4.1", "delay"),
        ("delivered", "2.0.0", "delivery"),
        ("relayed", "2.0.0", "delivery"),
        ("expanded", "2.0.0", "delivery"),
        ("Failed (bounced)", "5.0.0", "bounce"),
        ("", "5.1.1", "bounce"),
        ("", "2.1.5", "delivery"),
        ("", "", "bounce"),
    ],
)
def test_the_action_makes_the_kind(action: str, status: str, kind: str) -> None:
    text = _text("a@example.net")
    read = report(
        text.replace("Action: failed", f"Action: {action}").replace("5.1.1\n", f"{status}\n")
    )
    assert read.kind == kind


def test_one_failed_recipient_among_delivered_ones_makes_a_bounce() -> None:
    text = _text("a@example.net", "b@example.net")
    read = report(text.replace("Action: failed", "Action: delivered", 1))
    assert read.kind == "bounce"
    assert [one.kind is None for one in read.recipients] == [True, False]


def test_a_complaint_has_its_type_agent_date_and_every_recipient() -> None:
    read = report(
        "From: fbl@isp.example\nTo: fbl@bounce.example.com\n"
        'Content-Type: multipart/report; report-type=feedback-report; boundary="x"\n\n'
        "--x\nContent-Type: message/feedback-report\n\n"
        "Feedback-Type: Abuse\nUser-Agent: ExampleFBL/1.0\nVersion: 1\n"
        "Arrival-Date: Thu, 29 Apr 2027 23:34:45 +0000\n"
        "Original-Rcpt-To: <a@isp.example>\nOriginal-Rcpt-To: b@isp.example\n\n"
        "--x\nContent-Type: text/rfc822-headers\n\n"
        f"Message-ID: <{ID}@gate.example.com>\n--x--\n"
    )
    assert (read.kind, read.feedback_type) == ("complaint", "abuse")
    assert read.user_agent == "ExampleFBL/1.0"
    assert read.arrival_date == "Thu, 29 Apr 2027 23:34:45 +0000"
    assert [one.address for one in read.recipients] == ["a@isp.example", "b@isp.example"]
    assert read.original.message_id == ID


@rows(
    "fields",
    [
        "Auto-Submitted: auto-replied",
        "Subject: Out of office: your order",
        "Subject: =?utf-8?q?Abwesenheitsnotiz=3A_Hallo?=",
        "Precedence: auto_reply",
        "X-Autoreply: yes\nSubject: Re: news",
    ],
)
def test_an_automatic_answer_is_no_bounce(fields: str) -> None:
    read = report(
        f"From: Jane <jane@example.net>\n{fields}\n\nI am away, and cannot be reached.\n"
    )
    assert read.kind == "answer"
    assert [one.address for one in read.recipients] == ["jane@example.net"]


@rows(
    "text",
    [
        "",
        "\n",
        "hello",
        "From: jane@example.net\nSubject: Re: Undelivered\n\nNot delivered to b@x.example.",
        "From: jane@example.net\nSubject: hello\n\nMail for you: a@example.org",
        "From: MAILER-DAEMON@example.net\nSubject: hello\n\nMail for you: a@example.org",
        "Subject: Undelivered Mail Returned to Sender\n\n",
    ],
)
def test_other_mail_is_no_report(text: str) -> None:
    assert report(text).kind == "none"


def test_a_page_in_html_alone_is_read_as_text() -> None:
    read = report(
        "From: postmaster@example.net\nSubject: Undeliverable: hello\n"
        "Content-Type: text/html\n\n<html><style>p {a@b.example}</style><body>"
        "<p>Delivery has failed to these recipients:<br><a href=x>jane@example.org</a><br>"
        "#550 5.1.1 RESOLVER.ADR.RecipNotFound; not found ##</body>"
    )
    (one,) = read.recipients
    assert (one.address, one.status) == ("jane@example.org", "5.1.1")


def test_fields_of_a_status_in_the_text_are_read_like_those_of_a_part() -> None:
    read = report(
        "From: MAILER-DAEMON@example.net\nSubject: Delivery failure\n\nTechnical report:\n\n"
        "Reporting-MTA: dns; mx.example.net\n\nFinal-Recipient: rfc822; jane@example.org\n"
        "Action: failed\nStatus: 5.2.2\n"
    )
    assert read.reporting_mta == "dns; mx.example.net"
    assert [one.status for one in read.recipients] == ["5.2.2"]


def test_a_part_is_found_though_the_boundary_is_another_one() -> None:
    text = _text("jane@example.org").replace('boundary="x"', 'boundary="other"')
    assert [one.address for one in report(text).recipients] == ["jane@example.org"]


def test_a_report_in_a_message_that_a_scanner_made_is_read() -> None:
    inner = _text("jane@example.org")
    text = (
        'From: scanner@example.com\nContent-Type: multipart/mixed; boundary="s"\n\n'
        f"--s\nContent-Type: message/rfc822\n\n{inner}\n--s--\n"
    )
    assert report(text).kind == "bounce"


def test_an_alias_of_exim_is_named_by_the_address_before_it() -> None:
    read = report(
        "From: Mail Delivery System <Mailer-Daemon@example.net>\n"
        "Subject: Mail delivery failed\n\n"
        "A message that you sent could not be delivered.\n\n"
        "  box@internal.example.net\n   (generated from jane@example.net)\n   mailbox is full\n"
    )
    (one,) = read.recipients
    assert (one.address, one.original) == ("box@internal.example.net", "jane@example.net")


def test_a_notice_with_several_recipients_has_a_reason_for_each() -> None:
    read = report(
        "From: MAILER-DAEMON@example.net\nSubject: failure notice\n\n"
        "Hi. This is the qmail-send program at example.net.\n\n"
        "<a@example.org>:\nRemote host said: 550 5.1.1 no such user\n\n"
        "<b@example.org>:\nRemote host said: 552 5.2.2 mailbox full\n\n"
        "--- Below this line is a copy of the message.\n\n<c@example.org>:\n"
    )
    assert [(one.address, one.kind and one.kind.subtype) for one in read.recipients] == [
        ("a@example.org", "NoEmail"),
        ("b@example.org", "MailboxFull"),
    ]


def test_a_folded_diagnostic_is_read_to_its_end() -> None:
    text = _text("jane@example.net").replace(
        "smtp; 550 5.1.1", "smtp; 552-5.2.2 it:\n  552 5.2.2:"
    )
    (one,) = report(text).recipients
    assert one.diagnostic == "smtp; 552-5.2.2 it: 552 5.2.2: User unknown"
    assert one.reply == "552"


def test_indented_fields_of_a_status_are_fields() -> None:
    text = _text("jane@example.net").replace("\nStatus: 5.1.1", "\n  Status: 5.2.2")
    (one,) = report(text).recipients
    assert one.status == "5.2.2"


def test_recipients_without_an_empty_line_between_them_are_several() -> None:
    text = _text("a@example.net", "b@example.net").replace("\n\nFinal", "\nFinal")
    assert [one.address for one in report(text).recipients] == [
        "a@example.net",
        "b@example.net",
    ]


def test_a_failure_counts_more_than_a_delay_of_the_same_recipient() -> None:
    text = _text("a@example.net", "a@example.net").replace("failed", "delayed", 1)
    assert [one.action for one in report(text).recipients] == ["failed"]


def test_a_local_recipient_is_named_as_others_know_it() -> None:
    actual = "\nX-Actual-Recipient: rfc822; jane@mail.example.net\nAction"
    text = _text("jane").replace("\nAction", actual)
    assert [one.address for one in report(text).recipients] == ["jane@mail.example.net"]
    quoted = _text("jane").replace("550 5.1.1", "550 <jane@example.net>")
    assert [one.address for one in report(quoted).recipients] == ["jane@example.net"]
    assert [one.address for one in report(_text("jane")).recipients] == ["jane"]
    assert report(_text("")).kind == "none"


def test_text_in_a_character_set_that_does_not_fit_is_read() -> None:
    head = b"From: MAILER-DAEMON@example.net\nSubject: Undelivered Mail\n"
    for kind, octets in (
        (b"utf-8", b"\xe4"),
        (b"windows-1251", b"\xe4"),
        (b"ascii", b"\x1b$B"),
    ):
        text = b"Content-Type: text/plain; charset=%b\n\nno: <jane@example.org>: %b" % (
            kind,
            octets,
        )
        assert [one.address for one in read_report(head + text).recipients] == [
            "jane@example.org"
        ]


def test_of_parts_that_begin_alike_the_own_delimiter_counts() -> None:
    text = _text("jane@example.org").replace("\n--x\n", "\n--x\n\n--xa\n\n--x\n", 1)
    assert [one.address for one in report(text).recipients] == ["jane@example.org"]


def test_fields_beyond_the_bounds_are_left_out() -> None:
    message = read_message(b"X: y\n" * 500 + b"Subject: hello\n\n")
    assert len(message.fields.pairs) == MAX_FIELDS
    message = read_message(b"X: " + b"y" * 70_000 + b"\nSubject: hello\n\nhello")
    assert [name for name, _ in message.fields.pairs] == ["x"]
    assert len(message.fields.first("x")) == MAX_VALUE


def test_of_many_recipients_a_bounded_number_is_read() -> None:
    many = [f"n{number}@example.net" for number in range(2 * MAX_RECIPIENTS + 10)]
    assert len(report(_text(*many)).recipients) <= MAX_RECIPIENTS
    notice = "From: MAILER-DAEMON@mx.example.net\nSubject: failure notice\n\n"
    lines = "".join(f"<{one}>:\nunknown user\n\n" for one in many)
    assert len(report(notice + lines).recipients) <= MAX_RECIPIENTS


def test_a_folded_field_is_read_up_to_a_bound() -> None:
    text = _text("jane@example.net").replace(
        "User unknown\n", "User unknown\n" + " and so on\n" * 2000
    )
    (recipient,) = report(text).recipients
    assert recipient.diagnostic.startswith("smtp; 550 5.1.1 User unknown and so on")
    assert len(recipient.diagnostic) <= MAX_DIAGNOSTIC


@rows("date", ["soon", "Mon, 23 Nov 2026 10:00:00 +0000" + " (zone)" * 50])
def test_a_date_that_cannot_be_read_is_none(date: str) -> None:
    text = _text("jane@example.net").replace("Status:", f"Will-Retry-Until: {date}\nStatus:")
    (recipient,) = report(text).recipients
    assert recipient.retry_until is None


def test_an_original_id_that_is_a_return_path_of_ours_names_the_message() -> None:
    path = return_path(ID, "bounce.example.com", b"k" * 32)
    assert id_in("none", f"for <{path}>") == ID
    assert id_in("jane@example.net") is None


def test_a_notification_by_mail_names_its_message_itself() -> None:
    said = {
        "notificationType": "Complaint",
        "complaint": {"complainedRecipients": [{"emailAddress": "jane@example.net"}, {}, 5]},
        "mail": {"messageId": "x", "commonHeaders": {"messageId": f"<{ID}@gate.example.com>"}},
    }
    read = report(f"From: sns@example.com\nSubject: Notification\n\n{json.dumps(said)}\n")
    assert (read.kind, read.original.message_id) == ("complaint", ID)
    assert [one.address for one in read.recipients] == ["jane@example.net"]
