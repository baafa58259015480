"""The mail about an access key whose use differs from its history, as tasks of the outbox."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from smtpgate.core.events import KeyAction, KeyUseDiffers
from smtpgate.core.message_id import RANDOM_OCTETS, message_id
from smtpgate.core.outbox.event import EventRecipient, NoticeDetail, SentMail, sending_event
from smtpgate.core.outbox.task import Destination, Task

_ALARMS: Final = b"smtpgate key"
_DONE: Final[Mapping[KeyAction, str]] = {
    "noted": "Nothing was done.",
    "reported": "Nothing was done: the key can still be used.",
    "slowed": "The key was slowed down, until its use is confirmed.",
    "suspended": "The key was suspended: nothing is sent with it until its use is confirmed.",
}
_OWN: Final = """\
The use of an access key differs from its own history. Perhaps a stranger uses it.

  access key: {key_id}
  account:    {account_id}
  user:       {user}
  since:      {at:%Y-%m-%d %H:%M} UTC

What differs:

{findings}

{done}

If this is not you, disable the key at once, and create another one:

  smtpgate key disable {key_id}
  smtpgate key create {owner}

If this is your own use, confirm it. It is usual from then on:

  smtpgate key confirm {key_id}

To see what is usual for the key, and to read more:

  smtpgate key watch show {key_id}
  smtpgate help leaked-keys
"""
_OF_OTHERS: Final = """\
Account {account_id} sends with an identity of yours. The use of one of its access keys differs
from before. Perhaps a stranger uses it.

  since:      {at:%Y-%m-%d %H:%M} UTC

What differs:

{findings}

{done}

The account was notified, if the gate has an address of it. To let it send no longer with your
identity, delete the policy that allows it:

  smtpgate identity policy list IDENTITY
  smtpgate identity policy delete IDENTITY POLICY
"""


def alarm_tasks(
    alarm: KeyUseDiffers, own: Iterable[str], of_others: Mapping[str, str]
) -> Sequence[Task]:
    """The tasks of an alarm, one an address.

    ``own`` are the addresses of the key's account and of the operator, ``of_others`` those of
    the owners of identities that the key was used with, by account. Within an hour the same
    alarm has the same tasks, on every gate.
    """
    subject = f"Access key of account {alarm.account_id}: its use differs from before"
    tasks: dict[str, Task] = {}
    for address in own:
        notice = NoticeDetail(subject, _text(_OWN, alarm))
        tasks[address] = _task(alarm, address, alarm.account_id, notice)
    for account_id, address in of_others.items():
        if address not in tasks:
            notice = NoticeDetail(
                f"Account {alarm.account_id}: the use of its access key differs from before",
                _text(_OF_OTHERS, alarm),
            )
            tasks[address] = _task(alarm, address, account_id, notice)
    return list(tasks.values())


def _text(template: str, alarm: KeyUseDiffers) -> str:
    user = alarm.user_name
    return template.format(
        key_id=alarm.key_id,
        account_id=alarm.account_id,
        user=user or "the account's root",
        owner=f"{alarm.account_id}/{user}" if user else alarm.account_id,
        at=alarm.at,
        findings="\n".join(f"  - {one.text}" for one in alarm.findings),
        done=_DONE[alarm.action],
    )


def _task(alarm: KeyUseDiffers, address: str, account_id: str, notice: NoticeDetail) -> Task:
    hour = alarm.at.replace(minute=0, second=0, microsecond=0)
    mail = SentMail(
        message_id=_id_of(alarm, hour),
        sent_at=hour,
        source="",
        destination=(address,),
        account_id=alarm.account_id,
    )
    event = sending_event(alarm.at, mail, [EventRecipient(address)], notice)
    return Task(event, Destination("mail", address, account_id, "notice"))


def _id_of(alarm: KeyUseDiffers, hour: datetime) -> str:
    octets = hashlib.blake2b(
        f"{alarm.key_id}\n{hour.isoformat()}".encode(),
        digest_size=RANDOM_OCTETS,
        person=_ALARMS,
    ).digest()
    return message_id(hour, octets)
