"""Messages that a caller gives in parts: made into MIME (RFC 2045-2049, RFC 5322).

https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_Message.html
"""

import codecs
import re
from collections.abc import Sequence
from email.header import Header
from email.headerregistry import HeaderRegistry
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any, Final

from msgspec import Struct

from smtpgate.core.message.author import Author, AuthorError, parse_authors

_ATOMS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_FIELD_NAME: Final = re.compile(r"[!-9;-~]{1,126}")
_TYPE: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_CONTENT_ID: Final = re.compile(r"[!-;=?-~]{1,200}")
# Written by the gate, or by parameters of their own.
_TAKEN_NAMES: Final = frozenset(
    {
        *("from", "sender", "to", "cc", "bcc", "reply-to", "return-path", "subject", "date"),
        *("content-disposition", "content-id", "content-transfer-encoding", "content-type"),
        *("mime-version", "received", "dkim-signature"),
    }
)


class _Fields(HeaderRegistry):
    """The classes of fields, each made once: Python makes a new one for each field."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - as the registry's own
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = super().__getitem__(name)  # of the few names below
        return made


_TEXT_POLICY: Final = SMTP.clone(cte_type="7bit", header_factory=_Fields())


class SimpleMessageError(ValueError):
    """A part of a message that cannot be written; the text says which, and why."""


class Text(Struct, frozen=True, gc=False):
    """A text and the name of its character set; empty is UTF-8."""

    data: str
    charset: str = ""


class Attachment(Struct, frozen=True, gc=False):
    """A file of a message; ``content_id`` is for inline ones."""

    name: str
    content: bytes
    content_type: str = ""
    disposition: str = "attachment"
    content_id: str = ""
    description: str = ""


class SimpleMessage(Struct, frozen=True, gc=False):
    """The parts of a message; ``text`` and ``html`` are ``None`` if there is no such body."""

    source: str
    subject: Text
    text: Text | None = None
    html: Text | None = None
    to: Sequence[str] = ()
    cc: Sequence[str] = ()
    reply_to: Sequence[str] = ()
    headers: Sequence[tuple[str, str]] = ()
    attachments: Sequence[Attachment] = ()


def mime_of(message: SimpleMessage) -> bytes:
    """The message in MIME, with CRLF. Raises SimpleMessageError."""
    fields = [_addresses("From", [message.source])]
    for name, addresses in (("To", message.to), ("Cc", message.cc)):
        if addresses:
            fields.append(_addresses(name, addresses))
    if message.reply_to:
        fields.append(_addresses("Reply-To", message.reply_to))
    fields.append(_unstructured("Subject", message.subject.data))
    fields += [_extra(name, value) for name, value in message.headers]
    return "".join(fields).encode() + _body(message).as_bytes(policy=_TEXT_POLICY)


def read_addresses(text: str) -> tuple[Author, ...]:
    """The mailboxes of a parameter. Raises SimpleMessageError."""
    try:
        return parse_authors(text, smtputf8=True)
    except AuthorError as error:
        raise SimpleMessageError(f"Invalid address <{text[:200]}>: {error}.") from None


def _addresses(name: str, texts: Sequence[str]) -> str:
    found = [author for text in texts for author in read_addresses(text)]
    return f"{name}: " + ",\r\n ".join(map(_address, found)) + "\r\n"


def _address(author: Author) -> str:
    shown, address = author.display_name, str(author.mailbox)
    if not shown:
        return address
    if not shown.isascii():
        return f"{Header(shown, 'utf-8').encode(linesep=_FOLD)} <{address}>"
    if _ATOMS.fullmatch(shown):
        return f"{shown} <{address}>"
    quoted = shown.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{address}>'


_FOLD: Final = "\r\n"


def _unstructured(name: str, value: str) -> str:
    if _CONTROL.search(value):
        raise SimpleMessageError(f"{name} must not contain control characters.")
    charset = "us-ascii" if value.isascii() else "utf-8"
    header = Header(value, charset, header_name=name, maxlinelen=76)
    return f"{name}: {header.encode(linesep=_FOLD)}{_FOLD}"


def _extra(name: str, value: str) -> str:
    if not _FIELD_NAME.fullmatch(name):
        raise SimpleMessageError(f"Invalid header name <{name[:100]}>.")
    if name.lower() in _TAKEN_NAMES or name.lower().startswith("x-ses-"):
        raise SimpleMessageError(f"Header <{name}> cannot be set here.")
    return _unstructured(name, value)


def _body(message: SimpleMessage) -> EmailMessage:
    body = EmailMessage(policy=_TEXT_POLICY)
    if message.text is not None:
        _set_text(body, message.text, "plain")
        if message.html is not None:
            alternative = EmailMessage(policy=_TEXT_POLICY)
            _set_text(alternative, message.html, "html")
            body.make_alternative()
            del alternative["MIME-Version"]
            body.attach(alternative)
    elif message.html is not None:
        _set_text(body, message.html, "html")
    else:
        raise SimpleMessageError("The body needs Text or Html.")
    for attachment in message.attachments:
        _attach(body, attachment)
    return body


def _set_text(part: EmailMessage, text: Text, subtype: str) -> None:
    charset = name = text.charset or "utf-8"
    try:
        # Python's own names, as cp1252 for windows-1252, are not those of mail.
        if codecs.lookup(charset).name == "utf-8":
            name = "utf-8"
        _ = text.data.encode(charset)
    except LookupError:
        raise SimpleMessageError(f"Unknown charset <{charset[:100]}>.") from None
    except UnicodeEncodeError:
        name = "utf-8"  # the text has characters that its charset has not
    data = text.data.replace("\r\n", "\n").replace("\r", "\n")
    try:
        part.set_content(data, subtype=subtype, charset=name)
    except (ValueError, LookupError, UnicodeError):
        raise SimpleMessageError(
            f"Charset <{charset[:100]}> cannot be used for mail."
        ) from None


def _attach(body: EmailMessage, attachment: Attachment) -> None:
    content_type = attachment.content_type or "application/octet-stream"
    if not _TYPE.fullmatch(content_type):
        raise SimpleMessageError(f"Invalid content type <{content_type[:100]}>.")
    for text in (attachment.name, attachment.description):
        if _CONTROL.search(text):
            raise SimpleMessageError("An attachment's names must not have control characters.")
    if attachment.content_id and not _CONTENT_ID.fullmatch(attachment.content_id):
        raise SimpleMessageError(f"Invalid content id <{attachment.content_id[:100]}>.")
    main, _, subtype = content_type.partition("/")
    if main.lower() in {"multipart", "message"}:
        main, subtype = "application", "octet-stream"  # their content would be read as mail
    body.add_attachment(
        attachment.content,
        maintype=main,
        subtype=subtype,
        disposition=attachment.disposition,
        filename=attachment.name or None,
        cid=f"<{attachment.content_id}>" if attachment.content_id else None,
        headers=[f"Content-Description: {attachment.description}"]
        if attachment.description
        else None,
    )
