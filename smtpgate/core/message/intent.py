"""The sending intent: the X-SES-* fields, read and taken out of the header block.

https://docs.aws.amazon.com/ses/latest/dg/sending-authorization-delegate-sender-tasks-email.html
"""

from functools import lru_cache
from typing import Final

from msgspec import Struct

from smtpgate.core.arn import ArnError, IdentityArn
from smtpgate.core.message.event_fields import (
    MessageTags,
    TagError,
    configuration_set_of,
    tags_of,
)
from smtpgate.core.message.headers import Field, HeaderBlock

_PREFIX: Final = b"x-ses-"
# In the order of SendingIntent's fields.
_ARN_FIELDS: Final = ("X-SES-SOURCE-ARN", "X-SES-FROM-ARN", "X-SES-RETURN-PATH-ARN")
_SET_FIELD: Final = b"x-ses-configuration-set"
_TAGS_FIELD: Final = b"x-ses-message-tags"
_MAX_SHOWN: Final = 120


class IntentError(ValueError):
    """An X-SES-* field that cannot be read: which, and what is wrong, in SES's words.

    ``reason`` is the reason of the refusal.
    """

    def __init__(self, field: str, problem: str, reason: str = "invalid-arn") -> None:
        super().__init__(field, problem)
        self.field = field
        self.problem = problem
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.problem} (in field {self.field})"


class SendingIntent(Struct, frozen=True, gc=False, cache_hash=True):
    """The identity that the sender names for each role; ``None`` where it names none.

    ``configuration_set`` and ``tags`` are for the events of the message; policies may ask for
    the tags.
    """

    source_arn: IdentityArn | None = None
    from_arn: IdentityArn | None = None
    return_path_arn: IdentityArn | None = None
    configuration_set: str = ""
    tags: MessageTags = ()


_NOTHING_SAID: Final = SendingIntent()


def take_intent(block: HeaderBlock) -> tuple[SendingIntent, HeaderBlock]:
    """Read the fields of sending and remove every field whose name begins with ``X-SES-``.

    The first copy of a field counts; an empty value is as good as none. Raises IntentError.
    """
    # One search in all names is several times as fast as a look at each; mostly it finds none.
    if b" ".join(block.by_name).find(_PREFIX) < 0:
        return _NOTHING_SAID, block
    names = [name for name in block.by_name if name.startswith(_PREFIX)]
    if not names:
        return _NOTHING_SAID, block
    source, author, return_path = (
        _arn(block.first(name.lower().encode("ascii")), name) for name in _ARN_FIELDS
    )
    left = block.without(names)
    named, tagged = block.first(_SET_FIELD), block.first(_TAGS_FIELD)
    if named is None and tagged is None:
        return SendingIntent(source, author, return_path), left
    its_set = configuration_set_of(_text(named))
    return SendingIntent(source, author, return_path, its_set, _tags(_text(tagged))), left


def _text(field: Field | None) -> str:
    return "" if field is None else field.value.decode("utf-8", "replace")


def _tags(text: str) -> MessageTags:
    try:
        return tags_of(text)
    except TagError as error:
        raise IntentError("X-SES-MESSAGE-TAGS", str(error), "invalid-tag") from None


def _arn(field: Field | None, name: str) -> IdentityArn | None:
    if field is None or not (value := field.value):
        return None
    try:
        return _parsed(value)
    except (ArnError, UnicodeDecodeError):
        shown = value[:_MAX_SHOWN].decode("ascii", "backslashreplace")
        raise IntentError(name, f"Invalid ARN <{shown}>.") from None


@lru_cache(maxsize=1024)  # a sender names the same identity in three fields of each message
def _parsed(value: bytes) -> IdentityArn:
    return IdentityArn.parse(value.decode("utf-8"))
