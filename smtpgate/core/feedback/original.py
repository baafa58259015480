"""The message that a report is about: our id, our return path's tag, and other ids."""

import re
from collections.abc import Iterable
from typing import Final

from smtpgate.core.feedback.addresses import addresses_in, from_xtext
from smtpgate.core.feedback.bounds import MAX_DIAGNOSTIC, MAX_TEXT
from smtpgate.core.feedback.mime import Fields, MimeMessage, Part, split
from smtpgate.core.feedback.report import OriginalMessage
from smtpgate.core.feedback.return_path import TaggedPath, tagged_path

_OUR_ID: Final = re.compile(
    r"(?<![0-9a-f])0100[0-9a-f]{12}-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}-[0-9]{6}(?![0-9])"
)
_MESSAGE_ID: Final = re.compile(
    r"^[ \t>]{0,8}message-id[ \t]*:\s*(<[^<>\s]{1,300}>)", re.IGNORECASE | re.MULTILINE
)
# Fields of the report in which the address stands that it was sent to.
_RECEIVERS: Final = (
    "x-original-to",
    "delivered-to",
    "envelope-to",
    "to",
    "x-envelope-to",
    "cc",
)
_MAX_TEXTS: Final = 5


def original_of(message: MimeMessage, envelope_id: str) -> OriginalMessage:
    """The ids of the message that a report is about, as far as they are in it."""
    returned = _returned(message)
    path = _path(message.fields, returned)
    header_id = returned.first("message-id")[:MAX_DIAGNOSTIC] or _in_texts(message.parts)
    envelope_id = from_xtext(envelope_id)
    our_id = path.message_id if path else id_in(envelope_id, header_id)
    return OriginalMessage(
        message_id=our_id,
        tag=path.tag if path else "",
        envelope_id=envelope_id,
        header_message_id=header_id,
    )


def _returned(message: MimeMessage) -> Fields:
    for part in message.parts:
        if part.is_message:
            return split(part.content)[0]
    return Fields(())


def _path(fields: Fields, returned: Fields) -> TaggedPath | None:
    """Our return path: where the report went, or where the message said that it should go."""
    values = [value for name in _RECEIVERS for value in fields.all(name)[:_MAX_TEXTS]]
    for address in _addresses((*values, *returned.all("return-path")[:_MAX_TEXTS])):
        path = tagged_path(address)
        if path is not None:
            return path
    return None


def _addresses(values: Iterable[str]) -> Iterable[str]:
    return (address for value in values for address in addresses_in(value))


def id_in(*texts: str) -> str | None:
    """The first of our message ids that a text has: itself, or in a return path of ours."""
    for text in texts:
        match = _OUR_ID.search(text)
        if match is not None:
            return match[0]
        path = path_in(text)
        if path is not None:
            return path.message_id
    return None


def path_in(text: str) -> TaggedPath | None:
    """The first of our return paths that a text has, its tag not checked."""
    return next(filter(None, map(tagged_path, addresses_in(text[:MAX_DIAGNOSTIC]))), None)


def _in_texts(parts: tuple[Part, ...]) -> str:
    """The Message-ID of a message that is returned in a text for people."""
    for part in parts[:_MAX_TEXTS]:
        if part.media_type == "text/plain":
            match = _MESSAGE_ID.search(part.text[:MAX_TEXT])
            if match is not None:
                return match[1]
    return ""
