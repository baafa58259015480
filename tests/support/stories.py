"""A record for every outcome and reason code, and the expected explanation of each.

``python -m tests.support.stories`` writes the stories into tests/cases/story; read the diff.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final, NamedTuple, get_args

from msgspec import structs

from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.core.address import Mailbox
from smtpgate.core.events import AuthReason, SubmissionDone, UsedIdentity
from smtpgate.core.feedback.simulator import SIMULATIONS
from smtpgate.core.history.record import Record, login_record, mail_record
from smtpgate.core.history.story import as_seen_by, story_of
from smtpgate.core.limits import Charge, Subject
from smtpgate.core.message.author import Author
from smtpgate.core.message.body import head_of
from smtpgate.core.message.envelope import SmtpFacts
from smtpgate.core.message.headers import split_message
from smtpgate.core.message.intent import SendingIntent
from smtpgate.core.policy import parse_policy
from smtpgate.core.reason import REASONS
from smtpgate.core.reply import (
    MASKED_DETAIL,
    MASKED_REASON,
    Reject,
    Reply,
    reply_of,
)
from smtpgate.core.routing.failed_try import FailedTry
from smtpgate.core.suppression.withheld import Withheld
from smtpgate.core.upstream.delivery import RecipientReply
from smtpgate.core.upstream.verdict import worded
from tests.support.cases import CASES
from tests.support.clock import MovableClock
from tests.support.events import AT, auth_failed, mail_refused
from tests.support.journal import IDENTITY_POLICY, decision_for, submission
from tests.support.records import submission_record
from tests.support.world import DELEGATE, IDENTITY, OWNER

NOW: Final = AT + timedelta(minutes=1)
STORIES: Final = CASES / "story"
_ID: Final = "010001a2139c5d8b-00000000-1111-2222-3333-444444444444-000000"
_STAGES: Final = ("message", "authorization", "limits", "signing", "relay")
_CEO: Final = Mailbox("ceo", "ses-example.com")
_NEVER: Final = (
    '{"Statement": {"Sid": "NeverAsTheCeo", "Effect": "Deny", "Principal": "*", "Action": '
    f'"ses:*", "Resource": "{IDENTITY}", "Condition": {{"StringEquals": '
    '{"ses:FromAddress": "ceo@ses-example.com"}}}}'
)
_BLOCK: Final = parse_policy(_NEVER, kind="identity", name="board")


class Refused(NamedTuple):
    """A refused submission: the stages before, the reply, and the detail."""

    stages: int
    reply: str
    facts: dict[str, object]
    detail: str = ""


def _problem(text: str) -> Refused:
    return Refused(1, "transaction-failed", {"problem": text})


_RATE: Final = "its bounce rate is 12.34 %, and sending is paused from 10.00 % on"
_BY_REASON: Final[dict[str, Refused]] = {
    "malformed-message": _problem("line 2 is no header field"),
    "bad-line-ends": _problem("a bare LF in line 3"),
    "long-line": _problem("line 3 of the body is longer than 998 octets"),
    "mail-loop": Refused(
        0,
        "too-many-hops",
        {"problem": "51 Received fields"},
        "it has 51 Received fields, and may have 50",
    ),
    "duplicate-field": _problem("Duplicate header 'Subject'."),
    "bad-author": _problem("Missing required header 'From'."),
    "too-many-authors": _problem("header 'From': more than 100 mailboxes"),
    "unqualified-address": _problem("Missing final '@domain' in header 'Cc': 'carol'"),
    "invalid-tag": _problem(
        "Invalid tag name <a b>: only alphanumeric ASCII characters, '_',  '-' are allowed. "
        "(in field X-SES-MESSAGE-TAGS)"
    ),
    "invalid-arn": _problem("Invalid ARN <nonsense>. (in field X-SES-FROM-ARN)"),
    "configuration-set-paused": Refused(1, "configuration-set-paused", {"set_name": "spring"}),
    "wrong-region": Refused(
        2,
        "not-verified",
        {"region": "EU-WEST-1", "addresses": "marketing@ses-example.com"},
        "the ARN names region eu-west-1, this gate serves us-east-1",
    ),
    "not-aligned": Refused(
        2, "not-aligned", {"address": "marketing@ses-example.com", "arn": IDENTITY}
    ),
    "not-verified": Refused(
        2,
        "not-verified",
        {"region": "US-EAST-1", "addresses": "marketing@ses-example.com"},
        "no identity of account 999999999999 covers marketing@ses-example.com",
    ),
    "explicit-deny": Refused(
        2,
        "access-denied",
        {"user": "USER", "action": "ses:SendRawEmail", "resource": IDENTITY},
        "identity policies deny it: statement `NeverAsTheCeo' of policy `board'",
    ),
    "implicit-deny": Refused(
        2, "access-denied", {"user": "USER", "action": "ses:SendRawEmail", "resource": IDENTITY}
    ),
    "access-key-inactive": Refused(2, "access-key-inactive", {}),
    "access-key-expired": Refused(2, "access-key-expired", {}),
    "network-not-allowed": Refused(2, "network-not-allowed", {}, "192.0.2.7"),
    "certificate-not-allowed": Refused(2, "certificate-not-allowed", {}),
    "access-key-suspended": Refused(2, "access-key-suspended", {}),
    "account-paused": Refused(2, "account-paused", {}, "unpaid"),
    "account-shutdown": Refused(2, "account-shutdown", {}, _RATE),
    "account-sending-off": Refused(2, "account-paused", {}),
    "delegate-paused": Refused(2, "delegate-paused", {"arn": IDENTITY}, _RATE),
    "identity-paused": Refused(2, "identity-paused", {"arn": IDENTITY}, "being sold"),
    "max-24h-send": Refused(3, "daily-quota", {}, "account 999999999999: 0 of 200 left"),
    "max-send-rate": Refused(3, "send-rate", {}, "account 999999999999: retry after 00:00:03"),
    "no-signing-key": Refused(
        4,
        "signing-failed",
        {},
        "the identity's owner has no active DKIM key for ses-example.com",
    ),
    "mail-from-not-verified": Refused(
        2,
        "mail-from-not-verified",
        {},
        "the MX record of bounce.ses-example.com is missing",
    ),
    "signing-failed": Refused(4, "signing-failed", {}),
    "needs-8bitmime": Refused(5, "needs-8bitmime", {}),
    "needs-smtputf8": Refused(5, "upstream-lacks-smtputf8", {}),
    "needs-binarymime": Refused(5, "needs-binarymime", {}),
    "needs-requiretls": Refused(5, "needs-requiretls", {}),
    "upstream-reply": Refused(5, "ok", {}),
    "upstream-unreachable": Refused(5, "upstream-unreachable", {}, "connection refused"),
    "upstream-busy": Refused(
        5, "upstream-busy", {}, "1000 messages of the account wait already"
    ),
    "client-gone": Refused(5, "client-gone", {}),
    "recipients-refused": Refused(
        5, "recipients-refused", {"refused": "<jane0@example.net> (550 5.1.1 no such user)"}
    ),
    "recipients-deferred": Refused(
        5, "recipients-deferred", {"refused": "<jane0@example.net> (451 4.2.1 busy)"}
    ),
    "in-doubt": Refused(5, "upstream-in-doubt", {}, "no answer within 180 s"),
    "gate-stopped": Refused(5, "temporary-failure", {}),
    "directory-unavailable": Refused(2, "temporary-failure", {}, "directory: no connection"),
    "ledger-unavailable": Refused(3, "temporary-failure", {}, "ledger: disk full"),
    "journal-unavailable": Refused(4, "temporary-failure", {}),
    "internal-error": Refused(2, "temporary-failure", {}),
}


def _done(stages: int, recipients: int = 2) -> SubmissionDone:
    """A submission that went through so many stages, the last of them maybe without result."""
    event = submission(MovableClock(AT), recipients=recipients, max_24h_send=200)
    event.submission = structs.replace(event.submission, message_id=_ID)
    event.stage_s = {stage: 0.001 * at for at, stage in enumerate(_STAGES[:stages], 1)}  # type: ignore[misc]
    event.done_at = AT + timedelta(milliseconds=20)
    event.header = split_message(head_of(event.submission.message)).block
    if stages == 1:
        event.authors, event.intent = (), SendingIntent()
    if stages < 3:
        event.identities, event.decision, event.charges = (), None, ()
    if stages < 4:
        event.used = ()
        event.signing_domain, event.selectors = None, ()
    else:
        event.used = (14,)
    return event


def _refused(reason: str) -> SubmissionDone:
    how = _BY_REASON[reason]
    event = _done(how.stages)
    refusal = Reject(reply_of(how.reply, **how.facts), reason, how.detail)
    event.reason, event.detail = reason, how.detail
    event.reply = worded(refusal, _ID)
    event.outcome = "deferred" if event.reply.is_transient else "refused"
    if how.stages == 4:
        event.signing_domain, event.selectors = None, ()
    if reason == "in-doubt":
        event.outcome = "in-doubt"
    if reason == "gate-stopped":
        event.reply = None
    if reason in ("explicit-deny", "implicit-deny"):
        event.authors = (Author("The CEO", _CEO),)
        event.identities = (UsedIdentity("from", _CEO, IDENTITY, "inherited"),)
        policies = (
            (IDENTITY_POLICY, _BLOCK) if reason == "explicit-deny" else (IDENTITY_POLICY,)
        )
        event.decision = decision_for(str(_CEO), identity_policies=policies)
    if reason == "upstream-reply":
        event.upstream, event.upstream_reply = "smarthost", Reply(554, "5.7.1", "Spam")
        event.reply = worded(Reject(event.upstream_reply, reason), _ID)
        event.outcome = "refused"
    return event


def _record(event: SubmissionDone) -> Record:
    return submission_record(event, keep_recipients=True, keep_subject=True)


def _accepted() -> Record:
    event = _done(5)
    event.upstream, event.upstream_reply = "smarthost", Reply(250, "2.0.0", "queued as 1")
    event.reply = reply_of("accepted", message_id=_ID)
    return _record(event)


def records() -> Iterator[tuple[str, Record]]:
    """Records by the name of their story."""
    accepted = _accepted()
    yield "accepted", accepted
    for reason in REASONS:
        yield reason, _record(_refused(reason))
    for reason in get_args(AuthReason):
        failed = structs.replace(auth_failed(), reason=reason)
        yield f"login-{reason}", login_record(failed, _ID)
    yield "mail-max-24h-send", mail_record(structs.replace(mail_refused(), message_id=_ID))
    under_way = structs.replace(
        accepted,
        outcome="relaying",
        reason="relaying",
        done_at=None,
        reply=None,
        upstream=None,
        upstream_reply=None,
        stage_s=(),
    )
    yield "relaying", under_way
    yield (
        "relaying-for-too-long",
        structs.replace(under_way, received_at=AT - timedelta(hours=1)),
    )
    yield "other-forms", _other_forms(accepted)
    denied = dict(_denied())
    yield from denied.items()
    yield "seen-by-the-owner", as_seen_by(_record(_refused("implicit-deny")), "888888888888")
    yield "seen-by-the-sender", as_seen_by(_record(_refused("explicit-deny")), DELEGATE)
    for name, record in _masked():
        yield f"{name}-seen-by-a-stranger", as_seen_by(record, DELEGATE)
        yield f"{name}-seen-by-its-owner", as_seen_by(record, "888888888888")
    yield from _within_others()
    yield from _routed()
    yield "not-for-all", _not_for_all()
    yield "denied-by-many", _denied_by_many()
    yield (
        "inner-error-seen-by-the-owner",
        as_seen_by(_record(_refused("internal-error")), OWNER),
    )


def _not_for_all() -> Record:
    """Recipients that the upstream refused, and others that the message was not sent to."""
    fates = (None, *SIMULATIONS.values())
    event = _done(5, recipients=2 + len(fates))
    event.upstream, event.upstream_reply = "smarthost", Reply(250, "2.0.0", "queued as 1")
    event.reply = reply_of("accepted", message_id=_ID)
    _, refused, *others = event.submission.envelope.mailboxes
    event.refused = (RecipientReply(refused, Reply(550, "5.1.1", "no such user")),)
    event.withheld = tuple(map(Withheld, others, fates))
    return _record(event)


def _denied_by_many() -> Record:
    """Each statement that denies is cited with its place."""
    event = _refused("explicit-deny")
    event.decision = decision_for(
        str(_CEO),
        identity_policies=(_BLOCK, parse_policy(_NEVER, kind="identity", name="press")),
    )
    return _record(event)


def _routed() -> Iterator[tuple[str, Record]]:
    """By a route, after upstreams that were of no use."""
    event = _done(5)
    event.upstream, event.upstream_reply = "backup", Reply(250, "2.0.0", "queued as 1")
    event.reply = reply_of("accepted", message_id=_ID)
    event.route, event.route_reason = "newsletters", "account 999999999999, tag campaign"
    problem = "upstream smarthost: cannot connect: connection refused"
    event.tried = (
        FailedTry("smarthost", "connect", problem),
        FailedTry("second", "open", "upstream second: 421 4.3.2 stopping"),
    )
    yield "routed", _record(event)
    yield "routed-seen-by-the-owner", as_seen_by(_record(event), "888888888888")
    event.route, event.route_reason, event.tried = "others", "default", ()
    yield "routed-by-default", _record(event)


def _masked() -> Iterator[tuple[str, Record]]:
    """A sender that no Allow names sees the same of each refusal."""
    facts = {"user": "USER", "action": "ses:SendRawEmail", "resource": IDENTITY}
    shown = Reject(reply_of("access-denied", **facts), MASKED_REASON, MASKED_DETAIL)
    for reason in ("not-verified", "identity-paused", "explicit-deny", "implicit-deny"):
        event = _refused(reason)
        event.is_masked, event.reply = True, worded(shown, _ID)
        if reason == "identity-paused":
            event.identities = (UsedIdentity("from", _CEO, IDENTITY, "named"),)
        event.authors = (Author("The CEO", _CEO),)
        yield f"masked-{reason}", _record(event)


def _within_others() -> Iterator[tuple[str, Record]]:
    """With limits within the account's: who set which of them sees which."""
    accepted, refused, charges = _done(5), _refused("max-24h-send"), _charges_within_others()
    accepted.charges, accepted.used = charges, (14, 12, 5, 2)
    refused.charges = charges
    yield "many-limits", _record(accepted)
    yield "many-limits-seen-by-the-owner", as_seen_by(_record(accepted), "888888888888")
    yield "limit-of-the-sender-seen-by-the-owner", as_seen_by(_record(refused), "888888888888")
    cap = charges[-1]
    detail = (
        f"{cap.subject}: 0 of {cap.limits.max_24h_send} recipients left, retry after 00:03:12"
    )
    refused.detail, refused.reply = detail, worded(Reject.of("max-24h-send", detail), _ID)
    yield "cap-of-the-owner-seen-by-the-owner", as_seen_by(_record(refused), "888888888888")


def _charges_within_others() -> tuple[Charge, ...]:
    return (
        *_done(5).charges,
        Charge(Subject(DELEGATE, "user", "mailer"), SendingLimits(50, UNLIMITED)),
        Charge(Subject(DELEGATE, "access-key", "AKIAIOSFODNN7EXAMPLE"), SendingLimits(-1, 2)),
        Charge(Subject(DELEGATE, "identity", IDENTITY), SendingLimits(10, 0.5)),
    )


def _other_forms(accepted: Record) -> Record:
    """Stories that differ because something is not kept, not limited, or not there."""
    state = structs.replace(
        accepted.limits[0], max_24h_send=-1, max_send_rate_per_s=-1, used_24h=None
    )
    return structs.replace(
        accepted,
        forward_paths=None,
        recipients=1,
        subject=None,
        reverse_path=None,
        limits=(state,),
        uncounted="the ledger had no room",
        sender=Author(None, Mailbox("secretary", "ses-example.com")),
        resent=(Author("The Office", Mailbox("office", "ses-example.com")),),
        client=structs.replace(accepted.client, is_tls=False, smtp=SmtpFacts()),
        signing_domain=None,
        selectors=(),
    )


def _denied() -> Iterator[tuple[str, Record]]:
    """Silence of either side, and what came closest to an Allow."""
    event = _refused("implicit-deny")
    other = (
        '{"Statement": {"Effect": "Allow", "Principal": {"AWS": "777777777777"}, '
        f'"Action": "ses:SendEmail", "Resource": "{IDENTITY}"}}}}'
    )
    named = other.replace("777777777777", DELEGATE)
    for name, documents in (
        ("denied-without-policies", ()),
        ("denied-by-principal", (other,)),
        ("denied-by-action", (named,)),
    ):
        policies = tuple(parse_policy(one, kind="identity", name="press") for one in documents)
        event.decision = decision_for(str(_CEO), identity_policies=policies)
        yield name, _record(event)
    event.decision = decision_for(str(_CEO), user_policies=())
    yield "denied-by-both", _record(event)


def story(record: Record) -> str:
    """The story as of a minute later."""
    return str(story_of(record, NOW))


def _write() -> None:
    STORIES.mkdir(exist_ok=True)
    for old in STORIES.glob("*.txt"):
        old.unlink()
    for name, record in records():
        (STORIES / f"{name}.txt").write_text(story(record), "utf-8")


if __name__ == "__main__":
    _write()
