"""Tags of identities and configuration sets, by their ARN (v2).

https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_TagResource.html
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from smtpgate.admin import tags
from smtpgate.admin.errors import NotFoundError
from smtpgate.admin.refs import TaggedRef
from smtpgate.api.call import Call, Handler, Values, as_fault
from smtpgate.core.api.faults import ApiError
from smtpgate.core.arn import ArnError, IdentityArn
from smtpgate.core.tag import ResourceTagError, read_tags

_SET: Final = re.compile(
    r"arn:([^:]+):ses:([^:]+):([0-9]{12}):configuration-set/([A-Za-z0-9_-]{1,64})"
)


async def tag(call: Call) -> Values:
    """Set tags of a resource; others stay."""
    wanted = tags_of(call.values["Tags"])
    with as_fault(NotFoundError, _missing(call)):
        await tags.put(call.session(), _resource(call), wanted)
    return {}


async def untag(call: Call) -> Values:
    """Remove tags of a resource by their keys."""
    with as_fault(NotFoundError, _missing(call)):
        await tags.drop(call.session(), _resource(call), call.values["TagKeys"])
    return {}


async def list_tags(call: Call) -> Values:
    """The tags of a resource."""
    with as_fault(NotFoundError, _missing(call)):
        return {"Tags": v2_tags(await tags.of(call.session(), _resource(call)))}


def tags_of(given: Iterable[Values]) -> dict[str, str]:
    """The tags in a call. Raises ApiError."""
    try:
        return read_tags((one["Key"], one["Value"]) for one in given)
    except ResourceTagError as error:
        raise ApiError("invalid-value", str(error)) from None


def v2_tags(found: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as version 2 writes them."""
    return [{"Key": key, "Value": value} for key, value in found.items()]


def _resource(call: Call) -> TaggedRef:
    """The resource of a call's ARN, whose account the use case checks. Raises ApiError."""
    text, gate = call.text("ResourceArn"), call.parts.config.gate
    named = _SET.fullmatch(text)
    if named is not None:
        *place, account_id, name = named.groups()
        if place == [gate.partition, gate.region]:
            return TaggedRef(account_id, "set", name)
    else:
        try:
            arn = IdentityArn.parse(text)
        except ArnError:
            arn = None
        if arn is not None and (arn.partition, arn.region) == (gate.partition, gate.region):
            return TaggedRef(arn.account_id, "identity", arn.name)
    wanted = f"an identity or a configuration set of region {gate.region}"
    raise ApiError(
        "invalid-value", f"Invalid ARN <{text[:300]}>: the ARN of {wanted} is wanted."
    )


def _missing(call: Call) -> ApiError:
    return ApiError("not-found", f"Resource {call.text('ResourceArn')[:400]} does not exist.")


V2: Final[Mapping[str, Handler]] = {
    "TagResource": tag,
    "UntagResource": untag,
    "ListTagsForResource": list_tags,
}
