"""Configuration sets and their event destinations, in both versions.

https://docs.aws.amazon.com/ses/latest/APIReference/API_CreateConfigurationSet.html
https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_CreateConfigurationSet.html

Events go to topics of SNS. Other destinations of AWS do not exist here, and are refused. The
options for open and click tracking, dedicated addresses and archiving are refused too.
"""

from collections.abc import Mapping
from typing import Any, Final

from smtpgate.admin import configuration_sets as sets
from smtpgate.admin import tags
from smtpgate.admin.configuration_sets import ConfigurationSetDetails, EventDestinationDetails
from smtpgate.admin.errors import ConflictError, MissingTopicError, NotFoundError
from smtpgate.admin.refs import ConfigurationSetRef, TaggedRef
from smtpgate.admin.reputation import rate_set, reputation_options
from smtpgate.admin.suppression import set_reasons_of_set
from smtpgate.api.call import Call, Handler, Values, as_fault
from smtpgate.api.notifications import topic_arn, topic_of
from smtpgate.api.paging import after_of, page_of, size_of
from smtpgate.api.suppression import must_not_validate, reasons_given
from smtpgate.api.tags import tags_of, v2_tags
from smtpgate.core.api.faults import ApiError

# By the names of version 1; in version 2 they are those that are kept.
_TYPES: Final[Mapping[str, str]] = {
    "send": "SEND",
    "reject": "REJECT",
    "bounce": "BOUNCE",
    "complaint": "COMPLAINT",
    "delivery": "DELIVERY",
    "open": "OPEN",
    "click": "CLICK",
    "renderingFailure": "RENDERING_FAILURE",
}
_V1_TYPES: Final = {kept: name for name, kept in _TYPES.items()}
_OTHER_DESTINATIONS: Final[Mapping[str, str]] = {
    "KinesisFirehoseDestination": "no-firehose",
    "CloudWatchDestination": "no-cloudwatch",
    "EventBridgeDestination": "invalid-value",
    "PinpointDestination": "invalid-value",
}


def _ref(call: Call) -> ConfigurationSetRef:
    return ConfigurationSetRef(call.account_id, call.text("ConfigurationSetName"))


def no_such_set(name: str) -> ApiError:
    """The fault of a name that no configuration set of the account has."""
    return ApiError("no-such-set", f"Configuration set <{name[:200]}> does not exist.")


async def _set(call: Call) -> ConfigurationSetDetails:
    ref = _ref(call)
    with as_fault(NotFoundError, no_such_set(ref.name)):
        return await sets.get(call.session(), ref)


# -- sets --------------------------------------------------------------------------------------


async def _made(
    call: Call, name: str, tagged: Mapping[str, str] | None = None
) -> ConfigurationSetRef:
    ref = ConfigurationSetRef(call.account_id, name)
    try:
        await sets.create(call.session(), ref, tagged)
    except ConflictError:
        text = f"Configuration set <{name[:200]}> already exists."
        raise ApiError("set-exists", text) from None
    return ref


async def create_v1(call: Call) -> Values:
    """Make a configuration set (v1)."""
    await _made(call, call.values["ConfigurationSet"]["Name"])
    return {}


async def create_v2(call: Call) -> Values:
    """Make a configuration set with its options (v2)."""
    name = call.text("ConfigurationSetName")
    suppression = call.values.get("SuppressionOptions")
    must_not_validate(suppression or {})
    _must_ask_for_nothing(call.values.get("DeliveryOptions") or {})
    reasons = None if suppression is None else reasons_given(suppression)
    ref = await _made(call, name, tags_of(call.values.get("Tags") or ()))
    options = call.values.get("SendingOptions") or {}
    if options.get("SendingEnabled") is False:
        await sets.set_sending(call.session(), ref, is_sending=False)
    options = call.values.get("ReputationOptions") or {}
    if options.get("ReputationMetricsEnabled"):
        await rate_set(call.session(), ref, is_rated=True)
    if reasons is not None:
        await set_reasons_of_set(call.session(), ref, reasons)
    return {}


async def describe(call: Call) -> Values:
    """A configuration set with the parts that are asked for (v1)."""
    details = await _set(call)
    wanted = set(call.values.get("ConfigurationSetAttributeNames") or ())
    found: dict[str, Any] = {"ConfigurationSet": {"Name": details.name}}
    if "eventDestinations" in wanted:
        found["EventDestinations"] = [
            _destination_v1(call, one) for one in details.destinations
        ]
    if "deliveryOptions" in wanted:
        found["DeliveryOptions"] = {"TlsPolicy": "Optional"}
    if "reputationOptions" in wanted:
        found["ReputationOptions"] = {
            "SendingEnabled": details.is_sending,
            **await _reputation_options(call),
        }
    return found


async def get_v2(call: Call) -> Values:
    """A configuration set with its options (v2)."""
    details = await _set(call)
    ref = TaggedRef(call.account_id, "set", details.name)
    found: dict[str, Any] = {
        "ConfigurationSetName": details.name,
        "Tags": v2_tags(await tags.of(call.session(), ref)),
        "SendingOptions": {"SendingEnabled": details.is_sending},
        "ReputationOptions": await _reputation_options(call),
        "DeliveryOptions": {"TlsPolicy": "OPTIONAL"},
    }
    if details.suppressed_reasons is not None:
        found["SuppressionOptions"] = {"SuppressedReasons": list(details.suppressed_reasons)}
    return found


async def _reputation_options(call: Call) -> Values:
    is_rated, fresh_start = await reputation_options(call.session(), _ref(call))
    found: dict[str, Any] = {"ReputationMetricsEnabled": is_rated}
    return found if fresh_start is None else found | {"LastFreshStart": fresh_start}


async def _page(call: Call, size_name: str) -> tuple[list[str], str | None]:
    size = size_of(call, size_name)
    pages = sets.pages(
        call.session(),
        call.account_id,
        after=(call.account_id, after_of(call)),
        limit=size + 1,
    )
    found, token = await page_of(pages, size, lambda one: one.name)
    return [one.name for one in found], token


async def list_v1(call: Call) -> Values:
    """The account's configuration sets, by name (v1)."""
    names, token = await _page(call, "MaxItems")
    return {"ConfigurationSets": [{"Name": name} for name in names], "NextToken": token}


async def list_v2(call: Call) -> Values:
    """The names of the account's configuration sets (v2)."""
    names, token = await _page(call, "PageSize")
    return {"ConfigurationSets": names, "NextToken": token}


async def delete(call: Call) -> Values:
    """Delete a configuration set."""
    ref = _ref(call)
    with as_fault(NotFoundError, no_such_set(ref.name)):
        await sets.delete(call.session(), ref)
    return {}


async def set_sending(call: Call) -> Values:
    """Let mail with a configuration set be sent, or refuse it."""
    ref = _ref(call)
    name = "Enabled" if call.service == "ses" else "SendingEnabled"
    with as_fault(NotFoundError, no_such_set(ref.name)):
        await sets.set_sending(call.session(), ref, is_sending=bool(call.values.get(name)))
    return {}


async def set_reputation_metrics(call: Call) -> Values:
    """Have the mail with a configuration set judged, or not."""
    ref = _ref(call)
    name = "Enabled" if call.service == "ses" else "ReputationMetricsEnabled"
    with as_fault(NotFoundError, no_such_set(ref.name)):
        await rate_set(call.session(), ref, is_rated=bool(call.values.get(name)))
    return {}


async def set_suppression(call: Call) -> Values:
    """Use the account's list for mail with a configuration set for other reasons (v2).

    Without any reason the list is not used. That the account's own apply again has no operation
    at SES either.
    """
    ref = _ref(call)
    must_not_validate(call.values)
    with as_fault(NotFoundError, no_such_set(ref.name)):
        await set_reasons_of_set(call.session(), ref, reasons_given(call.values))
    return {}


async def set_delivery_options(call: Call) -> Values:
    """Take the setting that asks for nothing: TLS beyond the gate is the upstream's."""
    _ = await _set(call)
    _must_ask_for_nothing(call.values.get("DeliveryOptions") or call.values)
    return {}


def _must_ask_for_nothing(options: Values) -> None:
    """Raises ApiError for delivery options that the gate cannot obey."""
    if (options.get("TlsPolicy") or "OPTIONAL").upper() == "REQUIRE":
        text = "TlsPolicy REQUIRE is not supported: TLS to recipients is set at the upstream."
        raise ApiError("invalid-value", text)
    if options.get("SendingPoolName"):
        raise ApiError("invalid-value", "Dedicated IP pools are not supported.")


# -- event destinations ------------------------------------------------------------------------


def _topic_of(call: Call, given: Values, name: str) -> str | None:
    """The topic of an event destination, or ``None`` if it is not set. Raises ApiError."""
    for other, fault in _OTHER_DESTINATIONS.items():
        if given.get(other):
            raise ApiError(fault, f"{other} is not supported: events go to topics of SNS.")
    destination = given.get(name)
    if destination is None:
        return None
    try:
        return topic_of(
            call, destination["TopicARN" if name == "SNSDestination" else "TopicArn"]
        )
    except ApiError as error:
        raise ApiError("no-topic", str(error)) from None


async def create_destination(call: Call) -> Values:
    """Publish events of a configuration set to a topic."""
    name, given, types, topic = _destination(call)
    if topic is None:
        raise ApiError("no-topic", "An event destination needs a topic of SNS.")
    ref = _ref(call)
    try:
        await sets.add_destination(
            call.session(),
            ref,
            name,
            types,
            topic,
            is_enabled=bool(given.get("Enabled", call.service == "ses")),
        )
    except MissingTopicError:
        raise _no_topic(topic) from None
    except NotFoundError:
        raise no_such_set(ref.name) from None
    except ConflictError:
        text = f"An event destination with name <{name[:100]}> already exists."
        raise ApiError("destination-exists", text) from None
    return {}


async def update_destination(call: Call) -> Values:
    """Change an event destination."""
    name, given, types, topic = _destination(call)
    await _must_be_there(call, name)
    ref = _ref(call)
    try:
        await sets.update_destination(
            call.session(),
            ref,
            name,
            types=types or None,
            topic=topic,
            is_enabled=given.get("Enabled"),
        )
    except MissingTopicError:
        raise _no_topic(topic or "") from None
    except NotFoundError:
        raise no_such_set(ref.name) from None
    return {}


async def delete_destination(call: Call) -> Values:
    """Delete an event destination."""
    name = call.text("EventDestinationName")
    await _must_be_there(call, name)
    await sets.delete_destination(call.session(), _ref(call), name)
    return {}


async def get_destinations(call: Call) -> Values:
    """The event destinations of a configuration set (v2)."""
    details = await _set(call)
    return {"EventDestinations": [_destination_v2(call, one) for one in details.destinations]}


def _destination(call: Call) -> tuple[str, Values, list[str], str | None]:
    """The name, the values, the types and the topic of an event destination."""
    given: Values = call.values["EventDestination"]
    if call.service == "ses":
        types = [_TYPES[one] for one in given.get("MatchingEventTypes", ())]
        return given["Name"], given, types, _topic_of(call, given, "SNSDestination")
    types = list(given.get("MatchingEventTypes") or ())
    name = call.text("EventDestinationName")
    return name, given, types, _topic_of(call, given, "SnsDestination")


async def _must_be_there(call: Call, name: str) -> None:
    details = await _set(call)
    if name not in {one.name for one in details.destinations}:
        raise ApiError("no-destination", f"Event destination <{name[:100]}> does not exist.")


def _no_topic(topic: str) -> ApiError:
    return ApiError("no-topic", f"Topic {topic} does not exist.")


def _destination_v1(call: Call, one: EventDestinationDetails) -> dict[str, Any]:
    return {
        "Name": one.name,
        "Enabled": one.is_enabled,
        "MatchingEventTypes": [_V1_TYPES[kind] for kind in one.types if kind in _V1_TYPES],
        "SNSDestination": {"TopicARN": topic_arn(call, one.topic)},
    }


def _destination_v2(call: Call, one: EventDestinationDetails) -> dict[str, Any]:
    return {
        "Name": one.name,
        "Enabled": one.is_enabled,
        "MatchingEventTypes": list(one.types),
        "SnsDestination": {"TopicArn": topic_arn(call, one.topic)},
    }


V1: Final[Mapping[str, Handler]] = {
    "CreateConfigurationSet": create_v1,
    "DescribeConfigurationSet": describe,
    "ListConfigurationSets": list_v1,
    "DeleteConfigurationSet": delete,
    "UpdateConfigurationSetSendingEnabled": set_sending,
    "UpdateConfigurationSetReputationMetricsEnabled": set_reputation_metrics,
    "PutConfigurationSetDeliveryOptions": set_delivery_options,
    "CreateConfigurationSetEventDestination": create_destination,
    "UpdateConfigurationSetEventDestination": update_destination,
    "DeleteConfigurationSetEventDestination": delete_destination,
}
V2: Final[Mapping[str, Handler]] = {
    "CreateConfigurationSet": create_v2,
    "GetConfigurationSet": get_v2,
    "ListConfigurationSets": list_v2,
    "DeleteConfigurationSet": delete,
    "PutConfigurationSetSendingOptions": set_sending,
    "PutConfigurationSetReputationOptions": set_reputation_metrics,
    "PutConfigurationSetSuppressionOptions": set_suppression,
    "PutConfigurationSetDeliveryOptions": set_delivery_options,
    "CreateConfigurationSetEventDestination": create_destination,
    "GetConfigurationSetEventDestinations": get_destinations,
    "UpdateConfigurationSetEventDestination": update_destination,
    "DeleteConfigurationSetEventDestination": delete_destination,
}
