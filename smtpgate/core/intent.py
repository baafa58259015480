"""The sending intent: what the X-SES-* fields say, read and taken out of the header block.

https://docs.aws.amazon.com/ses/latest/dg/sending-authorization-delegate-sender-tasks-email.html
"""

from dataclasses import dataclass
from typing import Final

from smtpgate.core.arn import ArnError, IdentityArn
from smtpgate.core.headers import Field, HeaderBlock

__all__ = ["IntentError", "SendingIntent", "take_intent"]

_PREFIX: Final = b"x-ses-"
_MAX_SHOWN: Final = 120


class IntentError(ValueError):
    """An X-SES-* field that cannot be read."""


@dataclass(frozen=True, slots=True)
class SendingIntent:
    """Which identity the sender names for which role; ``None`` where it names none."""

    source_arn: IdentityArn | None = None
    from_arn: IdentityArn | None = None
    return_path_arn: IdentityArn | None = None


def take_intent(block: HeaderBlock) -> tuple[SendingIntent, HeaderBlock]:
    """Read the ARN fields and remove every field whose name begins with ``X-SES-``.

    The first copy of a field counts; an empty value is as good as none. Raises IntentError.
    """
    first: dict[bytes, Field] = {}
    kept: list[Field] = []
    for field in block.fields:
        if field.name.startswith(_PREFIX):
            first.setdefault(field.name, field)
        else:
            kept.append(field)
    if len(kept) == len(block.fields):
        return SendingIntent(), block
    intent = SendingIntent(
        source_arn=_arn(first, b"x-ses-source-arn"),
        from_arn=_arn(first, b"x-ses-from-arn"),
        return_path_arn=_arn(first, b"x-ses-return-path-arn"),
    )
    return intent, HeaderBlock(tuple(kept))


def _arn(fields: dict[bytes, Field], name: bytes) -> IdentityArn | None:
    field = fields.get(name)
    if field is None or not field.value:
        return None
    try:
        return IdentityArn.parse(field.value.decode("utf-8"))
    except (ArnError, UnicodeDecodeError):
        shown = field.value.decode("ascii", "replace")[:_MAX_SHOWN]
        spelled = name.decode("ascii").upper()
        raise IntentError(f"Invalid ARN <{shown}>. (in field {spelled})") from None
