"""Events as the path of a message publishes them, for the tests of their readers."""

from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec.structs import replace

from smtpgate.core.account import UNLIMITED, Account, Principal, SendingLimits
from smtpgate.core.address import Mailbox, ReversePath
from smtpgate.core.arn import user_arn
from smtpgate.core.events import (
    Authenticated,
    AuthFailed,
    BudgetExhausted,
    DkimAlarm,
    IdentitiesChecked,
    IdentityStateChanged,
    MailRefused,
    ReputationChanged,
    ReputationsJudged,
    SessionsEnded,
    SubmissionDone,
    SubmissionOutcome,
    UsedIdentity,
)
from smtpgate.core.limits import Charge, Subject
from smtpgate.core.limits.budget import BudgetName
from smtpgate.core.message.author import Author
from smtpgate.core.message.envelope import (
    SEND_RAW_EMAIL,
    Client,
    Envelope,
    SmtpFacts,
    Submission,
)
from smtpgate.core.proof.registered import IdentityTroubles
from smtpgate.core.reply import Reply, reply_of
from smtpgate.core.reputation.judgement import Reputation, SendingPause
from smtpgate.core.reputation.sender import RatedSender
from smtpgate.core.reputation.volume import Volume
from tests.support.world import DELEGATE, IDENTITY

AT: Final = datetime(2026, 11, 23, 10, 0, 0, 123456, UTC)
CLIENT: Final = Client(
    address="192.0.2.7",
    port=50123,
    listener="submission",
    protocol="ESMTPSA",
    is_tls=True,
    access_key_id="AKIAIOSFODNN7EXAMPLE",
    account_id=DELEGATE,
    smtp=SmtpFacts("client.example.org", "TLSv1.3", "AES256-SHA", "PLAIN"),
)
STRANGER: Final = replace(CLIENT, access_key_id="", account_id="")
MESSAGE: Final = (
    b"From: marketing@ses-example.com\r\nSubject: Spring sale\r\n\r\nHello Jane.\r\n"
)
_FROM: Final = Mailbox("marketing", "ses-example.com")


def done(
    outcome: SubmissionOutcome = "accepted",
    reason: str = "accepted",
    *,
    identity: str | None = IDENTITY,
    account: str = DELEGATE,
    recipients: int = 1,
    used_24h: int | None = None,
    max_24h_send: int = UNLIMITED,
    reply: Reply | None = None,
) -> SubmissionDone:
    """A submission that ended so, 12 ms after its final dot."""
    principal = Principal(
        Account(account, "Delegate sender", SendingLimits(max_24h_send, 10.0)),
        "mailer",
        user_arn(account, "mailer"),
        "AIDAMAILER",
    )
    to = tuple(Mailbox(f"jane{number}", "example.net") for number in range(recipients))
    event = SubmissionDone(
        submission=Submission(
            message_id="0100-1",
            principal=principal,
            client=CLIENT,
            action=SEND_RAW_EMAIL,
            envelope=Envelope.of(ReversePath(_FROM), to),
            message=MESSAGE,
            received_at=AT,
        ),
        charges=(Charge(Subject(account), principal.account.limits),),
        outcome=outcome,
        reason=reason,
        reply=reply or reply_of("accepted", message_id="0100-1"),
        authors=(Author(None, _FROM),),
        used=() if used_24h is None else (used_24h,),
        done_at=AT + timedelta(milliseconds=12),
        stage_s={"message": 0.0001, "authorization": 0.0002, "relay": 0.010},
    )
    if identity is not None:
        event.identities = (UsedIdentity("from", _FROM, identity, "named"),)
    return event


def authenticated() -> Authenticated:
    """A login."""
    return Authenticated(CLIENT, AT)


def sessions_ended(sessions: int) -> SessionsEnded:
    """Sessions whose access key expired."""
    return SessionsEnded("AKIAIOSFODNN7EXAMPLE", DELEGATE, "access-key-expired", sessions, AT)


def auth_failed(username: str = "AKIAIOSFODNN7EXAMPLE") -> AuthFailed:
    """Wrong credentials under that name."""
    return AuthFailed(STRANGER, AT, username, "invalid-credentials")


def budget_exhausted(budget: BudgetName) -> BudgetExhausted:
    """A client that has used up that budget."""
    return BudgetExhausted(CLIENT, AT, budget)


def mail_refused() -> MailRefused:
    """MAIL by an account whose quota is used up."""
    event = done(max_24h_send=200)
    submission = event.submission
    return MailRefused(
        message_id="0100-2",
        principal=submission.principal,
        client=CLIENT,
        charges=event.charges,
        reason="max-24h-send",
        detail=f"account {DELEGATE}: 0 of 200 recipients left, retry after 00:03:12",
        reply=reply_of("daily-quota"),
        at=AT,
    )


# Events of the judgement of senders.
REPUTATION_EVENTS: Final = (
    ReputationChanged(
        Reputation(sender=RatedSender.account(DELEGATE)),
        Reputation(
            sender=RatedSender.account(DELEGATE),
            bounce="pause",
            volume=Volume(AT, 10_000, 1_234, 5),
            changed_at=AT,
            pause=SendingPause("gate", "its bounce rate is 12.34 %", AT),
        ),
        AT,
    ),
    ReputationsJudged({("account", "SHUTDOWN"): 2}),
)
# Events of the verification of identities.
IDENTITY_EVENTS: Final = (
    IdentityStateChanged(IDENTITY, "888888888888", "success", AT, "no TXT record", AT),
    DkimAlarm(IDENTITY, "one", AT, "no TXT record is published", AT),
    IdentitiesChecked(IdentityTroubles(identities_missing=2, dkim_alarms=3)),
)
