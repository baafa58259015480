"""The options of an envelope that its sender chose, as the journal has them."""

from collections.abc import Iterator
from typing import Final

from smtpgate.core.message.envelope import Envelope, Recipient

_MAX_NAMED: Final = 20


def options_of(envelope: Envelope, *, keep_recipients: bool) -> tuple[str, ...]:
    """The parameters of MAIL, then those of RCPT with their recipients; mostly there are none.

    Without ``keep_recipients`` no address is among them.
    """
    chosen = [one for one in envelope.recipients if one.notify or one.orcpt]
    if not (chosen or envelope.returned or envelope.envelope_id or envelope.require_tls):
        return ()
    return tuple(_words(envelope, chosen, keep_recipients=keep_recipients))


def _words(
    envelope: Envelope, chosen: list[Recipient], *, keep_recipients: bool
) -> Iterator[str]:
    if envelope.returned:
        yield f"RET={envelope.returned}"
    if envelope.envelope_id:
        yield f"ENVID={envelope.envelope_id}"
    if envelope.require_tls:
        yield "REQUIRETLS"
    if not keep_recipients:
        yield from dict.fromkeys(filter(None, map(_notify, chosen)))
        return
    for one in chosen[:_MAX_NAMED]:
        original = f"ORCPT={one.orcpt}" if one.orcpt else ""
        yield " ".join(filter(None, (f"<{one.mailbox}>", _notify(one), original)))
    if len(chosen) > _MAX_NAMED:
        yield f"and {len(chosen) - _MAX_NAMED} more recipients with options"


def _notify(recipient: Recipient) -> str:
    return f"NOTIFY={','.join(sorted(recipient.notify))}" if recipient.notify else ""
