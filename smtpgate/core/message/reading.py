"""Reading a message: from octets to the fields that decide, or a refusal with its reason."""

from typing import Final

from msgspec import Struct

from smtpgate.core.message.address_fields import unqualified_address
from smtpgate.core.message.author import (
    Author,
    AuthorError,
    TooManyAuthorsError,
    read_author_fields,
)
from smtpgate.core.message.body import Body, StoredMessage, head_of
from smtpgate.core.message.headers import (
    MAX_LINE_OCTETS,
    HeaderBlock,
    HeaderError,
    LongLineError,
    Message,
    duplicate_field,
    first_long_line,
    line_end_problem,
    split_message,
)
from smtpgate.core.message.intent import IntentError, SendingIntent, take_intent
from smtpgate.core.message.resent import read_resent_fields
from smtpgate.core.reply import reject

MAX_RECEIVED: Final = 50
"""As many as Postfix's ``hopcount_limit``."""
# Work on the octets of a larger message takes more than a millisecond.
LARGE_OCTETS: Final = 256 * 1024
# A header is read piece by piece, which takes many times as long as to read a body.
_LONG_HEADER_OCTETS: Final = 8 * 1024
_SHORT_HEADER_OCTETS: Final = 1024
_FEW_LABELS: Final = 50
_FEW_ENCODED_WORDS: Final = 50


class ReadMessage(Struct, frozen=True, gc=False):
    """A message cut in two: the header block without X-SES fields, and what was read from it.

    ``resent`` has the mailboxes of Resent-From and Resent-Sender.

    ``long_line`` is the number of the first line of the body that is longer than lines may be.
    """

    block: HeaderBlock
    body: Body
    intent: SendingIntent
    authors: tuple[Author, ...]
    sender: Author | None
    resent: tuple[Author, ...]
    is_8bit: bool
    has_utf8_header: bool
    long_line: int | None = None

    @property
    def shown(self) -> tuple[Author, ...]:
        """All mailboxes that the message names as its author or sender."""
        sender = () if self.sender is None else (self.sender,)
        return (*self.authors, *sender, *self.resent)


def read_message(
    message: bytes | StoredMessage,
    *,
    smtputf8: bool,
    pass_long_lines: bool = False,
    max_received: int = MAX_RECEIVED,
) -> ReadMessage:
    """Cut the header block from the body, take the X-SES fields out, find the authors.

    ``pass_long_lines`` lets long lines of the body pass; no header field may have one. One with
    more than ``max_received`` Received fields is in a loop. Raises Reject.
    """
    if isinstance(message, StoredMessage):
        problem = message.problem
    else:
        problem = line_end_problem(message)
    if problem is not None:
        reject("bad-line-ends", problem=problem)
    try:
        split = split_message(head_of(message), has_clean_line_ends=True)
        intent, block = take_intent(split.block)
        _refuse_loops_and_duplicates(block, max_received)
        authors, sender = read_author_fields(block, smtputf8=smtputf8)
        resent = read_resent_fields(block, smtputf8=smtputf8)
        _refuse_unqualified(block)
    except LongLineError as error:
        reject("long-line", problem=error)
    except HeaderError as error:
        reject("malformed-message", problem=error)
    except IntentError as error:
        reject(error.reason, problem=error)
    except TooManyAuthorsError as error:
        reject("too-many-authors", problem=error)
    except AuthorError as error:
        reject("bad-author", problem=error)
    body, is_8bit, long_line = _read_body(message, split)
    if long_line is not None and not pass_long_lines:
        problem = f"line {long_line} of the body is longer than {MAX_LINE_OCTETS} octets"
        reject("long-line", problem=problem)
    return ReadMessage(
        block,
        body,
        intent,
        authors,
        sender,
        resent,
        is_8bit,
        is_8bit and not all(field.raw.isascii() for field in block.fields),
        long_line,
    )


def _read_body(message: bytes | StoredMessage, split: Message) -> tuple[Body, bool, int | None]:
    """The body, whether the message has 8-bit octets, and the body's first long line."""
    if isinstance(message, StoredMessage):
        return message.body, message.is_8bit, message.long_line
    long_line = _long_line(message, len(message) - len(split.body))
    return split.body, not message.isascii(), long_line


def takes_long_to_read(message: bytes | StoredMessage) -> bool:
    """True if :func:`read_message` may take more than a millisecond."""
    octets = head_of(message)
    if len(octets) > LARGE_OCTETS:
        return True
    end = octets.find(b"\r\n\r\n", 0, _LONG_HEADER_OCTETS)
    if end < 0:
        return len(octets) > _LONG_HEADER_OCTETS
    if end <= _SHORT_HEADER_OCTETS:  # there is no room for much of what takes long
        return False
    head = octets[:end]
    # Labels of internationalised domains are read letter by letter, encoded words one by one.
    return (
        not head.isascii()
        or head.count(b"xn--") > _FEW_LABELS
        or head.count(b"=?") > _FEW_ENCODED_WORDS
    )


def _refuse_loops_and_duplicates(block: HeaderBlock, most: int) -> None:
    # RFC 5321 §6.3: a message that was received so often goes in a circle.
    if len(block.fields) > most and (hops := len(block.all(b"received"))) > most:
        problem = f"{hops} Received fields"
        reject("mail-loop", f"it has {problem}, and may have {most}", problem=problem)
    duplicate = duplicate_field(block)
    if duplicate is not None:
        problem = f"Duplicate header '{duplicate.decode('ascii').title()}'."
        reject("duplicate-field", problem=problem)


def _refuse_unqualified(block: HeaderBlock) -> None:
    unqualified = unqualified_address(block)
    if unqualified is not None:
        name, shown = unqualified
        problem = f"Missing final '@domain' in header '{name}': '{shown}'"  # as SES says it
        reject("unqualified-address", problem=problem)


def _long_line(octets: bytes, body_at: int) -> int | None:
    at = first_long_line(octets, body_at)
    return None if at is None else 1 + octets.count(b"\n", body_at, at)
