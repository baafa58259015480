"""The fields about the events of a message: its configuration set, and its tags.

A configuration set decides nothing, and software that was made for SES names one everywhere: a
name that cannot be read is as good as none. Policies can ask for tags, so a tag that cannot be
read refuses the message, as at SES.

https://docs.aws.amazon.com/ses/latest/dg/event-publishing-send-email.html
https://docs.aws.amazon.com/ses/latest/APIReference/API_MessageTag.html
"""

import re
from typing import Final, TypeAlias

# Each name with its values, in the order of their first use.
MessageTags: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]

_SET: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
# A part of a tag: its name in SES's errors, its characters, and SES's words for these.
_PARTS: Final = (
    ("name", re.compile(r"[A-Za-z0-9_-]+"), "'_',  '-'"),
    ("value", re.compile(r"[A-Za-z0-9_.@-]+"), "'_',  '-' , '.', '@'"),
)
_MAX_PART: Final = 255
_MAX_TAGS: Final = 50
_MAX_SHOWN: Final = 120


class TagError(ValueError):
    """A tag that cannot be read, in SES's words."""


def configuration_set_of(value: str) -> str:
    """The name of a configuration set; empty for a value that names none."""
    return value if _SET.fullmatch(value) is not None else ""


def tags_of(value: str) -> MessageTags:
    """The tags of ``name=value, name2=value2``; none of an empty text. Raises TagError."""
    if not value.strip(" \t"):
        return ()
    pieces = value.split(",", _MAX_TAGS)
    if len(pieces) > _MAX_TAGS:
        raise TagError(f"A message cannot have more than {_MAX_TAGS} tags.")
    found: dict[str, list[str]] = {}
    for piece in pieces:
        name, _, tag = (part.strip(" \t") for part in piece.partition("="))
        for text, part in zip((name, tag), _PARTS, strict=True):
            _must_be_right(text, *part)
        found.setdefault(name, []).append(tag)
    return tuple((name, tuple(values)) for name, values in found.items())


def _must_be_right(text: str, what: str, pattern: re.Pattern[str], allowed: str) -> None:
    if not text:
        raise TagError(f"The tag {what} must be specified.")
    if len(text) > _MAX_PART:
        raise TagError(f"Tag {what} cannot exceed {_MAX_PART} characters.")
    if pattern.fullmatch(text) is None:
        shown = text[:_MAX_SHOWN].encode("unicode_escape").decode("ascii")
        only = f"only alphanumeric ASCII characters, {allowed} are allowed."
        raise TagError(f"Invalid tag {what} <{shown}>: {only}")
