"""The limits that a server announces in EHLO (RFC 9422): mails, recipients, their domains."""

import re
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from smtpgate.core.address import Mailbox
from smtpgate.core.reply import Reply

# RFC 9422 §2: limit-name "=" limit-value, and the three values are of six digits at most.
_PAIR: Final = re.compile(r"(MAILMAX|RCPTMAX|RCPTDOMAINMAX)=([1-9][0-9]{0,5})")
_TAKEN: Final = Reply(250, "2.1.5", "Within the announced limit, and not sent")
_TOO_MANY: Final = Reply(452, "4.5.3", "Too many recipients: more than the server announces")
_TOO_WIDE: Final = Reply(452, "4.5.3", "Too many domains: more than the server announces")


class ServerLimits(Struct, frozen=True, gc=False):
    """The most mail transactions of a connection, recipients of a message, domains of these.

    ``None`` where none is announced.
    """

    mails: int | None = None
    recipients: int | None = None
    domains: int | None = None

    def answers(self, mailboxes: Sequence[Mailbox]) -> tuple[Reply, ...]:
        """The answers that the recipients would get, if some are too many; else nothing."""
        if self.recipients is None and self.domains is None:
            return ()
        taken, domains = 0, set[str]()
        answers: list[Reply] = []
        for mailbox in mailboxes:
            is_new = mailbox.domain not in domains
            if self.recipients is not None and taken >= self.recipients:
                answers.append(_TOO_MANY)
            elif is_new and self.domains is not None and len(domains) >= self.domains:
                answers.append(_TOO_WIDE)
            else:
                answers.append(_TAKEN)
                taken += 1
                domains.add(mailbox.domain)
        return () if taken == len(answers) else tuple(answers)


NO_LIMITS: Final = ServerLimits()


def limits_of(parameters: str) -> ServerLimits:
    """The limits in the parameters of LIMITS; what cannot be read is none (RFC 9422 §2)."""
    pairs = filter(None, map(_PAIR.fullmatch, parameters.split()))
    found = {pair[1]: int(pair[2]) for pair in pairs}
    if not found:
        return NO_LIMITS
    return ServerLimits(found.get("MAILMAX"), found.get("RCPTMAX"), found.get("RCPTDOMAINMAX"))
