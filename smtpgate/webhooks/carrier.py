"""Carries tasks of the outbox to subscriptions: as SNS sends them, raw, or for listmonk."""

import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal, Protocol, assert_never
from urllib.parse import quote

from smtpgate.core.notification import listmonk
from smtpgate.core.notification.names import SnsArn
from smtpgate.core.notification.ses_json import EVENT_SUBJECT, event_json, notification_json
from smtpgate.core.notification.settings import SignatureVersion, Subscription
from smtpgate.core.notification.sns import (
    SnsEnvelope,
    envelope_headers,
    envelope_json,
    string_to_sign,
)
from smtpgate.core.notification.standard_webhooks import signed_headers
from smtpgate.core.outbox.event import NoticeDetail, SendingEvent
from smtpgate.core.outbox.task import Carried, GivenUp, LeasedTask, Result, Task, TryAgain
from smtpgate.core.secret import Secret
from smtpgate.ports import Clock
from smtpgate.webhooks.client import CallError, Headers, HttpAnswer

FindSubscriptions = Callable[[str, str], Awaitable[Sequence[Subscription]]]

# The receiver says that the subscription is gone, or that it will never take this body.
_FOR_GOOD: Final = frozenset({410, 413, 414, 431})
_GONE: Final = "the subscription was deleted, or is not confirmed"
_LONGEST_WAIT_S: Final = 86_400.0


class WebhookCaller(Protocol):
    """Makes HTTP calls."""

    async def post(
        self, url: str, headers: Headers, body: bytes, credentials: Secret | None = None
    ) -> HttpAnswer:
        """POST to a URL. Raises CallError."""


class EnvelopeSigner(Protocol):
    """Signs the envelopes of SNS."""

    def sign(self, text: str, version: Literal["1", "2"]) -> str:
        """The signature of a text, in base64."""

    @property
    def certificate_name(self) -> str:
        """The last part of the certificate's URL."""

    @property
    def certificate_pem(self) -> bytes:
        """The certificate."""


@dataclass(frozen=True, slots=True)
class SnsFace:
    """The signatures and URLs of the gate in SNS's envelopes."""

    signer: EnvelopeSigner
    base_url: str

    def unsubscribe_url(self, subscription_arn: str) -> str:
        """The URL that ends a subscription."""
        arn = quote(subscription_arn, safe="")
        return f"{self.base_url}/?Action=Unsubscribe&SubscriptionArn={arn}"

    def confirm_url(self, topic_arn: str, token: str) -> str:
        """The URL that confirms a subscription."""
        arn = quote(topic_arn, safe="")
        return f"{self.base_url}/?Action=ConfirmSubscription&TopicArn={arn}&Token={token}"

    def signed(self, envelope: SnsEnvelope, version: SignatureVersion) -> bytes:
        """The body of a call."""
        return envelope_json(
            envelope,
            version=version,
            signature=self.signer.sign(string_to_sign(envelope), version),
            certificate_url=f"{self.base_url}/{self.signer.certificate_name}",
        ).encode()


class Webhooks:
    """Implements the Carrier port for subscriptions by HTTPS.

    ``find`` has the subscriptions of an account's topic. Without ``sns`` the gate has no public
    URL, and so no envelopes.
    """

    def __init__(
        self, caller: WebhookCaller, find: FindSubscriptions, sns: SnsFace | None, clock: Clock
    ) -> None:
        self._caller = caller
        self._find = find
        self._sns = sns
        self._clock = clock

    async def carry(self, leased: LeasedTask) -> Result:
        """Call the subscription once with the event."""
        to = leased.task.destination
        arn = SnsArn.parse(to.name)
        found = await self._find(arn.account_id, arn.name)
        one = next((each for each in found if each.arn == to.name), None)
        if one is None or not (one.is_confirmed or _restores(leased.task.event)):
            return GivenUp(_GONE)
        match one.form:
            case "sns":
                return await self._by_sns(one, leased)
            case "raw":
                return await self._raw(one, leased)
            case "listmonk":
                return await self._to_listmonk(one, leased.task.event)
            case "email":
                return GivenUp("the subscription is one by mail")
            case _:
                assert_never(one.form)

    async def _by_sns(self, one: Subscription, leased: LeasedTask) -> Result:
        if self._sns is None:
            return TryAgain("notifications.base_url is not set: SNS's envelopes need URLs")
        envelope = _envelope(self._sns, one, leased)
        body = self._sns.signed(envelope, one.signature_version)
        return await self._call(one, envelope_headers(envelope), body)

    async def _raw(self, one: Subscription, leased: LeasedTask) -> Result:
        if one.secret is None:
            return GivenUp("the subscription has no secret to sign with")
        body = _text(leased.task).encode()
        headers = signed_headers(
            one.secret, webhook_id=leased.task.id, at=self._clock.now(), body=body
        )
        return await self._call(one, headers, body)

    async def _to_listmonk(self, one: Subscription, event: SendingEvent) -> Result:
        """A call for each recipient; all of them again if one fails."""
        result: Result = Carried()
        for recipient in event.recipients:
            body = listmonk.listmonk_form(event, recipient).encode()
            headers = (("Content-Type", listmonk.CONTENT_TYPE),)
            result = await self._call(one, headers, body)
            if not isinstance(result, Carried):
                return result
        return result

    async def _call(self, one: Subscription, headers: Headers, body: bytes) -> Result:
        try:
            answer = await self._caller.post(one.endpoint, headers, body, one.credentials)
        except CallError as error:
            return TryAgain(str(error))
        return result_of(answer, self._clock.now())


def result_of(answer: HttpAnswer, now: datetime) -> Result:
    """The meaning of an answer: 2xx is accepted, and most refusals may pass.

    A receiver that is not set up yet answers 404 or 401, so these are tried again too. A
    redirect is a refusal: where it leads was not subscribed.
    """
    said = " ".join(filter(None, (str(answer.status), answer.text)))
    if 200 <= answer.status < 300:
        return Carried(said)
    if answer.status in _FOR_GOOD:
        return GivenUp(said)
    return TryAgain(said, _wait_s(answer.retry_after, now))


def _wait_s(retry_after: str | None, now: datetime) -> float | None:
    """The wait that Retry-After asks for: seconds, or until a date (RFC 9110 §10.2.3)."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after[:9]), _LONGEST_WAIT_S)
    try:
        until = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return min(max((until - now).total_seconds(), 0.0), _LONGEST_WAIT_S)


def _restores(event: SendingEvent) -> bool:
    """True for a notice that its receiver has ended the subscription."""
    return isinstance(event.detail, NoticeDetail) and event.detail.token is not None


def _envelope(sns: SnsFace, one: Subscription, leased: LeasedTask) -> SnsEnvelope:
    task, detail = leased.task, leased.task.event.detail
    subject = EVENT_SUBJECT if task.destination.form == "event" else ""
    token: str | None = None
    if isinstance(detail, NoticeDetail):
        subject = detail.subject
        token = None if detail.token is None else detail.token.value
    return SnsEnvelope(
        type="UnsubscribeConfirmation" if token else "Notification",
        message_id=str(uuid.UUID(task.id)),
        topic_arn=one.topic_arn,
        subscription_arn=one.arn,
        message=_text(task),
        at=leased.created_at,
        subject=subject or None,
        token=token,
        subscribe_url=sns.confirm_url(one.topic_arn, token) if token else None,
        unsubscribe_url=None if token else sns.unsubscribe_url(one.arn),
    )


def _text(task: Task) -> str:
    event, form = task.event, task.destination.form
    if isinstance(event.detail, NoticeDetail):
        return event.detail.text
    if form == "event":
        return event_json(event)
    return notification_json(event, with_headers=form == "notification-with-headers")
