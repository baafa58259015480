"""The codecs of the API, read backwards: botocore writes requests and reads answers."""

from typing import Any
from urllib.parse import urlsplit

import botocore.loaders
import botocore.model
import botocore.parsers
import botocore.serialize
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpgate.api.served import services
from smtpgate.core.api.model import Operation, Service
from smtpgate.core.api.percent import query_pairs
from smtpgate.core.api.query import (
    QueryError,
    query_error,
    query_input,
    query_output,
    read_query,
)
from smtpgate.core.api.rest import RestError, rest_input, rest_operation, rest_output
from tests.support.api_values import values

_LOADER = botocore.loaders.Loader()
QUERY = [
    (name, operation)
    for name, service in services().items()
    if name != "sesv2"
    for operation in service.operations
]
REST = list(services()["sesv2"].operations)


def theirs(service: str, operation: str) -> Any:  # noqa: ANN401 - botocore has no types
    model = botocore.model.ServiceModel(
        _LOADER.load_service_model(service, "service-2"), service
    )
    return model.operation_model(operation)


def serialized(protocol: str, model: Any, given: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    made = botocore.serialize.create_serializer(protocol, include_validation=False)
    found: dict[str, Any] = made.serialize_to_request(given, model)
    return found


def parsed(protocol: str, model: Any, body: bytes) -> dict[str, Any]:  # noqa: ANN401
    answer = {"status_code": 200, "headers": {}, "body": body}
    found: dict[str, Any] = botocore.parsers.create_parser(protocol).parse(
        answer, model.output_shape
    )
    found.pop("ResponseMetadata", None)
    return found


def of_query(data: st.DataObject) -> tuple[Service, Operation, Any]:
    name, operation = data.draw(st.sampled_from(QUERY))
    service = services()[name]
    return service, service.operations[operation], theirs(name, operation)


def without_empty(value: Any) -> Any:  # noqa: ANN401 - any value
    """The value as a form can have it: empty structures and lists are not there."""
    if isinstance(value, dict):
        kept = {name: without_empty(one) for name, one in value.items()}
        return {name: one for name, one in kept.items() if one != {} and one != []}
    if isinstance(value, list):
        return [without_empty(one) for one in value if without_empty(one) != {}]
    return value


@given(data=st.data())
def test_a_form_of_botocore_has_the_values_that_it_was_made_of(data: st.DataObject) -> None:
    service, operation, model = of_query(data)
    given = (
        without_empty(data.draw(values(service, operation.input))) if operation.input else {}
    )
    form = serialized("query", model, given)["body"]
    query = read_query([(name, str(value)) for name, value in form.items()])
    assert (query.action, query.version) == (operation.name, service.version)
    assert without_empty(query_input(service, operation, query)) == given


@given(data=st.data())
def test_botocore_reads_the_values_of_an_answer_in_xml(data: st.DataObject) -> None:
    service, operation, model = of_query(data)
    given = data.draw(values(service, operation.output)) if operation.output else {}
    text = query_output(service, operation, given, "an-id")
    if operation.output:
        found = parsed("query", model, text.encode())
        assert without_empty(found) == without_empty(given)


@given(data=st.data())
def test_a_request_in_json_has_the_values_that_it_was_made_of(data: st.DataObject) -> None:
    service = services()["sesv2"]
    name = data.draw(st.sampled_from(REST))
    operation, model = service.operations[name], theirs("sesv2", name)
    given = data.draw(values(service, operation.input))
    made = serialized("rest-json", model, given)
    parts = urlsplit(made["url_path"])
    text = "&".join(
        f"{key}={_quoted(one)}"
        for key, value in made["query_string"].items()
        for one in (value if isinstance(value, list) else [value])
    )
    found = rest_operation(service, made["method"], parts.path.encode())
    assert found is not None
    assert found[0].name == name
    body = made["body"] if isinstance(made["body"], bytes) else made["body"].encode()
    got = rest_input(service, *found, query_pairs(text.encode()), body)
    assert got == given


def _quoted(value: Any) -> str:  # noqa: ANN401 - any scalar
    text = (
        {True: "true", False: "false"}.get(value, value) if isinstance(value, bool) else value
    )
    return "".join(f"%{octet:02X}" for octet in str(text).encode())


@given(data=st.data())
def test_botocore_reads_the_values_of_an_answer_in_json(data: st.DataObject) -> None:
    service = services()["sesv2"]
    name = data.draw(st.sampled_from(REST))
    operation = service.operations[name]
    given = data.draw(values(service, operation.output))
    found = parsed("rest-json", theirs("sesv2", name), rest_output(service, operation, given))
    assert found == given


@given(st.text(max_size=40), st.text(max_size=40))
def test_botocore_reads_an_error_in_xml(code: str, text: str) -> None:
    document = query_error("http://ses.amazonaws.com/doc/2010-12-01/", code, text, 400, "an-id")
    parser = botocore.parsers.create_parser("query")
    answer = {"status_code": 400, "headers": {}, "body": document.encode()}
    found = parser.parse(answer, None)["Error"]
    assert found["Type"] == "Sender"


@given(
    pairs=st.lists(
        st.tuples(
            st.text(st.sampled_from("Destination.ToAddresses.member.1"), max_size=40),
            st.text(max_size=8),
        ),
        max_size=6,
    )
)
def test_a_form_is_read_or_refused(pairs: list[tuple[str, str]]) -> None:
    service = services()["ses"]
    try:
        query = read_query([("Action", "SendEmail"), *pairs])
        found = query_input(service, service.operations["SendEmail"], query)
    except QueryError:
        return
    assert set(found) <= set(service.shapes["SendEmailRequest"].members)


@given(path=st.binary(max_size=40), body=st.binary(max_size=60), query=st.binary(max_size=40))
def test_a_request_in_json_is_read_or_refused(path: bytes, body: bytes, query: bytes) -> None:
    service = services()["sesv2"]
    operation = service.operations["SendEmail"]
    try:
        rest_operation(service, "POST", path)
        found = rest_input(service, operation, {}, query_pairs(query), body)
    except RestError:
        return
    assert set(found) <= set(service.shapes[operation.input].members)


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"1",
        b'{"a":1,"a":2}',
        b'{"Content":1}',
        b"{",
        b'{"x":NaN}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_json_that_is_no_input_is_refused(body: bytes) -> None:
    service = services()["sesv2"]
    with pytest.raises(RestError):
        rest_input(service, service.operations["SendEmail"], {}, [], body)


def test_both_routes_of_the_lists_lead_to_them() -> None:
    service = services()["sesv2"]
    for method, path in [
        ("GET", b"/v2/email/identities"),
        ("POST", b"/v2/email/list-identities"),
    ]:
        found = rest_operation(service, method, path)
        assert found is not None
        assert found[0].name == "ListEmailIdentities"
