"""Identities of version 2: made and read whole.

https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_CreateEmailIdentity.html
https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_GetEmailIdentity.html
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from smtpgate.admin import (
    easy_dkim,
    email_identities,
    identities,
    notifications,
    policies,
    tags,
    verification,
)
from smtpgate.admin.email_identities import NewIdentity
from smtpgate.admin.errors import (
    CodeNotSentError,
    ConflictError,
    MissingSetError,
    NotFoundError,
)
from smtpgate.admin.identities import IdentityDetails
from smtpgate.admin.refs import TaggedRef
from smtpgate.api.call import Call, Handler, Values, as_fault
from smtpgate.api.configuration_sets import no_such_set
from smtpgate.api.dkim import signing_key, v2_dkim
from smtpgate.api.identities import kind_of, no_such_identity, v2_state
from smtpgate.api.names import own_identity
from smtpgate.api.notifications import mail_from_of, v2_mail_from
from smtpgate.api.tags import tags_of, v2_tags
from smtpgate.core.api.faults import ApiError
from smtpgate.core.proof.soa import Soa
from smtpgate.core.proof.verification import DnsProblem, problem_kind

_PROBLEMS: Final[Mapping[DnsProblem, str]] = {
    "absent": "TYPE_NOT_FOUND",
    "differs": "INVALID_VALUE",
    "unanswered": "DNS_SERVER_ERROR",
}


async def create(call: Call) -> Values:
    """Register an identity: a domain with its DKIM keys, or an address that gets a code."""
    ref, session = own_identity(call, call.text("EmailIdentity")), call.session()
    name = call.text("ConfigurationSetName")
    given: Values = call.values.get("DkimSigningAttributes") or {}
    if given and not ref.is_domain:
        raise ApiError("invalid-value", "DkimSigningAttributes can only be set for a domain.")
    new = NewIdentity(
        signing_key=signing_key(given),
        configuration_set=name or None,
        tags=tags_of(call.values.get("Tags") or ()),
    )
    try:
        details, dkim = await email_identities.create(session, ref, new, call.count_new_keys)
    except ConflictError:
        text = f"Email identity {ref.name[:200]} already exist."  # SES's words
        raise ApiError("already-exists", text) from None
    except NotFoundError:
        raise no_such_set(name) from None
    if not ref.is_domain:
        with suppress(CodeNotSentError):  # its status says so: not started
            details = await verification.send_code(session, ref, call.parts.upstream)
    return {
        "IdentityType": kind_of(details),
        "VerifiedForSendingStatus": details.is_verified,
        "DkimAttributes": v2_dkim(call, dkim),
    }


async def get(call: Call) -> Values:
    """All that version 2 says of an identity."""
    ref, session = own_identity(call, call.text("EmailIdentity")), call.session()
    with as_fault(NotFoundError, no_such_identity(ref.name)):
        details = await identities.get(session, ref)
        settings = await notifications.get(session, ref, ref.account_id)
        dkim = await easy_dkim.get(session, ref)
        attached = await policies.attached(session, ref)
        tagged = await tags.of(session, TaggedRef(ref.account_id, "identity", ref.name))
    mail_from = await mail_from_of(call, call.text("EmailIdentity"))
    return {
        "IdentityType": kind_of(details),
        "FeedbackForwardingStatus": bool(settings.is_forwarding),
        "VerifiedForSendingStatus": details.is_verified and details.paused_reason is None,
        "DkimAttributes": v2_dkim(call, dkim),
        "MailFromAttributes": v2_mail_from(mail_from),
        "Policies": {policy.name: policy.document for policy in attached},
        "Tags": v2_tags(tagged),
        "ConfigurationSetName": settings.configuration_set,
        "VerificationStatus": v2_state(details.status),
        "VerificationInfo": _info(details),
    }


def _info(details: IdentityDetails) -> dict[str, Any]:
    """When the DNS was asked, what was wrong, and the SOA record of a domain."""
    kind = problem_kind(details.problem)
    is_well = details.is_verified and kind is None
    return {
        "LastCheckedTimestamp": details.checked_at,
        "LastSuccessTimestamp": (details.checked_at or details.verified_at)
        if is_well
        else None,
        "ErrorType": None if kind is None else _PROBLEMS[kind],
        "SOARecord": None if details.soa is None else _soa(details.soa),
    }


def _soa(soa: Soa) -> dict[str, Any]:
    names = {"PrimaryNameServer": soa.primary, "AdminEmail": soa.admin}
    return {**names, "SerialNumber": soa.serial}


async def put_configuration_set(call: Call) -> Values:
    """Set the configuration set of mail that names none; without a name there is none."""
    ref, session = own_identity(call, call.text("EmailIdentity")), call.session()
    name = call.text("ConfigurationSetName")
    try:
        await notifications.set_configuration_set(session, ref, name or None)
    except MissingSetError:
        raise no_such_set(name) from None
    except NotFoundError:
        raise no_such_identity(ref.name) from None
    return {}


V2: Final[Mapping[str, Handler]] = {
    "CreateEmailIdentity": create,
    "GetEmailIdentity": get,
    "PutEmailIdentityConfigurationSetAttributes": put_configuration_set,
}
