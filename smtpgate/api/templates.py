"""Templates of messages: kept, listed, and tried with values.

https://docs.aws.amazon.com/ses/latest/APIReference/API_CreateTemplate.html
https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_CreateEmailTemplate.html
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from smtpgate.admin import templates
from smtpgate.admin.errors import ConflictError, NotFoundError
from smtpgate.admin.refs import TemplateRef
from smtpgate.api.call import Call, Handler, Values, as_fault
from smtpgate.api.paging import after_of, page_of, size_of
from smtpgate.core.api.faults import ApiError
from smtpgate.core.api.handlebars import TemplateSyntaxError
from smtpgate.core.api.rendering import (
    MissingValueError,
    Parts,
    RenderingError,
    read_data,
    render,
)
from smtpgate.core.api.simple_message import SimpleMessage, SimpleMessageError, Text, mime_of

Unfit: TypeAlias = MissingValueError | RenderingError
"""The reason why a template does not fit its data."""

_V1: Final = {"subject": "SubjectPart", "text": "TextPart", "html": "HtmlPart"}
_V2: Final = {"subject": "Subject", "text": "Text", "html": "Html"}


def no_such_template(name: str) -> ApiError:
    """The fault of a name that no template of the account has."""
    return ApiError("no-such-template", f"Template {name[:100]} does not exist.")


async def rendered(call: Call, parts: Parts, *data: str) -> Parts | Unfit:
    """The parts with the values of JSON objects, the later ones first.

    Raises ApiError if these are no objects, or the parts no template.
    """
    most = call.parts.config.gate.max_message_octets
    try:
        values = await asyncio.to_thread(read_data, *data)
    except RenderingError as error:
        raise ApiError("invalid-data", str(error)) from None
    try:
        return await asyncio.to_thread(render, parts, values, most)
    except (MissingValueError, RenderingError) as error:
        return error
    except TemplateSyntaxError as error:
        raise ApiError("invalid-template", str(error)) from None


def _ref(call: Call) -> TemplateRef:
    given = call.values.get("Template", call.values)
    return TemplateRef(call.account_id, given.get("TemplateName") or "")


def _parts(call: Call) -> Parts:
    if call.service == "ses":
        given, names = call.values["Template"], _V1
    else:
        given, names = call.values["TemplateContent"], _V2
    return Parts(**{part: given.get(name) for part, name in names.items()})


async def create(call: Call) -> Values:
    """Keep a new template."""
    ref = _ref(call)
    if call.values.get("Tags"):
        raise ApiError("invalid-value", "Tags of templates are not supported.")
    try:
        await templates.create(call.session(), ref, _parts(call))
    except ConflictError:
        text = f"Template {ref.name} already exists."
        raise ApiError("already-exists", text) from None
    return {}


async def update(call: Call) -> Values:
    """Replace a template."""
    ref = _ref(call)
    with as_fault(NotFoundError, no_such_template(ref.name)):
        await templates.update(call.session(), ref, _parts(call))
    return {}


async def delete_v1(call: Call) -> Values:
    """Delete a template; one that is not there is no error (v1)."""
    try:
        await templates.delete(call.session(), _ref(call))
    except NotFoundError:
        return {}
    return {}


async def delete_v2(call: Call) -> Values:
    """Delete a template (v2)."""
    ref = _ref(call)
    with as_fault(NotFoundError, no_such_template(ref.name)):
        await templates.delete(call.session(), ref)
    return {}


async def get(call: Call) -> Values:
    """A template."""
    ref = _ref(call)
    with as_fault(NotFoundError, no_such_template(ref.name)):
        parts = await templates.get(call.session(), ref)
    names = _V1 if call.service == "ses" else _V2
    content = {name: getattr(parts, part) for part, name in names.items()}
    if call.service == "ses":
        return {"Template": {"TemplateName": ref.name, **content}}
    return {"TemplateName": ref.name, "TemplateContent": content}


async def list_page(call: Call) -> Values:
    """The names of the account's templates, and when they were made."""
    is_v1 = call.service == "ses"
    size = size_of(call, "MaxItems" if is_v1 else "PageSize")
    pages = templates.pages(
        call.session(), call.account_id, after=after_of(call), limit=size + 1
    )
    found, token = await page_of(pages, size, lambda one: one[0])
    key = "Name" if is_v1 else "TemplateName"
    metadata = [{key: name, "CreatedTimestamp": at} for name, at in found]
    return {"TemplatesMetadata": metadata, "NextToken": token}


async def try_out(call: Call) -> Values:
    """The message that a template and values make, in MIME."""
    ref = _ref(call)
    with as_fault(NotFoundError, no_such_template(ref.name)):
        parts = await templates.to_render(call.session(), ref)
    found = await rendered(call, parts, call.text("TemplateData"))
    if not isinstance(found, Parts):
        is_missing = isinstance(found, MissingValueError)
        raise ApiError("missing-value" if is_missing else "invalid-data", str(found))
    try:
        octets = mime_of(message_of(found, "postmaster@example.com"))
    except SimpleMessageError as error:
        raise ApiError("invalid-data", str(error)) from None
    _, _, shown = octets.partition(b"\r\n")
    return {"RenderedTemplate": shown.decode("utf-8", "replace")}


def message_of(parts: Parts, source: str, **more: Any) -> SimpleMessage:  # noqa: ANN401
    """A message with the parts of a template that has its values."""
    return SimpleMessage(
        source=source,
        subject=Text(parts.subject or ""),
        text=None if parts.text is None else Text(parts.text),
        html=None if parts.html is None else Text(parts.html),
        **more,
    )


V1: Final[Mapping[str, Handler]] = {
    "CreateTemplate": create,
    "GetTemplate": get,
    "ListTemplates": list_page,
    "UpdateTemplate": update,
    "DeleteTemplate": delete_v1,
    "TestRenderTemplate": try_out,
}
V2: Final[Mapping[str, Handler]] = {
    "CreateEmailTemplate": create,
    "GetEmailTemplate": get,
    "ListEmailTemplates": list_page,
    "UpdateEmailTemplate": update,
    "DeleteEmailTemplate": delete_v2,
    "TestRenderEmailTemplate": try_out,
}
