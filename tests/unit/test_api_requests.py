"""Requests to the API that are not in the form of their operation: what is refused, and why."""

import json
import re
from datetime import UTC, datetime
from email import message_from_bytes

import pytest

from smtpgate.api.served import services
from smtpgate.core.api.model import Operation, Service, Shape, StructureMember
from smtpgate.core.api.query import (
    MAX_PARAMETERS,
    QueryError,
    escaped,
    query_input,
    read_query,
)
from smtpgate.core.api.rest import RestError, rest_input, rest_operation, rest_output
from smtpgate.core.api.scalars import ScalarError, read_scalar, scalar_text
from smtpgate.core.api.simple_message import (
    Attachment,
    SimpleMessage,
    SimpleMessageError,
    Text,
    mime_of,
)
from tests.support.rows import rows


def read_form(service: str, action: str, **parameters: str) -> dict[str, object]:
    """The input of a form; names have ``__`` where a form has dots."""
    pairs = [(name.replace("__", "."), value) for name, value in parameters.items()]
    found = services()[service]
    return query_input(
        found, found.operations[action], read_query([("Action", action), *pairs])
    )


# -- forms -------------------------------------------------------------------------------------


@rows(
    "pairs, code",
    [
        ([], "MissingAction"),
        ([("Action", "")], "MissingAction"),
        ([("Action", "A"), ("Action", "A")], "MalformedQueryString"),
        ([(f"p{n}", "") for n in range(MAX_PARAMETERS + 1)], "MalformedQueryString"),
    ],
    ids=["nothing", "an empty action", "an action twice", "too many parameters"],
)
def test_a_form_without_one_action_is_refused(pairs: list[tuple[str, str]], code: str) -> None:
    with pytest.raises(QueryError) as refusal:
        read_query(pairs)
    assert refusal.value.code == code


@rows(
    "parameters, says",
    [
        ({"Destination": "jane@example.net"}, "Destination is no text"),
        (
            {"Destination": "a", "Destination__ToAddresses__member__1": "b"},
            "value and has parts",
        ),
        (
            {"Destination__ToAddresses__member__1": "b", "Destination": "a"},
            "value and has parts",
        ),
        ({"Source__a": "b"}, "Source has no parts"),
        (
            {"Destination__ToAddresses__1": "b"},
            "must be a list: Destination.ToAddresses.member.1",
        ),
        ({"Destination__ToAddresses__member__01": "b"}, "has no number '01'"),
        ({"Destination__ToAddresses__member__10001": "b"}, "has no number '10001'"),
        ({"Destination" + "__a" * 12: "b"}, "has too many parts"),
    ],
)
def test_parameters_that_contradict_each_other_are_refused(
    parameters: dict[str, str], says: str
) -> None:
    with pytest.raises(QueryError, match=re.escape(says)):
        read_form("ses", "SendEmail", **parameters)


def test_parameters_that_an_operation_has_not_are_ignored() -> None:
    found = read_form("ses", "SendEmail", Other="x", Destination__Other="x", Source="a")
    assert found == {"Source": "a", "Destination": {}}


def test_a_list_may_have_gaps_and_may_be_empty() -> None:
    numbered = {f"Destination__ToAddresses__member__{n}": f"{n}@example.net" for n in (7, 3)}
    found = read_form("ses", "SendEmail", **numbered, Destination__CcAddresses="")
    assert found == {"Destination": {"ToAddresses": ["3@example.net", "7@example.net"]}}


ENTRY = "Attributes__entry__"


def test_a_map_has_keys_with_values() -> None:
    entries = {f"{ENTRY}1__key": "RawMessageDelivery", f"{ENTRY}1__value": "true"}
    found = read_form("sns", "Subscribe", **entries, **{f"{ENTRY}2__key": "FilterPolicy"})
    assert found == {"Attributes": {"RawMessageDelivery": "true", "FilterPolicy": ""}}


@rows(
    "parameters, says",
    [
        ({f"{ENTRY}1": "a"}, "must have a key and a value"),
        ({f"{ENTRY}1__value": "a"}, "must have a key and a value"),
        ({f"{ENTRY}1__key__b": "a"}, "must have a key and a value"),
        ({f"{ENTRY}1__key": "a", f"{ENTRY}2__key": "a"}, "has 'a' twice"),
    ],
)
def test_a_map_without_a_key_or_with_one_twice_is_refused(
    parameters: dict[str, str], says: str
) -> None:
    with pytest.raises(QueryError, match=says):
        read_form("sns", "Subscribe", **parameters)


def test_a_value_of_another_kind_names_its_parameter() -> None:
    with pytest.raises(QueryError, match="MaxItems is no integer"):
        read_form("ses", "ListIdentities", MaxItems="many")


def test_xml_has_no_character_that_xml_cannot_have() -> None:
    assert escaped('<a & "b"\r\x00>') == "&lt;a &amp; &quot;b&quot;&#xD;\ufffd&gt;"


# -- single values -----------------------------------------------------------------------------


@rows(
    "kind, text",
    [
        ("blob", "no base64!"),
        ("timestamp", "yesterday"),
        ("timestamp", "9e300"),
        ("integer", "2147483648"),
        ("integer", "1.5"),
        ("long", "9223372036854775808"),
        ("double", "nan"),
        ("boolean", "yes"),
    ],
)
def test_a_text_that_is_no_value_of_its_kind_is_refused(kind: str, text: str) -> None:
    with pytest.raises(ScalarError):
        read_scalar(kind, text)  # type: ignore[arg-type]


@rows(
    "kind, text, value",
    [
        ("blob", "aGk=", b"hi"),
        ("integer", "-2147483648", -(2**31)),
        ("double", "1.5e3", 1500.0),
        ("boolean", "TRUE", True),
    ],
)
def test_a_text_is_read_as_its_kind(kind: str, text: str, value: object) -> None:
    assert read_scalar(kind, text) == value  # type: ignore[arg-type]


@rows(
    "kind, value",
    [
        ("blob", b"\x00hi\xff"),
        ("boolean", False),
        ("long", -(2**63)),
        ("double", 0.25),
        ("timestamp", datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)),
    ],
)
def test_a_value_is_read_as_it_was_written(kind: str, value: object) -> None:
    text = scalar_text(kind, value)  # type: ignore[arg-type]
    assert read_scalar(kind, text) == value  # type: ignore[arg-type]


@rows("text", ["2026-01-02T03:04:05Z", "2026-01-02T04:04:05+01:00", "1767323045"])
def test_a_time_is_read_in_iso_8601_and_in_seconds(text: str) -> None:
    assert read_scalar("timestamp", text).isoformat() == "2026-01-02T03:04:05+00:00"


# -- JSON --------------------------------------------------------------------------------------


@rows(
    "body, says",
    [
        (b'{"Content": []}', "Content must be an object."),
        (b'{"Destination": {"ToAddresses": {}}}', "Destination.ToAddresses must be an array."),
        (b'{"FromEmailAddress": 1}', "FromEmailAddress must be a string."),
        (b'{"FromEmailAddress": true}', "FromEmailAddress must be a string."),
        (
            b'{"Content": {"Raw": {"Data": "no base64!"}}}',
            "Content.Raw.Data is not valid base64.",
        ),
        (b'{"a": 1, "a": 2}', "A member is there twice."),
        (b'{"a": NaN}', "The body is not valid JSON."),
        (b'{"FromEmailAddress": "\\ud800"}', "The body is not valid JSON."),
        (b'{"FromEmailAddress": "\\uDE00\\uD83D"}', "The body is not valid JSON."),
        (b'{"FromEmailAddress": "\xed\xa0\x80"}', "The body is not valid JSON."),
        (b'{"\\udfff": ""}', "The body is not valid JSON."),
        (b"[]", "The body must be a JSON object."),
        (b"[" * 100_000, "The body is not valid JSON."),
    ],
)
def test_a_body_that_is_not_of_its_operation_is_refused(body: bytes, says: str) -> None:
    sesv2 = services()["sesv2"]
    with pytest.raises(RestError, match=re.escape(says)):
        rest_input(sesv2, sesv2.operations["SendEmail"], {}, [], body)


def read_metrics_query(**members: object) -> dict[str, object]:
    """The only query in a body of BatchGetMetricData."""
    sesv2 = services()["sesv2"]
    body = json.dumps({"Queries": [members]}).encode()
    found = rest_input(sesv2, sesv2.operations["BatchGetMetricData"], {}, [], body)
    query: dict[str, object] = found["Queries"][0]
    return query


def test_a_body_has_maps_and_times_in_seconds() -> None:
    found = read_metrics_query(Dimensions={"ISP": "a", "Other": "b"}, StartDate=1767323045.5)
    assert found == {
        "Dimensions": {"ISP": "a", "Other": "b"},
        "StartDate": datetime(2026, 1, 2, 3, 4, 5, 500_000, UTC),
    }


@rows(
    "members, says",
    [
        ({"Dimensions": ["ISP"]}, "Queries[0].Dimensions must be an object."),
        ({"Dimensions": {"ISP": 1}}, "Queries[0].Dimensions.ISP must be a string."),
        ({"StartDate": 1e300}, "Queries[0].StartDate is no time."),
        ({"StartDate": True}, "Queries[0].StartDate must be a timestamp."),
    ],
)
def test_a_member_of_a_body_that_is_not_of_its_kind_is_named(
    members: dict[str, object], says: str
) -> None:
    with pytest.raises(RestError, match=re.escape(says)):
        read_metrics_query(**members)


def test_an_answer_has_maps_in_json() -> None:
    sesv2 = services()["sesv2"]
    values = {"Policies": {"a": "{}", "ä": "x"}}
    written = rest_output(sesv2, sesv2.operations["GetEmailIdentityPolicies"], values)
    assert json.loads(written) == values


def test_a_query_has_each_single_value_once_and_is_utf_8() -> None:
    sesv2 = services()["sesv2"]
    operation = sesv2.operations["ListSuppressedDestinations"]
    pairs = [(b"PageSize", b"5"), (b"Other", b"x"), (b"Other", b"y")]
    assert rest_input(sesv2, operation, {}, pairs, b" ") == {"PageSize": 5}
    both = [(b"Reason", b"BOUNCE"), (b"Reason", b"COMPLAINT")]
    assert rest_input(sesv2, operation, {}, both, b"") == {"Reasons": ["BOUNCE", "COMPLAINT"]}
    for wrong, says in (
        ([(b"PageSize", b"5"), (b"PageSize", b"6")], "PageSize is there twice."),
        ([(b"PageSize", b"x")], "PageSize is no integer."),
        ([(b"NextToken", b"\xff")], "must be UTF-8"),
    ):
        with pytest.raises(RestError, match=says):
            rest_input(sesv2, operation, {}, wrong, b"")


def test_a_label_may_have_a_slash_and_must_be_utf_8() -> None:
    sesv2 = services()["sesv2"]
    found = rest_operation(sesv2, "GET", b"/v2/email/identities/a%2Fb%40example.com")
    assert found is not None
    assert [*found[1].values()] == ["a/b@example.com"]
    assert rest_operation(sesv2, "GET", b"/v2/email/nothing") is None
    with pytest.raises(RestError, match="must be UTF-8"):
        rest_operation(sesv2, "GET", b"/v2/email/identities/%FF")


# -- messages in parts -------------------------------------------------------------------------


def message(**parts: object) -> SimpleMessage:
    """A message with a text, and with those parts."""
    given = {
        "source": "a@example.com",
        "subject": Text("Spring"),
        "text": Text("Hello"),
        **parts,
    }
    return SimpleMessage(**given)  # type: ignore[arg-type]


@rows(
    "parts, says",
    [
        ({"source": "nobody"}, "Invalid address <nobody>"),
        ({"subject": Text("a\r\nBcc: b@example.net")}, "Subject must not contain control"),
        ({"headers": [("A B", "x")]}, "Invalid header name <A B>."),
        ({"headers": [("Bcc", "x@example.net")]}, "Header <Bcc> cannot be set here."),
        ({"headers": [("X-SES-Source-ARN", "x")]}, "Header <X-SES-Source-ARN> cannot be set"),
        ({"headers": [("X-A", "b\nc")]}, "X-A must not contain control characters."),
        ({"text": None}, "The body needs Text or Html."),
        ({"text": Text("a", "klingon")}, "Unknown charset <klingon>."),
        ({"text": Text("a", "rot13")}, "Unknown charset <rot13>."),
        # Python knows this name as that of latin-1.
        ({"text": Text("a", "iso\r\n8859-1")}, "cannot be used for mail."),
        ({"attachments": [Attachment("a", b"", "text")]}, "Invalid content type <text>."),
        ({"attachments": [Attachment("a\r\n", b"")]}, "must not have control characters"),
        ({"attachments": [Attachment("a", b"", description="\x00")]}, "control characters"),
        (
            {"attachments": [Attachment("a", b"", content_id="<a>")]},
            "Invalid content id <<a>>.",
        ),
    ],
)
def test_parts_that_cannot_be_written_are_refused(parts: dict[str, object], says: str) -> None:
    with pytest.raises(SimpleMessageError, match=says):
        mime_of(message(**parts))


@rows(
    "source, written",
    [
        ("a@example.com", "From: a@example.com\r\n"),
        ("Anna B <a@example.com>", "From: Anna B <a@example.com>\r\n"),
        ('"B, Anna" <a@example.com>', 'From: "B, Anna" <a@example.com>\r\n'),
        ("Änne <a@example.com>", "From: =?utf-8?b?w4RubmU=?= <a@example.com>\r\n"),
    ],
)
def test_an_address_is_written_with_its_name(source: str, written: str) -> None:
    assert mime_of(message(source=source)).decode().startswith(written)


def test_attachments_are_parts_and_none_is_read_as_mail() -> None:
    files = [
        Attachment("a.txt", b"one", "text/plain", description="The first"),
        Attachment("b.eml", b"two", "message/rfc822", content_id="b@example.com"),
    ]
    written = mime_of(
        message(html=Text("<p>Hello"), reply_to=["r@example.com"], attachments=files)
    ).decode()
    assert "Reply-To: r@example.com\r\n" in written
    for part in (
        "multipart/alternative",
        "Content-Description: The first",
        'filename="a.txt"',
        "Content-Type: application/octet-stream",
        "Content-ID: <b@example.com>",
    ):
        assert part in written, part
    assert "message/rfc822" not in written


def test_a_message_may_have_html_alone() -> None:
    written = message_from_bytes(mime_of(message(text=None, html=Text("<p>Hello"))))
    assert written.get_content_type() == "text/html"
    assert written.get_payload(decode=True) == b"<p>Hello\r\n"


@rows(
    "parts",
    [
        {},
        {"html": Text("<p>Hello")},
        {"html": Text("<p>Hello"), "attachments": [Attachment("a", b"b")]},
        {"text": None, "html": Text("<p>Hello"), "attachments": [Attachment("a", b"b")]},
    ],
)
def test_a_message_says_once_that_it_has_mime(parts: dict[str, object]) -> None:
    written = message_from_bytes(mime_of(message(**parts)))
    versions = [value for part in written.walk() for value in part.get_all("MIME-Version", [])]
    assert versions[0] == written["MIME-Version"] == "1.0"


def test_a_text_that_its_charset_has_not_is_in_utf_8() -> None:
    assert b'charset="utf-8"' in mime_of(message(text=Text("Grüße", "us-ascii")))


@rows(
    "given, name",
    [
        ("", "utf-8"),
        ("UTF8", "utf-8"),
        ("latin-1", "iso-8859-1"),
        ("ISO-8859-15", "ISO-8859-15"),
        ("windows-1252", "windows-1252"),
    ],
)
def test_a_charset_has_the_name_that_mail_knows(given: str, name: str) -> None:
    written = mime_of(message(text=Text("Grüße", given)))
    assert f'charset="{name}"'.encode() in written
    assert message_from_bytes(written).get_payload(decode=True) == "Grüße\r\n".encode(name)


# -- forms of REST-JSON that no served operation has -------------------------------------------


def test_an_operation_without_input_has_none_and_octets_are_written_in_base64() -> None:
    operation = Operation("GetNothing", (), output="Picture")
    shapes = {
        "Picture": Shape("Picture", "structure", {"Octets": StructureMember("Blob")}),
        "Blob": Shape("Blob", "blob"),
    }
    service = Service("made-up", "1", "", {"GetNothing": operation}, shapes, frozenset())
    assert rest_input(service, operation, {}, [], b"ignored") == {}
    written = rest_output(service, operation, {"Octets": b"\xff\x00"})
    assert json.loads(written) == {"Octets": "/wA="}
