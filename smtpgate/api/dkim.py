"""DKIM of identities: Easy DKIM, and keys that owners bring (BYODKIM).

https://docs.aws.amazon.com/ses/latest/APIReference/API_VerifyDomainDkim.html
https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_PutEmailIdentityDkimSigningAttributes.html
"""

from collections.abc import Mapping
from typing import Any, Final

from smtpgate.admin import easy_dkim
from smtpgate.admin.easy_dkim import DkimSettings
from smtpgate.admin.errors import NotFoundError
from smtpgate.api.call import Call, Handler, Values, as_fault
from smtpgate.api.identities import names_of, no_such_identity, registered, v1_state, v2_state
from smtpgate.api.names import own_identity
from smtpgate.core.api.faults import ApiError
from smtpgate.core.proof.dkim_stages import KeyOrigin

# A key of the command line is the owner's own too, as version 2 sees it.
_ORIGINS: Final[Mapping[KeyOrigin, str]] = {
    "easy": "AWS_SES",
    "external": "EXTERNAL",
    "manual": "EXTERNAL",
}
_LENGTH: Final = "RSA_2048_BIT"


# -- version 1 ---------------------------------------------------------------------------------


async def verify_dkim(call: Call) -> Values:
    """The three tokens of a domain, which is registered if need be. Again: the same tokens."""
    ref = own_identity(call, call.text("Domain"))
    if not ref.is_domain:
        raise ApiError("invalid-value", f"Invalid domain name {ref.name[:200]}.")
    try:
        settings = await easy_dkim.begin(call.session(), ref, call.count_new_keys)
    except NotFoundError:
        await registered(call, ref)
        settings = await easy_dkim.begin(call.session(), ref, call.count_new_keys)
    return {"DkimTokens": list(settings.tokens)}


async def dkim_attributes(call: Call) -> Values:
    """DKIM of identities by their names as given; those that there are not are absent."""
    found: dict[str, Any] = {}
    for name in names_of(call):
        ref = own_identity(call, name)
        try:
            settings = await easy_dkim.get(call.session(), ref)
        except NotFoundError:
            continue
        found[name] = {
            "DkimEnabled": settings.is_enabled,
            "DkimVerificationStatus": v1_state(settings.status),
        }
        if ref.is_domain:
            found[name]["DkimTokens"] = list(settings.tokens)
    return {"DkimAttributes": found}


async def set_enabled(call: Call) -> Values:
    """Have a domain's mail signed, or not."""
    ref = own_identity(call, call.text("Identity"))
    is_enabled = bool(call.values["DkimEnabled"])
    try:
        await easy_dkim.set_enabled(call.session(), ref, is_enabled=is_enabled)
    except NotFoundError:
        text = f"Domain {ref.name[:200]} is not verified for DKIM signing."
        raise ApiError("invalid-value", text) from None
    return {}


# -- version 2 ---------------------------------------------------------------------------------


async def put_enabled(call: Call) -> Values:
    """Have a domain's mail signed, or not."""
    ref = own_identity(call, call.text("EmailIdentity"))
    is_enabled = bool(call.values.get("SigningEnabled"))
    with as_fault(NotFoundError, no_such_identity(ref.name)):
        await easy_dkim.set_enabled(call.session(), ref, is_enabled=is_enabled)
    return {}


async def put_signing(call: Call) -> Values:
    """Set with what a domain's mail is signed: Easy DKIM, or a key that is given."""
    ref = own_identity(call, call.text("EmailIdentity"))
    if not ref.is_domain:
        raise ApiError("invalid-value", "The EmailIdentity value must be a valid domain.")
    given: Values = call.values.get("SigningAttributes") or {}
    key = signing_key(given, call.text("SigningAttributesOrigin"))
    with as_fault(NotFoundError, no_such_identity(ref.name)):
        if key is None:
            settings = await easy_dkim.begin(call.session(), ref, call.count_new_keys)
        else:
            settings = await easy_dkim.put_signing_key(call.session(), ref, *key)
    found = {"DkimStatus": v2_state(settings.status), "DkimTokens": list(settings.tokens)}
    zone = call.parts.config.signing.hosted_zone
    return found | ({"SigningHostedZone": zone} if zone and key is None else {})


def signing_key(given: Values, origin: str = "") -> tuple[str, str] | None:
    """The selector and the private key that are given, or ``None`` for Easy DKIM.

    Without an origin the members decide. Raises ApiError.
    """
    origin = origin or given.get("DomainSigningAttributesOrigin") or ""
    selector, key = given.get("DomainSigningSelector"), given.get("DomainSigningPrivateKey")
    if origin.startswith("AWS_SES_"):
        text = f"{origin} is not supported: this gate has no keys of other regions."
        raise ApiError("invalid-value", text)
    if bool(selector) != bool(key) or (origin == "EXTERNAL" and not key):
        text = "DomainSigningSelector and DomainSigningPrivateKey must be given together."
        raise ApiError("invalid-value", text)
    if selector and key:
        if origin == "AWS_SES" or given.get("NextSigningKeyLength"):
            text = "A key of Easy DKIM and one of your own cannot be asked for together."
            raise ApiError("invalid-value", text)
        return selector, key
    if given.get("NextSigningKeyLength", _LENGTH) != _LENGTH:
        raise ApiError("invalid-value", f"NextSigningKeyLength must be {_LENGTH}.")
    return None


def v2_dkim(call: Call, settings: DkimSettings) -> dict[str, Any]:
    """A domain's DKIM as version 2 writes it."""
    found: dict[str, Any] = {
        "SigningEnabled": settings.is_enabled,
        "Status": v2_state(settings.status),
        "SigningAttributesOrigin": _ORIGINS[settings.origin],
    }
    if settings.tokens:
        found["Tokens"] = list(settings.tokens)
    if settings.origin == "easy":
        found |= {
            "SigningHostedZone": call.parts.config.signing.hosted_zone,
            "CurrentSigningKeyLength": _LENGTH,
            "NextSigningKeyLength": _LENGTH,
            "LastKeyGenerationTimestamp": settings.generated_at,
        }
    return found


V1: Final[Mapping[str, Handler]] = {
    "VerifyDomainDkim": verify_dkim,
    "GetIdentityDkimAttributes": dkim_attributes,
    "SetIdentityDkimEnabled": set_enabled,
}
V2: Final[Mapping[str, Handler]] = {
    "PutEmailIdentityDkimAttributes": put_enabled,
    "PutEmailIdentityDkimSigningAttributes": put_signing,
}
