"""Uses of access keys for the watch over keys: of events, and of the journal's records.

Messages that the gate or the upstream deferred are no uses: their client tries again. Nor are
refusals that say nothing about the sender: of the gate's own troubles, of a limit, of an
account or a key that may not send.
"""

import ipaddress
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from typing import Final

from smtpgate.core.address import Mailbox
from smtpgate.core.events import AuthFailed, Event, SubmissionDone
from smtpgate.core.history.record import Record, owner_of
from smtpgate.core.made_once import made_once
from smtpgate.core.message.author import Author
from smtpgate.core.moments import kept_microseconds
from smtpgate.core.policy.values import read_address
from smtpgate.core.reason import ALL_REASONS
from smtpgate.core.watch.batch import UseOfKey
from smtpgate.core.watch.profile import Observation
from smtpgate.core.watch.sketch import hash_of

# The password is right, and a second condition of the key is not met.
_OUTSIDE: Final = frozenset({"network-not-allowed", "certificate-not-allowed"})
_PREFIXES: Final = {4: 24, 6: 48}
_HOUR_US: Final = 3_600_000_000
_MAX_AUTHORS: Final = 5
_UPSTREAMS: Final = "upstream-reply"
_WITHOUT_MEANING: Final = frozenset(
    code
    for code, reason in ALL_REASONS.items()
    if reason.is_inner
    or reason.is_over_limit
    or reason.last_word
    or (reason.is_upstreams and code != _UPSTREAMS)
)

USES: Final = (SubmissionDone, AuthFailed)
"""The events that may be a use."""


def use_of(event: Event) -> UseOfKey | None:
    """The use of a key that an event is, if it is one."""
    if isinstance(event, SubmissionDone):
        return of_submission(event)
    return of_login(event) if isinstance(event, AuthFailed) else None


def of_submission(done: SubmissionDone) -> UseOfKey | None:
    """The use of a key that a submission was, if it was one."""
    submission, envelope = done.submission, done.submission.envelope
    mailboxes = envelope.mailboxes
    return _use(
        submission.client.access_key_id,
        submission.received_at,
        submission.client.address,
        done.authors,
        outcome=done.outcome,
        reason=done.reason,
        mailboxes=mailboxes,
        recipients=len(mailboxes),
        bounced=len(done.refused),
        owner=owner_of(done.from_identity),
    )


def of_login(event: AuthFailed) -> UseOfKey | None:
    """The use of a key with the right password alone: not its network, or no certificate."""
    if event.reason not in _OUTSIDE:
        return None
    return _outside(event.username, event.at, event.client.address)


def of_record(record: Record) -> UseOfKey | None:
    """The use of a key that a record of the journal is about."""
    if record.kind == "login":
        is_outside = record.reason in _OUTSIDE
        address = record.client.address
        return _outside(record.username, record.received_at, address) if is_outside else None
    if record.kind != "submission":
        return None
    return _use(
        record.username,
        record.received_at,
        record.client.address,
        record.authors,
        outcome=record.outcome,
        reason=record.reason,
        mailboxes=record.forward_paths or (),
        recipients=record.recipients,
        bounced=len(record.refused),
        owner=owner_of(record.from_identity),
    )


def of_bounces(key_id: str, at: datetime, number: int) -> UseOfKey:
    """Bounces that came back later, of messages that were sent with the key."""
    return UseOfKey(key_id, Observation(hour=hour_of(at), bounced=number))


def hour_of(at: datetime) -> int:
    """The hours since 1970."""
    return kept_microseconds(at) // _HOUR_US


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """The /24 of an IPv4 address, the /48 of an IPv6 address: about as much as a site has."""
    read = read_address(address)
    if read is None:
        return address
    version, number = read
    host = ipaddress.IPv4Address(number) if version == 4 else ipaddress.IPv6Address(number)
    return str(ipaddress.ip_network(f"{host}/{_PREFIXES[version]}", strict=False))


@made_once
def _addresses_of(authors: tuple[Author, ...]) -> tuple[str, ...]:
    """Their addresses in lower case; most messages of a sender have the same."""
    return tuple(sorted({str(author.mailbox).lower() for author in authors}))[:_MAX_AUTHORS]


def _outside(username: str, at: datetime, address: str) -> UseOfKey:
    seen = Observation(hour=hour_of(at), network=network_of(address), outside=1)
    return UseOfKey(username, seen)


def _use(
    key_id: str,
    at: datetime,
    address: str,
    authors: tuple[Author, ...],
    *,
    outcome: str,
    reason: str,
    mailboxes: Iterable[Mailbox],
    recipients: int,
    bounced: int,
    owner: str,
) -> UseOfKey | None:
    if outcome in ("accepted", "in-doubt"):
        addresses = tuple([hash_of(mailbox.text) for mailbox in mailboxes])
        is_refused = False
    elif outcome == "refused" and reason not in _WITHOUT_MEANING:
        is_refused = reason != _UPSTREAMS
        bounced = 0 if is_refused else recipients
        addresses, recipients = (), 0
    else:
        return None
    seen = Observation(
        hour=hour_of(at),
        network=network_of(address),
        authors=_addresses_of(authors),
        messages=1,
        recipients=recipients,
        addresses=addresses,
        refused=int(is_refused),
        bounced=bounced,
    )
    return UseOfKey(key_id, seen, (owner,) if owner else ())
