"""Records of mail servers as JSON: our neutral form, KumoMTA's, and Amazon SES's."""

import json
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from msgspec.structs import replace

from smtpgate.cli.feedback import report_fields
from smtpgate.core.feedback.read import read_report
from smtpgate.core.feedback.records import FeedbackRecord, RecordError, read_record
from smtpgate.core.feedback.return_path import return_path
from tests.support.cases import CASES
from tests.support.rows import rows

ID: Final = "0100019b7c0000aa-66666666-7777-8888-9999-aaaaaaaaaaaa-000000"
AT: Final = datetime(2027, 1, 31, 12, tzinfo=UTC)
JANE: Final = {"address": "jane@example.net"}


def record(**fields: Any) -> FeedbackRecord:  # noqa: ANN401 - JSON
    return read_record(json.dumps(fields).encode())


def kumo(kind: str, **fields: Any) -> FeedbackRecord:  # noqa: ANN401 - JSON
    response = {
        "code": 550,
        "enhanced_code": {"class": 5, "subject": 1, "detail": 1},
        "content": "no such user",
        "command": "RCPT TO",
    }
    whole = {
        "type": kind,
        "id": "1d98076abbbc11ed940250ebf67f93bd",
        "sender": "news@example.com",
        "recipient": "jane@example.net",
        "response": response,
        "peer_address": {"name": "mx.example.net.", "addr": "192.0.2.1"},
        "timestamp": int(AT.timestamp()),
        "bounce_classification": "Uncategorized",
        "meta": {},
        "headers": {},
    }
    return record(**(whole | fields))


def test_a_neutral_record_needs_a_kind_and_an_address_alone() -> None:
    read = record(kind="bounce", recipients=[JANE])
    (one,) = read.report.recipients
    assert (one.address, one.action, one.status) == ("jane@example.net", "failed", "")
    assert one.kind is not None
    assert one.kind.type == "Undetermined"
    assert (read.id, read.at, read.report.original.message_id) == ("", None, None)


def test_a_neutral_record_is_classified_by_its_words_and_codes() -> None:
    said = JANE | {"diagnostic": "smtp; 552 5.2.2 mailbox full"}
    (one,) = record(kind="bounce", recipients=[said]).report.recipients
    assert (one.status, one.reply) == ("5.2.2", "552")
    assert one.kind is not None
    assert one.kind.subtype == "MailboxFull"


def test_a_neutral_record_may_name_type_and_subtype() -> None:
    named = JANE | {"type": "Permanent", "subtype": "General"}
    (one,) = record(kind="bounce", recipients=[named]).report.recipients
    assert one.kind is not None
    assert one.kind.is_hard


def test_a_neutral_record_has_an_id_a_time_and_a_message() -> None:
    read = record(
        kind="delivery",
        id="mx1-1",
        at="2027-01-31T13:00:00+01:00",
        message_id=ID,
        recipients=[JANE],
    )
    assert (read.id, read.at) == ("mx1-1", AT)
    assert read.report.original.message_id == ID
    assert record(kind="delay", at=int(AT.timestamp()), recipients=[JANE]).at == AT


def test_the_message_is_found_in_the_other_ids() -> None:
    for name in ("envelope_id", "original_message_id"):
        read = record(kind="bounce", recipients=[JANE], **{name: f"<{ID}@gate.example.com>"})
        assert read.report.original.message_id == ID


@rows(
    "fields,problem",
    [
        ({}, "neither"),
        ({"kind": "bounced"}, "`kind' is none of"),
        ({"kind": 1}, "`kind' is no text"),
        ({"kind": "bounce"}, "`recipients' is empty"),
        ({"kind": "bounce", "recipients": "jane"}, "no list"),
        ({"kind": "bounce", "recipients": [JANE] * 2001}, "no list of at most 2000"),
        ({"kind": "bounce", "recipients": ["jane"]}, "no object"),
        ({"kind": "bounce", "recipients": [{"address": "jane"}]}, "is no address"),
        ({"kind": "bounce", "recipients": [JANE | {"action": "lost"}]}, "recipients.action"),
        ({"kind": "bounce", "recipients": [JANE | {"type": "Hard"}]}, "no pair of Amazon SES"),
        ({"kind": "bounce", "recipients": [JANE | {"statsu": "5.1.1"}]}, "`recipients.statsu'"),
        ({"kind": "bounce", "recipients": [JANE], "messageid": ID}, "unknown field"),
        ({"kind": "bounce", "recipients": [JANE], "message_id": "1"}, "no message id"),
        ({"kind": "bounce", "recipients": [JANE], "at": "today"}, "no time"),
        ({"kind": "bounce", "recipients": [JANE], "at": -1}, "no time"),
        (
            {"kind": "bounce", "recipients": [JANE], "at": "0001-01-01T00:00:00+14:00"},
            "no time",
        ),
        ({"type": "Deliverance"}, "no type of a KumoMTA log record"),
        ({"type": "Bounce", "recipient": "jane"}, "`recipient' is no address"),
        ({"type": "Bounce", "recipient": []}, "`recipient' is no address"),
    ],
    ids=str,
)
def test_a_record_that_is_not_understood_is_refused(
    fields: dict[str, object], problem: str
) -> None:
    with pytest.raises(RecordError, match=problem):
        read_record(json.dumps(fields).encode())


@rows(
    "line", [b"", b"{", b"[]", b"1", b"\xff", b'{"kind": ' + b"[" * 100_000, b"x" * (1 << 21)]
)
def test_a_line_that_is_no_json_object_is_refused(line: bytes) -> None:
    with pytest.raises(RecordError):
        read_record(line)


@rows(
    "name,kind,type_",
    [
        ("Delivery", "delivery", None),
        ("Bounce", "bounce", "Permanent"),
        ("OOB", "bounce", "Permanent"),
        ("AdminBounce", "bounce", "Permanent"),
        ("Expiration", "bounce", "Transient"),
        ("TransientFailure", "delay", "Permanent"),
    ],
)
def test_kumomta_s_records_of_a_recipient(name: str, kind: str, type_: str | None) -> None:
    read = kumo(name)
    (one,) = read.report.recipients
    assert read.report.kind == kind
    assert (one.kind and one.kind.type) == type_
    assert (one.status, one.reply, one.remote_mta) == ("5.1.1", "550", "mx.example.net")
    assert one.diagnostic == "smtp; 550 5.1.1 no such user"
    assert read.at == AT
    assert read.id == kumo(name).id != kumo(name, timestamp=1).id


@rows("name", ["Reception", "Rejection", "Delay", "AdminRebind"])
def test_kumomta_s_other_records_are_no_reports(name: str) -> None:
    assert kumo(name).report.kind == "none"


def test_kumomta_s_class_counts_where_the_words_say_nothing() -> None:
    read = kumo(
        "Bounce", response={"code": 550, "content": "no"}, bounce_classification="BadDomain"
    )
    (one,) = read.report.recipients
    assert one.kind is not None
    assert (one.kind.type, one.kind.subtype) == ("Permanent", "General")


def test_kumomta_names_the_message_by_its_sender_or_its_message_id() -> None:
    path = return_path(ID, "bounce.example.com", b"k" * 32)
    by_sender = kumo("Bounce", sender=path)
    by_header = kumo("Bounce", headers={"Message-ID": f"<{ID}@gate.example.com>", "X": 1})
    assert by_sender.report.original.message_id == by_header.report.original.message_id == ID


def test_kumomta_may_name_several_recipients() -> None:
    read = kumo("Delivery", recipient=["a@example.net", "b@example.net"])
    assert [one.address for one in read.report.recipients] == ["a@example.net", "b@example.net"]


def test_kumomta_s_complaint_has_the_complainers() -> None:
    read = kumo(
        "Feedback",
        feedback_report={
            "feedback_type": "Abuse",
            "user_agent": "ExampleFBL/1.0",
            "arrival_date": "2027-01-31T12:00:00Z",
            "original_rcpto_to": ["<jane@example.net>", 1, "x"],
            "original_message": f"From: a@example.com\nMessage-ID: <{ID}@gate.example.com>\n\n",
        },
    )
    assert (read.report.kind, read.report.feedback_type) == ("complaint", "abuse")
    assert [one.address for one in read.report.recipients] == ["jane@example.net"]
    assert read.report.original.message_id == ID


def test_a_notification_of_amazon_ses_is_a_record() -> None:
    read = record(
        notificationType="Bounce",
        bounce={
            "bounceType": "Transient",
            "bounceSubType": "MailboxFull",
            "bouncedRecipients": [{"emailAddress": "jane@example.net", "status": "4.2.2"}],
        },
        mail={"messageId": "x", "commonHeaders": {"messageId": f"<{ID}@gate.example.com>"}},
    )
    (one,) = read.report.recipients
    assert one.kind is not None
    assert one.kind.subtype == "MailboxFull"
    assert read.report.original.message_id == ID


def test_the_output_of_feedback_read_is_a_record_that_says_the_same() -> None:
    for path in sorted((CASES / "bounces").glob("*.eml")):
        report = read_report(path.read_bytes())
        line = json.dumps({"file": path.name, **report_fields(report)}).encode()
        expected = replace(report, original=replace(report.original, tag=""))
        assert read_record(line).report == expected, path.name
