"""Sending events: what became of a message, or of one of its recipients, in SES's terms.

An event says what happened and to which message. Its id is made of both, so the same fact has
the same id, however often it is found.
"""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, Literal, TypeAlias

from msgspec import Struct, structs

from smtpgate.core.feedback.kinds import BounceKind, ComplaintType, DelayType
from smtpgate.core.feedback.simulator import simulation_of
from smtpgate.core.message_id import RANDOM_OCTETS, message_id
from smtpgate.core.secret import Secret

EventKind = Literal[
    "Send",
    "Reject",
    "Bounce",
    "Complaint",
    "Delivery",
    "DeliveryDelay",
    "RenderingFailure",
    "Notice",
]
_EVENTS: Final = b"smtpgate event"


class SentMail(Struct, frozen=True, gc=False, omit_defaults=True):
    """The message that an event is about: the facts of SES's ``mail`` object.

    ``source`` is the reverse-path, empty for the null one. ``identity`` is the ARN of the
    identity that serves From, ``owner_id`` the account that owns it, ``account_id`` the account
    that sent, ``user_arn`` its user with ``access_key``, and ``caller`` the name of that user,
    or the account for its root. ``headers`` are names and values in order, or ``None`` if they
    are not known any more.
    """

    message_id: str
    sent_at: datetime
    source: str
    destination: tuple[str, ...]
    account_id: str
    identity: str = ""
    owner_id: str = ""
    caller: str = ""
    source_ip: str = ""
    configuration_set: str = ""
    operation: str = ""
    headers: tuple[tuple[str, str], ...] | None = None
    are_headers_cut: bool = False
    tags: tuple[tuple[str, tuple[str, ...]], ...] = ()
    user_arn: str = ""
    access_key: str = ""


class EventRecipient(Struct, frozen=True, gc=False, omit_defaults=True):
    """A recipient that an event is about, with what is known of it (RFC 3464 §2.3).

    ``original`` is the address that its sender named first, with its type (ORCPT).
    """

    address: str
    action: str = ""
    status: str = ""
    diagnostic: str = ""
    original: str = ""


class SendDetail(Struct, frozen=True, gc=False, tag="Send"):
    """The upstream accepted the message."""


class RejectDetail(Struct, frozen=True, gc=False, omit_defaults=True, tag="Reject"):
    """The message was accepted from its client and then not sent."""

    reason: str = "Bad content"


class BounceDetail(Struct, frozen=True, gc=False, omit_defaults=True, tag="Bounce"):
    """Recipients were refused for good, or given up.

    ``is_refusal``: the client itself got the refusal, so the message was never accepted.
    """

    bounce: BounceKind
    reporting_mta: str = ""
    remote_mta_ip: str = ""
    is_refusal: bool = False


class ComplaintDetail(Struct, frozen=True, gc=False, omit_defaults=True, tag="Complaint"):
    """A recipient reported the message as unwanted (RFC 5965)."""

    subtype: str = ""
    feedback_type: ComplaintType | None = None
    user_agent: str = ""
    arrived_at: datetime | None = None


class DeliveryDetail(Struct, frozen=True, gc=False, omit_defaults=True, tag="Delivery"):
    """The recipients' server accepted the message."""

    processing_ms: int = 0
    smtp_response: str = ""
    reporting_mta: str = ""
    remote_mta_ip: str = ""


class DelayDetail(Struct, frozen=True, gc=False, omit_defaults=True, tag="DeliveryDelay"):
    """The message could not be delivered yet, and is tried again."""

    delay_type: DelayType = "Undetermined"
    expires_at: datetime | None = None
    reporting_mta: str = ""


class RenderingFailureDetail(
    Struct, frozen=True, gc=False, omit_defaults=True, tag="RenderingFailure"
):
    """The message was accepted, and its template could not be rendered with its data."""

    error_message: str = ""
    template_name: str = ""


class NoticeDetail(Struct, frozen=True, gc=False, omit_defaults=True, tag="Notice"):
    """A notice of the gate itself, about no message: no event of SES's.

    It goes to the people of an account by mail, or to the subscriptions of a topic. With a
    ``token`` it is for a subscription that its receiver ended, and restores that.
    """

    subject: str
    text: str
    token: Secret | None = None


Detail: TypeAlias = (
    SendDetail
    | RejectDetail
    | BounceDetail
    | ComplaintDetail
    | DeliveryDetail
    | DelayDetail
    | RenderingFailureDetail
    | NoticeDetail
)
_KINDS: Final[Mapping[type[Struct], EventKind]] = {
    SendDetail: "Send",
    RejectDetail: "Reject",
    BounceDetail: "Bounce",
    ComplaintDetail: "Complaint",
    DeliveryDetail: "Delivery",
    DelayDetail: "DeliveryDelay",
    RenderingFailureDetail: "RenderingFailure",
    NoticeDetail: "Notice",
}
EVENT_KINDS: Final = tuple(_KINDS.values())


class SendingEvent(Struct, frozen=True, gc=False):
    """An event, with the detail that its kind has.

    ``recipients`` are those that it is about: of a Send all of the message. ``of_simulator``:
    the gate itself made it for addresses of its mailbox simulator.
    """

    id: str
    at: datetime
    mail: SentMail
    recipients: tuple[EventRecipient, ...]
    detail: Detail
    of_simulator: bool = False

    @property
    def kind(self) -> EventKind:
        """The kind, as SES names it, in one word."""
        return _KINDS[type(self.detail)]

    @property
    def is_refusal(self) -> bool:
        """True if the message was refused, and the client has the refusal."""
        return isinstance(self.detail, BounceDetail) and self.detail.is_refusal

    @property
    def is_simulated(self) -> bool:
        """True if all of its recipients are addresses of the mailbox simulator."""
        return self.of_simulator or (
            bool(self.recipients)
            and all(simulation_of(one.address) is not None for one in self.recipients)
        )

    def with_set(self, name: str) -> "SendingEvent":
        """The event of a message with that configuration set."""
        return structs.replace(self, mail=structs.replace(self.mail, configuration_set=name))

    @property
    def fact(self) -> str:
        """The fact that it reports, as a text: the same for every event about it."""
        return _fact(self.detail, self.mail.message_id, self.recipients)


def sending_event(
    at: datetime,
    mail: SentMail,
    recipients: Iterable[EventRecipient],
    detail: Detail,
    *,
    of_simulator: bool = False,
) -> SendingEvent:
    """The event of a fact, with the id of that fact.

    Like SES's feedback ids it has the shape of a message id, and the time of its message.
    """
    known = tuple(recipients)
    text = _fact(detail, mail.message_id, known)
    octets = hashlib.blake2b(text.encode(), digest_size=RANDOM_OCTETS, person=_EVENTS).digest()
    event_id = message_id(mail.sent_at, octets)
    return SendingEvent(event_id, at, mail, known, detail, of_simulator)


def _fact(detail: Detail, of_message: str, recipients: Iterable[EventRecipient]) -> str:
    """No part can contain the line end that divides them.

    A permanent bounce is another fact than one that may pass: otherwise a report of the latter,
    which a sender can forge, would hide the former.
    """
    kind: str = _KINDS[type(detail)]
    if isinstance(detail, BounceDetail) and detail.bounce.is_hard:
        kind = f"{kind} {detail.bounce.type}"
    return "\n".join((kind, of_message, *sorted(one.address for one in recipients)))
