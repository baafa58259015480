"""A client of AWS that tries again when the outcome of its message is not known."""

from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.support.aws import aws_client, called
from tests.support.inprocess import open_gate
from tests.support.upstream_server import HANG_UP, open_upstream

API = '[api.a]\naddress = "127.0.0.1"\nport = 0\ntls = "none"\nallow_plaintext = true\n'
SEND = {
    "Source": "marketing@ses-example.com",
    "Destinations": ["jane@example.net"],
    "RawMessage": {"Data": b"From: marketing@ses-example.com\r\n\r\nHello.\r\n"},
}


async def test_the_attempts_of_one_call_send_a_message_in_doubt_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.retryhandler.random.random", lambda: 0.0)
    async with (
        open_upstream() as upstream,
        open_gate(tmp_path, port=upstream.port, sections=API) as (gate, _),
    ):
        port = gate.service.apis["a"].port
        client = aws_client("ses", port, "AKIAOWNERROOT0000000", attempts=3)
        upstream.answers["MESSAGE"] = HANG_UP
        with pytest.raises(ClientError) as refused:
            await called(client.send_raw_email, **SEND)
        assert refused.value.response["Error"]["Code"] == "ServiceUnavailable"
        assert refused.value.response["ResponseMetadata"]["RetryAttempts"] == 2
        assert len(upstream.messages) == 1
        # Another call is another message: its sender knows of the doubt.
        del upstream.answers["MESSAGE"]
        await called(client.send_raw_email, **SEND)
        assert len(upstream.messages) == 2
