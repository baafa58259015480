"""The tables of documents about events and reports of mail: topics, sets, MAIL FROM domains.

Names are checked here, and what a table may contain; whether a topic or a set is there is
seen with the directory.
"""

from collections.abc import Sized
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from smtpgate.config.toml import Array, Table
from smtpgate.core.naming import account_id
from smtpgate.core.notification.names import configuration_set_name, display_name, topic_name
from smtpgate.core.notification.settings import SignatureVersion
from smtpgate.core.proof.mail_from import OnMxFailure
from smtpgate.core.suppression.lists import ALL_REASONS, SuppressionReason
from smtpgate.core.tag import read_tags
from smtpgate.directory.configuration_sets import MAX_DESTINATIONS, event_types
from smtpgate.directory.tags import MAX_TAGS
from smtpgate.directory.topic_grants import MAX_GRANTS, topic_place

Judged: TypeAlias = Literal["rate", "pause"]
AccountId: TypeAlias = Annotated[str, AfterValidator(account_id)]
SetName: TypeAlias = Annotated[str, AfterValidator(configuration_set_name)]
DisplayName: TypeAlias = Annotated[str, AfterValidator(display_name)]
TopicName: TypeAlias = Annotated[str, AfterValidator(topic_name)]


def _topic_text(text: str) -> str:
    owner_id, name = topic_place("", text)
    if owner_id:
        _ = account_id(owner_id)
    _ = topic_name(name)
    return text


def _types(wanted: tuple[str, ...]) -> tuple[str, ...]:
    return event_types(wanted)


def _in_order(reasons: tuple[str, ...]) -> tuple[SuppressionReason, ...]:
    return tuple(one for one in ALL_REASONS if one.lower() in reasons)


# The name of a topic, or ACCOUNT/NAME of one that is open to the account.
TopicText: TypeAlias = Annotated[str, AfterValidator(_topic_text)]
Reasons: TypeAlias = Annotated[Array[Literal["bounce", "complaint"]], AfterValidator(_in_order)]


def at_most(number: int, rule: str) -> AfterValidator:
    """A bound on the number of members; ``rule`` is what the error says of it."""

    def check(value: Sized) -> Sized:
        if len(value) > number:
            raise ValueError(rule.format(number))
        return value

    return AfterValidator(check)


# Those of identities, configuration sets and topics, as AWS has them.
ResourceTags: TypeAlias = Annotated[
    dict[str, str],
    at_most(MAX_TAGS, "a resource has at most {} tags"),
    AfterValidator(lambda given: read_tags(given.items())),
]


class MailFromTable(Table):
    """The MAIL FROM domain of an identity."""

    domain: str
    on_mx_failure: OnMxFailure = "default"


class NotificationsTable(Table):
    """The topics for notifications of mail with an identity, and those with headers."""

    bounce: TopicText | None = None
    complaint: TopicText | None = None
    delivery: TopicText | None = None
    headers: Array[Literal["bounce", "complaint", "delivery"]] = ()


class OwnerNotificationsTable(NotificationsTable):
    """The same of the identity's owner, who may end the mail to the return path."""

    forwarding: bool = True

    @model_validator(mode="after")
    def _reaches_someone(self) -> Self:
        if not self.forwarding and (self.bounce is None or self.complaint is None):
            raise ValueError("forwarding = false needs topics for bounce and complaint")
        return self


class DestinationTable(Table):
    """An event destination of a configuration set."""

    types: Annotated[Array[str], AfterValidator(_types)]
    topic: TopicText
    enabled: bool = True


class SetTable(Table):
    """A configuration set; without ``suppress`` it has the reasons of its account."""

    status: Literal["active", "paused"] | None = None
    suppress: Reasons | None = None
    reputation: Judged | None = None
    tags: ResourceTags = Field(default_factory=dict)
    destinations: dict[SetName, DestinationTable] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_few_destinations(self) -> Self:
        if len(self.destinations) > MAX_DESTINATIONS:
            raise ValueError(f"a set has at most {MAX_DESTINATIONS} event destinations")
        return self


class TopicTable(Table):
    """A topic. Its subscriptions have secrets and confirmations, so documents have none."""

    display_name: DisplayName = ""
    signature_version: SignatureVersion = "1"
    open_to: Annotated[
        Array[AccountId], at_most(MAX_GRANTS, "a topic is open to at most {} accounts")
    ] = ()
    tags: ResourceTags = Field(default_factory=dict)
