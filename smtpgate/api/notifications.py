"""Notifications of identities: topics, forwarding, headers; and their MAIL FROM domains.

https://docs.aws.amazon.com/ses/latest/APIReference/API_SetIdentityNotificationTopic.html
https://docs.aws.amazon.com/ses/latest/APIReference/API_SetIdentityMailFromDomain.html

A delegate names the owner's identity by its ARN, and has settings of its own for it.
"""

from collections.abc import Mapping
from typing import Any, Final

from smtpgate.admin import mail_from, notifications, topics
from smtpgate.admin.errors import MissingTopicError, NotFoundError, RefusedChangeError
from smtpgate.admin.mail_from import MailFromDetails
from smtpgate.admin.notifications import NotificationDetails
from smtpgate.api.call import Call, Handler, Values, as_fault
from smtpgate.api.identities import known, names_of, v1_state, v2_state
from smtpgate.api.names import own_identity
from smtpgate.core.api.faults import ApiError
from smtpgate.core.notification.names import SnsArn
from smtpgate.core.notification.settings import NotificationKind
from smtpgate.core.proof.mail_from import OnMxFailure

_KINDS: Final[Mapping[str, NotificationKind]] = {
    "Bounce": "Bounce",
    "Complaint": "Complaint",
    "Delivery": "Delivery",
}
_ON_MX_FAILURE: Final[Mapping[str, OnMxFailure]] = {
    "UseDefaultValue": "default",
    "RejectMessage": "reject",
    "USE_DEFAULT_VALUE": "default",
    "REJECT_MESSAGE": "reject",
}
_V1_ON_MX_FAILURE: Final[Mapping[OnMxFailure, str]] = {
    "default": "UseDefaultValue",
    "reject": "RejectMessage",
}
_V2_ON_MX_FAILURE: Final[Mapping[OnMxFailure, str]] = {
    "default": "USE_DEFAULT_VALUE",
    "reject": "REJECT_MESSAGE",
}


# -- notifications -----------------------------------------------------------------------------


async def set_topic(call: Call) -> Values:
    """Have a kind of notification sent to a topic of the caller's account; or to none."""
    kind, ref = _kind(call), own_identity(call, call.text("Identity"))
    arn = call.text("SnsTopic")
    topic = topic_of(call, arn) if arn else None
    try:
        await notifications.update(call.session(), ref, call.account_id, topics={kind: topic})
    except MissingTopicError:
        raise no_such_topic(arn) from None
    except NotFoundError:
        raise _unusable(call.text("Identity")) from None
    return {}


async def set_headers(call: Call) -> Values:
    """Have notifications of a kind contain the header fields of the message, or not."""
    kind, ref = _kind(call), own_identity(call, call.text("Identity"))
    headers = {kind: bool(call.values["Enabled"])}
    try:
        await notifications.update(call.session(), ref, call.account_id, headers=headers)
    except NotFoundError:
        name = call.text("Identity")[:200]
        text = f"Identity {name} is not verified or does not exist."
        raise ApiError("rejected", text) from None
    return {}


async def set_forwarding(call: Call) -> Values:
    """Have bounces and complaints mailed to the return path, or not."""
    ref = own_identity(call, call.text("Identity") or call.text("EmailIdentity"))
    name = "ForwardingEnabled" if call.service == "ses" else "EmailForwardingEnabled"
    is_forwarding = bool(call.values.get(name))
    await notifications.update(call.session(), ref, is_forwarding=is_forwarding)
    return {}


async def get_notifications(call: Call) -> Values:
    """The settings of the caller's account for identities, by their names as given."""
    found: dict[str, Any] = {}
    for name in names_of(call):
        ref = own_identity(call, name)
        try:
            details = await notifications.get(call.session(), ref, call.account_id)
        except NotFoundError:
            continue
        found[name] = _attributes(call, details)
    return {"NotificationAttributes": found}


def _attributes(call: Call, details: NotificationDetails) -> dict[str, Any]:
    found: dict[str, Any] = {
        f"{kind}Topic": topic_arn(call, topic)
        for kind, topic in details.topics.items()
        if topic
    }
    found["ForwardingEnabled"] = bool(details.is_forwarding)
    for kind, has in details.headers.items():
        found[f"HeadersIn{kind}NotificationsEnabled"] = has
    return found


def _kind(call: Call) -> NotificationKind:
    name = call.text("NotificationType")
    kind = _KINDS.get(name)
    if kind is None:
        valid = ", ".join(_KINDS)
        text = f"Invalid notification type: {name[:100]}. Valid values are: {valid}."
        raise ApiError("invalid-value", text)
    return kind


def topic_of(call: Call, arn: str) -> str:
    """The text with which settings of the caller's account name a topic. Raises ApiError."""
    try:
        _ = SnsArn.parse(arn)
    except ValueError:
        raise ApiError("invalid-value", f"Invalid topic <{arn[:200]}>.") from None
    with as_fault(RefusedChangeError, no_such_topic(arn)):
        return topics.named(call.session(), call.account_id, arn)


def no_such_topic(arn: str) -> ApiError:
    """The error of a topic that is none of this account, and not open to it."""
    return ApiError("invalid-value", f"Topic <{arn[:200]}> is not one of this account.")


def topic_arn(call: Call, name: str) -> str:
    """The ARN of a topic that settings of the caller's account name; an ARN stays one."""
    if name.startswith("arn:"):
        return name
    return call.session().topic_arn(topics.place_of(call.account_id, name))


def _unusable(name: str) -> ApiError:
    text = f"Identity {name[:200]} is invalid. Must be a verified email address or domain."
    return ApiError("invalid-value", text)


# -- MAIL FROM domains -------------------------------------------------------------------------


async def set_mail_from(call: Call) -> Values:
    """Set the MAIL FROM domain of an identity; without a domain, remove it."""
    ref = own_identity(call, call.text("Identity") or call.text("EmailIdentity"))
    behaviour = call.text("BehaviorOnMXFailure") or call.text("BehaviorOnMxFailure")
    on_mx_failure = _ON_MX_FAILURE[behaviour or "UseDefaultValue"]
    domain = call.text("MailFromDomain")
    try:
        if domain:
            await mail_from.put(call.session(), ref, domain, on_mx_failure)
        else:
            await mail_from.delete(call.session(), ref)
    except NotFoundError:
        if domain or await known(call, ref.name) is None:
            raise ApiError("not-found", f"Identity <{ref.name}> does not exist.") from None
    return {}


async def get_mail_from(call: Call) -> Values:
    """The MAIL FROM domains of identities, by their names as given."""
    found: dict[str, Any] = {}
    for name in names_of(call):
        if await known(call, name) is None:
            continue
        details = await mail_from_of(call, name)
        found[name] = _v1_mail_from(details)
    return {"MailFromDomainAttributes": found}


async def mail_from_of(call: Call, name: str) -> MailFromDetails | None:
    """The MAIL FROM domain of an identity, or ``None``."""
    try:
        return await mail_from.get(call.session(), own_identity(call, name))
    except NotFoundError:
        return None


def _v1_mail_from(details: MailFromDetails | None) -> dict[str, str]:
    """A MAIL FROM domain as version 1 writes it; without one, the behaviour alone."""
    if details is None:
        return {"BehaviorOnMXFailure": "UseDefaultValue"}
    return {
        "MailFromDomain": details.domain,
        "MailFromDomainStatus": v1_state(details.status),
        "BehaviorOnMXFailure": _V1_ON_MX_FAILURE[details.on_mx_failure],
    }


def v2_mail_from(details: MailFromDetails | None) -> dict[str, str]:
    """A MAIL FROM domain as version 2 writes it; without one, the behaviour alone."""
    if details is None:
        return {"BehaviorOnMxFailure": "USE_DEFAULT_VALUE"}
    return {
        "MailFromDomain": details.domain,
        "MailFromDomainStatus": v2_state(details.status),
        "BehaviorOnMxFailure": _V2_ON_MX_FAILURE[details.on_mx_failure],
    }


V1: Final[Mapping[str, Handler]] = {
    "SetIdentityNotificationTopic": set_topic,
    "SetIdentityHeadersInNotificationsEnabled": set_headers,
    "SetIdentityFeedbackForwardingEnabled": set_forwarding,
    "GetIdentityNotificationAttributes": get_notifications,
    "SetIdentityMailFromDomain": set_mail_from,
    "GetIdentityMailFromDomainAttributes": get_mail_from,
}
V2: Final[Mapping[str, Handler]] = {
    "PutEmailIdentityFeedbackAttributes": set_forwarding,
    "PutEmailIdentityMailFromAttributes": set_mail_from,
}
