"""Uses of access keys, of events and of records: the same facts from both."""

from typing import Literal

import pytest
from msgspec import structs

from smtpgate.core.history.key_use import (
    hour_of,
    network_of,
    of_login,
    of_record,
    of_submission,
)
from smtpgate.core.history.record import login_record, mail_record
from smtpgate.core.reply import Reply
from smtpgate.core.upstream.delivery import RecipientReply
from smtpgate.core.watch.batch import Batch, UseOfKey
from smtpgate.core.watch.profile import Observation
from smtpgate.core.watch.sketch import hash_of
from tests.support.events import AT, auth_failed, done, mail_refused
from tests.support.records import submission_record
from tests.support.world import OWNER

KEY = "AKIAIOSFODNN7EXAMPLE"


@pytest.mark.parametrize(
    ("outcome", "reason", "messages", "recipients", "refused", "bounced"),
    [
        ("accepted", "accepted", 1, 2, 0, 0),
        ("in-doubt", "in-doubt", 1, 2, 0, 0),
        ("refused", "explicit-deny", 1, 0, 1, 0),
        ("refused", "implicit-deny", 1, 0, 1, 0),
        ("refused", "upstream-reply", 1, 0, 0, 2),
    ],
)
def test_a_verdict_counts_as_what_it_is(
    outcome: str, reason: str, messages: int, recipients: int, refused: int, bounced: int
) -> None:
    event = done(outcome, reason, recipients=2)  # type: ignore[arg-type]
    use = of_submission(event)
    assert use is not None
    seen = use.observation
    assert (use.key_id, use.owners) == (KEY, (OWNER,))
    assert (seen.messages, seen.recipients) == (messages, recipients)
    assert (seen.refused, seen.bounced) == (refused, bounced)
    assert seen.network == "192.0.2.0/24"
    assert seen.authors == ("marketing@ses-example.com",)
    assert len(seen.addresses) == recipients
    assert seen.hour == hour_of(event.submission.received_at)


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        ("deferred", "upstream-reply"),
        ("deferred", "max-send-rate"),
        ("refused", "max-24h-send"),
        ("refused", "internal-error"),
        ("refused", "account-paused"),
        ("refused", "access-key-inactive"),
        ("refused", "needs-8bitmime"),
    ],
)
def test_what_says_nothing_about_the_sender_is_no_use(outcome: str, reason: str) -> None:
    assert of_submission(done(outcome, reason)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("outcome", ["accepted", "refused"])
@pytest.mark.parametrize("reason", ["accepted", "explicit-deny", "upstream-reply"])
def test_a_record_says_what_its_event_said(outcome: str, reason: str) -> None:
    event = done(outcome, reason, recipients=3)  # type: ignore[arg-type]
    record = submission_record(event, keep_recipients=True, keep_subject=False)
    assert of_record(record) == of_submission(event)


def test_recipients_that_the_upstream_refused_are_bounces() -> None:
    event = done(recipients=2)
    mailbox = event.submission.envelope.mailboxes[0]
    event.refused = (RecipientReply(mailbox, Reply(550, "5.1.1", "no such user")),)
    use = of_submission(event)
    assert use is not None
    assert use.observation.bounced == 1


@pytest.mark.parametrize("reason", ["network-not-allowed", "certificate-not-allowed"])
def test_a_right_password_that_does_not_suffice_is_a_use_and_a_wrong_one_is_not(
    reason: Literal["network-not-allowed", "certificate-not-allowed"],
) -> None:
    outside = structs.replace(auth_failed(), username=KEY, reason=reason, at=AT)
    use = of_login(outside)
    assert use is not None
    assert (use.key_id, use.observation.outside, use.observation.messages) == (KEY, 1, 0)
    assert of_record(login_record(outside, "0100")) == use
    wrong = structs.replace(outside, reason="invalid-credentials")
    assert of_login(wrong) is None
    assert of_record(login_record(wrong, "0100")) is None


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("::ffff:192.0.2.1", "192.0.2.0/24"),
        ("unix", "unix"),
    ],
)
def test_a_network_is_about_what_a_site_has(address: str, network: str) -> None:
    assert network_of(address) == network


def use(key_id: str, **more: object) -> UseOfKey:
    values = {"hour": 1, "network": "192.0.2.0/24", "messages": 1, "recipients": 1} | more
    return UseOfKey(key_id, Observation(**values), ("888888888888",))  # type: ignore[arg-type]


def test_a_batch_adds_up_what_is_alike_and_is_bounded() -> None:
    batch = Batch(2)
    for one in (use("A"), use("A", addresses=(hash_of("a@example.net"),)), use("B"), use("C")):
        batch.add(one)
    first, second = batch.take()
    assert (first.key_id, first.observation.messages, first.observation.recipients) == (
        "A",
        2,
        2,
    )
    assert first.observation.addresses == (hash_of("a@example.net"),)
    assert (second.key_id, len(batch)) == ("B", 0)
    other = UseOfKey("A", use("A").observation, ("777777777777",))
    batch.add(use("A"))
    batch.add(other)
    assert batch.take()[0].owners == ("777777777777", "888888888888")


def test_a_refused_mail_is_no_use_of_a_key() -> None:
    assert of_record(mail_record(mail_refused())) is None
