"""Sends a subscription the token that confirms it, in SNS's envelope or in JSON of our own."""

import json
import uuid
from dataclasses import dataclass

from smtpgate.core.notification.settings import Subscription
from smtpgate.core.notification.sns import SnsEnvelope, confirmation_text, envelope_headers
from smtpgate.core.notification.standard_webhooks import signed_headers
from smtpgate.core.outbox.task import Carried
from smtpgate.core.secret import Secret
from smtpgate.ports import Clock
from smtpgate.webhooks.carrier import SnsFace, WebhookCaller, result_of
from smtpgate.webhooks.client import CallError


@dataclass(frozen=True, slots=True)
class WebhookConfirmer:
    """Calls endpoints with their tokens. Without ``sns`` a raw one gets no URL to visit."""

    caller: WebhookCaller
    sns: SnsFace | None
    clock: Clock

    async def send(self, subscription: Subscription, token: Secret) -> str | None:
        """Call it once; why that failed, or ``None``."""
        now, url = self.clock.now(), None
        if self.sns is not None:
            url = self.sns.confirm_url(subscription.topic_arn, token.value)
        envelope = SnsEnvelope(
            type="SubscriptionConfirmation",
            message_id=str(uuid.uuid4()),
            topic_arn=subscription.topic_arn,
            subscription_arn=subscription.arn,
            message=confirmation_text(subscription.topic_arn),
            at=now,
            token=token.value,
            subscribe_url=url,
        )
        if subscription.form == "raw" and subscription.secret is not None:
            body = _raw(envelope)
            headers = signed_headers(
                subscription.secret, webhook_id=envelope.message_id, at=now, body=body
            )
        elif self.sns is not None:
            body = self.sns.signed(envelope, subscription.signature_version)
            headers = envelope_headers(envelope)
        else:
            return "notifications.base_url is not set: SNS's envelopes need URLs"
        try:
            answer = await self.caller.post(
                subscription.endpoint, headers, body, subscription.credentials
            )
        except CallError as error:
            return str(error)
        result = result_of(answer, now)
        return None if isinstance(result, Carried) else result.problem


def _raw(envelope: SnsEnvelope) -> bytes:
    """The same facts without SNS's signature."""
    facts = {
        "Type": envelope.type,
        "Token": envelope.token,
        "TopicArn": envelope.topic_arn,
        "SubscriptionArn": envelope.subscription_arn,
        "Message": envelope.message,
        "SubscribeURL": envelope.subscribe_url,
    }
    return json.dumps({name: value for name, value in facts.items() if value}).encode()
