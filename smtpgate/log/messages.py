"""Lines of messages: of a submission with its verdict, and of a MAIL command that was refused.

They are most of the log, and part of what a message costs; so they are structs, which are
encoded fast. What each line may have is declared here, in the order of its keys. Parts that the
messages of a sender share are encoded once.
"""

from operator import attrgetter
from typing import Final

from msgspec import Raw, Struct, field

from smtpgate.core.account import Principal
from smtpgate.core.events import MailRefused, SubmissionDone, UsedIdentity
from smtpgate.core.limits import Crossing
from smtpgate.core.made_once import made_once
from smtpgate.core.message.author import Author
from smtpgate.core.message.envelope import Client
from smtpgate.core.moments import seconds_between
from smtpgate.core.policy import Decision
from smtpgate.json_text import json_members, json_part
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


class _Verdict(Struct, gc=False, omit_defaults=True):
    """The first keys of a line; a key whose value is not known is absent."""

    time: str
    level: Level
    event: str
    id: str
    outcome: str
    reason: str
    detail: str | None = None
    code: int | None = None
    enhanced: str | None = None


class _Sender(Struct, gc=False):
    """The next keys, which are the same for all messages of a sender."""

    account: str
    user: str


class _Client(Struct, gc=False, omit_defaults=True, kw_only=True):
    """The next keys, which are the same for all messages of a session."""

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


class _Message(Struct, gc=False, omit_defaults=True, kw_only=True):
    """The last keys, which only a submission has."""

    mail_from: str
    recipients: int
    rcpt_to: list[str] | None = None
    octets: int
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
    stage_ms: dict[str, float]
    total_ms: float | None = None


def submission_line(done: SubmissionDone, *, with_recipients: bool) -> bytes:
    """The line of a submission: sender, client, recipients, outcome and reason."""
    submission, reply = done.submission, done.reply
    verdict = _Verdict(
        time_text(done.done_at or submission.received_at),
        _level(done),
        "submission",
        submission.message_id,
        done.outcome,
        done.reason,
        done.detail[:MAX_TEXT] or None,
        None if reply is None else reply.code,
        None if reply is None else reply.enhanced,
    )
    message = json_members(_message(done, with_recipients=with_recipients))
    return b"{%b,%b,%b,%b}\n" % (
        json_members(verdict),
        _sender(submission.principal),
        _client(submission.client),
        message,
    )


def mail_refused_line(event: MailRefused) -> bytes:
    """The line of a MAIL command that was refused, so that no message came."""
    verdict = _Verdict(
        time_text(event.at),
        "warning",
        "mail-refused",
        event.message_id,
        "deferred" if event.reply.is_transient else "refused",
        event.reason,
        event.detail[:MAX_TEXT],
        event.reply.code,
        event.reply.enhanced,
    )
    return b"{%b,%b,%b}\n" % (
        json_members(verdict),
        _sender(event.principal),
        _client(event.client),
    )


def _message(done: SubmissionDone, *, with_recipients: bool) -> _Message:
    """The envelope, what was decided on the message, and what became of it."""
    submission, answer = done.submission, done.upstream_reply
    envelope, ended_at = submission.envelope, done.done_at
    message = _Message(
        mail_from=envelope.reverse_path.text,
        recipients=len(envelope.recipients),
        rcpt_to=[*map(_TEXT, envelope.mailboxes)] if with_recipients else None,
        octets=len(submission.message),
        authors=_authors(done.authors) if done.authors else None,
        identities=_identities(done.identities) if done.identities else None,
        decision=None if done.decision is None else _decision(done.decision),
        used_24h=done.used_24h,
        signing_domain=done.signing_domain,
        selectors=done.selectors or None,
        route=done.route or None,
        route_reason=done.route_reason or None,
        upstream=done.upstream,
        upstream_reply=None if answer is None else str(answer)[:MAX_TEXT],
        stage_ms={
            stage: int(seconds * 1_000_000) / 1000 for stage, seconds in done.stage_s.items()
        },
        total_ms=None
        if ended_at is None
        else _ms(seconds_between(submission.received_at, ended_at)),
    )
    _add_odd(message, done, with_recipients=with_recipients)
    return message


def _add_odd(message: _Message, done: SubmissionDone, *, with_recipients: bool) -> None:
    """Add what few messages have."""
    if done.crossings:
        message.quota_reached = [_quota_reached(one) for one in done.crossings]
    if done.paced_s:
        message.paced_ms = _ms(done.paced_s) or None
    if done.uncounted:
        message.uncounted = done.uncounted[:MAX_TEXT]
    if done.long_line is not None:
        message.long_line = done.long_line
    if done.tried:
        message.tried = [
            _Tried(one.upstream, one.cause, one.problem[:MAX_TEXT]) for one in done.tried
        ]
    if done.refused:
        message.refused = [
            _Refused(str(one.reply), str(one.mailbox) if with_recipients else None)
            for one in done.refused
        ]
    if done.withheld:
        message.withheld = [
            _Withheld(one.outcome, one.mailbox.text if with_recipients else None)
            for one in done.withheld
        ]
    if done.return_path is not None:
        message.return_path = str(done.return_path)


@made_once
def _sender(principal: Principal) -> bytes:
    return json_members(_Sender(principal.account.id, principal.arn))


@made_once
def _client(client: Client) -> bytes:
    smtp = client.smtp
    return json_members(
        _Client(
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
    )


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
