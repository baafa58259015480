"""A record explained in plain words: the request, the decision, and the result."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from msgspec import structs

from smtpgate.core.account import UNLIMITED
from smtpgate.core.history.advice import RELAYING_ADVICE, denial_advice
from smtpgate.core.history.later import Later, event_lines, notice_lines
from smtpgate.core.history.record import LimitState, Record, decided_identity, owner_of
from smtpgate.core.message.author import Author
from smtpgate.core.policy import Decision, Determining, NearestMiss, Side
from smtpgate.core.reason import reason_row
from smtpgate.core.reply import Reject
from smtpgate.core.routing.failed_try import CAUSES
from smtpgate.core.upstream.verdict import worded
from smtpgate.core.wording import numbered

# No client waits longer for its verdict (RFC 5321 §4.5.3.2.6).
_PATIENCE: Final = timedelta(minutes=10)
_MAX_NAMED: Final = 10
_INDENT: Final = "    "
_OUTCOMES: Final = {
    "relaying": "being relayed",
    "accepted": "accepted",
    "deferred": "deferred: the client may try again",
    "refused": "refused",
    "in-doubt": "in doubt",
}
_HOW: Final = {
    "named": "named by its ARN",
    "inherited": "named for another role",
    "own": "owned by the sender's account",
    "inferred": "not named; inferred because its policies name the sender",
}
_ROLES: Final = {
    "source": "source",
    "from": "From",
    "sender": "Sender",
    "resent": "Resent-From",
    "return-path": "return path",
    "report": "report to",
}


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a story."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Story:
    """A headline, and its parts in order."""

    headline: str
    sections: tuple[Section, ...]

    def __str__(self) -> str:
        parts = [self.headline]
        for section in self.sections:
            parts += ["", section.title, *(f"  {line}".rstrip() for line in section.lines)]
        return "\n".join(parts) + "\n"


def outcome_of(record: Record, now: datetime) -> str:
    """The outcome; a message that has had no verdict for too long is in doubt."""
    if record.outcome == "relaying" and now - record.received_at > _PATIENCE:
        return "in-doubt"
    return record.outcome


def story_of(record: Record, now: datetime, later: Later | None = None) -> Story:
    """The story as of now, with all that came after the verdict if that is given."""
    outcome = outcome_of(record, now)
    reason = outcome if record.outcome == "relaying" else record.reason
    words = _OUTCOMES[outcome]
    verdict = words if reason in (outcome, words) else f"{words} ({reason})"
    parts = [*_PARTS[record.kind](record, reason)]
    if later is not None:
        parts.append(("Events", list(event_lines(record, later.events))))
        parts.append(("Notifications", list(notice_lines(later.notices))))
    sections = tuple(Section(title, tuple(lines)) for title, lines in parts)
    return Story(
        f"{record.id}: {verdict}", tuple(section for section in sections if section.lines)
    )


_Part = tuple[str, Sequence[str]]


def _login(record: Record, _reason: str) -> Iterator[_Part]:
    yield "Request", [f"A client tried to log in as `{record.username}'.", *_client(record)]
    yield "Reason", [reason_row(record.reason).at_login, *_detail(record)]
    yield "Advice", [reason_row(record.reason).advice]
    yield "Reply", _reply(record)


def _mail(record: Record, reason: str) -> Iterator[_Part]:
    words = f"{record.user_arn} began a message with MAIL, for account {record.account_id}."
    yield "Request", [words, *_client(record)]
    yield "Reason", [reason_row(reason).meaning, *_detail(record)]
    yield "Advice", [reason_row(reason).advice]
    yield "Limits", list(_limits(record))
    yield "Reply", _reply(record)


def _submission(record: Record, reason: str) -> Iterator[_Part]:
    yield "Request", [*_sender(record), *_client(record), *_message(record)]
    yield "Identities", list(_identities(record))
    yield "Decision", list(_decision(record))
    if record.outcome != "accepted":
        meaning = reason_row(reason).meaning or "it is being relayed"
        yield "Reason", [meaning, *_detail(record)]
        yield "Advice", list(_advice(record, reason))
    yield "Limits", list(_limits(record))
    yield "Signature", [_signature(record)]
    yield "Recipients", [*_options(record), *_withheld(record)]
    yield "Upstream", [*_way(record), *_upstream(record), *_refused(record)]
    yield "Reply", _reply(record)


_PARTS: Final = {"login": _login, "mail": _mail, "submission": _submission}


# -- the request -------------------------------------------------------------------------------


def _sender(record: Record) -> Iterator[str]:
    key = f" with access key {record.username}" if record.username else ""
    if key and record.client.token:
        key += f", logged in by the token of {record.client.token}"
    yield f"{record.user_arn} submitted a message{key}, for account {record.account_id}."


def _client(record: Record) -> Iterator[str]:
    client, at = record.client, record.received_at
    version = client.smtp.tls_version
    tls = version or "no TLS"
    yield (
        f"Received {at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03}Z from {client.address} "
        f"({client.smtp.helo or 'no EHLO'}) with {client.protocol}, {tls}, "
        f"on listener {client.listener}."
    )


def _message(record: Record) -> Iterator[str]:
    path = "" if record.reverse_path is None else str(record.reverse_path)
    yield f"MAIL FROM:<{path}>, {_recipients(record)}, {record.octets} octets."
    if record.authors:
        yield f"From: {', '.join(map(_shown, record.authors))}"
    if record.sender is not None:
        yield f"Sender: {_shown(record.sender)}"
    if record.resent:
        yield f"Resent by: {', '.join(map(_shown, record.resent))}"
    if record.subject is not None:
        yield f"Subject: {record.subject}"
    intent = record.intent
    arns = {
        "Source": intent.source_arn,
        "From": intent.from_arn,
        "Return path": intent.return_path_arn,
    }
    for role, arn in arns.items():
        if arn is not None:
            yield f"{role} ARN: {arn}"


def _recipients(record: Record) -> str:
    number = numbered(record.recipients, "recipients")
    paths = record.forward_paths
    if paths is None:
        return f"{number} (addresses are not kept)"
    shown = ", ".join(str(mailbox) for mailbox in paths[:_MAX_NAMED])
    left = len(paths) - _MAX_NAMED
    return f"{number}: {shown}" + (f" and {left} more" if left > 0 else "")


def _shown(author: Author) -> str:
    if author.display_name is None:
        shown = str(author.mailbox)
    else:
        shown = f'"{author.display_name}" <{author.mailbox}>'
    others = " or ".join(f'"{name}"' for name in author.other_names)
    return f"{shown}, shown by some programs as {others}" if others else shown


# -- the decision ------------------------------------------------------------------------------


def _identities(record: Record) -> Iterator[str]:
    for used in record.identities:
        yield f"{_ROLES[used.role]} {used.address}: {used.arn}, {_HOW[used.how]}"
    if record.identities:
        return
    if record.is_masked:
        yield "None whose policies name the sender."
    else:
        yield "None: processing ended before an identity was found."


def _decision(record: Record) -> Iterator[str]:
    decision = record.decision
    if decision is None:
        return
    yield f"{decided_identity(record)}: {decision.outcome}"
    for side in (decision.user_side, decision.identity_side):
        yield from _side(side)


def _side(side: Side) -> Iterator[str]:
    if side.miss is not None and not side.miss.policy:
        yield f"{side.name} policies do not allow it: they do not name the sender"
        return
    yield side.sentence
    cited = [*side.cited, *([] if side.miss is None else [side.miss.statement])]
    for one in cited:
        yield from _text(one, is_one_of_many=len(cited) > 1)


def _text(cited: Determining, *, is_one_of_many: bool) -> Iterator[str]:
    """The statement as it was at that time."""
    if cited.text:
        if is_one_of_many:
            yield f"{_INDENT}{cited}:"
        yield from (f"{_INDENT}{line}" for line in cited.text.split("\n"))


def _detail(record: Record) -> Iterator[str]:
    if record.detail:
        yield record.detail


def _advice(record: Record, reason: str) -> Iterator[str]:
    yield reason_row(reason).advice or RELAYING_ADVICE
    decision = record.decision
    if reason != "implicit-deny" or decision is None:
        return
    for side in (decision.user_side, decision.identity_side):
        if side.is_needed and side.outcome == "implicit-deny":
            yield denial_advice(side.name, side.miss.element if side.miss else None)


# -- the result --------------------------------------------------------------------------------


def _limits(record: Record) -> Iterator[str]:
    for state in record.limits:
        quota, rate, used = state.max_24h_send, state.max_send_rate_per_s, state.used_24h
        daily = f"{numbered(quota, 'recipients')} in 24 hours"
        daily = "no 24-hour quota" if quota == UNLIMITED else daily
        pace = "no rate limit" if rate == UNLIMITED else f"{rate:g} a second"
        known = "" if used is None else f"; {used} used in 24 hours, with this message"
        yield f"{state.subject}: {daily}, {pace}{known}"
    yield _counted(record)


def _counted(record: Record) -> str:
    simulated = sum(one.outcome.startswith("simulated") for one in record.withheld)
    number = numbered(record.recipients - simulated, "recipients")
    is_sent = record.outcome in ("accepted", "in-doubt", "relaying")
    if record.uncounted:
        return f"Nothing was counted for this message: {record.uncounted}"
    if is_sent:
        return f"{number} counted for this message."
    reached = any(stage == "limits" for stage, _ in record.stage_s)
    if not reached or reason_row(record.reason).is_uncounted:
        return "Nothing was counted for this message."
    return f"{number} counted, and refunded because nothing was sent."


def _signature(record: Record) -> str:
    if record.signing_domain is None:
        return "Not signed."
    selectors = ", ".join(f"s={selector}" for selector in record.selectors)
    return f"Signed for d={record.signing_domain} with {selectors}."


def _refused(record: Record) -> list[str]:
    """The recipients that bounced, because the upstream refused them."""
    if not record.refused:
        return []
    number = numbered(len(record.refused), "recipients")
    lines = [f"It refused {number}, which bounced; the others got the message:"]
    return [*lines, *(f"{one.address or '-'}: {one.reply}" for one in record.refused)]


# What became of recipients that the message was not sent to.
_WITHHELD: Final = {
    "suppressed": "on the suppression list, so it bounced",
    "not rendered": "its template could not be rendered with the data of the call",
    "simulated bounce": "of the mailbox simulator, so it bounced",
    "simulated complaint": "of the mailbox simulator, so it was delivered and complained",
    "simulated delivery": "of the mailbox simulator, so it was delivered",
    "simulated answer": "of the mailbox simulator, so it was delivered and answered",
}


def _options(record: Record) -> list[str]:
    """The sender's parameters of MAIL and RCPT (RFC 3461, RFC 8689)."""
    return ["Asked for by its sender:", *record.options] if record.options else []


def _withheld(record: Record) -> list[str]:
    if not record.withheld:
        return []
    number = numbered(len(record.withheld), "recipients")
    lines = [f"The message was not sent to {number}:"]
    return [
        *lines,
        *(f"{one.address or '-'}: {_WITHHELD[one.outcome]}" for one in record.withheld),
    ]


def _upstream(record: Record) -> list[str]:
    path = record.return_path if record.upstream or not record.withheld else None
    return (
        [_answer(record)] if path is None else [f"Sent with MAIL FROM {path}", _answer(record)]
    )


_CAUSES: Final[Mapping[str, str]] = {str(cause): text for cause, text in CAUSES.items()}


def _way(record: Record) -> Iterator[str]:
    """The route of the message, and the upstreams of it that were of no use."""
    name, reason = record.route
    if name:
        yield f"Route {name}, by {reason}" if reason else f"Route {name}"
    for one in record.tried:
        problem = f" ({one.problem})" if one.problem else ""
        yield f"{one.upstream} was not used: {_CAUSES.get(one.cause, one.cause)}{problem}"


def _answer(record: Record) -> str:
    if record.upstream_reply is not None:
        return f"{record.upstream} replied: {record.upstream_reply}"
    if record.outcome == "relaying":
        return "Being sent; no reply yet."
    if any(stage == "relay" for stage, _ in record.stage_s) or record.outcome == "in-doubt":
        return "No reply from the upstream."
    return "Nothing was sent to the upstream."


def _reply(record: Record) -> list[str]:
    lines = [] if record.reply is None else [str(record.reply)]
    if record.done_at is not None and record.kind == "submission":
        total = (record.done_at - record.received_at) / timedelta(milliseconds=1)
        stages = ", ".join(f"{stage} {s * 1000:.1f}" for stage, s in record.stage_s)
        lines.append(f"after {total:.1f} ms ({stages})" if stages else f"after {total:.1f} ms")
    return lines


# -- the view of one account -------------------------------------------------------------------


def as_seen_by(record: Record, account_id: str) -> Record:
    """The record without the parts that only the other side may see.

    A sender sees which statement decided, but not the text of the owner's policies. The owner
    sees the outcome of the sender's policies, but neither their text nor the sender's access
    key, token, tags and organization, and only the limits that it set itself. Neither sees an
    inner error of the gate. A sender that no Allow names does not see whether the identity
    exists.
    """
    record = record.masked_for(account_id)
    if reason_row(record.reason).is_inner:
        record = structs.replace(record, detail="")
    if record.tried:
        tried = tuple(one._replace(problem="") for one in record.tried)
        record = structs.replace(record, tried=tried)
    if account_id != record.account_id:
        route = (record.route[0], "")
        record = structs.replace(
            record,
            username="",
            organization_id=None,
            tags=(),
            route=route,
            client=structs.replace(record.client, token=""),
        )
        record = _without_limits_of_others(record, account_id)
    decision = record.decision
    if decision is None:
        return record
    hidden = set[str]()
    if account_id != record.account_id:
        hidden.add("user")
    if account_id != owner_of(decided_identity(record)):
        hidden.add("identity")
    return structs.replace(record, decision=_without_texts(decision, hidden))


def _without_limits_of_others(record: Record, account_id: str) -> Record:
    kept = tuple(state for state in record.limits if _is_set_by(account_id, state))
    own = any(record.detail.startswith(f"{state.subject}: ") for state in kept)
    if reason_row(record.reason).is_over_limit and not own:
        reply = worded(Reject.of(record.reason), record.id)
        return structs.replace(record, limits=kept, detail="", reply=reply)
    return structs.replace(record, limits=kept)


def _is_set_by(account_id: str, state: LimitState) -> bool:
    return state.subject.kind == "identity" and owner_of(state.subject.name) == account_id


def _without_texts(decision: Decision, hidden: set[str]) -> Decision:
    def cite(cited: Determining) -> Determining:
        return cited.without_text() if cited.side in hidden else cited

    def miss(missed: NearestMiss | None) -> NearestMiss | None:
        if missed is None or missed.side not in hidden:
            return missed
        if missed.side == "identity" and missed.element in ("Principal", "NotPrincipal"):
            # A sender that no Allow names does not see the names of the policies.
            return NearestMiss(missed.side, "", None, 0, missed.element, "", missed.seen)
        return structs.replace(missed, text="")

    def side(one: Side) -> Side:
        return structs.replace(one, cited=tuple(map(cite, one.cited)), miss=miss(one.miss))

    return structs.replace(
        decision,
        determining=tuple(map(cite, decision.determining)),
        user_side=side(decision.user_side),
        identity_side=side(decision.identity_side),
        nearest_miss=miss(decision.nearest_miss),
    )
