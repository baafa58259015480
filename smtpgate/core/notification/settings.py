"""The settings that decide who gets the events of a message."""

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct, field

from smtpgate.core.outbox.event import EventKind
from smtpgate.core.secret import Secret
from smtpgate.core.suppression.lists import Reasons

NotificationKind = Literal["Bounce", "Complaint", "Delivery"]
SubscriptionForm = Literal["sns", "raw", "listmonk", "email"]
SubscriptionState = Literal["pending", "confirmed"]
SignatureVersion = Literal["1", "2"]

NOTIFICATION_KINDS: Final[tuple[NotificationKind, ...]] = ("Bounce", "Complaint", "Delivery")
# The types of events as version 2 of SES's API spells them. The gate has no events of the kind
# None: it does not rewrite bodies, and has no lists of contacts. Event
# destinations may list them all the same, since configurations for SES do.
EVENT_TYPES: Final[Mapping[str, EventKind | None]] = {
    "SEND": "Send",
    "REJECT": "Reject",
    "BOUNCE": "Bounce",
    "COMPLAINT": "Complaint",
    "DELIVERY": "Delivery",
    "DELIVERY_DELAY": "DeliveryDelay",
    "OPEN": None,
    "CLICK": None,
    "RENDERING_FAILURE": "RenderingFailure",
    "SUBSCRIPTION": None,
}


class Subscription(Struct, frozen=True, gc=False, kw_only=True):
    """A receiver of what a topic gets.

    ``endpoint`` is a URL without credentials, or an address. ``credentials`` are those of Basic
    authentication (``name:password``); ``secret`` is that of Standard Webhooks. ``open_to`` are
    the accounts beside its own whose settings may name the topic.
    """

    arn: str
    topic_arn: str
    form: SubscriptionForm
    endpoint: str
    is_confirmed: bool = False
    signature_version: SignatureVersion = "1"
    credentials: Secret | None = None
    secret: Secret | None = None
    open_to: tuple[str, ...] = ()

    @property
    def account_id(self) -> str:
        """The account that has its topic."""
        return self.topic_arn.split(":", 5)[4]

    def may_serve(self, account_id: str) -> bool:
        """True if settings of an account may name its topic."""
        return account_id == self.account_id or account_id in self.open_to


class NotificationSettings(Struct, frozen=True, gc=False, kw_only=True):
    """The notifications of mail with an identity that one account wants.

    The topics are ARNs, empty where there is none. ``is_forwarding`` is the owner's alone:
    bounces and complaints are also mailed to the return path.
    """

    bounce_topic: str = ""
    complaint_topic: str = ""
    delivery_topic: str = ""
    bounce_headers: bool = False
    complaint_headers: bool = False
    delivery_headers: bool = False
    is_forwarding: bool = True

    def topic(self, kind: NotificationKind) -> str:
        """The topic for a kind of notification."""
        topics = (self.bounce_topic, self.complaint_topic, self.delivery_topic)
        return topics[NOTIFICATION_KINDS.index(kind)]

    def has_headers(self, kind: NotificationKind) -> bool:
        """True if such notifications have the header fields of the message."""
        headers = (self.bounce_headers, self.complaint_headers, self.delivery_headers)
        return headers[NOTIFICATION_KINDS.index(kind)]


NO_NOTIFICATIONS: Final = NotificationSettings()


class EventDestination(Struct, frozen=True, gc=False):
    """A topic that gets the events of a configuration set that are of some kinds."""

    name: str
    kinds: tuple[EventKind, ...]
    topic_arn: str


class ConfigurationSet(Struct, frozen=True, gc=False, kw_only=True):
    """A configuration set of an account, with the event destinations that are enabled.

    ``suppressed_reasons`` take the place of the account's for mail with it, unless ``None``.
    ``paused_reason`` is why it is not sending, if the gate paused it.
    """

    account_id: str
    name: str
    is_sending: bool = True
    paused_reason: str = ""
    destinations: tuple[EventDestination, ...] = ()
    suppressed_reasons: Reasons | None = None


class EventSettings(Struct, frozen=True, gc=False, kw_only=True):
    """All settings that concern the events of one message.

    ``owner`` are those of the owner of the identity that served From, ``sender`` those of the
    account that sent, when it is another one. ``forwards_for`` is the account whose setting has
    bounces mailed to the return path, or empty. ``subscriptions`` are those that are confirmed,
    by the ARNs of topics.
    """

    owner: NotificationSettings = NO_NOTIFICATIONS
    sender: NotificationSettings = NO_NOTIFICATIONS
    forwards_for: str = ""
    configuration_set: ConfigurationSet | None = None
    subscriptions: Mapping[str, tuple[Subscription, ...]] = field(default_factory=dict)
