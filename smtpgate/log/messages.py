"""Lines of messages: of a submission with its verdict, and of a MAIL command that was refused.

They are most of the log, and part of what a message costs; so they are structs, which are
encoded fast. What each line may have is declared here, in the order of its keys. Parts that the
messages of a sender share are encoded once.
"""

from datetime import datetime
from operator import attrgetter
from typing import Final

from msgspec import Raw, Struct, field

from smtpgate.core.account import Principal
from smtpgate.core.events import MailRefused, SubmissionDone, UsedIdentity
from smtpgate.core.limits import Crossing
from smtpgate.core.made_once import made_once
from smtpgate.core.message.author import Author
from smtpgate.core.message.envelope import Client
from smtpgate.core.policy import Decision
from smtpgate.json_text import json_octets, json_part
from smtpgate.log.lines import MAX_TEXT, Level, time_text

_MAX_ITEMS: Final = 20
_TEXT: Final = attrgetter("text")


class _Identity(Struct, gc=False):
    role: str
    address: str
    arn: str
    how: str


class _Statement(Struct, gc=False):
    side: str
    policy: str
    sid: str | None
    index: int


class _Decision(Struct, gc=False, omit_defaults=True):
    outcome: str
    determining: list[_Statement]
    nearest_miss: str | None = None


class _Refused(Struct, gc=False, omit_defaults=True):
    """A recipient that the upstream refused while it accepted the message."""

    reply: str
    rcpt_to: str | None = None


class _Withheld(Struct, gc=False, omit_defaults=True):
    """A recipient that an accepted message was not sent to."""

    outcome: str
    rcpt_to: str | None = None


class _QuotaReached(Struct, gc=False):
    subject: str
    percent: int
    used_24h: int
    max_24h_send: int


class _Tried(Struct, gc=False):
    """An upstream that was of no use for the message."""

    upstream: str
    cause: str
    problem: str


class _Line(Struct, gc=False, omit_defaults=True, kw_only=True):
    """A line; a key whose value is not known is absent."""

    time: str
    level: Level
    event: str
    id: str
    outcome: str | None = None
    reason: str | None = None
    detail: str | None = None
    code: int | None = None
    enhanced: str | None = None
    account: str
    user: str
    access_key: str
    token: str | None = None
    client: str
    port: int | None = None
    helo: str
    listener: str
    session: str | None = None
    protocol: str
    proxy: str | None = None
    mechanism: str | None = None
    tls: str | None = None
    mail_from: str | None = None
    recipients: int | None = None
    rcpt_to: list[str] | None = None
    octets: int | None = None
    authors: Raw | None = field(default=None, name="from")
    identities: Raw | None = None
    decision: Raw | None = None
    used_24h: int | None = None
    quota_reached: list[_QuotaReached] | None = None
    paced_ms: float | None = None
    uncounted: str | None = None
    long_line: int | None = None
    signing_domain: str | None = None
    selectors: tuple[str, ...] | None = None
    route: str | None = None
    route_reason: str | None = None
    tried: list[_Tried] | None = None
    upstream: str | None = None
    upstream_reply: str | None = None
    refused: list[_Refused] | None = None
    withheld: list[_Withheld] | None = None
    return_path: str | None = None
    stage_ms: dict[str, float] | None = None
    total_ms: float | None = None


def submission_line(done: SubmissionDone, *, with_recipients: bool) -> bytes:
    """The line of a submission: sender, client, recipients, outcome and reason."""
    submission, reply = done.submission, done.reply
    line = _begun(
        done.done_at or submission.received_at,
        _level(done),
        "submission",
        submission.message_id,
        submission.principal,
        submission.client,
    )
    line.outcome, line.reason = done.outcome, done.reason
    line.detail = done.detail[:MAX_TEXT] or None
    if reply is not None:
        line.code, line.enhanced = reply.code, reply.enhanced
    _add_message(line, done, with_recipients=with_recipients)
    if done.decision is not None:
        line.decision = _decision(done.decision)
    line.used_24h = done.used_24h
    if done.crossings:
        line.quota_reached = [_quota_reached(one) for one in done.crossings]
    if done.paced_s:
        line.paced_ms = _ms(done.paced_s) or None
    line.uncounted = done.uncounted[:MAX_TEXT] or None
    line.long_line = done.long_line
    line.signing_domain, line.selectors = done.signing_domain, done.selectors or None
    answer, line.upstream = done.upstream_reply, done.upstream
    line.upstream_reply = None if answer is None else str(answer)[:MAX_TEXT]
    line.route, line.route_reason = done.route or None, done.route_reason or None
    if done.tried:
        line.tried = [
            _Tried(one.upstream, one.cause, one.problem[:MAX_TEXT]) for one in done.tried
        ]
    if done.refused:
        line.refused = [
            _Refused(str(one.reply), str(one.mailbox) if with_recipients else None)
            for one in done.refused
        ]
    if done.withheld:
        line.withheld = [
            _Withheld(one.outcome, one.mailbox.text if with_recipients else None)
            for one in done.withheld
        ]
    line.return_path = None if done.return_path is None else str(done.return_path)
    line.stage_ms = {
        stage: int(seconds * 1_000_000) / 1000 for stage, seconds in done.stage_s.items()
    }
    if done.done_at is not None:
        line.total_ms = _ms((done.done_at - submission.received_at).total_seconds())
    return json_octets(line) + b"\n"


def mail_refused_line(event: MailRefused) -> bytes:
    """The line of a MAIL command that was refused, so that no message came."""
    line = _begun(
        event.at, "warning", "mail-refused", event.message_id, event.principal, event.client
    )
    line.outcome = "deferred" if event.reply.is_transient else "refused"
    line.reason, line.detail = event.reason, event.detail[:MAX_TEXT]
    line.code, line.enhanced = event.reply.code, event.reply.enhanced
    return json_octets(line) + b"\n"


def _begun(
    at: datetime,
    level: Level,
    event: str,
    message_id: str,
    principal: Principal,
    client: Client,
) -> _Line:
    """A line with its sender, and no verdict yet."""
    smtp = client.smtp
    return _Line(
        time=time_text(at),
        level=level,
        event=event,
        id=message_id,
        account=principal.account.id,
        user=principal.arn,
        access_key=client.access_key_id,
        token=client.token[:MAX_TEXT] or None,
        client=client.address,
        port=client.port or None,
        helo=smtp.helo[:MAX_TEXT],
        listener=client.listener,
        session=client.session_id or None,
        protocol=client.protocol,
        proxy=smtp.proxy or None,
        mechanism=smtp.mechanism or None,
        tls=smtp.tls_version,
    )


def _add_message(line: _Line, done: SubmissionDone, *, with_recipients: bool) -> None:
    """Add the envelope, the authors and the identities."""
    submission = done.submission
    envelope = submission.envelope
    line.mail_from, line.octets = envelope.reverse_path.text, len(submission.message)
    line.recipients = len(envelope.recipients)
    if with_recipients:
        line.rcpt_to = [*map(_TEXT, envelope.mailboxes)]
    if done.authors:
        line.authors = _authors(done.authors)
    if done.identities:
        line.identities = _identities(done.identities)


def _level(done: SubmissionDone) -> Level:
    if done.reason == "internal-error":
        return "error"
    is_odd = done.crossings or done.uncounted or done.long_line or done.tried
    return "info" if done.outcome == "accepted" and not is_odd else "warning"


def _quota_reached(crossing: Crossing) -> _QuotaReached:
    charge = crossing.charge
    return _QuotaReached(
        str(charge.subject), crossing.percent, crossing.used_24h, charge.limits.max_24h_send
    )


@made_once
def _authors(authors: tuple[Author, ...]) -> Raw:
    return json_part([author.mailbox.text for author in authors[:_MAX_ITEMS]])


@made_once
def _identities(identities: tuple[UsedIdentity, ...]) -> Raw:
    return json_part(
        [
            _Identity(used.role, used.address.text, used.arn, used.how)
            for used in identities[:_MAX_ITEMS]
        ]
    )


@made_once
def _decision(decision: Decision) -> Raw:
    miss = decision.nearest_miss
    return json_part(
        _Decision(
            decision.outcome,
            [
                _Statement(one.side, one.policy, one.sid, one.index)
                for one in decision.determining[:_MAX_ITEMS]
            ],
            None if miss is None else str(miss)[:MAX_TEXT],
        )
    )


def _ms(seconds: float) -> float:
    return int(seconds * 1_000_000) / 1000
