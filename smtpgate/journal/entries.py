"""Events as entries of the journal: what is written of a message, a login, a MAIL command."""

import os
from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from smtpgate.config.sections import JournalConfig
from smtpgate.core.events import AuthFailed, Event, MailRefused, SubmissionDone
from smtpgate.core.history.record import (
    Beginning,
    Record,
    Verdict,
    beginning_of,
    login_record,
    mail_record,
    verdict_of,
)
from smtpgate.core.limits.token_buckets import TokenBuckets
from smtpgate.core.message_id import RANDOM_OCTETS, message_id
from smtpgate.core.outbox.event import SendingEvent
from smtpgate.core.reason import reason_row
from smtpgate.journal.events import EventRow, event_rows
from smtpgate.journal.rows import row_of, with_verdict
from smtpgate.journal.statements import Entry
from smtpgate.journal.tasks import task_rows
from smtpgate.journal.terms import TermKey
from smtpgate.ports import Clock

# At this pace the logins of 30 days take less than a quarter of the default max_octets.
_LOGINS_AT_ONCE: Final = 1000
_LOGIN_EVERY_S: Final = 10.0
# At this pace an account's refused messages of 30 days take less than half of it.
_REFUSALS_AT_ONCE: Final = 500
_REFUSAL_EVERY_S: Final = 60.0

RECORDED: Final = (AuthFailed, MailRefused)
"""The events that are recorded as they are; a submission comes through the store."""


class Entries:
    """Makes entries, and decides which refusals get one.

    Anyone can cause refusals. If an account's messages, or logins, are refused again and again,
    only some of them get rows: all of them would displace other rows. ``on_left_out`` is called
    for each of the others. ``writer`` is the number of the gate that completes the records.
    """

    def __init__(
        self,
        settings: JournalConfig,
        key: TermKey,
        writer: int | None,
        *,
        clock: Clock,
        on_left_out: Callable[[], None],
        workers: int = 1,
    ) -> None:
        """With several ``workers``, each makes its part of the rows of refusals."""
        self.key = key
        self._settings = settings
        self._writer = writer
        self._clock = clock
        self._on_left_out = on_left_out
        self._begun: dict[str, Entry] = {}
        self._login_rows = TokenBuckets(
            max(1, _LOGINS_AT_ONCE // workers), _LOGIN_EVERY_S * workers
        )
        self._refusal_rows = TokenBuckets(
            max(1, _REFUSALS_AT_ONCE // workers), _REFUSAL_EVERY_S * workers
        )

    def beginning(self, done: SubmissionDone) -> Entry:
        """The entry of a submission before its relay."""
        beginning = self._beginning(done)
        row, texts = row_of(beginning, self._writer)
        terms = self.key.before_relay(beginning.parties, done.submission.envelope.mailboxes)
        return Entry(row=row, texts=texts, early_terms=b"".join(terms), is_final=False)

    def _beginning(self, done: SubmissionDone) -> Beginning:
        settings = self._settings
        return beginning_of(
            done, keep_recipients=settings.recipients, keep_subject=settings.subject
        )

    def begun(self, entry: Entry) -> None:
        """Remember that the row is there."""
        self._begun[entry.row.id] = entry

    def ending(self, done: SubmissionDone) -> Entry | None:
        """The verdict, or the whole record of a submission that was not begun.

        ``None`` for a refusal that gets no row.
        """
        submission, verdict = done.submission, verdict_of(done)
        if not self._settings.recipients:
            verdict = verdict.without_addresses
        begun = self._begun.pop(submission.message_id, None)
        is_senders = done.outcome == "refused" or reason_row(done.reason).is_sender_controlled
        account_id = submission.principal.account.id
        if begun is None and is_senders and not self._has_room(account_id):
            return None
        entry = begun or self.beginning(done)
        return replace(
            entry,
            row=with_verdict(entry.row, verdict),
            late_terms=self._late_terms(done, verdict),
            is_final=True,
            is_begun=begun is not None,
            may_be_there=done.may_be_recorded,
            tasks=None if done.tasks is None else task_rows(done.tasks, "waiting"),
            events=None if done.events is None else self.event_rows(done.events),
            configuration_set=done.configuration_set if done.outcome == "accepted" else "",
        )

    def event_rows(
        self, events: Sequence[SendingEvent], *, is_provisional: bool = False
    ) -> tuple[EventRow, ...]:
        """The rows of events, with addresses only where the journal keeps recipients."""
        return event_rows(
            events, with_addresses=self._settings.recipients, is_provisional=is_provisional
        )

    def _late_terms(self, done: SubmissionDone, verdict: Verdict) -> bytes:
        """The terms of the verdict; an accepted message, as most are, has none."""
        if done.outcome == "accepted":
            return b""
        return b"".join(self.key.of_verdict(verdict, self._beginning(done).parties))

    def of_event(self, event: Event) -> Entry | None:
        """The entry of a login or a MAIL command that was refused; ``None`` of other events."""
        if isinstance(event, AuthFailed):
            if self._login_rows.take("", self._clock.monotonic()):
                record_id = message_id(event.at, os.urandom(RANDOM_OCTETS))
                return self._whole(login_record(event, record_id))
            self._on_left_out()
        elif isinstance(event, MailRefused) and self._has_room(event.principal.account.id):
            return self._whole(mail_record(event))
        return None

    def _has_room(self, account_id: str) -> bool:
        """True if another refusal of that account gets a row."""
        has_room = self._refusal_rows.take(account_id, self._clock.monotonic())
        if not has_room:
            self._on_left_out()
        return has_room

    def _whole(self, record: Record) -> Entry:
        (row, texts), verdict, key = row_of(record), record.verdict, self.key
        row = with_verdict(row, verdict)
        if record.kind == "login":
            early, late = (
                frozenset({key.username(record.username)}),
                key.of_verdict(verdict, None),
            )
        else:
            early, late = (
                key.before_relay(record.parties),
                key.of_verdict(verdict, record.parties),
            )
        return Entry(
            row=row, texts=texts, early_terms=b"".join(early), late_terms=b"".join(late)
        )
