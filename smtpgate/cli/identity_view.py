"""How identities and DKIM keys are shown."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from smtpgate.admin.session import Session
from smtpgate.cli.attached import policy_fields, policy_view
from smtpgate.cli.listing import View, print_card, print_json, print_table
from smtpgate.core.proof.dns_record import DnsRecord
from smtpgate.core.proof.ownership import ownership_records
from smtpgate.core.proof.verification import Status, status_of
from smtpgate.directory.dkim import DkimKeyRow
from smtpgate.directory.identities import IdentityRow
from smtpgate.directory.policies import PolicyRow
from smtpgate.directory.registered_identities import registered


def _status(session: Session, row: IdentityRow) -> Status:
    return status_of(registered(row, (), session.partition).verification, session.now())


def _words(status: str) -> str:
    """The status for people: SES's word for a verified identity is success."""
    return "verified" if status == "success" else status.replace("-", " ")


def _fields(session: Session, row: IdentityRow) -> dict[str, Any]:
    return {
        "arn": row.arn(session.partition),
        "account": row.account_id,
        "name": row.name,
        "status": _status(session, row),
        "method": row.method,
        "problem": row.problem or None,
        "paused_reason": row.paused_reason,
        "created_at": row.created_at,
        "verified_at": row.verified_at,
        "checked_at": row.checked_at,
        "missing_since": row.missing_since,
        "next_check_at": row.next_check_at,
    }


def identity_facts(session: Session, row: IdentityRow) -> dict[str, Any]:
    """An identity as programs see it, with the records of which one proves a domain."""
    records: tuple[DnsRecord, ...] = ()
    if row.is_domain:
        label = session.config.directory.verification_label
        records = ownership_records(row.name, row.token, label)
    return _fields(session, row) | {
        "publish": [
            {"name": record.name, "type": "TXT", "value": record.value} for record in records
        ]
    }


def publishable(facts: Mapping[str, Any]) -> list[DnsRecord]:
    """The records of those facts, as lines for a zone file."""
    return [DnsRecord(one["name"], one["value"]) for one in facts["publish"]]


def identity_view(session: Session) -> View[IdentityRow]:
    """How identities are listed."""
    return View(
        columns={
            "identity": lambda row: f"{row.account_id}/{row.name}",
            "status": lambda row: _words(_status(session, row)),
            "by": lambda row: row.method,
            "paused": lambda row: row.paused_reason,
            "verified at": lambda row: row.verified_at,
            "problem": lambda row: row.problem,
        },
        fields=lambda row: _fields(session, row),
        nothing="no identities",
    )


def dkim_fields(row: DkimKeyRow) -> dict[str, Any]:
    """A DKIM key as programs see it, with the record to publish."""
    return {
        "account": row.account_id,
        "domain": row.domain,
        "selector": row.selector,
        "algorithm": row.algorithm,
        "stage": row.stage,
        "since": row.since,
        "problem": row.problem or None,
        "alarm_since": row.alarm_since,
        "created_at": row.created_at,
        "checked_at": row.checked_at,
        "next_check_at": row.next_check_at,
        "publish": [{"name": row.dns_name, "type": "TXT", "value": row.record}],
    }


dkim_view: Final[View[DkimKeyRow]] = View(
    columns={
        "DKIM key of": lambda row: f"{row.account_id}/{row.domain}",
        "selector": lambda row: row.selector,
        "algorithm": lambda row: row.algorithm,
        "stage": lambda row: row.stage,
        "since": lambda row: row.since,
        "asked": lambda row: row.checked_at,
        "problem": lambda row: row.problem,
    },
    fields=dkim_fields,
    nothing="no DKIM keys",
)


def print_identity(
    session: Session,
    row: IdentityRow,
    policies: Sequence[PolicyRow],
    keys: Sequence[DkimKeyRow],
    *,
    as_json: bool,
) -> None:
    """Print an identity with its policies and DKIM keys."""
    facts = identity_facts(session, row)
    if as_json:
        facts["policies"] = [policy_fields(policy) for policy in policies]
        facts["dkim_keys"] = [dkim_fields(key) for key in keys]
        print_json(facts)
        return
    status, records = _words(facts["status"]), [str(one) for one in publishable(facts)]
    print_card(facts | {"status": status, "publish": records})
    if policies:
        print_table(policies, policy_view)
    if keys:
        print_table(keys, dkim_view)
