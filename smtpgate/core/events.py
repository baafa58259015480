"""Events, as values: the log, the metrics and every other reader get these."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, Literal

from msgspec import Struct, field

from smtpgate.core.account import KeyRefusal, Principal
from smtpgate.core.address import Mailbox
from smtpgate.core.feedback.report import ReportKind
from smtpgate.core.limits import Charge, Crossing, Reservation
from smtpgate.core.limits.budget import BudgetName
from smtpgate.core.message.author import Author
from smtpgate.core.message.envelope import Client, Recipient, Submission
from smtpgate.core.message.headers import HeaderBlock
from smtpgate.core.message.intent import SendingIntent
from smtpgate.core.outbox.event import SendingEvent
from smtpgate.core.outbox.task import Destination, Task
from smtpgate.core.policy import Decision
from smtpgate.core.proof.registered import IdentityTroubles
from smtpgate.core.reply import Reply
from smtpgate.core.reputation.judgement import Reputation
from smtpgate.core.reputation.sender import RatedKind
from smtpgate.core.reputation.states import Status
from smtpgate.core.routing.failed_try import FailedTry
from smtpgate.core.suppression.withheld import Withheld
from smtpgate.core.upstream.delivery import RecipientReply
from smtpgate.core.watch.signals import KeyFinding, Level

SubmissionOutcome = Literal["accepted", "deferred", "refused", "in-doubt"]
Role = Literal["source", "from", "sender", "resent", "return-path", "report"]
CutOffBy = Literal["client", "gate"]
Stage = Literal["message", "authorization", "limits", "recipients", "signing", "relay"]
AuthReason = Literal[
    "invalid-credentials", "other-identity", "invalid-token", "token-without-login", KeyRefusal
]

HandshakeProblem = Literal[
    "no-tls",
    "old-version",
    "no-cipher",
    "certificate-refused",
    "no-client-certificate",
    "too-slow",
    "hung-up",
    "no-proxy-header",
    "other",
]
# Why connections fail before a session can begin: for the log and the metrics.
HANDSHAKE_PROBLEMS: Final[Mapping[HandshakeProblem, str]] = {
    "no-tls": "the client does not begin with TLS, after STARTTLS or with implicit TLS",
    "old-version": "the client has no TLS version that is new enough (`min_tls`)",
    "no-cipher": "client and gate have no cipher in common",
    "certificate-refused": "the client does not accept the gate's certificate",
    "no-client-certificate": (
        "the client has no certificate by an authority of `client_ca_file`, or an expired one"
    ),
    "too-slow": "the handshake took too long",
    "hung-up": "the client closed the connection in the handshake",
    "no-proxy-header": "a proxy did not begin with a PROXY protocol header",
    "other": "something else",
}


class UsedIdentity(Struct, frozen=True, gc=False):
    """The identity that served a role, and how it was found."""

    role: Role
    address: Mailbox
    arn: str
    how: Literal["named", "inherited", "own", "inferred"]


def from_identity(identities: Iterable[UsedIdentity]) -> str:
    """The ARN of the identity that served From, or an empty text.

    Of a relay's report it is the one of its first recipient: From has no identity there.
    """
    for used in identities:
        if used.role in ("from", "report"):
            return used.arn
    return ""


class SubmissionDone(Struct, gc=False, kw_only=True):
    """One submission, from the final dot to its verdict.

    The pipeline fills it in stage by stage, so that a refusal has all that was known by then.
    ``stage_s`` has the seconds that each stage took. ``charges`` are the limits that count;
    their counts of recipients in the last 24 hours, after this message, are in ``used``, in the
    same order; ``reservation`` is what is to be settled with the verdict, and ``crossings`` are
    the shares of a quota that it reached. ``counted`` is how many
    recipients stay counted: those that were accepted, or may have been. ``paced_s`` is how long
    it waited for its sender's rate. ``uncounted`` is the reason when its recipients were not
    counted, ``long_line`` the number of a line of its body that is too long. ``header`` is the
    block without the fields that ``intent`` was read from. ``is_masked``: the reply does not
    have the reason, because no Allow of the identity names the sender. ``may_be_recorded``: a
    verdict was to be written, and it is not known whether it was. ``tasks`` are carried out if
    the verdict is an acceptance; ``None`` if there never was one. ``refused`` are recipients
    that the upstream refused while it accepted the message for others. ``configuration_set`` is
    the one that it names, or that it has by default. ``events`` are the
    bounces of these, or of all recipients of a message that was refused for them; ``None`` if
    there never was one. ``withheld`` are recipients that an accepted message is not sent to;
    their events are among ``events`` too. ``route`` is the one that it was sent by, for
    ``route_reason``, and empty if there is only one; ``tried`` are upstreams of it that were of
    no use.
    """

    submission: Submission
    configuration_set: str = ""
    outcome: SubmissionOutcome = "refused"
    reason: str = "internal-error"
    detail: str = ""
    reply: Reply | None = None
    header: HeaderBlock | None = None
    intent: SendingIntent | None = None
    authors: tuple[Author, ...] = ()
    sender: Author | None = None
    resent: tuple[Author, ...] = ()
    identities: tuple[UsedIdentity, ...] = ()
    decision: Decision | None = None
    is_masked: bool = False
    may_be_recorded: bool = False
    charges: tuple[Charge, ...] = ()
    reservation: Reservation | None = None
    used: tuple[int, ...] = ()
    crossings: tuple[Crossing, ...] = ()
    counted: int = 0
    paced_s: float = 0.0
    uncounted: str = ""
    long_line: int | None = None
    signing_domain: str | None = None
    selectors: tuple[str, ...] = ()
    upstream: str | None = None
    upstream_reply: Reply | None = None
    return_path: Mailbox | None = None
    refused: tuple[RecipientReply, ...] = ()
    withheld: tuple[Withheld, ...] = ()
    route: str = ""
    route_reason: str = ""
    tried: tuple[FailedTry, ...] = ()
    tasks: tuple[Task, ...] | None = None
    events: tuple[SendingEvent, ...] | None = None
    done_at: datetime | None = None
    stage_s: dict[Stage, float] = field(default_factory=dict)

    @property
    def from_identity(self) -> str:
        """The ARN of the identity that served From, or an empty text before that was known."""
        return from_identity(self.identities)

    @property
    def simulated(self) -> int:
        """The number of recipients that are of the mailbox simulator."""
        if not self.withheld:
            return 0
        return sum(one.simulation is not None for one in self.withheld)

    @property
    def relayed(self) -> tuple[Recipient, ...]:
        """The recipients that the message is sent to, unless it is refused."""
        recipients = tuple(self.submission.envelope.recipients)
        if not self.withheld:
            return recipients
        withheld = {one.mailbox for one in self.withheld}
        return tuple(one for one in recipients if one.mailbox not in withheld)

    @property
    def used_24h(self) -> int | None:
        """The recipients that the account has used, or ``None`` before that was known."""
        return self.used[0] if self.used else None


FeedbackOutcome = Literal["published", "forwarded", "dropped", "unknown", "refused"]
PostedOutcome = Literal["accepted", "ignored", "unknown", "unread"]
PostRefusal = Literal[
    "no-credential", "too-slow", "too-large", "encoded", "too-many", "unavailable", "unread"
]


class SessionOpened(Struct, frozen=True, gc=False):
    """A client connected, and a session began."""

    listener: str


class SessionClosed(Struct, frozen=True, gc=False):
    """A connection ended."""

    listener: str


class SessionsEnded(Struct, frozen=True, gc=False):
    """Sessions were ended, because their access key may not be used any more."""

    access_key_id: str
    account_id: str
    reason: str
    sessions: int
    at: datetime


class ClientEvent(Struct, frozen=True, gc=False):
    """An event of one client; the client has its session, and its access key after a login."""

    client: Client
    at: datetime


class MailRefused(ClientEvent, frozen=True, gc=False):
    """MAIL was refused, and no message came: the sender has no quota left for any."""

    message_id: str
    principal: Principal
    charges: tuple[Charge, ...]
    reason: str
    detail: str
    reply: Reply


class BudgetExhausted(ClientEvent, frozen=True, gc=False):
    """A client has used up one of its budgets."""

    budget: BudgetName


class CommandRefused(ClientEvent, frozen=True, gc=False):
    """A command was refused in the dialogue, for a reason that has no event of its own.

    ``verb`` is in upper case, or ``other`` for one that is not known.
    """

    verb: str
    reply: Reply


class ClientBanned(ClientEvent, frozen=True, gc=False):
    """A client has failed too often: it is turned away until then.

    ``network`` is its address, or its /64 network; ``number`` counts its bans.
    """

    network: str
    until: datetime
    number: int


class MessageCutOff(ClientEvent, frozen=True, gc=False):
    """A message ended before its final dot, of which so many octets had come.

    ``by`` is ``client`` when the client left, ``gate`` when the gate stopped meanwhile.
    """

    by: CutOffBy
    octets: int


class HandshakeFailed(ClientEvent, frozen=True, gc=False):
    """A connection failed before it was a session, or at STARTTLS."""

    problem: HandshakeProblem


class Authenticated(ClientEvent, frozen=True, gc=False):
    """A client logged in: its access key was used, from there and then."""


class AuthFailed(ClientEvent, frozen=True, gc=False):
    """Credentials were refused; ``username`` is what the client claimed, shortened.

    Of a token it is whose it is, as far as that is known, and ``detail`` is why it was refused.
    """

    username: str
    reason: AuthReason
    detail: str = ""


class ApiCalled(ClientEvent, frozen=True, gc=False):
    """A request to the API was answered; ``fault`` is the code of an error, else empty.

    ``operation`` is empty if none was found.
    """

    request_id: str
    service: str
    operation: str
    status: int
    fault: str
    seconds: float


class IdentityStateChanged(Struct, frozen=True, gc=False):
    """An identity was verified or not, or its record went missing or came back."""

    identity: str
    account_id: str
    state: str
    missing_since: datetime | None
    problem: str
    at: datetime


class DkimAlarm(Struct, frozen=True, gc=False):
    """The record of a key that signs is gone or differs; without ``since`` it is back."""

    identity: str
    selector: str
    since: datetime | None
    problem: str
    at: datetime


class IdentitiesChecked(Struct, frozen=True, gc=False):
    """A round of checks of identities and DKIM keys ended."""

    troubles: IdentityTroubles


class JournalChanged(Struct, frozen=True, gc=False):
    """The journal cannot be written, for that ``problem``, or without one it can be again.

    ``records`` is how many wait to be written then, or how many had to wait and are written.
    """

    problem: str | None
    records: int
    at: datetime


class DirectoryChanged(Struct, frozen=True, gc=False):
    """The directory's database cannot be reached, or without ``problem`` it can again.

    ``lasted_s`` is how long it could not.
    """

    problem: str | None
    lasted_s: float
    at: datetime


class LedgerChanged(Struct, frozen=True, gc=False):
    """The ledger cannot count, for that ``problem``, or without one it can again.

    ``lasted_s`` is how long it could not.
    """

    problem: str | None
    lasted_s: float
    at: datetime


class LedgerClockChanged(Struct, frozen=True, gc=False):
    """The clock of the ledger's store and this host's differ, or without ``problem`` no more.

    ``skew_s`` is by how much that of the store is ahead.
    """

    problem: str | None
    skew_s: float
    at: datetime


class RetentionChanged(Struct, frozen=True, gc=False):
    """Old records cannot be forgotten, for that ``problem``, or without one they can again."""

    problem: str | None
    at: datetime


class RecordsInDoubt(Struct, frozen=True, gc=False):
    """Records that a gate which ended left without a verdict; they are in doubt now."""

    records: int
    at: datetime


class RecordsLost(Struct, frozen=True, gc=False):
    """Records that were to be kept, and never will be."""

    records: int
    problem: str
    at: datetime


class TaskGivenUp(Struct, frozen=True, gc=False):
    """An event or a report was not delivered to a destination, and is not tried again."""

    task_id: str
    kind: str
    message_id: str
    destination: Destination
    attempts: int
    problem: str
    at: datetime


KeyAction = Literal["noted", "reported", "slowed", "suspended"]


class KeyUseDiffers(Struct, frozen=True, gc=False, kw_only=True):
    """The use of an access key differs from its own history, and what was done about it."""

    key_id: str
    account_id: str
    user_name: str | None
    level: Level
    score: int
    findings: tuple[KeyFinding, ...]
    action: KeyAction
    at: datetime


class FeedbackTaken(Struct, frozen=True, gc=False, kw_only=True):
    """A message that came back: a report, an answer, or something about no message of ours.

    ``message_id`` is that of the message that it is about, ``account_id`` the account that
    sent this one; both are empty if that is not known. ``outcome`` is ``published`` for a
    report, ``forwarded`` or ``dropped`` for other mail, ``unknown`` without a message, and
    ``refused`` if its sender has to keep it.
    """

    kind: ReportKind
    outcome: FeedbackOutcome
    message_id: str = ""
    account_id: str = ""
    recipients: tuple[str, ...] = ()
    reply: Reply
    at: datetime


class RecordsPosted(Struct, frozen=True, gc=False):
    """A mail server posted records; how many have each outcome.

    ``accepted`` ones are about recipients of messages of the gate, ``ignored`` ones report
    nothing of a recipient, ``unknown`` ones are about other mail, and ``unread`` ones are not
    understood.
    """

    accepted: int
    ignored: int
    unknown: int
    unread: int
    at: datetime


class EventsRecorded(Struct, frozen=True, gc=False):
    """Events of messages are kept that came after the verdicts, and were not known before."""

    events: tuple[SendingEvent, ...]


class PostRefused(ClientEvent, frozen=True, gc=False):
    """A post of records was refused as a whole."""

    reason: PostRefusal
    problem: str


class ReputationChanged(Struct, frozen=True, gc=False):
    """The state of a rate of a sender changed, or the gate paused the sender for its rates."""

    before: Reputation
    after: Reputation
    at: datetime


class ReputationsJudged(Struct, frozen=True, gc=False):
    """A round of judgements ended; so many senders are not healthy, by kind and status."""

    troubled: Mapping[tuple[RatedKind, Status], int]


Event = (
    SubmissionDone
    | MailRefused
    | SessionOpened
    | SessionClosed
    | BudgetExhausted
    | CommandRefused
    | MessageCutOff
    | HandshakeFailed
    | ClientBanned
    | SessionsEnded
    | Authenticated
    | AuthFailed
    | ApiCalled
    | IdentityStateChanged
    | DkimAlarm
    | IdentitiesChecked
    | JournalChanged
    | DirectoryChanged
    | LedgerChanged
    | LedgerClockChanged
    | RetentionChanged
    | RecordsInDoubt
    | RecordsLost
    | TaskGivenUp
    | FeedbackTaken
    | KeyUseDiffers
    | ReputationChanged
    | ReputationsJudged
    | RecordsPosted
    | EventsRecorded
    | PostRefused
)
