"""The facts of a submission that its events have."""

from typing import Final

from smtpgate.core.message.envelope import Submission
from smtpgate.core.message.headers import HeaderBlock
from smtpgate.core.message.intent import SendingIntent
from smtpgate.core.outbox.event import SentMail

_MAX_HEADER_OCTETS: Final = 10_240  # of names and values, as in SES's notifications


def sent_mail(
    submission: Submission,
    identity: str,
    header: HeaderBlock | None,
    intent: SendingIntent | None = None,
    default_set: str = "",
) -> SentMail:
    """The message of a submission; ``identity`` is the ARN that serves From, or empty.

    ``default_set`` is the configuration set that it has unless its intent names one.
    """
    principal, envelope = submission.principal, submission.envelope
    headers, are_cut = (None, False) if header is None else _headers(header)
    reverse_path = envelope.reverse_path.mailbox
    return SentMail(
        message_id=submission.message_id,
        sent_at=submission.received_at,
        source="" if reverse_path is None else str(reverse_path),
        destination=tuple(str(mailbox) for mailbox in envelope.mailboxes),
        account_id=principal.account.id,
        identity=identity,
        owner_id=identity.split(":", 5)[4] if identity else "",
        caller=principal.user_name or principal.account.id,
        source_ip=submission.client.address,
        operation=submission.action.partition(":")[2],
        headers=headers,
        are_headers_cut=are_cut,
        configuration_set=(intent.configuration_set if intent else "") or default_set,
        tags=() if intent is None else intent.tags,
        user_arn=principal.arn,
        access_key=submission.client.access_key_id,
    )


def _headers(block: HeaderBlock) -> tuple[tuple[tuple[str, str], ...], bool]:
    """Names and unfolded values in order, as many as fit."""
    found: list[tuple[str, str]] = []
    octets = 0
    for field in block.fields:
        octets += len(field.raw)
        if octets > _MAX_HEADER_OCTETS:
            return tuple(found), True
        name, value = field.raw.partition(b":")[0], field.value
        found.append((name.decode("ascii"), value.decode("utf-8", "backslashreplace")))
    return tuple(found), False
