"""The part that sends subscriptions their tokens: by a webhook, or by mail."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from smtpgate.admin.gate_mail import GateMailer, MailNotSentError
from smtpgate.admin.topics import Confirmer
from smtpgate.config import Config
from smtpgate.core.notification.settings import Subscription
from smtpgate.core.secret import Secret
from smtpgate.gate.notifications import new_caller, open_sns_face
from smtpgate.gate.upstream import open_upstream
from smtpgate.ports import Clock, Upstream
from smtpgate.webhooks.carrier import SnsFace
from smtpgate.webhooks.confirm import WebhookConfirmer

_TEXT: Final = """\
Notifications about mail of the topic
{topic}
are to be sent to {address} by the mail gateway {hostname}.

If that is right, confirm it{how}

If you did not expect this, do nothing: no notifications will be sent.
You can report it to postmaster@{hostname}.
"""


@dataclass(frozen=True, slots=True)
class MailConfirmer:
    """Mails tokens, with a link where the gate has a public URL."""

    upstream: Upstream
    hostname: str
    sns: SnsFace | None
    clock: Clock

    async def send(self, subscription: Subscription, token: Secret) -> str | None:
        """Mail it once; why that failed, or ``None``."""
        if self.sns is not None:
            how = f" here:\n\n{self.sns.confirm_url(subscription.topic_arn, token.value)}"
        else:
            command = f"smtpgate subscription confirm {subscription.arn} {token.value}"
            how = f" with this command:\n\n{command}"
        text = _TEXT.format(
            topic=subscription.topic_arn,
            address=subscription.endpoint,
            hostname=self.hostname,
            how=how,
        )
        mailer = GateMailer(
            upstream=self.upstream, hostname=self.hostname, now=self.clock.now()
        )
        try:
            await mailer.send(subscription.endpoint, "Confirm a subscription", text)
        except MailNotSentError as error:
            return str(error)
        return None


@dataclass(frozen=True, slots=True)
class _ByForm:
    webhooks: WebhookConfirmer
    mail: MailConfirmer

    async def send(self, subscription: Subscription, token: Secret) -> str | None:
        one: Confirmer = self.mail if subscription.form == "email" else self.webhooks
        return await one.send(subscription, token)


def new_confirmer(config: Config, upstream: Upstream, clock: Clock) -> Confirmer:
    """The sender of tokens, by an upstream that is open. Raises OpenError."""
    sns = open_sns_face(config, clock.now())
    return _ByForm(
        WebhookConfirmer(new_caller(config), sns, clock),
        MailConfirmer(upstream, config.hostname, sns, clock),
    )


@asynccontextmanager
async def open_confirmer(config: Config, clock: Clock) -> AsyncIterator[Confirmer]:
    """The sender of tokens, for a command. Raises OpenError."""
    async with open_upstream(config, clock) as upstream:
        yield new_confirmer(config, upstream, clock)
