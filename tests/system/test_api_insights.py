"""The events of a message, and sums by day, by the API."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.aws import aws_client, called
from tests.support.world import DOMAIN_NAME
from tests.system.test_api import DELEGATE_ROOT, OWNER_ROOT, refused, serving

pytestmark = pytest.mark.slow

JANE, JOE = "Jane@example.net", "joe@example.org"


async def test_insights_and_metrics_of_a_message(tmp_path: Path) -> None:
    async with serving(tmp_path) as (gate, _, port):
        owner, delegate = (
            aws_client("sesv2", port, key) for key in (OWNER_ROOT, DELEGATE_ROOT)
        )
        await called(owner.put_suppressed_destination, EmailAddress=JOE, Reason="BOUNCE")
        await gate.service.catch_up()
        sent = await called(
            owner.send_email,
            FromEmailAddress="marketing@ses-example.com",
            Destination={"ToAddresses": [JANE, JOE]},
            Content={"Simple": {"Subject": {"Data": "Hi"}, "Body": {"Text": {"Data": "x"}}}},
            EmailTags=[{"Name": "campaign", "Value": "spring"}],
        )
        found = await called(owner.get_message_insights, **sent)
        assert (found["MessageId"], found["FromEmailAddress"]) == (
            sent["MessageId"],
            "marketing@ses-example.com",
        )
        assert found["EmailTags"] == [{"Name": "campaign", "Value": "spring"}]
        jane, joe = found["Insights"]
        assert (jane["Destination"], joe["Destination"]) == (JANE, JOE)
        assert [one["Type"] for one in jane["Events"]] == ["SEND"]
        assert [one["Type"] for one in joe["Events"]] == ["SEND", "BOUNCE"]
        bounce = joe["Events"][1]["Details"]["Bounce"]
        assert (bounce["BounceType"], bounce["BounceSubType"]) == (
            "PERMANENT",
            "OnAccountSuppressionList",
        )
        assert bounce["DiagnosticCode"]
        for message_id in (sent["MessageId"][:30], "0100", "x"):
            gone = await refused(owner.get_message_insights, MessageId=message_id)
            assert gone[:2] == ("NotFoundException", 404)
        assert (await refused(delegate.get_message_insights, **sent))[1] == 404
        await must_have_metrics(owner, gate.clock.now())


async def must_have_metrics(owner: Any, now: datetime) -> None:  # noqa: ANN401 - a client
    """Sums by day, and refusals that name the query."""
    time = {"Namespace": "VDM", "StartDate": now - timedelta(days=1), "EndDate": now}
    queries = [
        {"Id": "all", "Metric": "SEND", **time},
        {"Id": "own", "Metric": "SEND", "Dimensions": {"EMAIL_IDENTITY": DOMAIN_NAME}, **time},
        {"Id": "bad", "Metric": "COMPLAINT", **time},
    ]
    found = await called(owner.batch_get_metric_data, Queries=queries)
    assert {one["Id"]: one["Values"] for one in found["Results"]} == {
        "all": [0, 1],
        "own": [0, 1],
        "bad": [0, 0],
    }
    assert found["Results"][0]["Timestamps"][1].date() == now.date()
    for wrong, text in (
        ({"Metric": "OPEN"}, "Query q: Metric OPEN is not counted"),
        ({"Metric": "SEND", "Dimensions": {"ISP": "x"}}, "Query q: Dimension ISP is not"),
        ({"Metric": "SEND", "Dimensions": {"CONFIGURATION_SET": "x"}}, "Query q: SEND is not"),
        ({"Metric": "SEND", "EndDate": now - timedelta(days=9)}, "Query q: StartDate is after"),
    ):
        query = {"Id": "q", **time, **wrong}
        code, status, why = await refused(owner.batch_get_metric_data, Queries=[query])
        assert (code, status) == ("BadRequestException", 400)
        assert why.startswith(text)
