"""Bounces of recipients that the upstream refused while it accepted the message for others."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from smtpgate.core.feedback.classify import classify
from smtpgate.core.message.envelope import Notify, Recipient
from smtpgate.core.outbox.event import (
    BounceDetail,
    EventRecipient,
    SendingEvent,
    SentMail,
    sending_event,
)
from smtpgate.core.upstream.delivery import RecipientReply


def to_report(
    recipients: Iterable[Recipient], refused: Sequence[RecipientReply]
) -> tuple[RecipientReply, ...]:
    """The refused recipients that a report by mail may be about (RFC 3461 §4.1)."""
    silent = without_reports(recipients)
    return tuple(one for one in refused if str(one.mailbox) not in silent)


def without_reports(recipients: Iterable[Recipient]) -> frozenset[str]:
    """The addresses that no report by mail of a bounce may be about (RFC 3461 §4.1)."""
    wanted: frozenset[Notify] = frozenset({"FAILURE"})
    return frozenset(
        str(one.mailbox) for one in recipients if one.notify and not one.notify & wanted
    )


def bounce(
    mail: SentMail,
    recipients: Iterable[Recipient],
    refused: Sequence[RecipientReply],
    at: datetime,
    hostname: str,
    *,
    is_refusal: bool = False,
) -> SendingEvent:
    """The bounce of refused recipients, which the gate reports (RFC 3464 §2.2.2).

    Its kind is that of the first. ``is_refusal``: the message was refused for them, so the
    client itself has the refusal.
    """
    originals = {one.mailbox: one.orcpt or "" for one in recipients}
    known = [
        EventRecipient(
            str(one.mailbox),
            "failed",
            one.reply.enhanced or "5.0.0",
            f"smtp; {one.reply}",
            originals.get(one.mailbox, ""),
        )
        for one in refused
    ]
    first = refused[0].reply
    kind = classify(first.enhanced, str(first.code), first.text)
    detail = BounceDetail(kind, f"dns; {hostname}", is_refusal=is_refusal)
    return sending_event(at, mail, known, detail)


def refused_at_once(
    mail: SentMail,
    recipients: Iterable[Recipient],
    refused: Iterable[RecipientReply],
    at: datetime,
    hostname: str,
) -> tuple[SendingEvent, ...]:
    """The bounces of a message that was refused for these recipients, one each."""
    known = tuple(recipients)
    return tuple(bounce(mail, known, [one], at, hostname, is_refusal=True) for one in refused)
