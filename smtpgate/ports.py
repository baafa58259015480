"""The needs of the path of a message: one Protocol each.

Adapters implement these, and the path needs nothing else of them. Every lookup is by key, so
that a port over a database costs a query and one over memory costs none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Protocol,
    runtime_checkable,
)

from msgspec import Struct

if TYPE_CHECKING:  # a command that needs the clock or an error loads nothing of the path
    from ipaddress import IPv4Address, IPv6Address

    from smtpgate.core.account import AccessKey, Account
    from smtpgate.core.address import Mailbox
    from smtpgate.core.events import Event, SubmissionDone
    from smtpgate.core.identity import Identity
    from smtpgate.core.limits import Charge, Crossing, LimitStatus, Reservation
    from smtpgate.core.message.body import Body
    from smtpgate.core.message.envelope import Envelope
    from smtpgate.core.outbox.event import SendingEvent
    from smtpgate.core.outbox.task import Destination, LeasedTask, Result, Task
    from smtpgate.core.proof.mail_from import Mx
    from smtpgate.core.proof.registered import IdentityTroubles, Registered
    from smtpgate.core.proof.soa import Soa
    from smtpgate.core.reputation.judgement import Reputation
    from smtpgate.core.reputation.sender import RatedMail, RatedSender, RatingSettings
    from smtpgate.core.reputation.volume import Day
    from smtpgate.core.routing.failed_try import FailedTry
    from smtpgate.core.routing.route import RelayRoute
    from smtpgate.core.secret import Secret
    from smtpgate.core.upstream import Answered, Delivery, InDoubt, RecipientReply


class DirectoryUnavailableError(Exception):
    """The directory cannot be reached now, and its last answer is too old to use."""


class LedgerUnavailableError(Exception):
    """The ledger cannot count now."""


class LedgerUnfitError(LedgerUnavailableError):
    """The ledger's store is of a kind that cannot be used; to wait does not help."""


class JournalUnavailableError(Exception):
    """The journal cannot be written now."""


class ResolverError(Exception):
    """The DNS gave no reliable answer, neither yes nor no."""


class Clock(Protocol):
    """The time."""

    def now(self) -> datetime:
        """This moment, with its zone."""

    def monotonic(self) -> float:
        """Seconds that only go forward, for durations."""


class NoTokenError(Exception):
    """There is no access token; the text says why, without any secret."""


class NoIssuerKeysError(Exception):
    """The keys of an issuer of tokens are not known; the text says why."""


class TokenRefusedError(Exception):
    """A token is no login; the text says why, and ``subject`` whose it is, if that is known."""

    def __init__(
        self,
        reason: Literal["invalid-token", "token-without-login"],
        detail: str,
        subject: str = "",
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.subject = subject


class Validity(NamedTuple):
    """So many questions have the same answers until that time, or until more are ``gone``."""

    gone: int
    until_s: float
    questions: int


class Directory(Protocol):
    """Accounts, access keys and identities. Raises DirectoryUnavailableError."""

    async def access_key(self, key_id: str) -> AccessKey | None:
        """The key of that id with the principal it acts for, active or not."""

    async def identities(self, name: str) -> Sequence[Identity]:
        """Every identity of exactly that name, of any account, verified or not."""


class SteadyDirectory(Directory, Protocol):
    """A directory that knows for how long its answers are valid."""

    def validity_of(
        self, key: AccessKey, identities: Mapping[str, Sequence[Identity]]
    ) -> Validity | None:
        """For how long these objects are its answers; ``None`` if that is not known."""

    def is_valid(self, validity: Validity) -> bool:
        """True if it would give the same answers now. It waits for nothing."""


class Ledger(Protocol):
    """Counts recipients against sending limits. Raises LedgerUnavailableError.

    ``now`` is this host's time. A ledger that several hosts share goes by its store's clock.
    """

    async def reserve(
        self, charges: Sequence[Charge], recipients: int, now: datetime
    ) -> Reservation:
        """Count the recipients beforehand, for every charge or for none.

        All charges are of one sending account. Raises LimitExceededError when they are too
        many.
        """

    async def commit(
        self, reservation: Reservation, accepted: int, now: datetime
    ) -> tuple[Crossing, ...]:
        """The upstream accepted, or may have accepted, that many: they stay counted.

        The others are given back. Returns the thresholds that are announced now. What cannot
        be written now is written when the store is back, within the reservation's lease.
        """

    async def refund(self, reservation: Reservation, now: datetime) -> None:
        """Nothing was accepted: they are counted no longer.

        A reservation that was settled, or whose lease has ended, stays as it is.
        """

    @property
    def has_full_quotas(self) -> bool:
        """False if no 24-hour quota was full when last seen: ``check`` would pass all."""

    async def check(self, charges: Sequence[Charge], now: datetime) -> None:
        """Raise LimitExceededError when a 24-hour quota has no room for even one recipient.

        It counts nothing, and reads from the store only those that were full when last seen.
        """

    async def limit_statuses(
        self, charges: Sequence[Charge], now: datetime
    ) -> tuple[LimitStatus, ...]:
        """The use of each charge, all as of one moment; nothing is counted.

        All charges are of one sending account. A subject that never sent has used nothing.
        """

    async def probe(self) -> datetime | None:
        """Write to the store something that counts nothing, to see whether it could count now.

        Returns the time of the store's clock; ``None`` when it goes by this host's.
        """

    async def close(self) -> None:
        """Write to the store what is still to be written, and close it."""


# Done once the client of a message has left; ``None`` where no client waits.
ClientGone = asyncio.Future[None] | None


# Called with the recipients that were refused for good, before a message is sent to the others;
# false if it must not be.
InPart = Callable[["Sequence[RecipientReply]"], Awaitable[bool]]


@dataclass(slots=True, eq=False)
class DeliveryAttempt:
    """A message on its way to the upstream: its sender, and how far it came.

    ``account_id`` is the account that sends it; mail of the gate itself has none.
    ``client_gone`` is done when its client has left, which ends a wait for a connection.
    ``certain`` is what is known when the delivery is cut short, by a cancellation or a fault of
    ours; ``None`` when nothing was accepted. Without ``in_part`` nothing is sent if any
    recipient was refused; ``is_in_part`` is true once it was called. ``route`` is the way that
    was chosen, by default that of the gate's own mail. ``failed`` are the upstreams that were
    of no use. The last one had the message for ``served_s``, without the wait for a connection.
    """

    account_id: str = ""
    client_gone: ClientGone = None
    certain: Answered | InDoubt | None = None
    in_part: InPart | None = None
    is_in_part: bool = False
    route: RelayRoute | None = None
    failed: tuple[FailedTry, ...] = ()
    served_s: float = 0.0

    @property
    def is_abandoned(self) -> bool:
        """True if its client has left."""
        return self.client_gone is not None and self.client_gone.done()


class UpstreamFacts(Protocol):
    """The facts that are known of an upstream, or of several that may get the same messages."""

    @property
    def extensions(self) -> frozenset[str] | None:
        """The EHLO keywords that it last offered; ``None`` before the first connection."""

    @property
    def max_octets(self) -> int | None:
        """The largest message that it takes, as it lately said; ``None`` when unknown."""

    @property
    def max_recipients(self) -> int | None:
        """The most recipients that it takes at once, as it showed; ``None`` when unknown."""

    @property
    def max_recipient_domains(self) -> int | None:
        """The most domains that these may have, as it announced; ``None`` when unknown."""


class Upstream(Protocol):
    """The next hop: an upstream, or one of several."""

    async def deliver(
        self,
        envelope: Envelope,
        message: Sequence[Body],
        attempt: DeliveryAttempt,
    ) -> Delivery:
        """Carry out one mail transaction with the message, given in pieces with CRLF line ends.

        It returns for every end that the transaction can come to. When it is cut short by a
        cancellation, ``attempt.certain`` has what is known.
        """


class Upstreams(Protocol):
    """All upstreams, of which a message may get to some."""

    def facts(self, listener: str, account_id: str = "") -> UpstreamFacts:
        """The facts of all upstreams that may get the messages of that listener and account.

        An empty account is one that is not known yet.
        """


class Begun(Struct, frozen=True, gc=False):
    """The answer of the store before the relay.

    ``reservation`` is ``None`` when nothing was to be counted. ``problem`` is why there is no
    record of the submission, or ``None``.
    """

    reservation: Reservation | None = None
    problem: str | None = None


class Finished(Struct, frozen=True, gc=False):
    """The answer of the store to a verdict.

    ``crossings`` are the thresholds that are announced now. Unless ``is_recorded``, the verdict
    is written later, if it is soon.
    """

    crossings: tuple[Crossing, ...] = ()
    is_recorded: bool = True


class Store(Protocol):
    """The ledger and the journal as the path of a message needs them: one request each time.

    A ledger and a journal that are kept in different ways are behind it too.
    """

    async def begin(
        self, done: SubmissionDone, charges: Sequence[Charge], now: datetime
    ) -> Begun:
        """Count the recipients, and keep what is known of a submission that will be relayed.

        Without charges nothing is counted. What is counted and kept survives the end of any
        process. Raises LimitExceededError or LedgerUnavailableError; then nothing is counted
        or kept.
        """

    async def note(self, tasks: Sequence[Task], events: Sequence[SendingEvent]) -> None:
        """Keep events of a submission that was begun, with their tasks.

        They come into force with its verdict.

        They survive a power cut. Raises JournalUnavailableError; perhaps they are kept then.
        """

    async def finish(
        self, done: SubmissionDone, reservation: Reservation | None, now: datetime
    ) -> Finished:
        """Keep the verdict, and count only the recipients that it leaves counted.

        It keeps also the rest of a submission that was not begun, ``done.tasks`` and
        ``done.events``; where these are empty it deletes the noted ones. What is kept survives
        a power cut. What cannot be counted now is counted later, within the reservation's
        lease.
        """


class Journal(Protocol):
    """Keeps a record of each submission. Raises JournalUnavailableError."""

    async def begin(self, done: SubmissionDone) -> None:
        """Keep what is known of a submission that is about to be relayed."""

    async def note(self, tasks: Sequence[Task], events: Sequence[SendingEvent]) -> None:
        """Keep events of a submission that was begun, with their tasks, until its verdict."""

    async def finish(self, done: SubmissionDone) -> None:
        """Keep the verdict, and the rest of a submission that was not begun.

        What cannot be written now is written when that can be done again, if it is soon.
        """


class Added(NamedTuple):
    """The number of tasks that were new, and the ids of events that were."""

    tasks: int
    events: frozenset[str] = frozenset()


class Outbox(Protocol):
    """Keeps events and tasks until a sender has carried these out.

    Raises JournalUnavailableError.
    """

    async def add(self, tasks: Sequence[Task], events: Sequence[SendingEvent] = ()) -> Added:
        """Keep events and tasks, together, that are in force at once; they survive a power cut.

        One that is there already stays as it is, and so do the tasks of such an event.
        """


class Subscribers(Protocol):
    """The destinations that want events, by the settings of owners and senders."""

    def want_sends(self, account_id: str, identity: str) -> bool:
        """False if no destination gets a Send of that account with the identity of that ARN.

        It is asked for each message, and must cost next to nothing.
        """

    async def default_set(self, account_id: str, identity: str) -> str:
        """The configuration set of an account's mail with its identity of that ARN, or empty.

        Raises DirectoryUnavailableError.
        """

    async def pause_of(self, account_id: str, configuration_set: str) -> str | None:
        """The reason why an account's configuration set is paused; empty if nobody gave one.

        ``None`` if it is not paused. Raises DirectoryUnavailableError.
        """

    async def destinations(self, event: SendingEvent) -> Sequence[Destination]:
        """The destinations of an event, from memory where they are known; mostly none.

        Raises DirectoryUnavailableError.
        """

    async def lists(self, event: SendingEvent) -> Sequence[Destination]:
        """Those destinations of an event that are suppression lists.

        Raises DirectoryUnavailableError.
        """


class SuppressionLists(Protocol):
    """The lists of addresses that must not be sent to. Raises DirectoryUnavailableError."""

    async def suppressed(
        self,
        sender: Account,
        configuration_set: str,
        identity: Identity | None,
        mailboxes: Iterable[Mailbox],
    ) -> frozenset[Mailbox]:
        """The mailboxes that a message of that sender must not be sent to.

        ``identity`` serves From; its owner may have its list used for it.
        """


class Carrier(Protocol):
    """Carries tasks to destinations of one kind."""

    async def carry(self, leased: LeasedTask) -> Result:
        """Try it once, within the time that a task may take; the sender cancels it then.

        Whatever it raises is a failure that may pass.
        """


class RegisteredIdentities(Protocol):
    """The proofs and DKIM keys of identities, for those who verify them.

    Raises DirectoryUnavailableError.
    """

    async def one(self, account_id: str, name: str) -> Registered:
        """The identity of that account and name; an error when there is none."""

    async def due(self, now: datetime, limit: int) -> Sequence[Registered]:
        """Identities with a check that is due, or with a key whose stage ends."""

    async def save(
        self, changes: Sequence[tuple[Registered, Registered]]
    ) -> Sequence[tuple[Registered, Registered]]:
        """Save changed identities; returns those that nobody else changed meanwhile."""

    async def troubles(self) -> IdentityTroubles:
        """The numbers of identities and keys that need attention."""


class ReputationCounts(Protocol):
    """Counts the mail of senders, and its bounces. Raises JournalUnavailableError."""

    async def days(
        self, sender: RatedSender, since: datetime, until: datetime
    ) -> Sequence[Day]:
        """The sums of a sender's mail by days; of the first one what was sent after ``since``.

        A day without mail may be left out.
        """

    async def troubled(self, since: datetime, until: datetime) -> Mapping[RatedMail, int]:
        """Mail of which recipients bounced for good or complained, and how many did.

        Since the begin of the day (UTC) with ``since``.
        """

    async def delegates(
        self, owner_id: str, identity: str, since: datetime, until: datetime
    ) -> Sequence[str]:
        """The other accounts that sent by an owner's identity in that time."""


class Reputations(Protocol):
    """The reputations of senders, for those who judge. Raises DirectoryUnavailableError."""

    async def one(self, sender: RatedSender) -> Reputation:
        """The reputation of a sender; a healthy one if it is not known otherwise."""

    async def troubled(self) -> Sequence[Reputation]:
        """Those that are not healthy, or paused."""

    async def settings(self) -> Sequence[RatingSettings]:
        """The configuration sets and identities that are judged."""

    async def save(self, before: Reputation, after: Reputation) -> bool:
        """Save a changed reputation; false if it was changed meanwhile, or its sender is gone.

        The configuration set of a pause is paused with it.
        """


class Reading(NamedTuple):
    """A value that a part of the gate has at the moment of a scrape.

    ``metric`` is its name in the catalogue of metrics, ``labels`` are the values of its labels
    in the catalogue's order. A part offers its readings by a function, which is called in
    another thread than the event loop's.
    """

    metric: str
    value: float
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenState:
    """The state of one upstream's access token, without the token.

    ``left_s`` are the seconds that it lasts, ``None`` without one; ``problem`` is why the last
    fetch failed, ``failures`` how many did since one succeeded, ``fetches`` how many did.
    """

    upstream: str
    left_s: float | None
    problem: str | None
    failures: int
    fetches: int


class AccessTokens(Protocol):
    """The access tokens of one upstream."""

    def state(self) -> TokenState:
        """The state, without the token."""

    async def token(self) -> Secret:
        """The token to log in with. Raises NoTokenError."""

    def refused(self, token: Secret) -> bool:
        """Note that the upstream refused that token; true if another one may be tried."""

    def readings(self) -> Iterator[Reading]:
        """The state of the token, for a scrape."""

    def close(self) -> None:
        """Fetch no more of them."""


class EventSink(Protocol):
    """Takes what happened: the log, the metrics, the journal, the uses of keys."""

    def publish(self, event: Event) -> None:
        """Note the event; must not raise and must not wait."""


@runtime_checkable
class ReadsSome(Protocol):
    """A sink that ignores all events but those of some kinds, so that it need not get them."""

    reads: ClassVar[tuple[type, ...]]


class Resolver(Protocol):
    """The DNS. Raises ResolverError."""

    async def txt(self, name: str) -> Sequence[bytes]:
        """The TXT records of a name in ASCII, each with its strings joined.

        None when the DNS says that there is no such name, or nothing of that type at it.
        """

    async def mx(self, name: str) -> Sequence[Mx]:
        """The MX records of a name in ASCII; none, as for ``txt``."""

    async def soa(self, name: str) -> Soa | None:
        """The start of authority of the zone that has a name; ``None`` if that is not known."""


class HostResolver(Resolver, Protocol):
    """The DNS, with the addresses of hosts. Raises ResolverError."""

    async def addresses(self, name: str) -> Sequence[IPv4Address | IPv6Address]:
        """The IPv4 and IPv6 addresses of a name in ASCII; none, as for ``txt``."""

    async def names(self, address: IPv4Address | IPv6Address) -> Sequence[str]:
        """The names that the address leads back to, in lower case, without a final dot."""


@dataclass(frozen=True, slots=True)
class TokenLogin:
    """A login by the token of an issuer, until the token ends.

    It stands for an access key. ``subject`` is a bounded name for it, which is no secret;
    ``made_by`` are the settings that it was found with.
    """

    access_key_id: str
    issuer: str
    subject: str
    ends_at: datetime
    claims: Mapping[str, Any]
    made_by: object


class TokenLogins(Protocol):
    """The logins that tokens of issuers stand for."""

    async def login(self, token: Secret) -> TokenLogin:
        """The login of a token. Raises TokenRefusedError or NoIssuerKeysError."""

    def allows(self, login: TokenLogin) -> bool:
        """True if the login may go on: it has not ended, and would still be allowed."""
