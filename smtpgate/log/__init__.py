"""The log: one JSON object a line, for each submission, failed login and event of the gate."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

from smtpgate.config.sections import LogConfig
from smtpgate.core.events import (
    ApiCalled,
    Authenticated,
    AuthFailed,
    BudgetExhausted,
    ClientBanned,
    CommandRefused,
    DirectoryChanged,
    DkimAlarm,
    Event,
    FeedbackTaken,
    HandshakeFailed,
    IdentityStateChanged,
    JournalChanged,
    KeyUseDiffers,
    LedgerChanged,
    LedgerClockChanged,
    MailRefused,
    MessageCutOff,
    PostRefused,
    RecordsInDoubt,
    RecordsLost,
    RecordsPosted,
    ReputationChanged,
    RetentionChanged,
    SessionsEnded,
    SubmissionDone,
    TaskGivenUp,
)
from smtpgate.log.flood import MINUTE_S, LinesLeftOut, RefusalFlood
from smtpgate.log.lines import (
    LEVELS,
    Level,
    api_called_line,
    auth_failed_line,
    authenticated_line,
    budget_line,
    client_banned_line,
    command_refused_line,
    directory_line,
    dkim_alarm_line,
    error_line,
    feedback_line,
    handshake_failed_line,
    identity_line,
    journal_line,
    key_use_line,
    ledger_clock_line,
    ledger_line,
    left_out_line,
    line_of,
    message_cut_off_line,
    post_refused_line,
    records_in_doubt_line,
    records_lost_line,
    records_posted_line,
    reputation_line,
    retention_line,
    sessions_ended_line,
    task_given_up_line,
)
from smtpgate.log.messages import mail_refused_line, submission_line
from smtpgate.log.writer import LineWriter
from smtpgate.ports import Clock, Reading

__all__ = ["JsonLog", "Level"]

# The level from which on each other event is logged (None: always), and its line.
_LINES: Final[Mapping[type[Event], tuple[Level | None, Callable[..., bytes]]]] = {
    MailRefused: (None, mail_refused_line),
    AuthFailed: (None, auth_failed_line),
    IdentityStateChanged: (None, identity_line),
    DkimAlarm: (None, dkim_alarm_line),
    ReputationChanged: (None, reputation_line),
    JournalChanged: (None, journal_line),
    DirectoryChanged: (None, directory_line),
    LedgerChanged: (None, ledger_line),
    LedgerClockChanged: (None, ledger_clock_line),
    RetentionChanged: (None, retention_line),
    RecordsInDoubt: (None, records_in_doubt_line),
    RecordsLost: (None, records_lost_line),
    TaskGivenUp: (None, task_given_up_line),
    FeedbackTaken: (None, feedback_line),
    KeyUseDiffers: (None, key_use_line),
    RecordsPosted: ("info", records_posted_line),
    PostRefused: ("info", post_refused_line),
    BudgetExhausted: ("info", budget_line),
    CommandRefused: ("info", command_refused_line),
    HandshakeFailed: ("info", handshake_failed_line),
    ClientBanned: (None, client_banned_line),
    MessageCutOff: ("info", message_cut_off_line),
    SessionsEnded: ("info", sessions_ended_line),
    Authenticated: ("debug", authenticated_line),
    ApiCalled: ("info", api_called_line),
}
# Events that a client can cause at will, without a login and without end.
_AtWill = BudgetExhausted | CommandRefused | HandshakeFailed | MessageCutOff | PostRefused
_NAMES: Final[Mapping[type[_AtWill], str]] = {
    BudgetExhausted: "budget-exhausted",
    CommandRefused: "command-refused",
    HandshakeFailed: "handshake-failed",
    MessageCutOff: "message-cut-off",
    PostRefused: "post-refused",
}
_RANK: Final = {level: rank for rank, level in enumerate(LEVELS)}


class Writer(Protocol):
    """Writes lines in their order; ``lost`` are those that were not written, by ``problem``."""

    lost: int
    problem: str | None

    def add(self, line: bytes) -> None:
        """Write a line soon."""

    async def flush(self) -> None:
        """Write all lines that wait."""

    async def close(self) -> None:
        """Write all lines that wait, and write no more."""


class JsonLog:
    """Writes events to ``stderr``, ``stdout`` or a file; implements the EventSink port.

    Outcomes of messages, changes of identities, keys and the journal, failed logins and errors
    are always logged. ``level`` is for notes, for refused commands, failed handshakes,
    exhausted budgets and sessions that end with their access key (``info``), and for logins
    (``debug``). Of lines that a client can cause at will, only ``refusals_per_minute`` are
    written for each client and event, and one line that counts the others; with ``debug`` all
    are written.
    """

    def __init__(
        self,
        settings: LogConfig,
        *,
        clock: Clock,
        writer: Writer | None = None,
    ) -> None:
        """Open the target, or write to that writer. Raises OSError."""
        self._flood = RefusalFlood(settings.refusals_per_minute)
        self._minute: asyncio.TimerHandle | None = None
        self._least = _RANK[settings.level]
        self._clock = clock
        self._with_recipients = settings.recipients
        self._writer: Writer = writer or LineWriter(
            str(settings.target), on_dropped=self._dropped_line, on_failed=self._failed_line
        )

    def publish(self, event: Event) -> None:
        """Log the event, if it is one for the log."""
        # The line is made now and not with the batch: an event holds its whole message.
        if isinstance(event, SubmissionDone):
            self._writer.add(submission_line(event, with_recipients=self._with_recipients))
        elif type(event) in _LINES:
            level, line = _LINES[type(event)]
            if level is not None and not self._is_logged(level):
                return
            if not isinstance(event, _AtWill) or self._passes(event):
                self._writer.add(line(event))

    def _passes(self, event: _AtWill) -> bool:
        """True if a line that a client can cause at will is written."""
        if self._is_logged("debug"):
            return True
        now_s = self._clock.monotonic()
        if left_out := self._flood.ended(now_s):
            self._end_minute(left_out)
        if self._flood.passes(event.client.address, _NAMES[type(event)], now_s):
            return True
        if self._minute is None:
            loop = asyncio.get_running_loop()
            self._minute = loop.call_later(
                MINUTE_S, lambda: self._end_minute(self._flood.end())
            )
        return False

    def _end_minute(self, left_out: Iterable[LinesLeftOut]) -> None:
        """Write the counts of a minute; its timer must not end the next minute."""
        if self._minute is not None:
            self._minute.cancel()
            self._minute = None
        for one in left_out:
            self._writer.add(left_out_line(self._clock.now(), one))

    def note(self, level: Level, what: str, **facts: object) -> None:
        """Log an event of the gate itself."""
        if self._is_logged(level):
            self._writer.add(line_of(self._clock.now(), level, what, facts))

    def error(self, error: BaseException) -> None:
        """Log an unexpected error, with its traceback."""
        self._writer.add(error_line(self._clock.now(), error))

    def stray_error(self, context: Mapping[str, Any]) -> None:
        """Log an error outside any task, such as in a callback of the event loop."""
        error = context.get("exception")
        if isinstance(error, BaseException):
            self.error(error)
        else:
            self.note("error", "event loop", problem=str(context.get("message", "")))

    def add_lines(self, lines: Iterable[bytes]) -> None:
        """Write lines that another process has made."""
        for line in lines:
            self._writer.add(line)

    def _is_logged(self, level: Level) -> bool:
        return _RANK[level] >= self._least

    async def flush(self) -> None:
        """Write all lines that wait."""
        await self._writer.flush()

    async def close(self) -> None:
        """Write everything and close the file."""
        self._end_minute(self._flood.end())
        await self._writer.close()

    def check(self) -> tuple[bool, str]:
        """The state of the log, for ``/readyz``; mail does not stop for it."""
        problem, lost = self._writer.problem, self._writer.lost
        return True, f"{problem}; {lost} lines lost" if problem else "open"

    def readings(self) -> Iterator[Reading]:
        """The number of lost lines, for a scrape."""
        yield Reading("smtpgate_log_lines_lost_total", self._writer.lost)

    def _failed_line(self, problem: str) -> bytes:
        return line_of(self._clock.now(), "error", "log-failed", {"problem": problem})

    def _dropped_line(self, lines: int) -> bytes:
        facts = {"lines": lines}
        return line_of(self._clock.now(), "error", "log lines dropped", facts)
