"""Identities: registered, listed, deleted, and the state of their proof.

https://docs.aws.amazon.com/ses/latest/APIReference/API_VerifyDomainIdentity.html
https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_GetEmailIdentity.html
"""

from collections.abc import Mapping
from typing import Any, Final

from smtpgate.admin import identities, verification
from smtpgate.admin.errors import CodeNotSentError, ConflictError, NotFoundError
from smtpgate.admin.identities import IdentityDetails
from smtpgate.admin.refs import IdentityRef
from smtpgate.api.call import Call, Handler, Values, as_fault
from smtpgate.api.names import own_identity
from smtpgate.api.paging import after_of, page_of, size_of
from smtpgate.core.api.faults import ApiError
from smtpgate.core.proof.verification import VerificationStatus

_V1_STATES: Final[Mapping[VerificationStatus, str]] = {
    "not-started": "NotStarted",
    "pending": "Pending",
    "success": "Success",
    "failed": "Failed",
    "temporary-failure": "TemporaryFailure",
}
_MOST_NAMES: Final = 100


def v1_state(status: VerificationStatus) -> str:
    """The status as version 1 writes it."""
    return _V1_STATES[status]


def v2_state(status: VerificationStatus) -> str:
    """The status as version 2 writes it."""
    return status.upper().replace("-", "_")


# -- registration ------------------------------------------------------------------------------


async def registered(call: Call, ref: IdentityRef) -> IdentityDetails:
    """The identity, which is made if it is not there, and whose proof has begun."""
    session = call.session()
    try:
        details = await identities.create(session, ref)
    except ConflictError:
        details = await identities.get(session, ref)
    if details.is_verified:
        return details
    if ref.is_domain:
        return await verification.begin_domain(session, ref)
    try:
        return await verification.send_code(session, ref, call.parts.upstream)
    except CodeNotSentError:
        return await identities.get(session, ref)  # it has one, from less than a minute ago


async def verify_domain(call: Call) -> Values:
    """Register a domain; the token that its owner publishes. Again: the same token."""
    ref = _of_kind(call, call.text("Domain"), is_domain=True)
    details = await registered(call, ref)
    return {"VerificationToken": _token(details)}


async def verify_address(call: Call) -> Values:
    """Register an address, and mail a code to it."""
    await registered(call, _of_kind(call, call.text("EmailAddress"), is_domain=False))
    return {}


def _of_kind(call: Call, text: str, *, is_domain: bool) -> IdentityRef:
    ref = own_identity(call, text)
    if ref.is_domain != is_domain:
        wanted = "domain" if is_domain else "address"
        raise ApiError("invalid-value", f"Invalid {wanted} name {text[:200]}.")
    return ref


def _token(details: IdentityDetails) -> str:
    """The token: the value of the first record, whatever its label."""
    return details.publish[0].value.rpartition(":")[2] if details.publish else ""


# -- lists -------------------------------------------------------------------------------------


async def _page(
    call: Call, size_name: str, kind: str = ""
) -> tuple[list[IdentityDetails], str | None]:
    size = size_of(call, size_name)
    pages = identities.pages(
        call.session(),
        call.account_id,
        is_domain=None if not kind else kind == "Domain",
        after=(call.account_id, after_of(call)),
        limit=size + 1,
    )
    return await page_of(pages, size, lambda one: one.name)


async def list_v1(call: Call) -> Values:
    """The names of the account's identities, by name."""
    found, token = await _page(call, "MaxItems", call.text("IdentityType"))
    return {"Identities": [one.name for one in found], "NextToken": token}


async def list_addresses(call: Call) -> Values:
    """The addresses of the account that are verified (an operation of old clients)."""
    found, _ = await _page(call, "MaxItems", "EmailAddress")
    return {"VerifiedEmailAddresses": [one.name for one in found if one.is_verified]}


async def list_v2(call: Call) -> Values:
    """The account's identities with their states, by name."""
    found, token = await _page(call, "PageSize")
    return {
        "EmailIdentities": [
            {
                "IdentityType": kind_of(one),
                "IdentityName": one.name,
                "SendingEnabled": one.is_verified and one.paused_reason is None,
                "VerificationStatus": v2_state(one.status),
            }
            for one in found
        ],
        "NextToken": token,
    }


def no_such_identity(name: str) -> ApiError:
    """The fault of a name that no identity of the account has (v2)."""
    return ApiError("not-found", f"Email identity {name[:200]} does not exist.")


def kind_of(details: IdentityDetails) -> str:
    """The type of an identity in version 2."""
    return "EMAIL_ADDRESS" if "@" in details.name else "DOMAIN"


# -- state -------------------------------------------------------------------------------------


async def verification_attributes(call: Call) -> Values:
    """The states of identities by their names as given; those that there are not are absent."""
    found: dict[str, Any] = {}
    for name in names_of(call):
        details = await known(call, name)
        if details is not None:
            attributes = {"VerificationStatus": v1_state(details.status)}
            if details.publish:
                attributes["VerificationToken"] = _token(details)
            found[name] = attributes
    return {"VerificationAttributes": found}


def names_of(call: Call) -> list[str]:
    """The identities that a call asks for. Raises ApiError."""
    names: list[str] = call.values["Identities"]
    if len(names) > _MOST_NAMES:
        raise ApiError("invalid-value", f"At most {_MOST_NAMES} identities at once.")
    return names


async def known(call: Call, name: str) -> IdentityDetails | None:
    """The identity of that name, or ``None``."""
    try:
        return await identities.get(call.session(), own_identity(call, name))
    except NotFoundError:
        return None


# -- deletion ----------------------------------------------------------------------------------


async def delete_v1(call: Call) -> Values:
    """Delete an identity; one that is not there is no error."""
    name = call.text("Identity") or call.text("EmailAddress")
    try:
        await identities.delete(call.session(), own_identity(call, name))
    except NotFoundError:
        return {}
    return {}


async def delete_v2(call: Call) -> Values:
    """Delete an identity."""
    name = call.text("EmailIdentity")
    with as_fault(NotFoundError, no_such_identity(name)):
        await identities.delete(call.session(), own_identity(call, name))
    return {}


V1: Final[Mapping[str, Handler]] = {
    "VerifyDomainIdentity": verify_domain,
    "VerifyEmailIdentity": verify_address,
    "VerifyEmailAddress": verify_address,
    "ListIdentities": list_v1,
    "ListVerifiedEmailAddresses": list_addresses,
    "GetIdentityVerificationAttributes": verification_attributes,
    "DeleteIdentity": delete_v1,
    "DeleteVerifiedEmailAddress": delete_v1,
}
V2: Final[Mapping[str, Handler]] = {
    "ListEmailIdentities": list_v2,
    "DeleteEmailIdentity": delete_v2,
}
