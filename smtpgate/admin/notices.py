"""Notices to the subscriptions of topics: the test of a topic, and the end of a subscription.

https://docs.aws.amazon.com/ses/latest/dg/configure-sns-notifications.html
https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
"""

import os
from collections.abc import Sequence
from typing import Final

from smtpgate.admin.errors import NoticeNotKeptError
from smtpgate.admin.refs import TopicRef
from smtpgate.admin.session import Session
from smtpgate.core.message_id import RANDOM_OCTETS, message_id
from smtpgate.core.notification.ses_json import EVENT_SUBJECT, EVENT_TOPIC_TEST, topic_test_json
from smtpgate.core.notification.settings import SubscriptionForm
from smtpgate.core.notification.sns import unsubscribed_text
from smtpgate.core.outbox.event import NoticeDetail, SendingEvent, SentMail, sending_event
from smtpgate.core.outbox.task import Destination, Task
from smtpgate.core.secret import Secret
from smtpgate.directory import topics as rows
from smtpgate.directory.topics import SubscriptionRow
from smtpgate.ports import JournalUnavailableError

# SES's test of an event destination is no JSON, which receivers of the form raw expect.
_FORMS_OF_TEXT: Final[frozenset[SubscriptionForm]] = frozenset({"sns", "email"})
_FORMS_OF_JSON: Final[frozenset[SubscriptionForm]] = frozenset({"sns", "raw", "email"})


async def try_topics_of_identity(
    session: Session, account_id: str, topics: Sequence[TopicRef]
) -> None:
    """Send the message with which SES begins to use the topics of an identity.

    ``account_id`` is the account whose setting it is. Raises NoticeNotKeptError.
    """
    await _send(session, account_id, topics, topic_test_json(), "", _FORMS_OF_JSON)


async def try_topic_of_events(session: Session, account_id: str, topic: TopicRef) -> None:
    """Send the message with which SES begins to publish events. Raises NoticeNotKeptError."""
    await _send(session, account_id, [topic], EVENT_TOPIC_TEST, EVENT_SUBJECT, _FORMS_OF_TEXT)


async def confirm_end(session: Session, row: SubscriptionRow, token: Secret) -> None:
    """Send a subscription that its receiver ended the token that restores it.

    Raises NoticeNotKeptError.
    """
    arn = row.arn(session.partition)
    text = unsubscribed_text(arn)
    notice = _notice(session, row.account_id, NoticeDetail("", text, token))
    await _keep(session, [Task(notice, Destination("webhook", arn, row.account_id, "notice"))])


async def _send(
    session: Session,
    account_id: str,
    topics: Sequence[TopicRef],
    text: str,
    subject: str,
    forms: frozenset[SubscriptionForm],
) -> None:
    if session.outbox is None:
        return
    tasks: list[Task] = []
    for topic in dict.fromkeys(topics):
        notice = _notice(session, account_id, NoticeDetail(subject, text))
        async with session.store.reading() as connection:
            found = await rows.subscriptions_of(
                connection, session.region, topic.account_id, topic.name
            )
        tasks += [
            Task(notice, _destination(one, session.partition))
            for one in found
            if one.is_confirmed and one.form in forms
        ]
    await _keep(session, tasks)


def _notice(session: Session, account_id: str, detail: NoticeDetail) -> SendingEvent:
    """The event of a notice; its mail is none, with an id of its own."""
    now = session.now()
    mail = SentMail(message_id(now, os.urandom(RANDOM_OCTETS)), now, "", (), account_id)
    return sending_event(now, mail, (), detail)


def _destination(row: SubscriptionRow, partition: str) -> Destination:
    """The subscription; its task is that of its own account, which may see the endpoint."""
    if row.form == "email":
        return Destination("mail", row.endpoint, row.account_id, "notice")
    return Destination("webhook", row.arn(partition), row.account_id, "notice")


async def _keep(session: Session, tasks: Sequence[Task]) -> None:
    if session.outbox is None or not tasks:
        return
    try:
        await session.outbox.add(tasks)
    except JournalUnavailableError as error:
        raise NoticeNotKeptError(
            f"the change is done, but its message to the topic is not kept: {error}"
        ) from None
