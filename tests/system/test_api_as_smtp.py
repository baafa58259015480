"""The same message by SMTP and by both versions of the API: one decision, one record.

Only what belongs to the front end differs: the client, the action, and the words of a refusal.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from smtpgate.core.account import SendingLimits
from smtpgate.core.history.record import Record
from smtpgate.core.history.search import Search
from smtpgate.core.limits import Charge, Subject
from smtpgate.gate.gate import Gate
from smtpgate.journal.reader import JournalReader
from tests.support.aws import aws_client, called
from tests.support.inprocess import login, open_gate, send
from tests.support.world import DELEGATE, IDENTITY
from tests.system.test_refused_in_part import journal_of

API = '[api.a]\naddress = "127.0.0.1"\nport = 0\ntls = "none"\nallow_plaintext = true\n'
MAILER, INTERN = "AKIAMAILER0000000000", "AKIAINTERN0000000000"
TEXT = (
    "From: Marketing <{sender}>\r\nTo: jane@example.net\r\nSubject: Spring\r\n"
    "X-SES-CONFIGURATION-SET: spring\r\nX-SES-MESSAGE-TAGS: a=b\r\n\r\nHello.\r\n"
)
TEXT_SHOWN = (
    "From: Marketing <{sender}>\r\nTo: jane@example.net\r\nSubject: Spring\r\n\r\nHello.\r\n"
)
ARNS = (
    f"X-SES-SOURCE-ARN: {IDENTITY}\r\nX-SES-FROM-ARN: {IDENTITY}\r\n"
    f"X-SES-RETURN-PATH-ARN: {IDENTITY}\r\n"
)
# The access key, the sender, and whether the message is accepted.
CASES = [
    (MAILER, "marketing@ses-example.com", True),
    (MAILER, "sales@ses-example.com", False),
    (INTERN, "marketing@ses-example.com", False),
    (MAILER, "marketing@ses-example.org", False),
]


async def by_smtp(gate: Gate, key: str, sender: str) -> bool:
    message = ARNS + TEXT.format(sender=sender)
    return (await send(await login(gate, key), message, sender=sender)).startswith("250")


async def by_v1(gate: Gate, key: str, sender: str) -> bool:
    client = aws_client("ses", gate.service.apis["a"].port, key)
    return await accepted(
        client.send_raw_email,
        Source=sender,
        SourceArn=IDENTITY,
        FromArn=IDENTITY,
        ReturnPathArn=IDENTITY,
        Destinations=["jane@example.net"],
        RawMessage={"Data": TEXT.format(sender=sender).encode()},
    )


async def by_v2(gate: Gate, key: str, sender: str) -> bool:
    client = aws_client("sesv2", gate.service.apis["a"].port, key)
    return await accepted(
        client.send_email,
        FromEmailAddress=sender,
        FromEmailAddressIdentityArn=IDENTITY,
        FeedbackForwardingEmailAddressIdentityArn=IDENTITY,
        Destination={"ToAddresses": ["jane@example.net"]},
        Content={"Raw": {"Data": TEXT.format(sender=sender).encode()}},
    )


async def accepted(call: Callable[..., Any], **parameters: object) -> bool:
    try:
        await called(call, **parameters)
    except ClientError:
        return False
    return True


def facts(record: Record) -> dict[str, object]:
    """The facts of a record that do not belong to the front end of its message."""
    return {
        "outcome": record.outcome,
        "reason": record.reason,
        "detail": record.detail,
        "account": record.account_id,
        "user": record.user_arn,
        "reverse_path": record.reverse_path,
        "forward_paths": record.forward_paths,
        "authors": record.authors,
        "intent": record.intent,
        "identities": record.identities,
        "decision": record.decision,
        "subjects": [state.subject for state in record.limits],
        "signed": (record.signing_domain, record.selectors),
    }


async def records_of(gate: Gate) -> list[Record]:
    """The records of all messages, the oldest first."""
    store = journal_of(gate).store
    reader = JournalReader(store, store.key())
    found = [one async for one in reader.search(Search(), gate.clock.now())]
    return found[::-1]


@pytest.mark.parametrize(("key", "sender", "is_accepted"), CASES)
async def test_every_front_end_decides_counts_and_records_the_same(
    tmp_path: Path, key: str, sender: str, is_accepted: bool
) -> None:
    async with open_gate(tmp_path, sections=API) as (gate, sink):
        for submit in (by_smtp, by_v1, by_v2):
            assert await submit(gate, key, sender) is is_accepted, submit
        first, *others = [facts(record) for record in await records_of(gate)]
        assert others == [first, first]
        assert first["account"] == DELEGATE
        charge = Charge(Subject(DELEGATE), SendingLimits(1000, 1000))
        (used,) = await gate.ledger.limit_statuses([charge], gate.clock.now())
        assert used.used_24h == (3 if is_accepted else 0)
        arrived = {shown(one.content) for one in sink.messages}
        assert arrived == ({TEXT_SHOWN.format(sender=sender)} if is_accepted else set())


def shown(content: bytes) -> str:
    """The fields that the sender wrote, and the body."""
    head, _, body = content.decode().rpartition("\r\nFrom: ")[2].partition("\r\n\r\n")
    own = head.partition("\r\nDate: ")[0]
    return f"From: {own}\r\n\r\n{body}"
