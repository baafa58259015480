"""Records of mail servers as JSON: our neutral form, KumoMTA's, and Amazon SES's."""

import json
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from msgspec.structs import replace

from smtpgate.cli.feedback import report_fields
from smtpgate.core.feedback.record import FeedbackRecord, RecordError
from smtpgate.core.feedback.records import read_record, read_records
from smtpgate.core.feedback.return_path import return_path
from tests.support.cases import CASES
from tests.support.reports import read_report
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
        ({"kind": "delay", "recipients": [JANE | {"retry_until": "soon"}]}, "`retry_until'"),
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


DELIVERED: Final = json.dumps({"kind": "delivery", "message_id": ID, "recipients": [JANE]})


@rows(
    "text,numbers",
    [
        ("", []),
        ("\n \n", []),
        (DELIVERED, [1]),
        (f"\n{DELIVERED}\r\n\r\n{DELIVERED}\n", [2, 4]),
        (json.dumps(json.loads(DELIVERED), indent=2), [1]),
        (f"[{DELIVERED},\n {DELIVERED}]", [1, 2]),
        ("[]", []),
    ],
    ids=str,
)
def test_records_come_one_a_line_as_one_object_or_as_a_list(
    text: str, numbers: list[int]
) -> None:
    lines = read_records(text.encode(), 2)
    assert [one.number for one in lines] == numbers
    assert all(one.record is not None for one in lines)


def test_a_record_that_is_not_understood_loses_none_of_the_others() -> None:
    lines = read_records(f'{DELIVERED}\n{{"kind": 1}}\nx\n{DELIVERED}'.encode(), 9)
    assert [(one.number, one.problem) for one in lines] == [
        (1, ""),
        (2, "`kind' is no text"),
        (3, "is not JSON"),
        (4, ""),
    ]
    assert [one.problem for one in read_records(f"[1, {DELIVERED}]".encode(), 9)] == [
        "is no JSON object",
        "",
    ]


def test_lines_that_are_no_json_together_are_read_one_by_one() -> None:
    lines = read_records(f"# a comment\n{DELIVERED}".encode(), 9)
    assert [(one.number, one.problem) for one in lines] == [(1, "is not JSON"), (2, "")]


@rows("text", [f"[{DELIVERED}", f"{DELIVERED}\n{DELIVERED}\n{DELIVERED}", f"[{'1,' * 9}1]"])
def test_a_list_that_is_cut_or_too_many_records_are_refused_whole(text: str) -> None:
    with pytest.raises(RecordError):
        read_records(text.encode(), 2)


def test_a_key_that_is_given_twice_and_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(RecordError, match="has `kind' twice"):
        read_record(b'{"kind": "bounce", "kind": "delivery"}')
    with pytest.raises(RecordError, match="is not JSON: NaN"):
        read_record(b'{"kind": "bounce", "at": NaN}')


def test_a_sender_is_our_return_path_or_an_address_to_compare() -> None:
    path = return_path(ID, "bounce.example.com", b"k" * 32)
    read = record(kind="bounce", sender=f"<{path}>", recipients=[JANE])
    assert (read.report.original.message_id, read.sender) == (ID, path)
    assert read.report.original.tag
    assert record(kind="bounce", sender="a@Example.com", recipients=[JANE]).sender == (
        "a@example.com"
    )


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


def test_kumomta_names_the_message_by_its_return_path_then_meta_then_received() -> None:
    other = ID.replace("-0000", "-1111").replace("-111100", "-000000")
    path = return_path(ID, "bounce.example.com", b"k" * 32)
    received = f"from client.example by gate.example.com with ESMTPSA id {ID}; today"
    forged = {"Message-ID": f"<{other}@gate.example.com>"}
    by_path = kumo("Bounce", sender=path, headers=forged, meta={"id": other})
    by_meta = kumo("Bounce", meta={"gate": ID, "n": 1}, headers=forged)
    by_received = kumo("Delivery", headers=forged | {"Received": ["from a by b", received]})
    for read in (by_path, by_meta, by_received):
        assert read.report.original.message_id == ID
    assert by_path.report.original.tag == path.partition(".")[2].partition("@")[0]
    assert not by_meta.report.original.tag
    assert (by_path.sender, by_meta.sender) == (path, "news@example.com")


def test_kumomta_repeats_a_stranger_in_a_bounce_that_arrived_there() -> None:
    path = return_path(ID, "bounce.example.com", b"k" * 32)
    headers = {"Message-ID": f"<{ID}@gate.example.com>"}
    read = kumo("OOB", sender=path, headers=headers)
    assert (read.is_hearsay, read.sender, read.report.remote_ip) == (True, "", "")
    assert read.report.original.message_id == ID
    # The fields are those of the bounce, not of the message.
    assert kumo("OOB", headers=headers).report.original.message_id is None
    own = kumo("Bounce", headers=headers)
    assert (own.is_hearsay, own.report.remote_ip) == (False, "192.0.2.1")


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
    assert read.is_hearsay


def test_a_complaint_names_its_message_above_the_body_alone() -> None:
    path = return_path(ID, "bounce.example.com", b"k" * 32)
    said = {"original_message": f"Return-Path: <{path}>\r\nFrom: a@example.com\r\n\r\nHello"}
    read = kumo("Feedback", feedback_report=said)
    assert (read.report.original.message_id, bool(read.report.original.tag)) == (ID, True)
    said = {"original_message": f"From: a@example.com\n\nReceived: id {ID}\n"}
    assert kumo("Feedback", feedback_report=said).report.original.message_id is None


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
