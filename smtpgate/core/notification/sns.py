"""The envelope of Amazon SNS for subscriptions by HTTPS, and the text that is signed.

https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
"""

import json
from datetime import datetime
from typing import Final, Literal

from msgspec import Struct

from smtpgate.core.notification.mail import timestamp

EnvelopeType = Literal["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"]
SignatureVersion = Literal["1", "2"]

USER_AGENT: Final = "Amazon Simple Notification Service Agent"
CONTENT_TYPE: Final = "text/plain; charset=UTF-8"
# The fields that are signed, in this order; a field that there is not is left out.
_SIGNED: Final[dict[EnvelopeType, tuple[str, ...]]] = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    **dict.fromkeys(
        ("SubscriptionConfirmation", "UnsubscribeConfirmation"),
        ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    ),
}


class SnsEnvelope(Struct, frozen=True, gc=False, kw_only=True):
    """An envelope before it is signed.

    ``token`` and ``subscribe_url`` are of confirmations, ``unsubscribe_url`` of notifications.
    """

    type: EnvelopeType
    message_id: str
    topic_arn: str
    subscription_arn: str
    message: str
    at: datetime
    subject: str | None = None
    token: str | None = None
    subscribe_url: str | None = None
    unsubscribe_url: str | None = None


def string_to_sign(envelope: SnsEnvelope) -> str:
    """The text that the signature is of: a line with the name, a line with the value."""
    values = _values(envelope)
    names = (name for name in _SIGNED[envelope.type] if values[name] is not None)
    return "".join(f"{name}\n{values[name]}\n" for name in names)


def envelope_json(
    envelope: SnsEnvelope, *, version: SignatureVersion, signature: str, certificate_url: str
) -> str:
    """The signed envelope; the signature is in base64."""
    values = _values(envelope)
    names = ["Type", "MessageId", "Token", "TopicArn", "Subject", "Message", "SubscribeURL"]
    body = {name: values[name] for name in names if values[name] is not None}
    body |= {
        "Timestamp": values["Timestamp"],
        "SignatureVersion": version,
        "Signature": signature,
        "SigningCertURL": certificate_url,
    }
    if envelope.unsubscribe_url is not None:
        body["UnsubscribeURL"] = envelope.unsubscribe_url
    return json.dumps(body, indent=2)


def envelope_headers(envelope: SnsEnvelope) -> tuple[tuple[str, str], ...]:
    """The header fields that SNS sends with an envelope."""
    confirmed = envelope.type == "Notification"
    arn = (("x-amz-sns-subscription-arn", envelope.subscription_arn),) if confirmed else ()
    return (
        ("x-amz-sns-message-type", envelope.type),
        ("x-amz-sns-message-id", envelope.message_id),
        ("x-amz-sns-topic-arn", envelope.topic_arn),
        *arn,
        ("Content-Type", CONTENT_TYPE),
        ("User-Agent", USER_AGENT),
    )


def _values(envelope: SnsEnvelope) -> dict[str, str | None]:
    return {
        "Type": envelope.type,
        "MessageId": envelope.message_id,
        "Token": envelope.token,
        "TopicArn": envelope.topic_arn,
        "Subject": envelope.subject,
        "Message": envelope.message,
        "SubscribeURL": envelope.subscribe_url,
        "Timestamp": timestamp(envelope.at),
    }


def confirmation_text(topic_arn: str) -> str:
    """The message of a SubscriptionConfirmation, for people who read it."""
    return (
        f"You have chosen to subscribe to the topic {topic_arn}.\n"
        "To confirm the subscription, visit the SubscribeURL included in this message."
    )


def unsubscribed_text(subscription_arn: str) -> str:
    """The message of an UnsubscribeConfirmation, for people who read it."""
    return (
        f"You have chosen to deactivate subscription {subscription_arn}.\n"
        "To cancel this operation and restore the subscription, visit the SubscribeURL "
        "included in this message."
    )
