"""Policies of identities: PutIdentityPolicy and its kin.

https://docs.aws.amazon.com/ses/latest/APIReference/API_PutIdentityPolicy.html
https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_CreateEmailIdentityPolicy.html
"""

import re
from collections.abc import Mapping
from typing import Final

from smtpgate.admin import policies
from smtpgate.admin.errors import ConflictError, NotFoundError
from smtpgate.api.call import Call, Handler, Values, as_fault
from smtpgate.api.names import own_identity
from smtpgate.core.api.faults import ApiError

_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_ATTEMPTS: Final = 3


def _policy_name(call: Call) -> str:
    name = call.text("PolicyName")
    if not _NAME.fullmatch(name):
        text = (
            "PolicyName is invalid. Policy names must only include alpha-numeric characters, "
            "dashes, and underscores."
        )
        raise ApiError("invalid-value", text)
    return name


async def _versions(call: Call) -> dict[str, int]:
    found = await policies.attached(call.session(), own_identity(call, _identity(call)))
    return {policy.name: policy.version for policy in found}


def _identity(call: Call) -> str:
    return call.text("Identity") or call.text("EmailIdentity")


async def put(call: Call) -> Values:
    """Attach a policy, or replace it whatever it is now (v1)."""
    ref, name = own_identity(call, _identity(call)), _policy_name(call)
    for attempt in range(_ATTEMPTS):
        version = (await _versions(call)).get(name)
        try:
            document = call.text("Policy")
            await policies.put(call.session(), ref, name, document, version=version)
        except ConflictError:
            if attempt == _ATTEMPTS - 1:
                raise ApiError("changed-meanwhile", "The policy is being changed.") from None
        else:
            break
    return {}


async def create(call: Call) -> Values:
    """Attach a policy that is not there yet (v2)."""
    ref, name = own_identity(call, _identity(call)), _policy_name(call)
    with as_fault(
        ConflictError, ApiError("already-exists", f"Policy <{name}> already exists.")
    ):
        await policies.put(call.session(), ref, name, call.text("Policy"))
    return {}


async def update(call: Call) -> Values:
    """Replace a policy that is there (v2)."""
    ref, name = own_identity(call, _identity(call)), _policy_name(call)
    version = (await _versions(call)).get(name)
    if version is None:
        raise _missing(name)
    with as_fault(ConflictError, ApiError("changed-meanwhile", "The policy is being changed.")):
        await policies.put(call.session(), ref, name, call.text("Policy"), version=version)
    return {}


async def get(call: Call) -> Values:
    """The documents of the policies that are asked for; names that there are not are absent."""
    wanted = call.values.get("PolicyNames")
    ref = own_identity(call, _identity(call))
    found = await policies.attached(call.session(), ref)
    return {
        "Policies": {
            policy.name: policy.document
            for policy in found
            if wanted is None or policy.name in wanted
        }
    }


async def list_names(call: Call) -> Values:
    """The names of the policies."""
    return {"PolicyNames": sorted(await _versions(call))}


async def delete(call: Call) -> Values:
    """Take a policy away; one that is not there is no error (v1)."""
    try:
        return await remove(call)
    except ApiError as error:
        if error.fault != "not-found":
            raise
        return {}


async def remove(call: Call) -> Values:
    """Take a policy away (v2)."""
    ref, name = own_identity(call, _identity(call)), _policy_name(call)
    version = (await _versions(call)).get(name)
    if version is None:
        raise _missing(name)
    with as_fault(NotFoundError, _missing(name)):
        await policies.delete(call.session(), ref, name)
    return {}


def _missing(name: str) -> ApiError:
    return ApiError("not-found", f"Policy <{name}> does not exist.")


V1: Final[Mapping[str, Handler]] = {
    "PutIdentityPolicy": put,
    "GetIdentityPolicies": get,
    "ListIdentityPolicies": list_names,
    "DeleteIdentityPolicy": delete,
}
V2: Final[Mapping[str, Handler]] = {
    "CreateEmailIdentityPolicy": create,
    "UpdateEmailIdentityPolicy": update,
    "GetEmailIdentityPolicies": get,
    "DeleteEmailIdentityPolicy": remove,
}
