"""Templates of messages by the API."""

import json
from pathlib import Path

from tests.support.aws import aws_client, called
from tests.system.test_api import MAILER, OWNER_ROOT, refused, serving

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
