"""The options of an envelope in the journal."""

from smtpgate.core.address import Mailbox, ReversePath
from smtpgate.core.history.options import options_of
from smtpgate.core.message.envelope import Envelope, Recipient

PATH = ReversePath(Mailbox("alice", "example.com"))


def envelope(*recipients: Recipient, require_tls: bool = False) -> Envelope:
    return Envelope(PATH, recipients, require_tls=require_tls)


def test_most_messages_have_none() -> None:
    assert options_of(envelope(Recipient(PATH.mailbox)), keep_recipients=True) == ()  # type: ignore[arg-type]


def test_no_address_is_in_them_where_none_is_to_be_kept() -> None:
    jane = Recipient(
        Mailbox("jane", "example.net"), frozenset({"NEVER"}), "rfc822;j@example.net"
    )
    bob = Recipient(Mailbox("bob", "example.net"), frozenset({"NEVER"}))
    kept = options_of(envelope(jane, bob, require_tls=True), keep_recipients=False)
    assert kept == ("REQUIRETLS", "NOTIFY=NEVER")


def test_the_recipients_of_a_long_list_are_not_all_named() -> None:
    many = [
        Recipient(Mailbox(f"n{n}", "example.net"), frozenset({"FAILURE"})) for n in range(50)
    ]
    kept = options_of(envelope(*many), keep_recipients=True)
    assert (kept[0], len(kept)) == ("<n0@example.net> NOTIFY=FAILURE", 21)
    assert kept[-1] == "and 30 more recipients with options"


def test_the_options_of_the_envelope_come_first() -> None:
    jane = Recipient(Mailbox("jane", "example.net"), frozenset({"SUCCESS", "FAILURE"}))
    given = Envelope(PATH, (jane,), returned="HDRS", envelope_id="QQ314159", require_tls=True)
    assert options_of(given, keep_recipients=True) == (
        "RET=HDRS",
        "ENVID=QQ314159",
        "REQUIRETLS",
        "<jane@example.net> NOTIFY=FAILURE,SUCCESS",
    )
