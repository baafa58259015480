"""Templates of messages by the API."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from smtpgate.admin import topics
from smtpgate.admin.refs import TopicRef
from tests.support.aws import aws_client, called
from tests.support.inprocess import open_gate
from tests.support.notifications import must_fit
from tests.support.waiting import until
from tests.support.world import OWNER
from tests.system.test_api import API, MAILER, OWNER_ROOT, ROOT, refused, serving
from tests.system.test_event_delivery import Receiver, receiving, session_of, subscribe

pytestmark = pytest.mark.slow

_NOTIFICATIONS: Final = """
[notifications]
base_url = "https://gate.example"
allow_plaintext = true
allow_private = true
"""
PARTS = {
    "SubjectPart": "Hello {{name}}",
    "TextPart": "Dear {{name}},\n{{#each things}}* {{this}}\n{{/each}}",
    "HtmlPart": "<p>{{name}}</p>",
}


async def test_templates_are_kept_and_tried_by_both_versions(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, _, port):
        older, newer = (aws_client(one, port, OWNER_ROOT) for one in ("ses", "sesv2"))
        await called(older.create_template, Template={"TemplateName": "welcome", **PARTS})
        content = {"Subject": "x", "Text": "{{y}}"}
        await called(newer.create_email_template, TemplateName="a", TemplateContent=content)
        found = await called(newer.get_email_template, TemplateName="welcome")
        assert found["TemplateContent"]["Text"] == PARTS["TextPart"]
        again = await refused(
            newer.create_email_template, TemplateName="a", TemplateContent=content
        )
        assert again == ("AlreadyExistsException", 400, "Template a already exists.")
        first = await called(older.list_templates, MaxItems=1)
        assert [one["Name"] for one in first["TemplatesMetadata"]] == ["a"]
        second = await called(newer.list_email_templates, NextToken=first["NextToken"])
        assert [one["TemplateName"] for one in second["TemplatesMetadata"]] == ["welcome"]
        data = json.dumps({"name": "Jane", "things": ["one", "two"]})
        tried = await called(
            older.test_render_template, TemplateName="welcome", TemplateData=data
        )
        assert "Subject: Hello Jane\r\n" in tried["RenderedTemplate"]
        assert "* one\r\n* two\r\n" in tried["RenderedTemplate"]
        missing = await refused(
            older.test_render_template, TemplateName="welcome", TemplateData="{}"
        )
        text = "Attribute 'name' is not present in the rendering data."
        assert missing == ("MissingRenderingAttribute", 400, text)
        for bad in ("[]", "{"):
            wrong = await refused(
                older.test_render_template, TemplateName="welcome", TemplateData=bad
            )
            assert wrong[:2] == ("InvalidRenderingParameter", 400)
        unclosed = {"TemplateName": "welcome", **PARTS, "TextPart": "{{#if a}}"}
        code, status, text = await refused(older.update_template, Template=unclosed)
        assert (code, status, text) == ("InvalidTemplate", 400, "{{#if a}} is not closed")
        changed = {"Subject": "y", "Html": "z"}
        await called(newer.update_email_template, TemplateName="a", TemplateContent=changed)
        found = await called(older.get_template, TemplateName="a")
        assert found["Template"] == {"TemplateName": "a", "SubjectPart": "y", "HtmlPart": "z"}
        await called(newer.delete_email_template, TemplateName="a")
        assert (await refused(newer.delete_email_template, TemplateName="a"))[1] == 404
        assert await called(older.delete_template, TemplateName="a") == {}
        gone = await refused(older.get_template, TemplateName="a")
        assert gone == ("TemplateDoesNotExist", 400, "Template a does not exist.")
        large = {**content, "Text": "x" * 512_001}
        code, status, _ = await refused(
            newer.create_email_template, TemplateName="b", TemplateContent=large
        )
        assert (code, status) == ("BadRequestException", 400)
        mailer = aws_client("ses", port, MAILER)
        assert (await refused(mailer.list_templates))[:2] == ("AccessDenied", 403)


async def test_messages_of_templates_are_sent_by_both_versions(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, sink, port):
        older, newer = (aws_client(one, port, OWNER_ROOT) for one in ("ses", "sesv2"))
        await called(older.create_template, Template={"TemplateName": "welcome", **PARTS})
        data = json.dumps({"name": "Größe", "things": [1]})
        mail = {
            "Source": "marketing@ses-example.com",
            "Destination": {"ToAddresses": ["jane@example.net"]},
            "Template": "welcome",
        }
        await called(older.send_templated_email, **mail, TemplateData=data)
        for bad in ("[]", "{"):
            code, _, _ = await refused(older.send_templated_email, **mail, TemplateData=bad)
            assert code == "InvalidRenderingParameter"
        gone = {**mail, "Template": "other"}
        code, _, _ = await refused(older.send_templated_email, **gone, TemplateData="{}")
        assert code == "TemplateDoesNotExist"
        content = {"Subject": "Hi {{name}}", "Html": "<b>{{name}}</b>"}
        await called(
            newer.send_email,
            FromEmailAddress="marketing@ses-example.com",
            Destination=mail["Destination"],
            Content={
                "Template": {
                    "TemplateContent": content,
                    "TemplateData": '{"name": "<Joe>"}',
                    "Headers": [{"Name": "List-Id", "Value": "<list.example.com>"}],
                }
            },
        )
        stored, inline = (message.content for message in sink.messages)
        assert b"multipart/alternative" in stored
        assert b"* 1" in stored
        assert b"Subject: Hi <Joe>\r\n" in inline
        assert b"<b><Joe></b>" in inline
        assert b"List-Id: <list.example.com>\r\n" in inline


async def test_messages_in_bulk_have_a_status_each(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, sink, port):
        older, newer = (aws_client(one, port, OWNER_ROOT) for one in ("ses", "sesv2"))
        template = {"TemplateName": "t", "SubjectPart": "{{a}}{{b}}", "TextPart": "x"}
        await called(older.create_template, Template=template)
        addresses = ("jane@example.net", "joe@example.org", "@")
        own = ('{"b": 2}', "{}", '{"b": 3}')
        found = await called(
            older.send_bulk_templated_email,
            Source="marketing@ses-example.com",
            Template="t",
            DefaultTemplateData='{"a": 1}',
            Destinations=[
                {"Destination": {"ToAddresses": [to]}, "ReplacementTemplateData": data}
                for to, data in zip(addresses, own, strict=True)
            ],
        )
        first, second, third = found["Status"]
        assert first["Status"] == "Success"
        assert first["MessageId"].encode() in sink.messages[0].content
        # Its failure is an event.
        assert (second["Status"], "Error" in second) == ("Success", False)
        assert third["Status"] == "InvalidParameterValue"
        many = await called(
            newer.send_bulk_email,
            FromEmailAddress="marketing@ses-example.com",
            DefaultContent={"Template": {"TemplateName": "t", "TemplateData": '{"a": 1}'}},
            BulkEmailEntries=[
                {
                    "Destination": {"ToAddresses": [to]},
                    "ReplacementEmailContent": {
                        "ReplacementTemplate": {"ReplacementTemplateData": data}
                    },
                }
                for to, data in zip(addresses, own, strict=True)
            ],
        )
        results = [one["Status"] for one in many["BulkEmailEntryResults"]]
        assert results == ["SUCCESS", "SUCCESS", "INVALID_PARAMETER"]
        assert b"Subject: 12\r\n" in sink.messages[1].content
        assert len(sink.messages) == 2


async def published(receiver: Receiver, count: int) -> list[dict[str, Any]]:
    """The events that the topic has got, so many."""
    await until(lambda: len(receiver.bodies("/events")) >= count)
    return receiver.bodies("/events")


async def test_a_template_that_lacks_a_value_is_accepted_and_reported_as_an_event(
    tmp_path: Path,
) -> None:
    sections = API + _NOTIFICATIONS
    async with (
        receiving() as receiver,
        open_gate(tmp_path, accounts=ROOT, sections=sections) as (gate, sink),
    ):
        port = gate.service.apis["ses"].port
        older, newer = (aws_client(one, port, OWNER_ROOT) for one in ("ses", "sesv2"))
        topic = TopicRef(OWNER, "events")
        await topics.create(session_of(gate), topic)
        await subscribe(gate, topic, "raw", f"{receiver.url}/events")
        await called(older.create_configuration_set, ConfigurationSet={"Name": "spring"})
        destination = {
            "Name": "all",
            "Enabled": True,
            "MatchingEventTypes": ["send", "renderingFailure"],
            "SNSDestination": {"TopicARN": f"arn:aws:sns:us-east-1:{OWNER}:events"},
        }
        await called(
            older.create_configuration_set_event_destination,
            ConfigurationSetName="spring",
            EventDestination=destination,
        )
        await called(older.create_template, Template={"TemplateName": "welcome", **PARTS})
        await gate.service.catch_up()
        mail = {
            "Source": "marketing@ses-example.com",
            "Destination": {"ToAddresses": ["jane@example.net", "joe@example.org"]},
            "Template": "welcome",
            "ConfigurationSetName": "spring",
            "Tags": [{"Name": "campaign", "Value": "a"}],
        }
        sent = await called(older.send_templated_email, **mail, TemplateData="{}")
        inline = await called(
            newer.send_email,
            FromEmailAddress="marketing@ses-example.com",
            Destination={"ToAddresses": ["jane@example.net"]},
            ConfigurationSetName="spring",
            Content={
                "Template": {
                    "TemplateContent": {"Subject": "x", "Text": "{{#each a}}{{b}}{{/each}}"},
                    "TemplateData": '{"a": 1}',
                    "Attachments": [{"FileName": "a.txt", "RawContent": b"x"}],
                }
            },
        )
        found = {one["mail"]["messageId"]: one for one in await published(receiver, 2)}
        first, second = found[sent["MessageId"]], found[inline["MessageId"]]
        must_fit("event", json.dumps(first))
        assert first["eventType"] == "Rendering Failure"
        assert first["failure"] == {
            "errorMessage": "Attribute 'name' is not present in the rendering data.",
            "templateName": "welcome",
        }
        assert first["mail"]["destination"] == ["jane@example.net", "joe@example.org"]
        assert first["mail"]["tags"]["campaign"] == ["a"]
        assert second["failure"] == {
            "errorMessage": "Attribute 'a' is no list and no object.",
            "templateName": "",
        }
        assert not sink.messages
        # A sender that may not use the identity is refused, as with a whole message.
        foreign = {**mail, "Source": "ann@not-verified.example"}
        code, _, _ = await refused(older.send_templated_email, **foreign, TemplateData="{}")
        assert code == "MessageRejected"
        insights = await called(newer.get_message_insights, MessageId=sent["MessageId"])
        kinds = [one["Events"][-1]["Type"] for one in insights["Insights"]]
        assert kinds == ["RENDERING_FAILURE", "RENDERING_FAILURE"]
        quota = await called(older.get_send_quota)
        assert quota["SentLast24Hours"] == 3
