"""The bounds on calls of the API: the client of AWS sees Throttling, which it tries again."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from botocore.exceptions import ClientError

from smtpgate.clock import SystemClock
from smtpgate.core.limits.budget import BUDGETS, BudgetName
from smtpgate.gate.gate import Gate
from tests.support.aws import aws_client, called
from tests.support.clock import MovableClock
from tests.support.inprocess import open_gate

pytestmark = pytest.mark.slow

ROOT, MAILER = "AKIAOWNERROOT0000000", "AKIAMAILER0000000000"
API: Final = '[api.a]\naddress = "127.0.0.1"\nport = 0\ntls = "none"\nallow_plaintext = true\n'
SEND: Final = {
    "Source": "marketing@ses-example.com",
    "Destinations": ["jane@example.net"],
    "RawMessage": {"Data": b"From: marketing@ses-example.com\r\n\r\nHello.\r\n"},
}


@asynccontextmanager
async def serving(
    folder: Path, *keys: str, limits: str = "", clock: MovableClock | None = None
) -> AsyncIterator[tuple[Gate, int]]:
    """A gate with those keys for its port, and the port."""
    sections = limits + API + "".join(f"{key}\n" for key in keys)
    async with open_gate(folder, sections=sections, clock=clock) as (gate, _):
        yield gate, gate.service.apis["a"].port


async def refused(call: Callable[..., Any], **parameters: object) -> tuple[str, int]:
    with pytest.raises(ClientError) as raised:
        await called(call, **parameters)
    answer = raised.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


async def exhausted(gate: Gate, folder: Path, budget: BudgetName) -> int:
    """The number of lines of the log about that budget, with its configuration key."""
    await gate.log.flush()
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    found = [one for one in lines if one.get("budget") == budget]
    key = BUDGETS[budget].key.replace("api.NAME", "api.a")
    assert all(one["key"] == key and one["listener"] == "api.a" for one in found)
    return len(found)


async def test_an_account_has_some_calls_at_once_and_a_rate_in_the_long_run(
    tmp_path: Path,
) -> None:
    clock = MovableClock(SystemClock().now())
    keys = "max_calls = 3", "calls_per_minute = 60"
    async with serving(tmp_path, *keys, clock=clock) as (gate, port):
        older, newer = aws_client("ses", port, ROOT), aws_client("sesv2", port, ROOT)
        for _ in range(3):
            await called(older.list_identities)
        assert await refused(older.list_identities) == ("Throttling", 400)
        assert await refused(newer.get_account) == ("TooManyRequestsException", 429)
        sts = aws_client("sts", port, ROOT)
        assert await refused(sts.get_caller_identity) == ("Throttling", 400)
        # Another account has its own, and messages are bounded by the sending limits.
        other = aws_client("sts", port, MAILER)
        await called(other.get_caller_identity)
        for _ in range(5):
            await called(older.send_raw_email, **SEND)
        clock.move(1)
        await called(newer.get_account)
        assert (await refused(newer.get_account))[1] == 429
        assert await exhausted(gate, tmp_path, "api-calls") == 4


@pytest.mark.slow
async def test_the_client_of_aws_tries_a_throttled_call_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.retryhandler.random.random", lambda: 0.0)
    clock = MovableClock(SystemClock().now())
    keys = "max_calls = 1", "calls_per_minute = 60"
    async with serving(tmp_path, *keys, clock=clock) as (gate, port):
        for service in ("sts", "sesv2"):
            client = aws_client(service, port, ROOT, attempts=3)
            client.meta.events.register("needs-retry", lambda **_: clock.move(0.4))
            call = client.get_caller_identity if service == "sts" else client.get_account
            for _ in range(3):
                await called(call)
        assert await exhausted(gate, tmp_path, "api-calls") >= 4


async def test_calls_that_make_keys_are_bounded_harder(tmp_path: Path) -> None:
    keys = "max_new_keys = 1", "new_keys_per_minute = 1"
    async with serving(tmp_path, *keys) as (gate, port):
        older, newer = aws_client("ses", port, ROOT), aws_client("sesv2", port, ROOT)
        first = await called(older.verify_domain_dkim, Domain="a.example")
        throttled = "TooManyRequestsException", 429
        assert (
            await refused(newer.create_email_identity, EmailIdentity="b.example") == throttled
        )
        assert (await refused(older.verify_domain_dkim, Domain="c.example"))[0] == "Throttling"
        # Nothing is made for these.
        assert await called(older.verify_domain_dkim, Domain="a.example") == first
        again = await refused(newer.create_email_identity, EmailIdentity="a.example")
        assert again == ("AlreadyExistsException", 400)
        await called(newer.create_email_identity, EmailIdentity="ann@b.example")
        assert await exhausted(gate, tmp_path, "api-new-keys") == 2


async def test_an_address_has_few_wrong_signatures_and_others_behind_it_go_on(
    tmp_path: Path,
) -> None:
    keys = "max_auth_failures = 2", "auth_failures_per_minute = 1"
    async with serving(tmp_path, *keys) as (gate, port):
        good = aws_client("sts", port, ROOT)
        await called(good.get_caller_identity)
        wrong = aws_client("sts", port, MAILER, secret="no")
        unknown = aws_client("sesv2", port, "AKIANOBODY0000000000")
        assert await refused(wrong.get_caller_identity) == ("SignatureDoesNotMatch", 403)
        assert await refused(unknown.get_account) == ("UnrecognizedClientException", 403)
        assert await refused(wrong.get_caller_identity) == ("Throttling", 400)
        assert await refused(unknown.get_account) == ("TooManyRequestsException", 429)
        # A key that was used from there is bounded by itself.
        await called(good.get_caller_identity)
        stale = aws_client("sts", port, ROOT, secret="old")
        for _ in range(2):
            assert (await refused(stale.get_caller_identity))[0] == "SignatureDoesNotMatch"
        assert (await refused(stale.get_caller_identity))[0] == "Throttling"
        assert await exhausted(gate, tmp_path, "api-auth-failures") == 3


async def test_refused_messages_are_bounded_as_those_by_smtp(tmp_path: Path) -> None:
    limits = "[limits]\nmax_refusals = 2\nrefusals_per_minute = 1\n"
    async with serving(tmp_path, limits=limits) as (gate, port):
        client = aws_client("ses", port, ROOT)
        foreign = SEND | {"Source": "ann@not-verified.example"}
        assert (await refused(client.send_raw_email, **foreign))[0] == "MessageRejected"
        nobody = SEND | {"Destinations": ["not an address"]}
        assert (await refused(client.send_raw_email, **nobody))[0] == "InvalidParameterValue"
        assert await refused(client.send_raw_email, **SEND) == ("Throttling", 400)
        await gate.log.flush()
        assert '"budget":"refusals"' in (tmp_path / "log").read_text().replace(" ", "")
