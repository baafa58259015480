"""Messages of templates: SendTemplatedEmail, Template of SendEmail, and both in bulk.

https://docs.aws.amazon.com/ses/latest/APIReference/API_SendBulkTemplatedEmail.html
https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendBulkEmail.html

A message of which a value is missing is accepted, as at Amazon SES. Its sender and recipients
are checked as those of others, it is not sent, and an event reports it.
"""

import re
from collections.abc import Awaitable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from smtpgate.admin import templates
from smtpgate.admin.errors import NotFoundError
from smtpgate.admin.refs import TemplateRef
from smtpgate.api.call import Call, Handler, Values, as_fault
from smtpgate.api.sending import (
    attachment_of,
    destinations_of,
    fields_of,
    send,
    send_email_v2,
    written,
)
from smtpgate.api.templates import message_of, no_such_template, rendered
from smtpgate.core.api.faults import ApiError
from smtpgate.core.api.rendering import MAX_TEMPLATE_OCTETS, Parts
from smtpgate.core.message.envelope import Unrendered

SEND_TEMPLATED: Final = "ses:SendTemplatedEmail"
SEND_BULK: Final = "ses:SendBulkTemplatedEmail"
_ARN: Final = re.compile(r"arn:([^:]+):ses:([^:]+):([0-9]{12}):template/([A-Za-z0-9_-]{1,64})")
_MOST_DESTINATIONS: Final = 50
# By the fault, the status of a message in bulk: of version 1 and of version 2.
_STATUS: Final[Mapping[str, tuple[str, str]]] = {
    "rejected": ("MessageRejected", "MESSAGE_REJECTED"),
    "mail-from": ("MailFromDomainNotVerified", "MAIL_FROM_DOMAIN_NOT_VERIFIED"),
    "no-such-set": ("ConfigurationSetDoesNotExist", "CONFIGURATION_SET_NOT_FOUND"),
    "account-paused": ("AccountSendingPaused", "ACCOUNT_SENDING_PAUSED"),
    "account-shutdown": ("AccountSuspended", "ACCOUNT_SUSPENDED"),
    "set-paused": ("ConfigurationSetSendingPaused", "CONFIGURATION_SET_SENDING_PAUSED"),
    "throttled": ("AccountThrottled", "ACCOUNT_THROTTLED"),
    "no-quota-left": ("AccountDailyQuotaExceeded", "ACCOUNT_DAILY_QUOTA_EXCEEDED"),
    "unavailable": ("TransientFailure", "TRANSIENT_FAILURE"),
    "invalid-value": ("InvalidParameterValue", "INVALID_PARAMETER"),
    "invalid-data": ("InvalidParameterValue", "INVALID_PARAMETER"),
    "invalid-template": ("InvalidParameterValue", "INVALID_PARAMETER"),
}
_FAILED: Final = ("Failed", "FAILED")


async def _stored(call: Call, name: str) -> Parts:
    """A template of the caller's account. Raises ApiError."""
    with as_fault(NotFoundError, no_such_template(name)):
        return await templates.to_send(call.session(), TemplateRef(call.account_id, name))


async def _template_v2(call: Call, given: Values) -> Parts:
    """The template that a call names or contains. Raises ApiError."""
    content = given.get("TemplateContent")
    if content is not None:
        parts = Parts(content.get("Subject"), content.get("Text"), content.get("Html"))
        if parts.octets > 2 * MAX_TEMPLATE_OCTETS:
            raise ApiError("invalid-value", "TemplateContent is too large.")
        return parts
    if arn := given.get("TemplateArn"):
        match, gate = _ARN.fullmatch(arn), call.parts.config.gate
        own = (gate.partition, gate.region, call.account_id)
        if match is None or match.groups()[:3] != own:
            raise ApiError("invalid-value", f"Invalid template ARN <{arn[:200]}>.")
        return await _stored(call, match.group(4))
    if name := given.get("TemplateName"):
        return await _stored(call, name)
    raise ApiError("invalid-value", "Template needs TemplateName, TemplateArn or content.")


def _name_v2(given: Values) -> str:
    """The name of a template, empty for one that the call contains."""
    if given.get("TemplateContent") is not None:
        return ""
    arn: str = given.get("TemplateArn") or ""
    name: str = given.get("TemplateName") or ""
    return arn.rpartition("/")[2] or name


class _Made(NamedTuple):
    """The parts of a message, which are empty if its template could not be rendered."""

    parts: Parts
    unrendered: Unrendered | None = None


async def _made(call: Call, name: str, template: Parts, *data: str) -> _Made:
    """The parts of a message of a template, by the name of that. Raises ApiError."""
    found = await rendered(call, template, *data)
    if isinstance(found, Parts):
        return _Made(found)
    return _Made(Parts("", "", None), Unrendered(name, str(found)))


# -- one message -------------------------------------------------------------------------------


async def send_templated_email(call: Call) -> Values:
    """Send a message of a template (v1)."""
    values, destination = call.values, call.values["Destination"]
    name = call.text("Template")
    made = await _made(call, name, await _stored(call, name), call.text("TemplateData"))
    return await send(
        call,
        SEND_TEMPLATED,
        _mime(call, made, call.text("Source"), destination),
        reverse_path=call.text("ReturnPath") or call.text("Source"),
        recipients=destinations_of(destination),
        fields=_fields_v1(call, values.get("Tags", ())),
        unrendered=made.unrendered,
    )


async def send_email(call: Call) -> Values:
    """Send a message in MIME, in parts, or of a template (v2)."""
    template = call.values["Content"].get("Template")
    if template is None:
        return await send_email_v2(call)
    destination = call.values.get("Destination") or {}
    parts, data = await _template_v2(call, template), template.get("TemplateData") or ""
    made = await _made(call, _name_v2(template), parts, data)
    return await send(
        call,
        SEND_TEMPLATED,
        _mime(call, made, _source_v2(call), destination, template),
        reverse_path=call.text("FeedbackForwardingEmailAddress") or _source_v2(call),
        recipients=destinations_of(destination),
        fields=_fields_v2(call, call.values.get("EmailTags", ())),
        unrendered=made.unrendered,
    )


def _source_v2(call: Call) -> str:
    source = call.text("FromEmailAddress")
    if not source:
        raise ApiError("invalid-value", "FromEmailAddress is missing.")
    return source


def _mime(
    call: Call,
    made: _Made,
    source: str,
    destination: Mapping[str, Sequence[str]],
    template: Values = MappingProxyType({}),
    headers: Sequence[Values] = (),
) -> bytes:
    """The message in MIME; ``headers`` replace those of the template with their names."""
    fields = {
        one["Name"].lower(): (one["Name"], one["Value"])
        for one in (*template.get("Headers", ()), *headers)
    }
    attachments = () if made.unrendered else template.get("Attachments", ())
    return written(
        message_of(
            made.parts,
            source,
            to=destination.get("ToAddresses", ()),
            cc=destination.get("CcAddresses", ()),
            reply_to=call.values.get("ReplyToAddresses", ()),
            headers=list(fields.values()),
            attachments=[attachment_of(one) for one in attachments],
        )
    )


def _fields_v1(call: Call, tags: Sequence[Values]) -> list[tuple[str, str]]:
    return fields_of(
        source=call.values.get("SourceArn"),
        author=call.values.get("SourceArn"),
        return_path=call.values.get("ReturnPathArn"),
        configuration_set=call.values.get("ConfigurationSetName"),
        tags=[(one["Name"], one["Value"]) for one in tags],
    )


def _fields_v2(call: Call, tags: Sequence[Values]) -> list[tuple[str, str]]:
    identity = call.values.get("FromEmailAddressIdentityArn")
    return fields_of(
        source=identity,
        author=identity,
        return_path=call.values.get("FeedbackForwardingEmailAddressIdentityArn"),
        configuration_set=call.values.get("ConfigurationSetName"),
        tags=[(one["Name"], one["Value"]) for one in tags],
    )


# -- many messages -----------------------------------------------------------------------------


async def send_bulk_v1(call: Call) -> Values:
    """Send a message of one template to each destination, with values of its own (v1)."""
    values = call.values
    template = await _stored(call, call.text("Template"))
    entries: Sequence[Values] = _bounded(values["Destinations"])

    async def one(entry: Values) -> Values:
        own = entry.get("ReplacementTemplateData") or ""
        data = call.text("DefaultTemplateData")
        made = await _made(call, call.text("Template"), template, data, own)
        destination = entry["Destination"]
        return await send(
            call,
            SEND_BULK,
            _mime(call, made, call.text("Source"), destination),
            reverse_path=call.text("ReturnPath") or call.text("Source"),
            recipients=destinations_of(destination),
            fields=_fields_v1(call, _tags(values.get("DefaultTags"), entry)),
            unrendered=made.unrendered,
        )

    return {"Status": [await _status(one(entry), 0) for entry in entries]}


async def send_bulk_v2(call: Call) -> Values:
    """Send a message of one template to each entry, with values of its own (v2)."""
    values, source = call.values, _source_v2(call)
    given = values["DefaultContent"].get("Template") or {}
    template = await _template_v2(call, given)
    entries: Sequence[Values] = _bounded(values["BulkEmailEntries"])

    async def one(entry: Values) -> Values:
        replaced = entry.get("ReplacementEmailContent") or {}
        own = (replaced.get("ReplacementTemplate") or {}).get("ReplacementTemplateData") or ""
        data = given.get("TemplateData") or ""
        made = await _made(call, _name_v2(given), template, data, own)
        destination, headers = entry["Destination"], entry.get("ReplacementHeaders", ())
        return await send(
            call,
            SEND_BULK,
            _mime(call, made, source, destination, given, headers),
            reverse_path=call.text("FeedbackForwardingEmailAddress") or source,
            recipients=destinations_of(destination),
            fields=_fields_v2(call, _tags(values.get("DefaultEmailTags"), entry)),
            unrendered=made.unrendered,
        )

    return {"BulkEmailEntryResults": [await _status(one(entry), 1) for entry in entries]}


def _bounded(entries: Sequence[Values]) -> Sequence[Values]:
    if not 1 <= len(entries) <= _MOST_DESTINATIONS:
        text = f"There must be from 1 to {_MOST_DESTINATIONS} destinations."
        raise ApiError("invalid-value", text)
    return entries


def _tags(default: Sequence[Values] | None, entry: Values) -> list[Values]:
    """The tags of all, and those of an entry, which replace others of their names."""
    tags = {one["Name"]: one for one in (*(default or ()), *entry.get("ReplacementTags", ()))}
    return list(tags.values())


async def _status(sending: Awaitable[Values], version: int) -> Values:
    """The end of one message: its id, or the status and the text of its refusal."""
    try:
        return {"Status": ("Success", "SUCCESS")[version], **await sending}
    except ApiError as error:
        return {"Status": _STATUS.get(error.fault, _FAILED)[version], "Error": str(error)}


V1: Final[Mapping[str, Handler]] = {
    "SendTemplatedEmail": send_templated_email,
    "SendBulkTemplatedEmail": send_bulk_v1,
}
V2: Final[Mapping[str, Handler]] = {"SendEmail": send_email, "SendBulkEmail": send_bulk_v2}
