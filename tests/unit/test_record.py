"""The parts of a message that its record keeps."""

from msgspec.structs import replace

from smtpgate.core.history.kept_event import kept_recipients
from smtpgate.core.history.record import decided_identity
from smtpgate.core.history.search import Search
from smtpgate.core.message.headers import split_message
from smtpgate.core.policy import parse_policy
from smtpgate.core.reply import Reply
from smtpgate.core.suppression.withheld import Withheld
from smtpgate.core.upstream.delivery import RecipientReply
from tests.support.events import done
from tests.support.journal import decision_for
from tests.support.outbox import event_about
from tests.support.records import submission_record
from tests.support.rows import rows
from tests.support.world import DELEGATE


@rows(
    "subject, kept",
    [
        ("Spring sale", "Spring sale"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 197 + "..."),
        ("\r\n ".join(["x" * 70] * 900), ("x" * 70 + " ") * 2 + "x" * 55 + "..."),
        ("=?utf-8?q?a=1B[31m?=", "=?utf-8?q?a=1B[31m?="),
        ("=?utf-8?q?Fr=C3=BChling?=", "Frühling"),
        ("=?utf-8?x?nonsense?=", "=?utf-8?x?nonsense?="),
        ("\r\n ".join(["=?utf-8?q?Fr=C3=BChling?="] * 900), "Frühling" * 24 + "Frühl..."),
    ],
    ids=[
        *(
            "short",
            "just as long",
            "too long",
            "of many lines",
            "control",
            "encoded",
            "unclear",
        ),
        "of many encoded lines",
    ],
)
def test_a_subject_is_kept_as_it_is_shown_up_to_a_bound(subject: str, kept: str) -> None:
    event = done()
    message = f"From: a@example.com\r\nSubject: {subject}\r\n\r\nHello.\r\n"
    event.header = split_message(message.encode()).block
    record = submission_record(event, keep_recipients=True, keep_subject=True)
    assert record.subject == kept


def test_a_message_without_a_subject_has_none() -> None:
    event = done()
    event.header = split_message(b"From: a@example.com\r\n\r\nHello.\r\n").block
    record = submission_record(event, keep_recipients=True, keep_subject=True)
    assert record.subject is None


def test_texts_of_others_are_kept_up_to_a_bound() -> None:
    event = done(reply=Reply(554, "5.7.1", "x" * 5000))
    client = event.submission.client
    smtp = replace(client.smtp, helo="h" * 5000)
    event.submission = replace(event.submission, client=replace(client, smtp=smtp))
    event.upstream_reply = Reply(554, "5.7.1", "y" * 5000)
    record = submission_record(event, keep_recipients=True, keep_subject=True)
    assert record.reply == Reply(554, "5.7.1", "x" * 1000)
    assert record.upstream_reply == Reply(554, "5.7.1", "y" * 1000)
    assert record.client.smtp.helo == "h" * 1000


def test_statements_of_a_decision_are_kept_up_to_a_bound() -> None:
    event, many = done(), 200
    deny = '{"Sid": "S%d", "Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}'
    document = f'{{"Statement": [{", ".join(deny % at for at in range(many))}]}}'
    denying = parse_policy(document, kind="identity", name="many")
    event.decision = decision_for("a@ses-example.com", identity_policies=(denying,))
    record = submission_record(event, keep_recipients=True, keep_subject=True)
    assert event.decision is not None
    assert record.decision is not None
    cited = record.decision.identity_side.cited
    assert 0 < len(cited) < many
    assert cited == event.decision.identity_side.cited[: len(cited)]
    assert set(record.decision.determining) <= {*cited, *record.decision.user_side.cited}
    assert record.decision.outcome == event.decision.outcome


def test_a_record_without_recipients_has_the_address_of_none() -> None:
    event = done(recipients=2)
    first, second = event.submission.envelope.mailboxes
    event.refused = (RecipientReply(first, Reply(550, "5.1.1", "no such user")),)
    event.withheld = (Withheld(second),)
    record = submission_record(event, keep_recipients=False, keep_subject=True)
    assert record.refused == (("", "550 5.1.1 no such user"),)
    assert record.withheld == (("", "suppressed"),)
    assert record.forward_paths is None
    named = Search(address=str(first))
    assert named.fits(record), "it was found by a term of the address"
    kept = submission_record(event, keep_recipients=True, keep_subject=True)
    assert named.fits(kept)
    assert not Search(address="other@example.net").fits(kept)


def test_a_search_of_an_account_finds_no_record_that_it_may_not_see() -> None:
    record = submission_record(done(), keep_recipients=True, keep_subject=True)
    assert Search(account_id=DELEGATE).fits(record)
    assert not Search(account_id="777777777777").fits(record)
    assert not Search(user=f"{DELEGATE}/intern").fits(record)


def test_an_event_is_kept_without_addresses_where_recipients_are_not_kept() -> None:
    event = event_about(done())
    (known,) = kept_recipients(event, with_addresses=True)
    assert known.address == "jane@example.net"
    (masked,) = kept_recipients(event, with_addresses=False)
    assert masked == replace(known, address="", original="")


def test_a_decision_is_about_no_identity_where_there_is_none() -> None:
    record = submission_record(done(identity=None), keep_recipients=True, keep_subject=True)
    assert decided_identity(record) == ""
