"""Mail of the gate itself: about what a person asked for, with a null reverse-path."""

import os
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime
from typing import assert_never

from smtpgate.core.address import Mailbox, ReversePath, parse_mailbox
from smtpgate.core.message.envelope import Envelope
from smtpgate.core.message_id import RANDOM_OCTETS, message_id
from smtpgate.core.reason import REASONS
from smtpgate.core.upstream import Answered, InDoubt, NotSent
from smtpgate.ports import DeliveryAttempt, Upstream


class MailNotSentError(Exception):
    """A mail that the upstream did not accept for certain; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateMailer:
    """Sends mail in the name of the gate."""

    upstream: Upstream
    hostname: str
    now: datetime

    async def send(self, address: str, subject: str, text: str) -> None:
        """Send a mail to one address. Raises MailNotSentError."""
        recipient = parse_mailbox(address)
        envelope = Envelope.of(ReversePath(None), (recipient,), smtputf8=not recipient.is_ascii)
        message = self._message(recipient, subject, text)
        delivery = await self.upstream.deliver(envelope, [message], DeliveryAttempt())
        match delivery:
            case Answered(is_accepted=True):
                return
            case Answered(reply=reply):
                raise MailNotSentError(f"the upstream refused the mail: {reply}")
            case InDoubt(problem):
                raise MailNotSentError(f"the upstream did not confirm the mail: {problem}")
            case NotSent(reason, problem):
                raise MailNotSentError(
                    f"the mail was not sent: {problem or REASONS[reason].meaning}"
                )
            case _:
                assert_never(delivery)

    def _message(self, recipient: Mailbox, subject: str, text: str) -> bytes:
        message = EmailMessage(SMTP if recipient.is_ascii else SMTPUTF8)
        random_octets = os.urandom(RANDOM_OCTETS)
        message["From"] = f"smtpgate@{self.hostname}"
        message["To"] = str(recipient)
        message["Subject"] = subject
        message["Date"] = format_datetime(self.now)
        message["Message-ID"] = f"<{message_id(self.now, random_octets)}@{self.hostname}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834 §5
        message.set_content(text, cte="quoted-printable" if not text.isascii() else "7bit")
        return message.as_bytes()
