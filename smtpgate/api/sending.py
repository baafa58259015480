"""Sending: SendEmail and SendRawEmail of both versions, by the way of every message.

https://docs.aws.amazon.com/ses/latest/APIReference/API_SendRawEmail.html
https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html

Parameters become X-SES fields before the first field of the message: the first copy counts, so
they beat those in the message, as SES says.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from smtpgate.api.call import Call, Handler, Values
from smtpgate.core.address import AddressError, Mailbox, ReversePath, parse_forward_path
from smtpgate.core.api.faults import ApiError, RefusedByReplyError, fault_of_reply
from smtpgate.core.api.simple_message import (
    Attachment,
    SimpleMessage,
    SimpleMessageError,
    Text,
    mime_of,
    read_addresses,
)
from smtpgate.core.arn import ArnError, IdentityArn
from smtpgate.core.authorization.context import principal_context
from smtpgate.core.message.author import Author
from smtpgate.core.message.envelope import SEND_RAW_EMAIL, Envelope, Submission, Unrendered
from smtpgate.core.message.headers import (
    HeaderBlock,
    HeaderError,
    normalize_line_ends,
    split_message,
)
from smtpgate.core.policy import Request
from smtpgate.core.policy.access import possible_access

# The reply of the catalogue to a message that the upstream may have accepted.
_IN_DOUBT: Final = "upstream-in-doubt"
_NOT_VERIFIED: Final = "not-verified"
_ARN_FIELD: Final = b"x-ses-source-arn"
SEND_EMAIL: Final = "ses:SendEmail"
_TAG: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")
_TAG_VALUE: Final = re.compile(r"[A-Za-z0-9_.@-]{1,256}")
_SET: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_RECIPIENT_FIELDS: Final = (b"to", b"cc", b"bcc")


# -- version 1 ---------------------------------------------------------------------------------


async def send_raw_email(call: Call) -> Values:
    """Send a message in MIME (v1)."""
    message = call.values["RawMessage"]["Data"]
    return await _send_raw(
        call,
        message,
        source=call.text("Source"),
        destinations=call.values.get("Destinations", ()),
        fields=_fields_v1(call),
    )


async def send_email(call: Call) -> Values:
    """Send a message that is given in parts (v1)."""
    values = call.values
    destination, content = values["Destination"], values["Message"]
    body = content["Body"]
    simple = SimpleMessage(
        source=call.text("Source"),
        subject=_text(content["Subject"]) or Text(""),
        text=_text(body.get("Text")),
        html=_text(body.get("Html")),
        to=destination.get("ToAddresses", ()),
        cc=destination.get("CcAddresses", ()),
        reply_to=values.get("ReplyToAddresses", ()),
    )
    return await send(
        call,
        SEND_EMAIL,
        written(simple),
        reverse_path=call.text("ReturnPath") or call.text("Source"),
        recipients=destinations_of(destination),
        fields=_fields_v1(call),
    )


def _fields_v1(call: Call) -> list[tuple[str, str]]:
    tags = [(one["Name"], one["Value"]) for one in call.values.get("Tags", ())]
    return fields_of(
        source=call.values.get("SourceArn"),
        author=call.values.get("FromArn"),
        return_path=call.values.get("ReturnPathArn"),
        configuration_set=call.values.get("ConfigurationSetName"),
        tags=tags,
    )


# -- version 2 ---------------------------------------------------------------------------------


async def send_email_v2(call: Call) -> Values:
    """Send a message in MIME, or one that is given in parts (v2)."""
    values, content = call.values, call.values["Content"]
    destination = values.get("Destination") or {}
    tags = [(one["Name"], one["Value"]) for one in values.get("EmailTags", ())]
    identity = values.get("FromEmailAddressIdentityArn")
    fields = fields_of(
        source=identity,
        author=identity,
        return_path=values.get("FeedbackForwardingEmailAddressIdentityArn"),
        configuration_set=values.get("ConfigurationSetName"),
        tags=tags,
    )
    source = call.text("FromEmailAddress")
    feedback = call.text("FeedbackForwardingEmailAddress")
    if "Raw" in content:
        return await _send_raw(
            call,
            content["Raw"]["Data"],
            source=feedback or source,
            destinations=destinations_of(destination),
            fields=fields,
        )
    if "Simple" not in content:
        raise ApiError("invalid-value", "Content needs one of Simple, Raw and Template.")
    if not source:
        raise ApiError("invalid-value", "FromEmailAddress is missing.")
    return await send(
        call,
        SEND_EMAIL,
        written(_simple_v2(call, content["Simple"], source, destination)),
        reverse_path=feedback or source,
        recipients=destinations_of(destination),
        fields=fields,
    )


def _simple_v2(
    call: Call, content: Values, source: str, destination: Mapping[str, Sequence[str]]
) -> SimpleMessage:
    body = content["Body"]
    return SimpleMessage(
        source=source,
        subject=_text(content["Subject"]) or Text(""),
        text=_text(body.get("Text")),
        html=_text(body.get("Html")),
        to=destination.get("ToAddresses", ()),
        cc=destination.get("CcAddresses", ()),
        reply_to=call.values.get("ReplyToAddresses", ()),
        headers=[(one["Name"], one["Value"]) for one in content.get("Headers", ())],
        attachments=[attachment_of(one) for one in content.get("Attachments", ())],
    )


def attachment_of(given: Values) -> Attachment:
    """An attachment of version 2."""
    return Attachment(
        name=given["FileName"],
        content=given["RawContent"],
        content_type=given.get("ContentType", ""),
        disposition=given.get("ContentDisposition", "ATTACHMENT").lower(),
        content_id=given.get("ContentId", ""),
        description=given.get("ContentDescription", ""),
    )


# -- both --------------------------------------------------------------------------------------


def _text(given: Mapping[str, str] | None) -> Text | None:
    return None if given is None else Text(given["Data"], given.get("Charset", ""))


def written(simple: SimpleMessage) -> bytes:
    """The message in MIME. Raises ApiError."""
    try:
        return mime_of(simple)
    except SimpleMessageError as error:
        raise ApiError("invalid-value", str(error)) from None


def destinations_of(destination: Mapping[str, Sequence[str]]) -> list[str]:
    """All addresses of a destination."""
    names = ("ToAddresses", "CcAddresses", "BccAddresses")
    return [address for name in names for address in destination.get(name, ())]


def fields_of(
    *,
    source: str | None,
    author: str | None,
    return_path: str | None,
    configuration_set: str | None,
    tags: Iterable[tuple[str, str]],
) -> list[tuple[str, str]]:
    """The X-SES fields of the parameters. Raises ApiError."""
    found: list[tuple[str, str]] = []
    for name, arn in (
        ("X-SES-SOURCE-ARN", source),
        ("X-SES-FROM-ARN", author),
        ("X-SES-RETURN-PATH-ARN", return_path),
    ):
        if arn is not None:
            found.append((name, _arn(arn)))
    if configuration_set:
        if not _SET.fullmatch(configuration_set):
            text = f"Configuration set <{configuration_set[:100]}> does not exist."
            raise ApiError("no-such-set", text)
        found.append(("X-SES-CONFIGURATION-SET", configuration_set))
    if pairs := [_tag(*one) for one in tags]:
        found.append(("X-SES-MESSAGE-TAGS", ", ".join(pairs)))
    return found


def _arn(text: str) -> str:
    try:
        return str(IdentityArn.parse(text))
    except ArnError:
        raise ApiError("invalid-value", f"Invalid ARN <{text[:200]}>.") from None


def _tag(name: str, value: str) -> str:
    if not _TAG.fullmatch(name) or not _TAG_VALUE.fullmatch(value):
        text = f"Invalid message tag <{name[:100]}>: letters, digits, '-' and '_' are allowed."
        raise ApiError("invalid-value", text)
    return f"{name}={value}"


async def _send_raw(
    call: Call,
    message: bytes,
    *,
    source: str,
    destinations: Sequence[str],
    fields: Sequence[tuple[str, str]],
) -> Values:
    octets = normalize_line_ends(message)
    if not source or not destinations:
        # Else the pipeline is the first to cut the header block.
        block = _block_of(octets)
        source = source or _source_of(block)
        destinations = destinations or _named_recipients(block)
    return await send(
        call,
        SEND_RAW_EMAIL,
        octets,
        reverse_path=source,
        recipients=destinations,
        fields=fields,
    )


def _block_of(message: bytes) -> HeaderBlock:
    try:
        return split_message(message).block
    except HeaderError as error:
        raise ApiError("bad-message", f"{error}") from None


def _source_of(block: HeaderBlock) -> str:
    """The Return-Path of a message, or else the first mailbox of From; empty if it has none."""
    for name in (b"return-path", b"from"):
        field = block.first(name)
        if field is not None:
            try:
                text = field.value.decode("utf-8")
                return str(read_addresses(text)[0].mailbox)
            except (SimpleMessageError, UnicodeDecodeError):
                continue
    return ""


def _named_recipients(block: HeaderBlock) -> list[str]:
    found: list[str] = []
    for name in _RECIPIENT_FIELDS:
        for field in block.all(name):
            text = field.value.decode("utf-8", "replace").strip()
            if text:
                found += [str(one.mailbox) for one in _read(text)]
    return found


def _read(text: str) -> Sequence[Author]:
    try:
        return read_addresses(text)
    except SimpleMessageError as error:
        raise ApiError("invalid-value", str(error)) from None


async def send(
    call: Call,
    action: str,
    message: bytes,
    *,
    reverse_path: str,
    recipients: Sequence[str],
    fields: Sequence[tuple[str, str]],
    unrendered: Unrendered | None = None,
) -> Values:
    """Hand the message to the pipeline; its id, or the fault of its refusal."""
    gate = call.parts.config.gate
    if len(message) > gate.max_message_octets:
        text = f"Message length is more than {gate.max_message_octets} bytes long."
        raise ApiError("invalid-value", text)
    envelope = _envelope(reverse_path, recipients, gate.max_recipients, message)
    before = "".join(f"{name}: {value}\r\n" for name, value in fields).encode("ascii")
    attempt = call.attempt and "\n".join((call.attempt, *map(str, envelope.mailboxes)))
    doubted = call.parts.doubts.message_of(attempt, call.at)
    if doubted is not None:
        text = f"The outcome of an earlier attempt is not known; it was message {doubted}."
        raise ApiError("unavailable", text)
    message_id = call.parts.new_message_id(call.at)
    reply = await call.parts.pipeline.submit(
        Submission(
            message_id=message_id,
            principal=call.principal,
            client=call.client,
            action=action,
            envelope=envelope,
            message=before + message,
            received_at=call.at,
            key_limits=call.key.limits,
            unrendered=unrendered,
        )
    )
    if reply.is_positive:
        return {"MessageId": message_id}
    if reply.name == _IN_DOUBT:
        await call.parts.doubts.note(attempt, message_id, call.at)
    fault = fault_of_reply(reply.code, reply.name, reply.text)
    if reply.name == _NOT_VERIFIED and _ARN_FIELD not in (before + _head(message)).lower():
        fault = _without_policy(call, action, envelope) or fault
    raise fault


def _without_policy(call: Call, action: str, envelope: Envelope) -> RefusedByReplyError | None:
    """The fault of a user whose policies never allow to send with that domain, if it is one.

    Amazon SES asks the user's policies before it looks for the identity. So a client that tries
    its settings with an address that nobody has verified learns that it lacks a policy.
    """
    principal, gate = call.principal, call.parts.config.gate
    mailbox = envelope.reverse_path.mailbox
    domain = "" if mailbox is None else mailbox.domain
    arn = str(IdentityArn(gate.partition, gate.region, call.account_id, domain))
    context = principal_context(principal, gate.region)
    request = Request(principal.caller, action, arn, context)
    if possible_access(request, identity_policies=(), user_policies=principal.policies):
        return None
    text = f"User `{principal.arn}' is not authorized to perform `{action}' on resource `{arn}'"
    return RefusedByReplyError("access-denied", text)


def _envelope(
    reverse_path: str, recipients: Sequence[str], most: int, message: bytes
) -> Envelope:
    found: dict[Mailbox, None] = {}
    for recipient in recipients:
        found[_recipient(recipient)] = None
    if not found:
        raise ApiError("invalid-value", "At least one recipient is needed.")
    if len(found) > most:
        raise ApiError("invalid-value", f"Recipient count exceeds {most}.")
    if not reverse_path:
        raise ApiError("invalid-value", "Missing required header 'From'.")
    (author, *others) = _read(reverse_path)
    if others:
        raise ApiError("invalid-value", "The source must be one address.")
    return Envelope.of(
        ReversePath(author.mailbox), found, smtputf8=not _head(message).isascii()
    )


def _head(message: bytes) -> bytes:
    return message[: message.find(b"\r\n\r\n")]


def _recipient(text: str) -> Mailbox:
    try:
        return parse_forward_path(f"<{text}>")
    except AddressError:
        (one, *others) = _read(text)
        if others:
            raise ApiError(
                "invalid-value", f"<{text[:200]}> is more than one address."
            ) from None
        return one.mailbox


V1: Final[Mapping[str, Handler]] = {"SendEmail": send_email, "SendRawEmail": send_raw_email}
