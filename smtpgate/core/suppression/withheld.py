"""Recipients whose message is accepted and not sent: suppressed, simulated, or not rendered.

Their events are those of a message that was sent: nobody else can report what became of it.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from msgspec import Struct

from smtpgate.core.address import Mailbox
from smtpgate.core.feedback.kinds import ON_ACCOUNT_LIST, UNDETERMINED, complaint_type
from smtpgate.core.feedback.simulator import Simulation
from smtpgate.core.message.envelope import Recipient, Unrendered
from smtpgate.core.outbox.event import (
    BounceDetail,
    ComplaintDetail,
    DeliveryDetail,
    EventRecipient,
    RenderingFailureDetail,
    SendingEvent,
    SentMail,
    sending_event,
)

_STATUS: Final = "5.1.1"  # as in Amazon SES's bounces of suppressed addresses
_DIAGNOSTIC: Final = "x-smtpgate; the address is on a suppression list, so nothing was sent"
_DELIVERED: Final = "250 2.0.0 Ok: delivered to the mailbox simulator"


class Withheld(Struct, frozen=True, gc=False):
    """A recipient that the message is not sent to.

    Without ``simulation`` the address is on a suppression list, unless nobody gets the message,
    because its template could not be rendered.
    """

    mailbox: Mailbox
    simulation: Simulation | None = None
    unrendered: Unrendered | None = None

    @property
    def outcome(self) -> str:
        """The fate of the recipient instead, in a word or two."""
        if self.unrendered is not None:
            return "not rendered"
        if self.simulation is None:
            return "suppressed"
        return f"simulated {self.simulation.kind}"


def is_answered(event: SendingEvent, withheld: Iterable[Withheld]) -> bool:
    """True if a simulated mailbox answers after that event: the sender has a return path."""
    if event.kind != "Delivery" or not event.mail.source:
        return False
    (recipient,) = event.recipients
    return any(
        one.simulation is not None
        and one.simulation.kind == "answer"
        and one.mailbox.text == recipient.address
        for one in withheld
    )


def withheld_events(
    mail: SentMail,
    recipients: Iterable[Recipient],
    withheld: Iterable[Withheld],
    at: datetime,
    hostname: str,
) -> Iterator[SendingEvent]:
    """The events of these recipients, in their order."""
    withheld = tuple(withheld)
    unrendered = next((one.unrendered for one in withheld if one.unrendered), None)
    if unrendered is not None:  # then it is so for all
        detail = RenderingFailureDetail(unrendered.problem, unrendered.template)
        yield sending_event(
            at, mail, [EventRecipient(one.mailbox.text) for one in withheld], detail
        )
        return
    originals = {one.mailbox: one.orcpt or "" for one in recipients}
    for one in withheld:
        original = originals.get(one.mailbox, "")
        if one.simulation is None:
            bounced = EventRecipient(one.mailbox.text, "failed", _STATUS, _DIAGNOSTIC, original)
            suppressed = BounceDetail(ON_ACCOUNT_LIST, f"dns; {hostname}")
            yield sending_event(at, mail, [bounced], suppressed)
        else:
            yield from _simulated(mail, one.mailbox, one.simulation, at, hostname, original)


def _simulated(
    mail: SentMail,
    mailbox: Mailbox,
    simulation: Simulation,
    at: datetime,
    hostname: str,
    original: str,
) -> Iterator[SendingEvent]:
    address, server = mailbox.text, f"dns; {hostname}"
    if simulation.is_delivered:
        delivered = EventRecipient(address, "delivered", "2.0.0")
        detail = DeliveryDetail(0, _DELIVERED, server)
        yield sending_event(at, mail, [delivered], detail, of_simulator=True)
    if simulation.kind == "bounce":
        one = simulation.recipient
        known = EventRecipient(
            address, one.action or "failed", one.status, one.diagnostic, original
        )
        bounced = BounceDetail(one.kind or UNDETERMINED, server)
        yield sending_event(at, mail, [known], bounced, of_simulator=True)
    elif simulation.kind == "complaint":
        kind = complaint_type(simulation.feedback_type)
        complaint = ComplaintDetail("", kind, simulation.user_agent, mail.sent_at)
        known = EventRecipient(address)
        yield sending_event(at, mail, [known], complaint, of_simulator=True)
