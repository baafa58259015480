"""CPU of a message between its sockets: reading, deciding, signing and recording it.

    .venv/bin/python -m tests.bench.bench_stages 10

No store, no socket and no RSA is in it, only what is computed for each message of 4 KiB. A
message takes less than a slice of the scheduler, and of thousands the fifth percentile is
shown: so the figures agree within a few percent also on a machine that is busy.
"""

import json
import sys
import time
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

import pytest

from smtpgate.core.account import Account, Principal, SendingLimits
from smtpgate.core.address import Mailbox, ReversePath
from smtpgate.core.arn import IdentityArn, user_arn
from smtpgate.core.authorization.charges import charges_of
from smtpgate.core.authorization.context import submission_context
from smtpgate.core.authorization.reports import authorize_message
from smtpgate.core.authorization.roles import AuthorizationRequest, identity_names, takes_long
from smtpgate.core.events import SubmissionDone
from smtpgate.core.history.record import beginning_of, verdict_of
from smtpgate.core.identity import DkimKey, Identity
from smtpgate.core.message.envelope import (
    SEND_RAW_EMAIL,
    Client,
    Envelope,
    Recipient,
    SmtpFacts,
    Submission,
)
from smtpgate.core.message.reading import ReadMessage, read_message, takes_long_to_read
from smtpgate.core.message.trace import complete, received_field
from smtpgate.core.policy import parse_policy
from smtpgate.core.reply import Reply, reply_of
from smtpgate.core.signing import signature_fields
from smtpgate.journal.rows import Row, row_of, with_verdict
from smtpgate.journal.terms import new_key
from smtpgate.log.messages import submission_line
from tests.bench.bench_message import HEAD, NoKey, prose
from tests.support.world import DELEGATE, IDENTITY

pytestmark = pytest.mark.bench

STAGES: Final = ("read", "authorize", "sign, less RSA", "record", "verdict", "log line")
_REGION: Final = "us-east-1"
_HOSTNAME: Final = "gate.example"
_FROM: Final = Mailbox("marketing+spring", "ses-example.com")
_CLIENT: Final = Client(
    address="192.0.2.7",
    port=50123,
    listener="submission",
    protocol="ESMTPA",
    session_id="0a1b2c3d4e5f",
    access_key_id="AKIAIOSFODNN7EXAMPLE",
    account_id=DELEGATE,
    smtp=SmtpFacts("client.example", mechanism="PLAIN"),
)
_ACCEPTED: Final = Reply(250, "2.0.0", "Ok: queued as 4F1A2B3C")
_BODY: Final = b"\r\n" + prose(4096 - len(HEAD))


def _policy(**more: object) -> str:
    statement = {"Effect": "Allow", "Action": "ses:SendRawEmail", "Resource": "*", **more}
    document = {"Version": "2012-10-17", "Statement": statement}
    return json.dumps(document)


class _World:
    """The announcement's delegate and the identity that it uses."""

    def __init__(self) -> None:
        may_send = parse_policy(_policy(), kind="user", name="send")
        grant = _policy(
            Principal={"AWS": DELEGATE},
            Resource=IDENTITY,
            Condition={"StringLike": {"ses:FromAddress": ["marketing+*@ses-example.com"]}},
        )
        account = Account(DELEGATE, "Delegate", SendingLimits(50_000, 14))
        self.sender = Principal(
            account, "mailer", user_arn(DELEGATE, "mailer"), "AIDA", (may_send,)
        )
        self.identity = Identity(
            IdentityArn.parse(IDENTITY),
            is_verified=True,
            policies=(parse_policy(grant, kind="identity", name="marketing"),),
            dkim_keys=(DkimKey("rsa", NoKey()),),
        )
        self.terms = new_key()

    def submission(self, number: int) -> Submission:
        """A message to a recipient of its own."""
        recipients = (Recipient(Mailbox(f"jane{number}", "example.net")),)
        return Submission(
            message_id=f"0100{number:016d}-000000",
            principal=self.sender,
            client=_CLIENT,
            action=SEND_RAW_EMAIL,
            envelope=Envelope(ReversePath(_FROM), recipients),
            message=HEAD.replace(b"14251.9f3e", b"%d.9f3e" % number) + _BODY,
            received_at=datetime.now(UTC),
        )

    def read(self, done: SubmissionDone) -> ReadMessage:
        """As the pipeline's stage of that name, as the others."""
        octets = done.submission.message
        takes_long_to_read(octets)
        message = read_message(octets, smtputf8=False)
        done.header, done.intent, done.authors = message.block, message.intent, message.authors
        return message

    def authorize(self, message: ReadMessage, done: SubmissionDone) -> None:
        submission = done.submission
        names = identity_names(message.intent, _FROM, message.shown)
        known = {self.identity.name: (self.identity,)}
        request = AuthorizationRequest(
            principal=self.sender,
            action=submission.action,
            intent=message.intent,
            reverse_path=_FROM,
            authors=message.authors,
            sender=message.sender,
            resent=message.resent,
            context=submission_context(submission, _REGION),
            known={name: known.get(name, ()) for name in names},
            region=_REGION,
            infer_arn=True,
        )
        takes_long(request)
        found = authorize_message(request, (), _HOSTNAME)
        done.identities, done.decision = found.identities, found.decision
        done.charges = charges_of(
            self.sender, _CLIENT.access_key_id, None, submission.received_at, found.capped_by
        )

    def sign(self, message: ReadMessage, done: SubmissionDone) -> bytes:
        message_id, now = done.submission.message_id, done.submission.received_at
        block = complete(message.block, message_id=message_id, hostname=_HOSTNAME, now=now)
        keys = self.identity.dkim_keys
        signatures = signature_fields(
            block, message.body, domain=self.identity.name, keys=keys, now=now
        )
        received = received_field(
            _CLIENT, hostname=_HOSTNAME, message_id=message_id, now=now, mask_client=False
        )
        parts = [field.raw for field in (received, *signatures, *block.fields)]
        return b"".join([*parts, b"\r\n"])

    def record(self, done: SubmissionDone) -> Row:
        record = beginning_of(done, keep_recipients=True, keep_subject=False)
        self.terms.before_relay(record.parties, done.submission.envelope.mailboxes)
        return row_of(record, 1)[0]

    def verdict(self, row: Row, done: SubmissionDone) -> None:
        done.used, done.counted = (5,), 1
        done.outcome, done.reason = "accepted", "accepted"
        done.upstream, done.upstream_reply = "default", _ACCEPTED
        done.reply = reply_of("accepted", message_id=done.submission.message_id)
        done.done_at = done.submission.received_at
        done.stage_s.update(dict.fromkeys(("message", "authorization", "relay"), 0.000123))
        with_verdict(row, verdict_of(done))


def _taken(world: _World, number: int) -> list[float]:
    """The seconds that each stage of one message took."""
    done, now = SubmissionDone(submission=world.submission(number)), time.perf_counter
    moments = [now()]
    message = world.read(done)
    moments.append(now())
    world.authorize(message, done)
    moments.append(now())
    world.sign(message, done)
    moments.append(now())
    row = world.record(done)
    moments.append(now())
    world.verdict(row, done)
    moments.append(now())
    submission_line(done, with_recipients=True)
    moments.append(now())
    return [after - before for before, after in pairwise(moments)]


def measure(seconds: float) -> dict[str, float]:
    """The fifth percentile of each stage, in microseconds."""
    world, until = _World(), time.monotonic() + seconds
    taken = [_taken(world, number) for number in range(200)][100:]
    while time.monotonic() < until:
        taken.append(_taken(world, len(taken)))
    columns = (sorted(column) for column in zip(*taken, strict=True))
    return {
        stage: column[len(column) // 20] * 1e6
        for stage, column in zip(STAGES, columns, strict=True)
    }


def _show(found: dict[str, float]) -> None:
    for stage, microseconds in found.items():
        print(f"  {stage:16} {microseconds:7.1f} µs")
    print(f"  {'all':16} {sum(found.values()):7.1f} µs")


def test_the_stages_of_a_message() -> None:
    print()
    _show(measure(1.0))


if __name__ == "__main__":
    _show(measure(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0))
