"""A search in the journal: every criterion must match."""

from dataclasses import dataclass
from datetime import datetime

from smtpgate.core.history.record import Record, user_of
from smtpgate.core.outbox.event import EventKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """The criteria of a search; ``None`` matches any record.

    ``account_id`` limits the search to the view of one account: the submissions of the account,
    and those that used its identities. ``user`` is ``ACCOUNT/NAME``. ``identity`` is an ARN, or
    the name of an identity that could matter. ``address`` is an address of the envelope, of
    From or of Sender, in any letter case. ``event`` is the kind of an event that the message
    has had.
    """

    account_id: str | None = None
    user: str | None = None
    identity: str | None = None
    address: str | None = None
    reason: str | None = None
    outcome: str | None = None
    event: EventKind | None = None
    since: datetime | None = None
    until: datetime | None = None

    def fits(self, record: Record) -> bool:
        """True if a record matches.

        An address is not compared if the recipients were not kept: the record was found by a
        term of that address. Events are not in a record, so they are not compared.
        """
        if not self._fits_sender(record):
            return False
        if self.account_id is not None:
            record = record.masked_for(self.account_id)
        return (
            self._fits_verdict(record)
            and self._fits_time(record)
            and (self.identity is None or _has_identity(record, self.identity))
            and (self.address is None or _has_address(record, self.address))
        )

    def _fits_sender(self, record: Record) -> bool:
        is_visible = self.account_id is None or record.may_be_seen_by(self.account_id)
        return is_visible and (self.user is None or is_user(self.user, record.user_arn))

    def _fits_verdict(self, record: Record) -> bool:
        return self.reason in (None, record.reason) and self.outcome in (None, record.outcome)

    def _fits_time(self, record: Record) -> bool:
        at = record.received_at
        return (self.since is None or at >= self.since) and (
            self.until is None or at < self.until
        )


def is_user(user: str, arn: str) -> bool:
    """True if an ARN is that of the user ``ACCOUNT/NAME``, with any path.

    User names are compared without regard to letter case.
    """
    return user.casefold() == user_of(arn)


def _has_identity(record: Record, identity: str) -> bool:
    """True if the record used or named the identity, or could have used one of that name."""
    return identity in (
        record.parties.arns if identity.startswith("arn:") else record.parties.names
    )


def _has_address(record: Record, address: str) -> bool:
    if record.forward_paths is None:
        return True
    wanted = address.casefold()
    mailboxes = (*record.parties.mailboxes, *record.forward_paths)
    return any(str(mailbox).casefold() == wanted for mailbox in mailboxes)
