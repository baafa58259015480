"""Topics and subscriptions: the subset of SNS that clients of SES use.

https://docs.aws.amazon.com/sns/latest/api/API_Subscribe.html
"""

from collections.abc import Mapping, Sequence
from typing import Final

from smtpgate.admin import tags, topics
from smtpgate.admin.errors import ConflictError, NotFoundError
from smtpgate.admin.refs import SubscriptionRef, TaggedRef, TopicRef
from smtpgate.admin.topics import SubscriptionDetails, TopicDetails
from smtpgate.api.call import Call, Handler, Values, as_fault
from smtpgate.api.notifications import topic_arn
from smtpgate.api.paging import after_of, page_of, token_of
from smtpgate.api.tags import tags_of, v2_tags
from smtpgate.core.api.faults import ApiError
from smtpgate.core.notification.names import SnsArn
from smtpgate.core.notification.settings import SignatureVersion, SubscriptionForm
from smtpgate.core.secret import Secret

_PAGE: Final = 100  # as SNS has it
_PENDING: Final = "PendingConfirmation"
_PROTOCOLS: Final[Mapping[SubscriptionForm, str]] = {
    "email": "email-json",
    "sns": "https",
    "raw": "https",
    "listmonk": "https",
}
_URLS: Final = frozenset({"http", "https"})
_MAIL: Final = frozenset({"email", "email-json"})
_VERSIONS: Final[Mapping[str, SignatureVersion]] = {"1": "1", "2": "2"}


def _topic(call: Call, arn: str, parameter: str = "TopicArn") -> TopicRef:
    """The topic of an ARN, which must be of this gate. Raises ApiError."""
    try:
        found = SnsArn.parse(arn)
    except ValueError:
        raise ApiError("invalid-parameter", f"Invalid parameter: {parameter}") from None
    if found.id is not None or not _is_here(call, found):
        raise ApiError("invalid-parameter", f"Invalid parameter: {parameter}")
    return TopicRef(found.account_id, found.name)


def _subscription(call: Call) -> SubscriptionRef:
    arn = call.text("SubscriptionArn")
    try:
        found = SnsArn.parse(arn)
    except ValueError:
        raise ApiError("invalid-parameter", "Invalid parameter: SubscriptionArn") from None
    if found.id is None or not _is_here(call, found):
        raise ApiError("invalid-parameter", "Invalid parameter: SubscriptionArn")
    return SubscriptionRef(TopicRef(found.account_id, found.name), arn)


def _is_here(call: Call, arn: SnsArn) -> bool:
    gate = call.parts.config.gate
    return (arn.partition, arn.region) == (gate.partition, gate.region)


# -- topics ------------------------------------------------------------------------------------


async def create_topic(call: Call) -> Values:
    """Make a topic; one that is there as it is wanted is no error."""
    attributes = call.values.get("Attributes") or {}
    version = _VERSIONS.get(attributes.get("SignatureVersion", "1"))
    if version is None:
        raise ApiError("invalid-parameter", "Invalid parameter: SignatureVersion")
    wanted, shown = tags_of(call.values.get("Tags") or ()), attributes.get("DisplayName", "")
    ref = TopicRef(call.account_id, call.text("Name"))
    try:
        await topics.create(call.session(), ref, version, display_name=shown, tags=wanted)
    except ConflictError:
        await _must_be_as_wanted(call, ref, wanted)
    return {"TopicArn": topic_arn(call, ref.name)}


async def _must_be_as_wanted(call: Call, ref: TopicRef, wanted: Mapping[str, str]) -> None:
    """Raises ApiError for a topic that has other attributes or tags than a call gives."""
    given = call.values.get("Attributes") or {}
    if given:
        found, _ = await topics.get(call.session(), ref)
        if any(given.get(name, kept) != kept for name, kept in _kept(found).items()):
            raise _differs("Attributes")
    if wanted and wanted != await tags.of(call.session(), _tagged(ref)):
        raise _differs("Tags")


def _differs(parameter: str) -> ApiError:
    text = f"Topic already exists with different {parameter.lower()}"
    return ApiError("invalid-parameter", f"Invalid parameter: {parameter} Reason: {text}")


async def delete_topic(call: Call) -> Values:
    """Delete a topic with its subscriptions; one that is not there is no error."""
    try:
        await topics.delete(call.session(), _topic(call, call.text("TopicArn")))
    except NotFoundError:
        return {}
    return {}


async def list_topics(call: Call) -> Values:
    """The account's topics, by name."""
    pages = topics.pages(
        call.session(),
        call.account_id,
        after=(call.account_id, after_of(call)),
        limit=_PAGE + 1,
    )
    found, token = await page_of(pages, _PAGE, lambda one: one.name)
    return {"Topics": [{"TopicArn": one.arn} for one in found], "NextToken": token}


async def topic_attributes(call: Call) -> Values:
    """The attributes of a topic."""
    found, subscriptions = await _found_topic(call)
    pending = sum(one.state == "pending" for one in subscriptions)
    return {
        "Attributes": {
            "TopicArn": found.arn,
            "Owner": found.account_id,
            **_kept(found),
            "SubscriptionsConfirmed": str(len(subscriptions) - pending),
            "SubscriptionsPending": str(pending),
            "SubscriptionsDeleted": "0",
        }
    }


def _kept(topic: TopicDetails) -> dict[str, str]:
    """The attributes that callers set."""
    return {"DisplayName": topic.display_name, "SignatureVersion": topic.signature_version}


async def _found_topic(call: Call) -> tuple[TopicDetails, Sequence[SubscriptionDetails]]:
    with as_fault(NotFoundError, ApiError("no-sns-object", "Topic does not exist")):
        return await topics.get(call.session(), _topic(call, call.text("TopicArn")))


async def set_topic_attributes(call: Call) -> Values:
    """Set the display name or the version of the signatures; others change nothing."""
    name, value = call.text("AttributeName"), call.text("AttributeValue")
    ref = _topic(call, call.text("TopicArn"))
    with as_fault(NotFoundError, ApiError("no-sns-object", "Topic does not exist")):
        if name == "DisplayName":
            await topics.update(call.session(), ref, display_name=value)
        elif name != "SignatureVersion":
            _ = await topics.get(call.session(), ref)
        elif version := _VERSIONS.get(value):
            await topics.update(call.session(), ref, version)
        else:
            raise ApiError("invalid-parameter", "Invalid parameter: AttributeValue")
    return {}


# -- subscriptions -----------------------------------------------------------------------------


async def subscribe(call: Call) -> Values:
    """Subscribe a URL or an address; it gets a token that confirms it."""
    protocol, attributes = call.text("Protocol"), call.values.get("Attributes") or {}
    if protocol in _URLS:
        is_raw = attributes.get("RawMessageDelivery", "false").lower() == "true"
        form: SubscriptionForm = "raw" if is_raw else "sns"
    elif protocol in _MAIL:
        form = "email"
    else:
        _ = await _found_topic(call)
        text = f"Invalid parameter: Protocol {protocol[:40]} is not supported"
        raise ApiError("invalid-parameter", text)
    ref = _topic(call, call.text("TopicArn"))
    with as_fault(NotFoundError, ApiError("no-sns-object", "Topic does not exist")):
        made = await topics.subscribe(
            call.session(), ref, form, call.text("Endpoint"), call.parts.confirmer
        )
    shows_arn = call.values.get("ReturnSubscriptionArn")
    return {"SubscriptionArn": made.details.arn if shows_arn else "pending confirmation"}


async def confirm(call: Call) -> Values:
    """Confirm a subscription with the token that its endpoint got."""
    ref = _topic(call, call.text("TopicArn"))
    with as_fault(NotFoundError, ApiError("invalid-parameter", "Invalid token")):
        found = await topics.confirm(call.session(), ref, Secret(call.text("Token")))
    return {"SubscriptionArn": found.arn}


async def unsubscribe(call: Call) -> Values:
    """Delete a subscription; one that is not there is no error."""
    try:
        await topics.unsubscribe(call.session(), _subscription(call))
    except NotFoundError:
        return {}
    return {}


async def list_subscriptions(call: Call) -> Values:
    """The subscriptions of a topic, by their ARNs."""
    _, found = await _found_topic(call)
    after = after_of(call)
    rest = [one for one in sorted(found, key=lambda one: str(one.arn)) if one.arn > after]
    token = token_of(rest[_PAGE - 1].arn) if len(rest) > _PAGE else None
    return {"Subscriptions": [_listed(one) for one in rest[:_PAGE]], "NextToken": token}


def _listed(one: SubscriptionDetails) -> dict[str, str]:
    return {
        "SubscriptionArn": one.arn if one.state == "confirmed" else _PENDING,
        "Owner": one.arn.split(":")[4],
        "Protocol": _PROTOCOLS[one.form],
        "Endpoint": one.endpoint,
        "TopicArn": one.topic_arn,
    }


async def subscription_attributes(call: Call) -> Values:
    """The attributes of a subscription."""
    one = await _found_subscription(call)
    return {
        "Attributes": {
            "SubscriptionArn": one.arn,
            "TopicArn": one.topic_arn,
            "Owner": one.arn.split(":")[4],
            "Protocol": _PROTOCOLS[one.form],
            "Endpoint": one.endpoint,
            "RawMessageDelivery": str(one.form == "raw").lower(),
            "PendingConfirmation": str(one.state == "pending").lower(),
            "ConfirmationWasAuthenticated": "false",
        }
    }


async def set_subscription_attributes(call: Call) -> Values:
    """Take attributes that change nothing; the form of a subscription stays as it was made."""
    one = await _found_subscription(call)
    name, value = call.text("AttributeName"), call.text("AttributeValue")
    is_raw = str(one.form == "raw").lower()
    if name == "RawMessageDelivery" and value.lower() != is_raw:
        text = "Invalid parameter: RawMessageDelivery cannot be changed; subscribe again"
        raise ApiError("invalid-parameter", text)
    return {}


async def _found_subscription(call: Call) -> SubscriptionDetails:
    with as_fault(NotFoundError, ApiError("no-sns-object", "Subscription does not exist")):
        return await topics.get_subscription(call.session(), _subscription(call))


# -- tags of topics ----------------------------------------------------------------------------


def _tagged(ref: TopicRef) -> TaggedRef:
    return TaggedRef(ref.account_id, "topic", ref.name)


def _resource(call: Call) -> TaggedRef:
    return _tagged(_topic(call, call.text("ResourceArn"), "ResourceArn"))


async def tag(call: Call) -> Values:
    """Set tags of a topic; others stay."""
    with as_fault(NotFoundError, _no_resource()):
        await tags.put(call.session(), _resource(call), tags_of(call.values["Tags"]))
    return {}


async def untag(call: Call) -> Values:
    """Remove tags of a topic by their keys."""
    with as_fault(NotFoundError, _no_resource()):
        await tags.drop(call.session(), _resource(call), call.values["TagKeys"])
    return {}


async def list_tags(call: Call) -> Values:
    """The tags of a topic."""
    with as_fault(NotFoundError, _no_resource()):
        return {"Tags": v2_tags(await tags.of(call.session(), _resource(call)))}


def _no_resource() -> ApiError:
    return ApiError("no-sns-resource", "Resource does not exist")


SNS: Final[Mapping[str, Handler]] = {
    "CreateTopic": create_topic,
    "DeleteTopic": delete_topic,
    "ListTopics": list_topics,
    "GetTopicAttributes": topic_attributes,
    "SetTopicAttributes": set_topic_attributes,
    "Subscribe": subscribe,
    "ConfirmSubscription": confirm,
    "Unsubscribe": unsubscribe,
    "ListSubscriptionsByTopic": list_subscriptions,
    "GetSubscriptionAttributes": subscription_attributes,
    "SetSubscriptionAttributes": set_subscription_attributes,
    "TagResource": tag,
    "UntagResource": untag,
    "ListTagsForResource": list_tags,
}
