"""The fields about the events of a message: its configuration set, and its tags.

They refuse no message, because software that was made for SES writes them everywhere: a value
that cannot be read is as good as none.

https://docs.aws.amazon.com/ses/latest/dg/event-publishing-send-email.html
"""

import re
from typing import Final, TypeAlias

# Each name with its values, in the order of their first use.
MessageTags: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]

_SET: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TAG_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")
_TAG_VALUE: Final = re.compile(r"[A-Za-z0-9_.@-]{1,255}")
_MAX_TAGS: Final = 50


def configuration_set_of(value: str) -> str:
    """The name of a configuration set; empty for a value that names none."""
    return value if _SET.fullmatch(value) is not None else ""


def tags_of(value: str) -> MessageTags:
    """The tags of ``name=value, name2=value2``, without those that SES would refuse."""
    found: dict[str, list[str]] = {}
    for piece in value.split(",", _MAX_TAGS)[:_MAX_TAGS]:
        name, _, tag = (part.strip(" \t") for part in piece.partition("="))
        if _TAG_NAME.fullmatch(name) and _TAG_VALUE.fullmatch(tag):
            found.setdefault(name, []).append(tag)
    return tuple((name, tuple(values)) for name, values in found.items())
