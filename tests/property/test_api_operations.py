"""Every operation of the API, with any values: an answer in its shape, or a fault of AWS's.

Nothing else may be raised: it would be an error of ours, with status 500.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpgate.admin.errors import ADMIN_ERRORS
from smtpgate.api.application import Api
from smtpgate.api.bodies import Bodies, ClientLeftError
from smtpgate.api.call import Call
from smtpgate.api.names import api_error
from smtpgate.api.operations import HANDLERS
from smtpgate.api.served import services
from smtpgate.core.api.constraints import violations
from smtpgate.core.api.faults import FAULTS, ApiError
from smtpgate.core.api.query import query_output
from smtpgate.core.api.rest import rest_output
from smtpgate.core.message.envelope import Client
from tests.support.api_values import values
from tests.support.inprocess import open_gate

API = '[api.a]\naddress = "127.0.0.1"\nport = 0\ntls = "none"\nallow_plaintext = true\n'
API += "max_new_keys = 100000\n"
OPERATIONS = [(name, one) for name, its in HANDLERS.items() for one in its]
CLIENT = Client(address="192.0.2.1", listener="api.a", protocol="HTTP")
# Values that the directory has, so that not every call ends at a name that it has not.
NAMES = {
    "Identity": "ses-example.com",
    "EmailIdentity": "ses-example.com",
    "PolicyName": "marketing",
    "ConfigurationSetName": "spring",
}


class Running:
    """A gate that runs while a test does, in a loop of its own."""

    def __init__(self, runner: asyncio.Runner, api: Api) -> None:
        self.runner = runner
        self.api = api


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("api")
    with asyncio.Runner() as runner:
        opened = open_gate(folder, sections=API)
        gate, _ = runner.run(opened.__aenter__())
        try:
            api = gate.service.apis["a"]._application.newest
            yield Running(runner, api)
        finally:
            runner.run(opened.__aexit__(None, None, None))


async def outcome(api: Api, service_name: str, operation_name: str, given: Any) -> str:  # noqa: ANN401
    """The fault of a call by the owner's root, or nothing; whatever else is raised passes."""
    service = services()[service_name]
    operation = service.operations[operation_name]
    if operation.input and violations(service, operation.input, given):
        return "validation"
    parts = api._parts
    key = await parts.directory.access_key("AKIAOWNERROOT0000000")
    assert key is not None
    call = Call(
        parts=parts,
        bounds=api._bounds,
        service=service_name,
        operation=operation_name,
        values=given,
        key=key,
        client=CLIENT,
        request_id="an id",
        at=parts.clock.now(),
    )
    try:
        result = await HANDLERS[service_name][operation_name](call)
    except ApiError as error:
        return error.fault
    except ADMIN_ERRORS as error:
        return api_error(error).fault
    if service_name == "sesv2":
        assert isinstance(json.loads(rest_output(service, operation, result)), dict)
    else:
        assert query_output(service, operation, result, "an id")
    return ""


@given(data=st.data())
def test_every_operation_answers_any_values(running: Running, data: st.DataObject) -> None:
    service_name, name = data.draw(st.sampled_from(OPERATIONS))
    service = services()[service_name]
    shape = service.operations[name].input
    given = data.draw(values(service, shape)) if shape else {}
    known = data.draw(st.booleans())
    if known:
        given |= {key: value for key, value in NAMES.items() if key in given}
    fault = running.runner.run(outcome(running.api, service_name, name, given))
    assert fault == "" or fault in FAULTS
    assert fault != "internal"


@given(
    path=st.sampled_from([b"/", b"/v2/email/account", b"/v2/x", b"//", b"/%zz"])
    | st.binary(max_size=30),
    query=st.binary(max_size=30),
    body=st.binary(max_size=60),
    fields=st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=60)), max_size=4),
)
def test_any_request_gets_an_answer_in_the_form_of_aws(
    running: Running, path: bytes, query: bytes, body: bytes, fields: list[tuple[bytes, bytes]]
) -> None:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:  # noqa: ANN401 - ASGI
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "raw_path": path,
        "query_string": query,
        "headers": [(name.lower(), value) for name, value in fields],
        "client": ("192.0.2.1", 40000),
    }
    running.runner.run(running.api(scope, receive, send))
    start, end = sent
    headers = dict(start["headers"])
    assert 400 <= start["status"] < 500
    assert headers[b"x-amzn-requestid"]
    if path.startswith(b"/v2/"):
        assert headers[b"x-amzn-errortype"]
        assert json.loads(end["body"])["message"]
    else:
        assert end["body"].startswith(b"<ErrorResponse ")


def read(running: Running, *messages: dict[str, Any], timeout_s: float = 5) -> tuple[str, int]:
    """The fault of a body, or its text; and the octets that count afterwards."""
    bodies = Bodies(max_octets=100, max_inflight_octets=1000, timeout_s=timeout_s)
    left = list(messages)

    async def receive() -> dict[str, Any]:
        return left.pop(0) if left else await asyncio.Future()

    async def reading() -> tuple[str, int]:
        try:
            body = await bodies.read(receive, b"", is_trusted=True)
        except ApiError as refused:
            return refused.fault, bodies.octets
        assert bodies.octets == len(body)
        bodies.release(body)
        return body.decode(), bodies.octets

    return running.runner.run(reading())


def piece(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_bodies_are_bounded_and_count_no_longer_than_they_are_there(running: Running) -> None:
    assert read(running, piece(b"a"), piece(b""), piece(b"b", more=False)) == ("ab", 0)
    assert read(running, piece(b"", more=False)) == ("", 0)
    assert read(running, *[piece(b"x" * 60)] * 2) == ("too-large", 0)
    assert read(running, piece(b"x"), timeout_s=0) == ("too-slow", 0)
    with pytest.raises(ClientLeftError):
        read(running, piece(b"x"), {"type": "http.disconnect"})
