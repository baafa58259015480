"""The mailboxes of those who sent a message on."""

import pytest

from smtpgate.core.message.author import AuthorError
from smtpgate.core.message.headers import split_message
from smtpgate.core.message.resent import read_resent_fields


def resent(head: str, *, smtputf8: bool = False) -> list[str]:
    block = split_message(f"{head}From: a@example.com\r\n\r\n".encode()).block
    return [str(one.mailbox) for one in read_resent_fields(block, smtputf8=smtputf8)]


@pytest.mark.parametrize(
    ("head", "mailboxes"),
    [
        ("", []),
        ("Resent-From: Joe <joe@example.com>\r\n", ["joe@example.com"]),
        ("RESENT-FROM : joe@example.com,\r\n jane@EXAMPLE.com\r\n", ["joe", "jane"]),
        ("Resent-From: joe@example.com\r\nResent-From: jane@example.com\r\n", ["joe", "jane"]),
        (
            "Resent-From: joe@example.com\r\nResent-Sender: jane@example.com\r\n",
            ["joe", "jane"],
        ),
        ("Resent-Sender: joe@example.com\r\nResent-From: joe@example.com\r\n", ["joe"]),
        ("Resent-To: joe@example.com\r\nResent-Date: today\r\n", []),
    ],
)
def test_each_mailbox_is_found_once(head: str, mailboxes: list[str]) -> None:
    wanted = [name if "@" in name else f"{name}@example.com" for name in mailboxes]
    assert resent(head) == wanted


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ("Resent-From: \r\n", "header 'Resent-From': "),
        ("Resent-From: joe\r\n", "header 'Resent-From': "),
        ("Resent-From: friends: joe@example.com;\r\n", "header 'Resent-From': "),
        ("Resent-From: j\u00f6@example.com\r\n", "header 'Resent-From': "),
        ("Resent-Sender: a@example.com, b@example.com\r\n", "more than one mailbox"),
        (
            "".join(f"Resent-From: a{n}@example.com\r\n" for n in range(101)),
            "more than 100 mailboxes",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_field(head: str, says: str) -> None:
    with pytest.raises(AuthorError) as refused:
        resent(head)
    assert says in str(refused.value)
    assert "esent-" in str(refused.value)
