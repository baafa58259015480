"""Topics by the API of a gate, called by botocore: the codes that clients of SNS know."""

from pathlib import Path

import pytest

from tests.support.aws import aws_client, called
from tests.support.world import DELEGATE
from tests.system.test_api import DELEGATE_ROOT, INTERN, refused, serving

pytestmark = pytest.mark.slow

TOPIC = f"arn:aws:sns:us-east-1:{DELEGATE}:events"


async def test_refusals_have_the_codes_of_sns(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, _, port):
        sns = aws_client("sns", port, DELEGATE_ROOT)
        to_queue = {"TopicArn": TOPIC, "Protocol": "sqs", "Endpoint": "x"}
        missing = ("NotFound", 404, "Topic does not exist")
        assert await refused(sns.subscribe, **to_queue) == missing
        await called(sns.create_topic, Name="events")
        assert (await refused(sns.subscribe, **to_queue))[0] == "InvalidParameter"
        to_file = {"TopicArn": TOPIC, "Protocol": "https", "Endpoint": "file:///x"}
        for call, given in (
            (sns.subscribe, to_file),
            (sns.confirm_subscription, {"TopicArn": TOPIC, "Token": "x"}),
            (sns.create_topic, {"Name": "no spaces allowed"}),
            (sns.list_topics, {"NextToken": "%%"}),
        ):
            assert (await refused(call, **given))[:2] == ("InvalidParameter", 400), given
        intern = aws_client("sns", port, INTERN)
        denied = await refused(intern.create_topic, Name="events")
        assert denied[:2] == ("AuthorizationError", 403)


async def test_topics_have_tags(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, _, port):
        sns = aws_client("sns", port, DELEGATE_ROOT)
        team, stage = {"Key": "team", "Value": "news"}, {"Key": "stage", "Value": "test"}
        given = {"Name": "events", "Tags": [team]}
        made = await called(sns.create_topic, **given)
        assert await called(sns.create_topic, **given) == made
        assert await called(sns.create_topic, Name="events") == made
        other = await refused(sns.create_topic, Name="events", Tags=[stage])
        text = "Invalid parameter: Tags Reason: Topic already exists with different tags"
        assert other == ("InvalidParameter", 400, text)
        named = {"ResourceArn": TOPIC}
        await called(sns.tag_resource, **named, Tags=[stage])
        assert await called(sns.list_tags_for_resource, **named) == {"Tags": [stage, team]}
        await called(sns.untag_resource, **named, TagKeys=["team", "absent"])
        assert await called(sns.list_tags_for_resource, **named) == {"Tags": [stage]}
        bad = await refused(sns.tag_resource, **named, Tags=[{"Key": "aws:x", "Value": ""}])
        assert bad[0] == "InvalidParameter"
        await called(sns.delete_topic, TopicArn=TOPIC)
        missing = ("ResourceNotFound", 404, "Resource does not exist")
        for call, more in (
            (sns.list_tags_for_resource, {}),
            (sns.tag_resource, {"Tags": [team]}),
            (sns.untag_resource, {"TagKeys": ["team"]}),
        ):
            assert await refused(call, **named, **more) == missing
        await called(sns.create_topic, Name="events")  # the old one's tags are gone with it
        assert await called(sns.list_tags_for_resource, **named) == {"Tags": []}


async def test_topics_have_a_name_for_people(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, _, port):
        sns = aws_client("sns", port, DELEGATE_ROOT)
        given = {"Name": "events", "Attributes": {"DisplayName": "Größe"}}
        made = await called(sns.create_topic, **given)
        assert await called(sns.create_topic, **given) == made
        assert await called(sns.create_topic, Name="events") == made
        other = await refused(sns.create_topic, Name="events", Attributes={"DisplayName": "x"})
        text = "Invalid parameter: Attributes Reason: Topic already exists with different"
        assert other == ("InvalidParameter", 400, f"{text} attributes")
        named = {"TopicArn": TOPIC, "AttributeName": "DisplayName"}
        for shown in ("x" * 100, ""):
            await called(sns.set_topic_attributes, **named, AttributeValue=shown)
            found = await called(sns.get_topic_attributes, TopicArn=TOPIC)
            assert found["Attributes"]["DisplayName"] == shown
            assert found["Attributes"]["SignatureVersion"] == "1"
        for bad in ("x" * 101, "a\nb"):
            refusal = await refused(sns.set_topic_attributes, **named, AttributeValue=bad)
            assert refusal[0] == "InvalidParameter"
        await called(sns.delete_topic, TopicArn=TOPIC)
        refusal = await refused(sns.set_topic_attributes, **named, AttributeValue="x")
        assert refusal[:2] == ("NotFound", 404)
