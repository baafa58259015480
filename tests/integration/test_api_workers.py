"""The API of a gate with several processes: what one worker knows, the others know too."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.support.authority import Authority
from tests.support.daemons import LOOPBACK, Lab, eventually, free_port
from tests.support.gate import (
    ACCOUNTS,
    LOGIN,
    Gate,
    GatePlan,
    start_gate,
    workers_of,
)
from tests.support.recorder import Recorder, recorder
from tests.support.world import DOMAIN_NAME, OWNER, REGION, SECRET

OWNER_KEY: Final = "AKIAOWNERROOT0000000"
ROOT_KEY: Final = f"""
[[accounts.{OWNER}.access_keys]]
id = "{OWNER_KEY}"
secret_file = "keys/{LOGIN.username}.secret"
"""

FROM: Final = f"news@{DOMAIN_NAME}"
SEND: Final = {
    "Source": FROM,
    "Destinations": ["bob@example.net"],
    "RawMessage": {"Data": f"From: {FROM}\r\n\r\nHello.\r\n".encode()},
}


@pytest.fixture
def authority(lab: Lab) -> Authority:
    return Authority(lab)


@pytest.fixture
def upstream(lab: Lab) -> Recorder:
    return recorder(lab)


@contextmanager
def only(gate: Gate, number: str) -> Iterator[None]:
    """Let one worker alone take connections."""
    others = [pid for name, pid in workers_of(gate).items() if name != number]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)


def new_client(
    gate: Gate, authority: Authority, service: str, invocation: str = "", secret: str = SECRET
) -> Any:  # noqa: ANN401 - boto3 has no types
    """A client with connections of its own; with that id its calls are attempts of one call."""
    client = boto3.Session(OWNER_KEY, secret, region_name=REGION).client(
        service,
        endpoint_url=f"https://{LOOPBACK}:{gate.plan.api_port}",
        verify=str(authority.ca_file),
        config=Config(retries={"total_max_attempts": 1}),
    )

    def name(request: Any, **_: object) -> None:  # noqa: ANN401 - boto3 has no types
        del request.headers["amz-sdk-invocation-id"]
        request.headers["amz-sdk-invocation-id"] = invocation

    if invocation:
        client.meta.events.register("before-send", name)
    return client


def code(gate: Gate, authority: Authority, secret: str = SECRET) -> str:
    """The code of the refusal of a call by a client of its own; empty if it succeeds."""
    client = new_client(gate, authority, "sesv2", secret=secret)
    try:
        client.get_account()
    except ClientError as error:
        found: str = error.response["Error"]["Code"]
        return found
    return ""


def code_of(raised: pytest.ExceptionInfo[ClientError]) -> str:
    code: str = raised.value.response["Error"]["Code"]
    return code


def test_a_message_in_doubt_is_not_sent_again_by_another_worker(
    lab: Lab, authority: Authority, upstream: Recorder
) -> None:
    plan = GatePlan(
        upstream.port,
        {"data_timeout_s": 1},
        accounts=ACCOUNTS + ROOT_KEY,
        api_port=free_port(),
        workers=2,
    )
    gate = start_gate(lab, authority, plan)
    upstream.hold()
    with pytest.raises(ClientError) as raised:
        new_client(gate, authority, "ses", "one-call").send_raw_email(**SEND)
    assert code_of(raised) == "ServiceUnavailable"
    upstream.wait_for_arrival()
    upstream.release()
    for number in ("0", "1"):
        with only(gate, number), pytest.raises(ClientError) as raised:
            new_client(gate, authority, "ses", "one-call").send_raw_email(**SEND)
        assert code_of(raised) == "ServiceUnavailable"
        assert "earlier attempt" in str(raised.value)
    assert not upstream.messages, "it keeps those that it has answered"
    new_client(gate, authority, "ses", "another-call").send_raw_email(**SEND)
    assert len(upstream.wait_for(1)) == 1


def test_calls_and_wrong_signatures_are_counted_over_all_workers(
    lab: Lab, authority: Authority, upstream: Recorder
) -> None:
    keys = "max_calls = 3\ncalls_per_minute = 1\n"
    keys += "max_auth_failures = 2\nauth_failures_per_minute = 1\n"
    plan = GatePlan(
        upstream.port,
        accounts=ACCOUNTS + ROOT_KEY,
        api_port=free_port(),
        workers=2,
        sections=keys,
    )
    gate = start_gate(lab, authority, plan)
    with only(gate, "0"):
        for _ in range(3):
            assert code(gate, authority) == ""
        for _ in range(2):
            assert code(gate, authority, secret="wrong") == "InvalidSignatureException"
    with only(gate, "1"):
        throttled = "TooManyRequestsException"
        eventually(lambda: code(gate, authority) == throttled, "the calls at the other worker")
        wrong = partial(code, gate, authority, secret="wrong")
        eventually(lambda: wrong() == throttled, "the failures at the other worker")
