"""The values that reading a report gives, whatever form it had."""

from datetime import datetime
from typing import Literal, TypeAlias

from msgspec import Struct

from smtpgate.core.feedback.kinds import BounceKind

# An answer is a vacation note or another automatic reply (RFC 3834).
ReportKind: TypeAlias = Literal["bounce", "complaint", "delivery", "delay", "answer", "none"]
# RFC 3464 §2.3.3.
Action: TypeAlias = Literal["failed", "delayed", "delivered", "relayed", "expanded"]


class ReportedRecipient(Struct, frozen=True, gc=False):
    """One recipient of a message, and what a report says about it.

    ``address`` is the one that the reporting server tried, as in Amazon SES's notifications;
    ``original`` is the one that the message was sent to, if the report has it. Texts are empty
    where the report has none. ``kind`` is of failures and delays.
    """

    address: str
    original: str = ""
    action: Action | None = None
    status: str = ""  # 5.1.1
    reply: str = ""  # 550
    diagnostic: str = ""
    remote_mta: str = ""
    kind: BounceKind | None = None
    retry_until: datetime | None = None  # RFC 3464 §2.3.9

    @property
    def sent_to(self) -> str:
        """The address that the message was sent to, as far as the report says."""
        return self.original or self.address


class OriginalMessage(Struct, frozen=True, gc=False):
    """The message that a report is about, as far as the report identifies it.

    All of it is the claim of a stranger. The evidence is the address that the report was sent
    to, if it is a return path of ours with a valid tag.
    """

    message_id: str | None = None  # ours
    tag: str = ""  # of our return path
    envelope_id: str = ""  # RFC 3464 §2.2.1
    header_message_id: str = ""  # its Message-ID field


class FeedbackReport(Struct, frozen=True, gc=False):
    """A message that came back, read: its kind, its recipients, and the message it is about."""

    kind: ReportKind = "none"
    recipients: tuple[ReportedRecipient, ...] = ()
    original: OriginalMessage = OriginalMessage()
    reporting_mta: str = ""
    arrival_date: str = ""
    feedback_type: str = ""  # RFC 5965 §3.1
    user_agent: str = ""
    remote_ip: str = ""  # of the recipients' server

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses that the message was sent to, as the report says."""
        return tuple(dict.fromkeys(one.sent_to for one in self.recipients))


NO_REPORT: FeedbackReport = FeedbackReport()
