"""Records of the journal as programs see them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from smtpgate.core.history.record import Record, decided_identity
from smtpgate.core.history.story import outcome_of
from smtpgate.core.message.author import Author
from smtpgate.core.policy import Decision, Determining, NearestMiss, Side


def record_fields(record: Record, now: datetime) -> Mapping[str, object]:
    """Everything that is known of a record; what is not known is null."""
    return {**_envelope(record, now), **_decided(record)}


def _envelope(record: Record, now: datetime) -> dict[str, object]:
    """The sender, the client, the recipients, and the verdict."""
    client = record.client
    return {
        "id": record.id,
        "kind": record.kind,
        "received_at": record.received_at,
        "done_at": record.done_at,
        "outcome": outcome_of(record, now),
        "reason": record.reason,
        "detail": record.detail or None,
        "reply": _text(record.reply),
        "account": record.account_id or None,
        "user": record.user_arn or None,
        "access_key": record.username or None,
        "token": client.token or None,
        "organization": record.organization_id,
        "tags": dict(record.tags),
        "client": client.address,
        "port": client.port,
        "helo": client.smtp.helo,
        "listener": client.listener,
        "protocol": client.protocol,
        "tls": client.smtp.tls_version,
        "cipher": client.smtp.tls_cipher,
        "mail_from": None if record.kind == "login" else str(record.reverse_path or ""),
        "recipients": record.recipients,
        "rcpt_to": None
        if record.forward_paths is None
        else [str(mailbox) for mailbox in record.forward_paths],
        "options": list(record.options),
        "octets": record.octets,
        "subject": record.subject,
    }


def _decided(record: Record) -> dict[str, object]:
    """The request, the identities and the decision, and the delivery."""
    intent = record.intent
    return {
        "source_arn": _text(intent.source_arn),
        "from_arn": _text(intent.from_arn),
        "return_path_arn": _text(intent.return_path_arn),
        "from": [_author(author) for author in record.authors],
        "sender": None if record.sender is None else _author(record.sender),
        "resent": [_author(author) for author in record.resent],
        "identities": [
            {"role": used.role, "address": str(used.address), "arn": used.arn, "how": used.how}
            for used in record.identities
        ],
        "decision": None if record.decision is None else _decision(record, record.decision),
        "limits": [
            {
                "subject": str(state.subject),
                "used_24h": state.used_24h,
                "max_24h_send": state.max_24h_send,
                "max_send_rate_per_s": state.max_send_rate_per_s,
            }
            for state in record.limits
        ],
        "uncounted": record.uncounted or None,
        "signing_domain": record.signing_domain,
        "selectors": list(record.selectors),
        "route": record.route[0] or None,
        "route_reason": record.route[1] or None,
        "tried": [
            {"upstream": one.upstream, "cause": one.cause, "problem": one.problem}
            for one in record.tried
        ],
        "upstream": record.upstream,
        "upstream_reply": _text(record.upstream_reply),
        "refused": [
            {"rcpt_to": one.address or None, "reply": one.reply} for one in record.refused
        ],
        "return_path": _text(record.return_path),
        "stage_ms": {stage: round(seconds * 1000, 3) for stage, seconds in record.stage_s},
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _author(author: Author) -> dict[str, object]:
    return {
        "name": author.display_name,
        "other_names": list(author.other_names),
        "address": str(author.mailbox),
    }


def _decision(record: Record, decision: Decision) -> dict[str, Any]:
    miss = decision.nearest_miss
    return {
        "about": decided_identity(record),
        "outcome": decision.outcome,
        "determining": [_cited(one) for one in decision.determining],
        "nearest_miss": None if miss is None else _miss(miss),
        "user_policies": _side(decision.user_side),
        "identity_policies": _side(decision.identity_side),
    }


def _side(side: Side) -> dict[str, Any]:
    return {"outcome": side.result, "statements": [_cited(one) for one in side.cited]}


def _cited(cited: Determining) -> dict[str, Any]:
    return {
        "side": cited.side,
        "policy": cited.policy or None,
        "sid": cited.sid,
        "index": cited.index,
        "text": cited.text or None,
    }


def _miss(miss: NearestMiss) -> dict[str, Any]:
    return {
        **_cited(miss.statement),
        "element": miss.element,
        "wanted": miss.wanted or None,
        "seen": miss.seen or None,
    }
