"""Lines of messages: of a submission with its verdict, and of a MAIL command that was refused.

They are most of the log, and part of what a message costs; so they are structs, which are
encoded fast. What each line may have is declared here, in the order of its keys. Parts that the
messages of a sender share are encoded once.
"""

from operator import attrgetter
from typing import Final

from msgspec import Struct, field

from smtpgate.core.events import MailRefused, Stage, SubmissionDone, UsedIdentity
from smtpgate.core.limits import Crossing
from smtpgate.core.made_once import made_once_with
from smtpgate.core.message.author import Author
from smtpgate.core.message.envelope import Client
from smtpgate.core.moments import seconds_between
from smtpgate.core.policy import Decision
from smtpgate.json_text import json_members
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
    """The first keys of a refused MAIL command; a key whose value is not known is absent."""

    time: str
    level: Level
    event: str
    id: str
    outcome: str
    reason: str
    detail: str | None = None
    code: int | None = None
    enhanced: str | None = None


class _Message(_Verdict, gc=False, omit_defaults=True):
    """The first keys of a submission, with those that differ from message to message.

    It is made by position: to pass so many values by name takes as long as to encode them.
    """

    mail_from: str | None = None
    recipients: int | None = None
    rcpt_to: list[str] | None = None
    octets: int | None = None
    used_24h: int | None = None
    upstream: str | None = None
    upstream_reply: str | None = None
    return_path: str | None = None
    stage_ms: dict[Stage, float] | None = None
    total_ms: float | None = None


class _Origin(Struct, gc=False, omit_defaults=True, kw_only=True):
    """The next keys, which are the same for all messages of a session."""

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


class _Decided(Struct, gc=False, omit_defaults=True, kw_only=True):
    """The decisions on a message, which are mostly the same for all messages of a sender."""

    authors: list[str] | None = field(default=None, name="from")
    identities: list[_Identity] | None = None
    decision: _Decision | None = None
    signing_domain: str | None = None
    selectors: tuple[str, ...] | None = None
    route: str | None = None
    route_reason: str | None = None


class _Odd(Struct, gc=False, omit_defaults=True):
    """The last keys, which few messages have."""

    quota_reached: list[_QuotaReached] | None = None
    paced_ms: float | None = None
    uncounted: str | None = None
    long_line: int | None = None
    tried: list[_Tried] | None = None
    refused: list[_Refused] | None = None
    withheld: list[_Withheld] | None = None


def submission_line(done: SubmissionDone, *, with_recipients: bool) -> bytes:
    """The line of a submission: sender, client, recipients, outcome and reason."""
    submission, principal = done.submission, done.submission.principal
    parts = (
        b"{",
        json_members(_message(done, with_recipients=with_recipients)),
        b",",
        _origin(submission.client, principal.account.id, principal.arn),
        _decided(
            done.authors,
            done.identities,
            done.decision,
            done.signing_domain,
            done.selectors,
            done.route,
            done.route_reason,
        ),
        _odd(done, with_recipients=with_recipients) if _is_odd(done) else b"",
        b"}\n",
    )
    return b"".join(parts)


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
    principal = event.principal
    origin = _origin(event.client, principal.account.id, principal.arn)
    return b"{%b,%b}\n" % (json_members(verdict), origin)


def _message(done: SubmissionDone, *, with_recipients: bool) -> _Message:
    """The verdict, the envelope, and what became of the message."""
    submission, reply, answer = done.submission, done.reply, done.upstream_reply
    envelope, began_at, ended_at = submission.envelope, submission.received_at, done.done_at
    return _Message(
        time_text(ended_at or began_at),
        _level(done),
        "submission",
        submission.message_id,
        done.outcome,
        done.reason,
        done.detail[:MAX_TEXT] or None,
        None if reply is None else reply.code,
        None if reply is None else reply.enhanced,
        envelope.reverse_path.text,
        len(envelope.recipients),
        [*map(_TEXT, envelope.mailboxes)] if with_recipients else None,
        len(submission.message),
        done.used_24h,
        done.upstream,
        None if answer is None else str(answer)[:MAX_TEXT],
        None if done.return_path is None else str(done.return_path),
        {stage: int(seconds * 1_000_000) / 1000 for stage, seconds in done.stage_s.items()},
        None if ended_at is None else _ms(seconds_between(began_at, ended_at)),
    )


@made_once_with
def _origin(client: Client, account: str, user: str) -> bytes:
    """The members of the client and its sender."""
    smtp = client.smtp
    return json_members(
        _Origin(
            account=account,
            user=user,
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


@made_once_with
def _decided(
    authors: tuple[Author, ...],
    identities: tuple[UsedIdentity, ...],
    decision: Decision | None,
    signing_domain: str | None,
    selectors: tuple[str, ...],
    route: str,
    route_reason: str,
) -> bytes:
    """The members of what was decided, each with a comma before it."""
    return _behind_others(
        _Decided(
            authors=[author.mailbox.text for author in authors[:_MAX_ITEMS]] or None,
            identities=[
                _Identity(used.role, used.address.text, used.arn, used.how)
                for used in identities[:_MAX_ITEMS]
            ]
            or None,
            decision=None if decision is None else _decision(decision),
            signing_domain=signing_domain,
            selectors=selectors or None,
            route=route or None,
            route_reason=route_reason or None,
        )
    )


def _decision(decision: Decision) -> _Decision:
    miss = decision.nearest_miss
    return _Decision(
        decision.outcome,
        [
            _Statement(one.side, one.policy, one.sid, one.index)
            for one in decision.determining[:_MAX_ITEMS]
        ],
        None if miss is None else str(miss)[:MAX_TEXT],
    )


def _behind_others(value: Struct) -> bytes:
    """The members of a struct, if it has any, with a comma before them."""
    members = json_members(value)
    return b"," + members if members else b""


def _is_odd(done: SubmissionDone) -> bool:
    """True if the message has something that few have."""
    return bool(
        done.crossings
        or done.paced_s
        or done.uncounted
        or done.long_line is not None
        or done.tried
        or done.refused
        or done.withheld
    )


def _odd(done: SubmissionDone, *, with_recipients: bool) -> bytes:
    """The members of what few messages have, each with a comma before it."""
    return _behind_others(
        _Odd(
            [_quota_reached(one) for one in done.crossings] or None,
            _ms(done.paced_s) or None,
            done.uncounted[:MAX_TEXT] or None,
            done.long_line,
            [_Tried(one.upstream, one.cause, one.problem[:MAX_TEXT]) for one in done.tried]
            or None,
            [
                _Refused(str(one.reply), str(one.mailbox) if with_recipients else None)
                for one in done.refused
            ]
            or None,
            [
                _Withheld(one.outcome, one.mailbox.text if with_recipients else None)
                for one in done.withheld
            ]
            or None,
        )
    )


def _level(done: SubmissionDone) -> Level:
    if done.reason == "internal-error":
        return "error"
    has_trouble = done.crossings or done.uncounted or done.long_line or done.tried
    return "info" if done.outcome == "accepted" and not has_trouble else "warning"


def _quota_reached(crossing: Crossing) -> _QuotaReached:
    charge = crossing.charge
    return _QuotaReached(
        str(charge.subject), crossing.percent, crossing.used_24h, charge.limits.max_24h_send
    )


def _ms(seconds: float) -> float:
    return int(seconds * 1_000_000) / 1000
