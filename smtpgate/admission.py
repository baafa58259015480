"""Admission: what a sender may do before its message has arrived.

The SMTP session asks at MAIL and at RCPT, so that no message is sent for nothing. The answers
come from the sender's quota and from the verdicts on its earlier messages, which the pipeline
notes here. The check that counts is the pipeline's, of the whole message.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from msgspec import Struct

from smtpgate.core.account import AccessKey
from smtpgate.core.address import Mailbox, ReversePath
from smtpgate.core.authorization.charges import charges_of
from smtpgate.core.events import MailRefused
from smtpgate.core.limits import Charge, LimitExceededError
from smtpgate.core.limits.token_buckets import TokenBuckets
from smtpgate.core.message.envelope import Client, Submission
from smtpgate.core.reply import Reject, Reply
from smtpgate.core.upstream import Answered
from smtpgate.core.upstream.refused_recipients import RefusedRecipients
from smtpgate.core.upstream.verdict import answers_at_next_try, worded
from smtpgate.ports import (
    Clock,
    Directory,
    DirectoryUnavailableError,
    EventSink,
    Ledger,
    LedgerUnavailableError,
)

# An account with fewer refusals left than this waits before its next one.
_FEW_REFUSALS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionRules:
    """The time to remember refusals of recipients, and the bound on refused messages.

    An account may have ``max_refusals`` messages refused at once, and ``refusals_per_minute``
    in the long run. When it has none left, each refusal comes ``refusal_delay_s`` later.
    ``remember_only_deferred``: recipients that the upstream refuses for good bounce.
    """

    remember_refused_s: float = 7200
    max_refusals: int = 300
    refusals_per_minute: int = 60
    refusal_delay_s: float = 1
    remember_only_deferred: bool = False


class RefusedMessage(Struct, frozen=True, gc=False, tag=True, array_like=True):
    """The gate itself refused a message of the account."""

    account_id: str


class RecipientsNote(Struct, frozen=True, gc=False, tag=True, array_like=True):
    """Answers of the upstream to recipients, for the client's next try."""

    account_id: str
    reverse_path: ReversePath
    answers: list[tuple[Mailbox, Reply]]


class RecipientsSeen(Struct, frozen=True, gc=False, tag=True, array_like=True):
    """The client has the answers of these recipients."""

    account_id: str
    reverse_path: ReversePath
    mailboxes: list[Mailbox]


Note: TypeAlias = RefusedMessage | RecipientsNote | RecipientsSeen

Tell = Callable[[Note], None]
"""Has the other processes of the gate take a note: a client's next try may come to one."""


class Admission:
    """Answers sessions before a message, and remembers verdicts. It belongs to one loop."""

    def __init__(
        self,
        rules: AdmissionRules,
        *,
        directory: Directory,
        ledger: Ledger,
        events: EventSink,
        clock: Clock,
        new_message_id: Callable[[datetime], str],
        on_error: Callable[[BaseException], None],
        tell_peers: Tell | None = None,
    ) -> None:
        self._rules = rules
        self._tell_peers = tell_peers
        self._directory = directory
        self._ledger = ledger
        self._events = events
        self._clock = clock
        self._new_message_id = new_message_id
        self._on_error = on_error
        self._refused = RefusedRecipients(rules.remember_refused_s)
        self._refusals = _buckets(rules)

    def use(self, rules: AdmissionRules) -> None:
        """Answer by other rules; what is remembered by a rule that stays is kept."""
        before, self._rules = self._rules, rules
        if rules.remember_refused_s != before.remember_refused_s:
            self._refused = RefusedRecipients(rules.remember_refused_s)
        of_refusals = rules.max_refusals, rules.refusals_per_minute
        if of_refusals != (before.max_refusals, before.refusals_per_minute):
            self._refusals = _buckets(rules)

    # -- before a message ----------------------------------------------------------------------

    def has_refusals_left(self, account_id: str) -> bool:
        """True if the account may try a message: not after too many refused ones."""
        return self._refusals.has_any(account_id, self._clock.monotonic())

    @property
    def has_full_quotas(self) -> bool:
        """False if :meth:`refusal_at_mail` would refuse nobody at this moment."""
        return self._ledger.has_full_quotas

    async def refusal_at_mail(self, key: AccessKey, client: Client) -> Reply | None:
        """The reply to MAIL of a sender whose 24-hour quota is used up; ``None`` for others.

        Whatever cannot be checked now lets the sender go on.
        """
        now, charges = self._clock.now(), tuple[Charge, ...]()
        try:
            # Its limits may have been raised since the login.
            current = await self._directory.access_key(key.id)
            key = current or key
            charges = charges_of(key.principal, key.id, key.limits, now)
            await self._ledger.check(charges, now)
        except LimitExceededError as error:
            return self._refuse_mail(key, client, charges, error, now)
        except (DirectoryUnavailableError, LedgerUnavailableError):
            return None
        except Exception as error:  # noqa: BLE001 - the message will show what is wrong
            self._on_error(error)
        return None

    def refusal_at_rcpt(
        self, account_id: str, reverse_path: ReversePath, mailbox: Mailbox
    ) -> Reply | None:
        """The upstream's reply to that recipient when it refused a part of the message."""
        now_s = self._clock.monotonic()
        return self._refused.find(account_id, reverse_path, mailbox, now_s)

    def forget_refused(
        self, account_id: str, reverse_path: ReversePath, mailboxes: Iterable[Mailbox]
    ) -> None:
        """The client has these refusals: the upstream is tried again soon."""
        if mailboxes := list(mailboxes):
            self._tell(RecipientsSeen(account_id, reverse_path, mailboxes))

    def delay_s(self, account_id: str) -> float:
        """The delay before the account gets another refusal."""
        left = self._refusals.left(account_id, self._clock.monotonic())
        return self._rules.refusal_delay_s if left < _FEW_REFUSALS else 0

    # -- what the pipeline notes ---------------------------------------------------------------

    def note_refusal(self, account_id: str) -> None:
        """The gate itself refused a message of the account."""
        self._tell(RefusedMessage(account_id))

    def note_refused_recipients(self, delivery: Answered, submission: Submission) -> None:
        """Keep the upstream's refusals of recipients for the client's next try."""
        answers = [
            (mailbox, worded(Reject(reply, "upstream-reply"), submission.message_id))
            for mailbox, reply in answers_at_next_try(
                delivery, only_deferred=self._rules.remember_only_deferred
            )
        ]
        if answers:
            account_id = submission.principal.account.id
            reverse_path = submission.envelope.reverse_path
            self._tell(RecipientsNote(account_id, reverse_path, answers))

    def take(self, note: Note) -> None:
        """Take a note, of this process or of another."""
        now_s = self._clock.monotonic()
        match note:
            case RefusedMessage(account_id):
                self._refusals.take(account_id, now_s)
            case RecipientsNote(account_id, reverse_path, answers):
                self._refused.note(account_id, reverse_path, answers, now_s)
            case RecipientsSeen(account_id, reverse_path, mailboxes):
                self._refused.forget_soon(account_id, reverse_path, mailboxes, now_s)

    def _tell(self, note: Note) -> None:
        self.take(note)
        if self._tell_peers is not None:
            self._tell_peers(note)

    # -- inside --------------------------------------------------------------------------------

    def _refuse_mail(
        self,
        key: AccessKey,
        client: Client,
        charges: tuple[Charge, ...],
        error: LimitExceededError,
        now: datetime,
    ) -> Reply:
        refusal, message_id = Reject.of(error.limit, str(error)), self._new_message_id(now)
        reply = worded(refusal, message_id)
        self._events.publish(
            MailRefused(
                message_id=message_id,
                principal=key.principal,
                client=client,
                charges=charges,
                reason=refusal.reason,
                detail=refusal.detail,
                reply=reply,
                at=now,
            )
        )
        return reply


def _buckets(rules: AdmissionRules) -> TokenBuckets:
    """The refusals that accounts have left."""
    return TokenBuckets(rules.max_refusals, 60 / rules.refusals_per_minute)
