"""The sending intent: what the X-SES-* fields say, read and taken out of the header block.

https://docs.aws.amazon.com/ses/latest/dg/sending-authorization-delegate-sender-tasks-email.html
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from smtpgate.core.arn import ArnError, IdentityArn
from smtpgate.core.headers import Field, HeaderBlock

__all__ = ["IntentError", "SendingIntent", "take_intent"]

_PREFIX: Final = b"x-ses-"
_MAX_SHOWN: Final = 120
# https://docs.aws.amazon.com/ses/latest/dg/quotas.html
_CONFIGURATION_SET: Final = re.compile(rb"[A-Za-z0-9_-]{1,64}")
# https://docs.aws.amazon.com/ses/latest/dg/event-publishing-send-email.html
_TAG: Final = re.compile(rb"([A-Za-z0-9_-]{1,255})[ \t]*=[ \t]*([A-Za-z0-9_.@-]{1,255})")


class IntentError(ValueError):
    """An X-SES-* field that cannot be read: which, and what is wrong, in SES's words."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field = field
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.problem} (in field {self.field})"


@dataclass(frozen=True, slots=True)
class SendingIntent:
    """Which identity the sender names for which role; ``None`` where it names none.

    Configuration set and tags are for events. They decide nothing, so what cannot be read of
    them is left out and no reason to refuse.
    """

    source_arn: IdentityArn | None = None
    from_arn: IdentityArn | None = None
    return_path_arn: IdentityArn | None = None
    configuration_set: str | None = None
    tags: tuple[tuple[str, str], ...] = ()


_NOTHING_SAID: Final = SendingIntent()


def take_intent(block: HeaderBlock) -> tuple[SendingIntent, HeaderBlock]:
    """Read the X-SES fields and remove every field whose name begins with ``X-SES-``.

    The first copy of a field counts; an empty value is as good as none. Raises IntentError.
    """
    kept = [field for field in block.fields if not field.name.startswith(_PREFIX)]
    if len(kept) == len(block.fields):
        return _NOTHING_SAID, block
    first: dict[bytes, Field] = {}
    for field in block.fields:
        if field.name.startswith(_PREFIX):
            first.setdefault(field.name, field)
    values = {name: field.value for name, field in first.items()}
    intent = SendingIntent(
        source_arn=_arn(values, "X-SES-SOURCE-ARN"),
        from_arn=_arn(values, "X-SES-FROM-ARN"),
        return_path_arn=_arn(values, "X-SES-RETURN-PATH-ARN"),
        configuration_set=_configuration_set(values.get(b"x-ses-configuration-set", b"")),
        tags=_tags(values.get(b"x-ses-message-tags", b"")),
    )
    return intent, HeaderBlock(tuple(kept))


def _arn(values: dict[bytes, bytes], name: str) -> IdentityArn | None:
    value = values.get(name.lower().encode("ascii"))
    if not value:
        return None
    try:
        return _parsed(value)
    except (ArnError, UnicodeDecodeError):
        shown = value[:_MAX_SHOWN].decode("ascii", "backslashreplace")
        raise IntentError(name, f"Invalid ARN <{shown}>.") from None


@lru_cache(maxsize=1024)  # a sender names the same identity in three fields of each message
def _parsed(value: bytes) -> IdentityArn:
    return IdentityArn.parse(value.decode("utf-8"))


def _configuration_set(value: bytes) -> str | None:
    return value.decode("ascii") if _CONFIGURATION_SET.fullmatch(value) else None


def _tags(value: bytes) -> tuple[tuple[str, str], ...]:
    """``name=value, name2=value2``; the first of two tags with one name counts."""
    tags: dict[str, str] = {}
    for part in value.split(b","):
        match = _TAG.fullmatch(part.strip(b" \t"))
        if match is not None:
            tags.setdefault(match[1].decode("ascii"), match[2].decode("ascii"))
    return tuple(tags.items())
