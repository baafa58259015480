"""Links of subscriptions: receivers confirm and end their subscriptions without a login.

A token proves that its caller reads the endpoint. An ARN has 128 random bits, and only the
receiver and the account know it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from smtpgate.admin import topics
from smtpgate.admin.errors import NoticeNotKeptError, RefusedChangeError
from smtpgate.admin.refs import SubscriptionRef, TopicRef
from smtpgate.admin.session import Session, operator_session
from smtpgate.config import Config
from smtpgate.core.notification.names import SnsArn
from smtpgate.core.secret import Secret
from smtpgate.directory.store import DirectoryStore
from smtpgate.ports import Clock, Outbox


@dataclass(frozen=True, slots=True)
class SubscriptionLinks:
    """Obeys the links; the audit log names the receiver by its address."""

    config: Config
    store: DirectoryStore
    clock: Clock
    outbox: Outbox | None
    on_error: Callable[[BaseException], None]

    async def confirm(self, topic_arn: str, token: str, address: str) -> tuple[str | None, str]:
        """Confirm a subscription of a topic; its ARN, or why not."""
        try:
            arn = _parsed(topic_arn)
            topic = TopicRef(arn.account_id, arn.name)
            found = await topics.confirm(self._session(address), topic, Secret(token))
        except RefusedChangeError as error:
            return None, str(error)
        return found.arn, ""

    async def unsubscribe(self, subscription_arn: str, address: str) -> str | None:
        """End a subscription; why not, or ``None``."""
        try:
            arn = _parsed(subscription_arn)
            ref = SubscriptionRef(TopicRef(arn.account_id, arn.name), subscription_arn)
            await topics.end(self._session(address), ref)
        except RefusedChangeError as error:
            return str(error)
        except NoticeNotKeptError as error:
            self.on_error(error)  # it is ended all the same
        return None

    def _session(self, address: str) -> Session:
        origin = f"link from {address}"
        return operator_session(
            self.config,
            self.store,
            self.clock,
            name="subscriber",
            origin=origin,
            outbox=self.outbox,
        )


def _parsed(text: str) -> SnsArn:
    try:
        return SnsArn.parse(text)
    except ValueError as error:
        raise RefusedChangeError(str(error)) from None
