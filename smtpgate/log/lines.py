"""Lines of the log: events and notes as JSON objects, one a line.

Those of messages are in ``messages``.

The first keys are always ``time``, ``level`` and ``event``. A key whose value is not known is
absent. No line has anything of a message's content but its addresses, nor a credential: readers
of the log are not readers of the mail.

A failed login begins with the text that fail2ban looks for, before anything that a client can
choose, and JSON's escapes keep the rest from looking like it::

    failregex = ^\\{"time":"[^"]*","level":"warning","event":"auth-failed","client":"<HOST>"
"""

import json
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal

from smtpgate.core.events import (
    ApiCalled,
    Authenticated,
    AuthFailed,
    BudgetExhausted,
    ClientBanned,
    ClientEvent,
    CommandRefused,
    DirectoryChanged,
    DkimAlarm,
    FeedbackTaken,
    HandshakeFailed,
    IdentityStateChanged,
    JournalChanged,
    KeyUseDiffers,
    LedgerChanged,
    LedgerClockChanged,
    MessageCutOff,
    PostRefused,
    RecordsInDoubt,
    RecordsLost,
    RecordsPosted,
    ReputationChanged,
    RetentionChanged,
    SessionsEnded,
    TaskGivenUp,
)
from smtpgate.core.limits.budget import BUDGETS, Budget
from smtpgate.core.moments import kept_microseconds
from smtpgate.core.reply import CATALOGUE
from smtpgate.log.flood import LinesLeftOut

Level = Literal["debug", "info", "warning", "error"]
LEVELS: Final[tuple[Level, ...]] = ("debug", "info", "warning", "error")

MAX_TEXT: Final = 1000
_MAX_TRACEBACK: Final = 8000


def time_text(at: datetime) -> str:
    """A moment as all lines have it."""
    second, us = divmod(kept_microseconds(at), 1_000_000)
    return f"{_second_text(second)}.{us // 1000:03}Z"


@lru_cache(maxsize=2)  # the lines of one second share it
def _second_text(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"


def _key_of(budget: Budget, listener: str) -> str:
    """The configuration key of a bound there; a port of the API has its section's name."""
    return budget.key.replace("listener.NAME", f"listener.{listener}").replace(
        "api.NAME", listener
    )


def _plain(value: object) -> str:
    return time_text(value) if isinstance(value, datetime) else str(value)


# Made once, because json.dumps makes a new one at each call that has arguments; looking for
# circles takes half of the time, and facts have none.
_encode: Final = json.JSONEncoder(
    separators=(",", ":"), default=_plain, check_circular=False
).encode


def line_of(at: datetime, level: Level, event: str, facts: Mapping[str, object]) -> bytes:
    """One line, with its line end; a fact that is ``None`` is not known."""
    known = {key: value for key, value in facts.items() if value is not None}
    line = {"time": time_text(at), "level": level, "event": event, **known}
    return _encode(line).encode("ascii") + b"\n"


def auth_failed_line(event: AuthFailed) -> bytes:
    """The line of a failed login; the address comes first, what the client claims last."""
    facts = {"reason": event.reason, "username": event.username[:MAX_TEXT]}
    if event.detail:
        facts["detail"] = event.detail[:MAX_TEXT]
    return _client_line(event, "warning", "auth-failed", facts)


def authenticated_line(event: Authenticated) -> bytes:
    """The line of a login, at level ``debug``."""
    return _client_line(event, "debug", "authenticated", {})


def api_called_line(event: ApiCalled) -> bytes:
    """The line of a call of the API, at level ``info``."""
    facts = {
        "request": event.request_id,
        "service": event.service,
        "operation": event.operation or None,
        "status": event.status,
        "fault": event.fault or None,
        "ms": round(event.seconds * 1000, 1),
    }
    return _client_line(event, "info", "api", facts)


def budget_line(event: BudgetExhausted) -> bytes:
    """The line of a client that has used up a budget, at level ``info``."""
    budget = BUDGETS[event.budget]
    facts = {
        "budget": event.budget,
        "key": _key_of(budget, event.client.listener),
        "code": CATALOGUE[budget.reply].code if budget.reply else None,
    }
    return _client_line(event, "info", "budget-exhausted", facts)


def command_refused_line(event: CommandRefused) -> bytes:
    """The line of a command that was refused, at level ``info``."""
    facts = {
        "verb": event.verb,
        "code": event.reply.code,
        "enhanced": event.reply.enhanced,
        "reason": event.reply.name or "upstream-reply",
        "text": event.reply.text[:MAX_TEXT],
    }
    return _client_line(event, "info", "command-refused", facts)


def message_cut_off_line(event: MessageCutOff) -> bytes:
    """The line of a message that ended before its final dot, at level ``info``."""
    facts = {"by": event.by, "octets": event.octets}
    return _client_line(event, "info", "message-cut-off", facts)


def handshake_failed_line(event: HandshakeFailed) -> bytes:
    """The line of a connection that failed before it was a session, at level ``info``."""
    return _client_line(event, "info", "handshake-failed", {"reason": event.problem})


def client_banned_line(event: ClientBanned) -> bytes:
    """The line of a client that is turned away from now on, at level ``warning``."""
    facts = {
        "network": event.network,
        "until": event.until.isoformat(timespec="seconds"),
        "number": event.number,
    }
    return _client_line(event, "warning", "client-banned", facts)


def left_out_line(at: datetime, left_out: LinesLeftOut) -> bytes:
    """The line that stands for the lines of a client that were left out in a minute."""
    facts = {"client": left_out.client, "left_out": left_out.events}
    return line_of(at, "info", "lines-left-out", facts)


def sessions_ended_line(event: SessionsEnded) -> bytes:
    """The line of sessions that ended with their access key, at level ``info``."""
    facts = {
        "access_key": event.access_key_id,
        "account": event.account_id,
        "reason": event.reason,
        "sessions": event.sessions,
    }
    return line_of(event.at, "info", "sessions-ended", facts)


def identity_line(event: IdentityStateChanged) -> bytes:
    """The line of an identity that was verified or failed, or whose record is missing."""
    is_fine = event.state == "success" and event.missing_since is None
    facts = {
        "identity": event.identity,
        "account": event.account_id,
        "state": event.state,
        "missing_since": event.missing_since,
        "problem": event.problem[:MAX_TEXT] or None,
    }
    return line_of(event.at, "info" if is_fine else "warning", "identity-state", facts)


def reputation_line(event: ReputationChanged) -> bytes:
    """The line of a sender whose state changed, or that was paused for its rates."""
    before, after = event.before, event.after
    sender, volume, pause = after.sender, after.volume, after.pause
    facts = {
        "kind": sender.kind,
        "account": sender.account_id,
        "owner": sender.owner_id or None,
        "name": sender.name or None,
        "status": after.status,
        "was": before.status,
        "bounce": after.bounce,
        "bounce_rate": round(volume.rate("bounce"), 5),
        "complaint": after.complaint,
        "complaint_rate": round(volume.rate("complaint"), 5),
        "recipients": volume.sent,
        "since": volume.since,
        "problem": pause.reason[:MAX_TEXT] if pause else None,
    }
    level: Level = "info" if after.status == "HEALTHY" else "warning"
    return line_of(event.at, level, "reputation", facts)


def dkim_alarm_line(event: DkimAlarm) -> bytes:
    """The line of a signing key whose published record is gone or differs, or is back."""
    facts = {
        "identity": event.identity,
        "selector": event.selector,
        "since": event.since,
        "problem": event.problem[:MAX_TEXT] or None,
    }
    return line_of(event.at, "warning" if event.since else "info", "dkim-alarm", facts)


def journal_line(event: JournalChanged) -> bytes:
    """The line of a journal that cannot be written, or can be again."""
    if event.problem is None:
        facts: dict[str, object] = {"written": event.records}
        return line_of(event.at, "info", "journal-written-again", facts)
    facts = {"problem": event.problem[:MAX_TEXT], "owed": event.records}
    return line_of(event.at, "error", "journal-failed", facts)


def directory_line(event: DirectoryChanged) -> bytes:
    """The line of a directory whose database cannot be asked, or can again."""
    if event.problem is None:
        facts: dict[str, object] = {"lasted_s": round(event.lasted_s, 3)}
        return line_of(event.at, "info", "directory-answers-again", facts)
    facts = {"problem": event.problem[:MAX_TEXT]}
    return line_of(event.at, "error", "directory-failed", facts)


def ledger_line(event: LedgerChanged) -> bytes:
    """The line of a ledger that cannot count, or can again."""
    if event.problem is None:
        facts: dict[str, object] = {"lasted_s": round(event.lasted_s, 3)}
        return line_of(event.at, "info", "ledger-counts-again", facts)
    return line_of(event.at, "error", "ledger-failed", {"problem": event.problem[:MAX_TEXT]})


def ledger_clock_line(event: LedgerClockChanged) -> bytes:
    """The line of a host whose clock differs from that of the ledger's store, or no more."""
    facts = {"skew_s": round(event.skew_s, 3), "problem": event.problem}
    return line_of(event.at, "warning" if event.problem else "info", "ledger-clock", facts)


def retention_line(event: RetentionChanged) -> bytes:
    """The line of a journal whose old records cannot be forgotten, or can be again."""
    if event.problem is None:
        return line_of(event.at, "info", "journal-retention-resumed", {})
    facts = {"problem": event.problem[:MAX_TEXT]}
    return line_of(event.at, "error", "journal-retention-failed", facts)


def records_in_doubt_line(event: RecordsInDoubt) -> bytes:
    """The line of records that a gate which was killed left without a verdict."""
    return line_of(event.at, "warning", "journal-in-doubt", {"records": event.records})


def records_lost_line(event: RecordsLost) -> bytes:
    """The line of records that the journal will never have."""
    facts = {"records": event.records, "problem": event.problem[:MAX_TEXT]}
    return line_of(event.at, "error", "journal-lost", facts)


def task_given_up_line(event: TaskGivenUp) -> bytes:
    """The line of an event or a report that a destination will not get."""
    facts = {
        "task": event.task_id,
        "id": event.message_id,
        "kind": event.kind,
        "destination": f"{event.destination.kind}:{event.destination.name}",
        "account": event.destination.account_id or None,
        "attempts": event.attempts,
        "problem": event.problem[:MAX_TEXT],
    }
    return line_of(event.at, "warning", "outbox-given-up", facts)


def feedback_line(event: FeedbackTaken) -> bytes:
    """The line of a message that came back."""
    facts = {
        "id": event.message_id or None,
        "account": event.account_id or None,
        "kind": event.kind,
        "outcome": event.outcome,
        "recipients": len(event.recipients),
        "code": event.reply.code,
        "enhanced": event.reply.enhanced,
    }
    level: Level = "warning" if event.outcome == "refused" else "info"
    return line_of(event.at, level, "feedback", facts)


def key_use_line(event: KeyUseDiffers) -> bytes:
    """The line of an access key whose use differs from before: a notice, or an alarm."""
    facts = {
        "access_key": event.key_id,
        "account": event.account_id,
        "user_name": event.user_name,
        "score": event.score,
        "signals": [one.signal for one in event.findings],
        "findings": [one.text[:MAX_TEXT] for one in event.findings],
        "action": event.action,
    }
    is_alarm = event.level == "alarm"
    return line_of(event.at, "warning" if is_alarm else "info", "key-use-differs", facts)


def records_posted_line(event: RecordsPosted) -> bytes:
    """The line of a post of records, at level ``info``; ``warning`` if some are unread."""
    facts = {
        "accepted": event.accepted,
        "ignored": event.ignored,
        "unknown": event.unknown,
        "unread": event.unread,
    }
    return line_of(event.at, "warning" if event.unread else "info", "records-posted", facts)


def post_refused_line(event: PostRefused) -> bytes:
    """The line of a post that was refused as a whole."""
    facts = {"reason": event.reason, "problem": event.problem}
    return _client_line(event, "warning", "post-refused", facts)


def error_line(at: datetime, error: BaseException) -> bytes:
    """The line of an unexpected error, with its traceback."""
    facts = {
        "error": type(error).__name__,
        "text": str(error)[:MAX_TEXT],
        "traceback": "".join(traceback.format_exception(error))[-_MAX_TRACEBACK:],
    }
    return line_of(at, "error", "unexpected-error", facts)


def _client_line(
    event: ClientEvent, level: Level, name: str, facts: Mapping[str, object]
) -> bytes:
    """The line of an event of one client: who it is, the facts, and its own name for itself."""
    client = event.client
    return line_of(
        event.at,
        level,
        name,
        {
            "client": client.address,
            "port": client.port or None,
            "listener": client.listener,
            "session": client.session_id or None,
            "proxy": client.smtp.proxy or None,
            "tls": client.smtp.tls_version or (None if client.is_tls else "none"),
            "certificate": client.certificate or None,
            "mechanism": client.smtp.mechanism or None,
            "access_key": client.access_key_id or None,
            "token": client.token[:MAX_TEXT] or None,
            "account": client.account_id or None,
            **facts,
            "helo": client.smtp.helo[:MAX_TEXT] or None,
        },
    )
