"""The octets that a server is sent: command lines of one command each, and the message.

A CR or LF inside a command would be a second command, so control octets in it are refused.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from smtpgate.core.message.body import Body, Octets, StoredBody, pieces_of
from smtpgate.core.message.dots import replace_dots
from smtpgate.core.message.envelope import Envelope, Recipient
from smtpgate.core.upstream.delivery import Extension, LacksExtensionError

_PIECE_OCTETS: Final = 256 * 1024
CHUNK_OCTETS: Final = 260 * 1024
"""The most octets of a chunk: one piece of a large body, with the header block before it."""
# With halves of UTF-16 pairs, which have no form on the wire.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class CommandError(ValueError):
    """A command cannot be made of these parts."""


def command_line(*words: str) -> bytes:
    """One command in ASCII, with its line end. Raises CommandError."""
    text = " ".join(words)
    _check(text)
    if not text.isascii():
        raise CommandError("a command must be ASCII without SMTPUTF8")
    return wire_line(text)


def wire_line(text: str) -> bytes:
    """A command, or several with line ends between them, as it goes over the wire."""
    return text.encode() + b"\r\n"


def _check(text: str) -> None:
    # None of them is printable, and to ask for that takes a third of the search's time.
    if not text.isprintable() and _CONTROL.search(text):
        raise CommandError("a command must not hold control characters")


def ehlo_command(name: str) -> bytes:
    """EHLO with our name (RFC 5321 §4.1.1.1). Raises CommandError."""
    if not name or " " in name:
        raise CommandError("EHLO needs one name")
    return command_line("EHLO", name)


def transaction_commands(
    envelope: Envelope, octets: int, extensions: Mapping[str, str]
) -> list[str]:
    """MAIL for a message of so many octets, and every RCPT; without their line ends.

    Raises LacksExtensionError, CommandError.
    """
    commands = [f"MAIL FROM:<{envelope.reverse_path.text}>"]
    has_dsn = "DSN" in extensions
    for recipient in envelope.recipients:
        command = f"RCPT TO:<{recipient.mailbox.text}>"
        if has_dsn and (recipient.notify or recipient.orcpt):
            command = " ".join((command, *_delivery_options(recipient)))
        commands.append(command)
    text = "".join(commands)
    # A delivery option is beyond ASCII only if its mailbox is.
    utf8 = envelope.smtputf8 or not text.isascii()
    options = _mail_options(envelope, octets, extensions, utf8)
    _check(text + options)
    commands[0] += options
    return commands


def _mail_options(
    envelope: Envelope, octets: int, extensions: Mapping[str, str], utf8: bool
) -> str:
    """The parameters of MAIL, in ASCII, each with a blank before it."""
    options = f" SIZE={octets}" if "SIZE" in extensions else ""  # RFC 1870 §6
    if envelope.body_binary:
        _need("BINARYMIME", extensions)
        options += " BODY=BINARYMIME"  # RFC 3030 §3
    elif envelope.body_8bit:
        _need("8BITMIME", extensions)
        options += " BODY=8BITMIME"  # RFC 6152 §3
    if utf8:
        _need("SMTPUTF8", extensions)
        options += " SMTPUTF8"  # RFC 6531 §3.4
    if (envelope.returned or envelope.envelope_id) and "DSN" in extensions:
        if envelope.returned:
            options += f" RET={envelope.returned}"  # RFC 3461 §4.3
        if envelope.envelope_id:
            options += f" ENVID={_xtext(envelope.envelope_id)}"  # RFC 3461 §4.4
    if envelope.require_tls:
        _need("REQUIRETLS", extensions)
        options += " REQUIRETLS"  # RFC 8689 §2
    return options


def _need(extension: Extension, extensions: Mapping[str, str]) -> None:
    if extension not in extensions:
        raise LacksExtensionError(extension)


def _delivery_options(recipient: Recipient) -> Iterator[str]:
    """NOTIFY and ORCPT, passed on as they came (RFC 3461 §5.2.1)."""
    if recipient.notify:
        yield f"NOTIFY={','.join(sorted(recipient.notify))}"
    kind, _, address = (recipient.orcpt or "").partition(";")
    if kind.lower() == "utf-8":
        if address.isascii() or not recipient.mailbox.is_ascii:
            yield f"ORCPT={kind};{address}"
    elif address:
        yield f"ORCPT={kind};{_xtext(address)}"


def _xtext(text: str) -> str:
    """The text in xtext (RFC 3461 §4)."""
    return "".join(
        one if "!" <= one <= "~" and one not in "+=" else f"+{ord(one):02X}" for one in text
    )


def wire_octets(message: Iterable[Octets]) -> bytes:
    """A short message in memory as it goes over the wire, in one piece: as ``wire_pieces``."""
    octets = b"".join(message)
    first = b"." if octets[:1] == b"." else b""  # a line begins, after that of the command
    is_ended = octets[-2:] in (b"\r\n", b"")
    return b"".join(
        (first, replace_dots(octets, b".."), b".\r\n" if is_ended else b"\r\n.\r\n")
    )


def wire_pieces(message: Iterable[Body]) -> Iterator[bytes]:
    """The message as it goes over the wire: dots doubled, and the end of data behind it.

    It is made while it is sent, in pieces of bounded size, so that a large one costs neither a
    second copy nor a long pause. Of a body in a file each piece is read when it is its turn.
    """
    tail = b"\r\n"  # the command line before the message ended so (RFC 5321 §4.5.2)
    for piece in _cut(message):
        lead = _seam(tail, piece)
        tail = (tail + piece[-2:])[-2:]
        if lead:
            yield lead
            piece = piece[len(lead) - 1 :]  # noqa: PLW2901 - less the dot
        yield replace_dots(piece, b"..")
    # RFC 5321 §4.1.1.4: the CRLF that ends the last line is the first of the end of data.
    yield b".\r\n" if tail == b"\r\n" else b"\r\n.\r\n"


def chunk_commands(message: Iterable[Body], *, is_text: bool) -> Iterator[bytes]:
    """The message as BDAT commands, each with its octets behind it (RFC 3030 §2).

    The octets stay as they are. Only a text whose last line does not end gets its CRLF, as at
    the end of DATA.
    """
    batch: list[bytes] = []
    size, tail = 0, b"\r\n"
    for piece in _cut(message):
        if batch and size + len(piece) > CHUNK_OCTETS:
            yield b"".join((b"BDAT %d\r\n" % size, *batch))
            batch, size = [], 0
        batch.append(piece)
        size += len(piece)
        tail = (tail + piece[-2:])[-2:]
    if is_text and tail != b"\r\n":
        batch.append(b"\r\n")
        size += 2
    yield b"".join((b"BDAT %d LAST\r\n" % size, *batch))


def only_chunk(message: Iterable[Body], octets: int) -> Iterator[bytes]:
    """The message of so many octets as one BDAT command, in pieces."""
    yield b"BDAT %d LAST\r\n" % octets
    yield from _cut(message)


def _cut(message: Iterable[Body]) -> Iterator[bytes]:
    for part in message:
        if isinstance(part, StoredBody):
            yield from map(bytes, pieces_of(part))
        elif len(part) <= _PIECE_OCTETS:
            yield bytes(part)
        else:
            for start in range(0, len(part), _PIECE_OCTETS):
                yield bytes(part[start : start + _PIECE_OCTETS])


def _seam(tail: bytes, piece: bytes) -> bytes:
    """The beginning of a piece, its dot doubled, when CRLF and dot are split before it."""
    if tail == b"\r\n" and piece[:1] == b".":
        return b".."
    if tail[-1:] == b"\r" and piece[:2] == b"\n.":
        return b"\n.."
    return b""
