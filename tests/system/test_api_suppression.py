"""The account's suppression list by the API."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.aws import aws_client, called
from tests.system.test_api import DELEGATE_ROOT, MAILER, refused, serving

pytestmark = pytest.mark.slow


async def test_the_list_and_the_reasons(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, _, port):
        newer = aws_client("sesv2", port, DELEGATE_ROOT)
        for address, reason in (
            ("Jane@example.net", "BOUNCE"),
            ("joe@example.org", "COMPLAINT"),
        ):
            await called(newer.put_suppressed_destination, EmailAddress=address, Reason=reason)
        found = await called(newer.get_suppressed_destination, EmailAddress="JANE@example.net")
        jane = found["SuppressedDestination"]
        assert (jane["EmailAddress"], jane["Reason"]) == ("jane@example.net", "BOUNCE")
        assert "Attributes" not in jane
        first = await called(newer.list_suppressed_destinations, PageSize=1)
        assert first["SuppressedDestinationSummaries"] == [jane]
        second = await called(
            newer.list_suppressed_destinations, PageSize=1, NextToken=first["NextToken"]
        )
        (joe,) = second["SuppressedDestinationSummaries"]
        assert joe["EmailAddress"] == "joe@example.org"
        assert "NextToken" not in second
        for wanted, names in (
            ({"Reasons": ["COMPLAINT"]}, ["joe@example.org"]),
            ({"Reasons": ["COMPLAINT", "BOUNCE"]}, ["jane@example.net", "joe@example.org"]),
            ({"StartDate": joe["LastUpdateTime"] + timedelta(hours=1)}, []),
            ({"EndDate": jane["LastUpdateTime"] - timedelta(hours=1)}, []),
        ):
            listed = await called(newer.list_suppressed_destinations, **wanted)
            summaries = listed["SuppressedDestinationSummaries"]
            assert [one["EmailAddress"] for one in summaries] == names
        await called(newer.delete_suppressed_destination, EmailAddress="jane@example.net")
        gone = await refused(
            newer.delete_suppressed_destination, EmailAddress="jane@example.net"
        )
        assert gone[:2] == ("NotFoundException", 404)
        bad = {"EmailAddress": "jane@@example", "Reason": "BOUNCE"}
        code, status, text = await refused(newer.put_suppressed_destination, **bad)
        assert (code, status) == ("BadRequestException", 400)
        assert "jane@@example" in text
        mailer = aws_client("sesv2", port, MAILER)
        denied = await refused(mailer.list_suppressed_destinations)
        assert denied[:2] == ("AccessDeniedException", 403)


async def test_reasons_of_a_configuration_set(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, _, port):
        newer = aws_client("sesv2", port, DELEGATE_ROOT)
        spring = {"ConfigurationSetName": "spring"}
        of_complaints = {"SuppressedReasons": ["COMPLAINT"]}
        await called(newer.create_configuration_set, **spring, SuppressionOptions=of_complaints)
        found = await called(newer.get_configuration_set, **spring)
        assert found["SuppressionOptions"] == of_complaints
        await called(
            newer.put_configuration_set_suppression_options, **spring, SuppressedReasons=[]
        )
        found = await called(newer.get_configuration_set, **spring)
        assert found["SuppressionOptions"] == {"SuppressedReasons": []}
        await called(newer.create_configuration_set, ConfigurationSetName="plain")
        found = await called(newer.get_configuration_set, ConfigurationSetName="plain")
        assert "SuppressionOptions" not in found
        bad = {
            "ConfigurationSetName": "summer",
            "SuppressionOptions": {"SuppressedReasons": ["X"]},
        }
        assert (await refused(newer.create_configuration_set, **bad))[1] == 400
        assert (await refused(newer.get_configuration_set, ConfigurationSetName="summer"))[
            1
        ] == 404
        missing = await refused(
            newer.put_configuration_set_suppression_options, ConfigurationSetName="autumn"
        )
        assert missing[:2] == ("NotFoundException", 404)
