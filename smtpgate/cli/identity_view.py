"""The views of identities and DKIM keys."""

from typing import Any, Final

from smtpgate.admin.dkim import DkimKeyDetails
from smtpgate.admin.identities import IdentityDetails
from smtpgate.cli.listing import View
from smtpgate.core.proof.dns_record import DnsRecord, MxRecord


def status_in_words(identity: IdentityDetails) -> str:
    """The status for people: SES's word for a verified identity is success."""
    return "verified" if identity.is_verified else identity.status.replace("-", " ")


def record_fields(record: DnsRecord | MxRecord) -> dict[str, str]:
    """A record to publish, as programs see it."""
    return {"name": record.name, "type": record.kind, "value": record.value}


def _fields(identity: IdentityDetails) -> dict[str, Any]:
    return {
        "arn": identity.arn,
        "account": identity.account_id,
        "name": identity.name,
        "status": identity.status,
        "method": identity.method,
        "problem": identity.problem or None,
        "paused_reason": identity.paused_reason,
        "created_at": identity.created_at,
        "verified_at": identity.verified_at,
        "checked_at": identity.checked_at,
        "missing_since": identity.missing_since,
        "next_check_at": identity.next_check_at,
    }


def identity_fields(identity: IdentityDetails) -> dict[str, Any]:
    """An identity as programs see it, with the records of which any one proves a domain."""
    return _fields(identity) | {"publish": [record_fields(one) for one in identity.publish]}


identity_view: Final[View[IdentityDetails]] = View(
    columns={
        "identity": lambda identity: f"{identity.account_id}/{identity.name}",
        "status": status_in_words,
        "by": lambda identity: identity.method,
        "paused": lambda identity: identity.paused_reason,
        "verified at": lambda identity: identity.verified_at,
        "problem": lambda identity: identity.problem,
    },
    fields=_fields,
    nothing="no identities",
)


def dkim_fields(key: DkimKeyDetails) -> dict[str, Any]:
    """A DKIM key as programs see it, with the record to publish."""
    return {
        "account": key.account_id,
        "domain": key.domain,
        "selector": key.selector,
        "algorithm": key.algorithm,
        "stage": key.stage,
        "origin": key.origin,
        "since": key.since,
        "problem": key.problem or None,
        "alarm_since": key.alarm_since,
        "created_at": key.created_at,
        "checked_at": key.checked_at,
        "next_check_at": key.next_check_at,
        "publish": [record_fields(key.publish)],
    }


dkim_view: Final[View[DkimKeyDetails]] = View(
    columns={
        "DKIM key of": lambda key: f"{key.account_id}/{key.domain}",
        "selector": lambda key: key.selector,
        "algorithm": lambda key: key.algorithm,
        "stage": lambda key: key.stage,
        "origin": lambda key: key.origin,
        "since": lambda key: key.since,
        "checked": lambda key: key.checked_at,
        "problem": lambda key: key.problem,
    },
    fields=dkim_fields,
    nothing="no DKIM keys",
)
