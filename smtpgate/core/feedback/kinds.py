"""Amazon SES's types and subtypes of bounces, complaints and delays.

https://docs.aws.amazon.com/ses/latest/dg/notification-contents.html
"""

from typing import Final, Literal, TypeAlias, get_args

from msgspec import Struct

BounceType: TypeAlias = Literal["Permanent", "Transient", "Undetermined"]
BounceSubtype: TypeAlias = Literal[
    "Undetermined",
    "General",
    "NoEmail",
    "Suppressed",
    "OnAccountSuppressionList",
    "MailboxFull",
    "MessageTooLarge",
    "CustomTimeoutExceeded",
    "ContentRejected",
    "AttachmentRejected",
]
# The types of reports of RFC 5965 §7.3, RFC 6591 and RFC 6430 that SES passes on.
ComplaintType: TypeAlias = Literal[
    "abuse", "auth-failure", "fraud", "not-spam", "other", "virus"
]
DelayType: TypeAlias = Literal[
    "InternalFailure",
    "General",
    "MailboxFull",
    "SpamDetected",
    "RecipientServerError",
    "IPFailure",
    "TransientCommunicationFailure",
    "BYOIPHostNameLookupUnavailable",
    "Undetermined",
    "SendingDeferral",
]
COMPLAINT_TYPES: Final[tuple[ComplaintType, ...]] = get_args(ComplaintType)


def complaint_type(feedback_type: str) -> ComplaintType:
    """SES's name of a report's type; of one that it has no name for, such as ``opt-out``."""
    return next((one for one in COMPLAINT_TYPES if one == feedback_type.lower()), "other")


class BounceKind(Struct, frozen=True, gc=False):
    """A bounce's type and subtype."""

    type: BounceType
    subtype: BounceSubtype

    @property
    def is_hard(self) -> bool:
        """True if no message to that recipient can arrive, so that none should be sent."""
        return self.type == "Permanent"


UNDETERMINED: Final = BounceKind("Undetermined", "Undetermined")
GENERAL: Final = BounceKind("Permanent", "General")
NO_EMAIL: Final = BounceKind("Permanent", "NoEmail")
SUPPRESSED: Final = BounceKind("Permanent", "Suppressed")
ON_ACCOUNT_LIST: Final = BounceKind("Permanent", "OnAccountSuppressionList")
TRANSIENT: Final = BounceKind("Transient", "General")
MAILBOX_FULL: Final = BounceKind("Transient", "MailboxFull")
MESSAGE_TOO_LARGE: Final = BounceKind("Transient", "MessageTooLarge")
TIMEOUT_EXCEEDED: Final = BounceKind("Transient", "CustomTimeoutExceeded")
CONTENT_REJECTED: Final = BounceKind("Transient", "ContentRejected")
ATTACHMENT_REJECTED: Final = BounceKind("Transient", "AttachmentRejected")

# Every pair that SES uses.
BOUNCE_KINDS: Final = (
    UNDETERMINED,
    GENERAL,
    NO_EMAIL,
    SUPPRESSED,
    ON_ACCOUNT_LIST,
    TRANSIENT,
    MAILBOX_FULL,
    MESSAGE_TOO_LARGE,
    TIMEOUT_EXCEEDED,
    CONTENT_REJECTED,
    ATTACHMENT_REJECTED,
)
