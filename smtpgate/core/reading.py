"""Reading a message: from octets to the fields that decide, or a refusal that says why."""

from dataclasses import dataclass

from smtpgate.core.author import Author, AuthorError, read_author_fields
from smtpgate.core.headers import (
    HeaderBlock,
    HeaderError,
    duplicate_field,
    line_end_problem,
    split_message,
)
from smtpgate.core.intent import IntentError, SendingIntent, take_intent
from smtpgate.core.reply import reject

__all__ = ["ReadMessage", "read_message"]


@dataclass(frozen=True, slots=True)
class ReadMessage:
    """A message cut in two, without its X-SES fields, with what they and From said."""

    block: HeaderBlock
    body: bytes | memoryview
    intent: SendingIntent
    authors: tuple[Author, ...]
    sender: Author | None
    is_8bit: bool
    has_utf8_header: bool


def read_message(octets: bytes, *, smtputf8: bool) -> ReadMessage:
    """Cut the header block from the body, take the X-SES fields out, find the authors.

    Raises Reject.
    """
    problem = line_end_problem(octets)
    if problem is not None:
        reject("transaction-failed", "bad-line-ends", problem=problem)
    try:
        message = split_message(octets)
        intent, block = take_intent(message.block)
        duplicate = duplicate_field(block)
        if duplicate is not None:
            name = duplicate.decode("ascii").title()
            reject(
                "transaction-failed", "duplicate-field", problem=f"Duplicate header '{name}'."
            )
        authors, sender = read_author_fields(block, smtputf8=smtputf8)
    except HeaderError as error:
        reject("transaction-failed", "malformed-message", problem=error)
    except IntentError as error:
        reject("transaction-failed", "invalid-arn", problem=error)
    except AuthorError as error:
        reject("transaction-failed", "bad-author", problem=error)
    is_8bit = not octets.isascii()
    return ReadMessage(
        block,
        message.body,
        intent,
        authors,
        sender,
        is_8bit,
        is_8bit and not all(field.raw.isascii() for field in block.fields),
    )
