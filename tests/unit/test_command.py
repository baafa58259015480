import pytest

from smtpgate.core.address import Mailbox
from smtpgate.smtp.command import (
    BadCommandError,
    parse_helo,
    parse_mail,
    parse_rcpt,
    split_command,
)
from tests.support.rows import rows

ALICE = Mailbox("alice", "example.com")


@pytest.mark.parametrize(
    ("line", "want"),
    [
        (b"NOOP", (b"NOOP", b"")),
        (b"noop  ", (b"NOOP", b"")),
        (b"NOOP \t ", (b"NOOP", b"")),
        (b"mail FROM:<a@example.com>", (b"MAIL", b"FROM:<a@example.com>")),
        (b"MAIL\tFROM:<a@example.com>\t", (b"MAIL", b"FROM:<a@example.com>")),
        (b"Mail \t FROM:<a@example.com> ", (b"MAIL", b"FROM:<a@example.com>")),
        (b"MAIL FROM:<a@example.com> SIZE=1", (b"MAIL", b"FROM:<a@example.com> SIZE=1")),
        (b"", (b"", b"")),
        (b"NO\xffOP", (b"", b"")),
        (b"NO0P", (b"", b"")),
        (b"NO-OP TO", (b"", b"")),
        (b" NOOP", (b"", b"")),
    ],
)
def test_a_line_is_a_verb_and_an_argument(line: bytes, want: tuple[bytes, bytes]) -> None:
    assert split_command(line) == want


@rows(
    "argument",
    [
        b"FROM:<alice@example.com>",
        b"from:<alice@example.com>",
        b"FROM: <alice@example.com>",
        b"FROM: alice@example.com",
        b"FROM:<alice@EXAMPLE.com> BODY=8BITMIME SIZE=10",
        b"FROM:<alice@example.com> AUTH=<>",
        b"FROM:<alice@example.com> AUTH=alice+2B1@example.com",
        b"FROM:<alice@example.com> size=10 body=7bit",
    ],
)
def test_mail_is_read_with_the_parameters_that_clients_send(argument: bytes) -> None:
    assert parse_mail(argument).reverse_path.mailbox == ALICE


def test_the_null_reverse_path_is_nobody() -> None:
    assert parse_mail(b"FROM:<>").reverse_path.is_null


def test_a_utf8_address_needs_the_smtputf8_parameter() -> None:
    utf8 = "FROM:<jürgen@example.com>".encode()
    assert parse_mail(utf8 + b" SMTPUTF8").reverse_path.mailbox == Mailbox(
        "jürgen", "example.com"
    )
    with pytest.raises(BadCommandError, match=r"5\.6\.7"):
        parse_mail(utf8)


@rows(
    "argument, code",
    [
        (b"", "501 5.5.4"),
        (b"<alice@example.com>", "501 5.5.4"),
        (b"TO:<alice@example.com>", "501 5.5.4"),
        (b"FROM:<alice@example.com> SIZE=ten", "501 5.5.4"),
        (b"FROM:<alice@example.com> SIZE=1 SIZE=2", "501 5.5.4"),
        (b"FROM:<alice@example.com> BODY=BINARYMIME", "501 5.5.4"),
        (b"FROM:<alice@example.com> SMTPUTF8=yes", "501 5.5.4"),
        (b"FROM:<alice@example.com> AUTH=a=b", "501 5.5.4"),
        (b"FROM:<alice@example.com> AUTH=a+0Db", "501 5.5.4"),
        (b"FROM:<alice@example.com> AUTH=a+7Fb", "501 5.5.4"),
        (b"FROM:<alice@example.com> HOLDFOR=9", "555 5.5.4"),
        (b"FROM:<alice@example.com> RET=ALL", "501 5.5.4"),
        (b"FROM:<alice@example.com> ENVID", "501 5.5.4"),
        (b"FROM:<alice@example.com> ENVID=a+0Ab", "501 5.5.4"),
        (b"FROM:<alice@example.com> ENVID=\xc3\xa4", "501 5.5.4"),
        (b"FROM:<alice@example.com> ENVID=" + b"x" * 101, "501 5.5.4"),
        (b"FROM:<alice>", "553 5.1.7"),
        (b"FROM:<@relay.example:alice@example.com>", "553 5.1.7"),
        (b"FROM:<a\xff@example.com> SMTPUTF8", "553 5.1.7"),
        (b'FROM:<"a>b@example.com>', "501 5.5.4"),
        (b'FROM:<"a> SIZE=1', "553 5.1.7"),
        (b'FROM:<"a> SIZE=1"@example.com>', "553 5.1.7"),
    ],
)
def test_mail_that_is_not_understood_is_refused_with_a_fitting_code(
    argument: bytes, code: str
) -> None:
    with pytest.raises(BadCommandError) as caught:
        parse_mail(argument)
    assert str(caught.value.reply).startswith(code)


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        (b"TO:<>", "553 5.1.3"),
        (b"TO:<bob>", "553 5.1.3"),
        (b'TO:<"bob> ORCPT=x"@example.net>', "553 5.1.3"),
        (b"FROM:<alice@example.com>", "501 5.5.4"),
        (b"BY:<alice@example.com>", "501 5.5.4"),
    ],
)
def test_rcpt_that_is_not_understood_is_refused_with_a_fitting_code(
    argument: bytes, code: str
) -> None:
    with pytest.raises(BadCommandError) as caught:
        parse_rcpt(argument, smtputf8=False)
    assert str(caught.value.reply).startswith(code)


def test_brackets_in_quotes_do_not_end_a_path() -> None:
    mail = parse_mail(b'FROM:<"a>b <c"@example.com> SIZE=10')
    assert (mail.reverse_path.mailbox, mail.size) == (Mailbox("a>b <c", "example.com"), 10)


def test_a_reply_shows_the_a_label_of_a_recipient_that_is_refused() -> None:
    with pytest.raises(BadCommandError) as caught:
        parse_rcpt("TO:<bob@b☃cher.example>".encode(), smtputf8=True)
    assert caught.value.reply.wire().startswith(b"553 5.1.3 <bob@xn--bcher-jb1c.example> ")
    assert b"?" not in caught.value.reply.wire()


@pytest.mark.parametrize(
    ("argument", "want"),
    [
        (b"*", "*"),
        (b"Ann's-PC", "Ann's-PC"),
        (b"[fe80::1%eth0]", "[fe80::1%eth0]"),
        ("bücher".encode(), "b\\xc3\\xbccher"),
        (b"b\xfccher", "b\\xfccher"),
        (b"<script>", "<script>"),
        (b"my pc", "my"),
    ],
)
def test_a_client_may_call_itself_anything_that_is_one_word(argument: bytes, want: str) -> None:
    assert parse_helo(argument) == want


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        (b"", "Syntax: EHLO hostname"),
        (b"a\tb", "Invalid host name: a control character in it"),
        (b"a\x1b[31m", "Invalid host name: a control character in it"),
        (b"x" * 256, "Invalid host name: longer than 255 octets"),
    ],
)
def test_a_client_name_that_no_log_should_show_is_refused_with_the_reason(
    argument: bytes, says: str
) -> None:
    with pytest.raises(BadCommandError) as caught:
        parse_helo(argument)
    assert caught.value.reply.text == says


def test_a_client_may_call_itself_by_an_address_literal() -> None:
    assert parse_helo(b"[IPv6:2001:db8::1]") == "[IPv6:2001:db8::1]"


def test_the_delivery_options_of_mail_are_read() -> None:
    mail = parse_mail(b"FROM:<alice@example.com> RET=hdrs ENVID=QQ+20314159")
    assert (mail.returned, mail.envelope_id) == ("HDRS", "QQ 314159")


@rows(
    "argument, notify, orcpt",
    [
        (b"NOTIFY=NEVER", {"NEVER"}, None),
        (b"notify=success,delay", {"SUCCESS", "DELAY"}, None),
        (b"ORCPT=rfc822;bob+2Bnews@example.com", (), "rfc822;bob+news@example.com"),
        (b"ORCPT=utf-8;b\\x{F6}b@example.com", (), "utf-8;b\\x{F6}b@example.com"),
        ("ORCPT=utf-8;böb@example.com".encode(), (), "utf-8;böb@example.com"),
    ],
)
def test_the_delivery_options_of_rcpt_are_read(
    argument: bytes, notify: set[str], orcpt: str | None
) -> None:
    recipient = parse_rcpt(b"TO:<alice@example.com> " + argument, smtputf8=True)
    assert (recipient.notify, recipient.orcpt) == (frozenset(notify), orcpt)


@rows(
    "argument, code",
    [
        (b"NOTIFY=", "501 5.5.4"),
        (b"NOTIFY=NEVER,FAILURE", "501 5.5.4"),
        (b"NOTIFY=SOMETIMES", "501 5.5.4"),
        (b"ORCPT=bob@example.com", "501 5.5.4"),
        (b"ORCPT=rfc822;b+0Ab@example.com", "501 5.5.4"),
        (b"ORCPT=utf-8;b\xff@example.com", "501 5.5.4"),
        (b"ORCPT=rfc822;" + b"b" * 501, "501 5.5.4"),
        ("ORCPT=utf-8;böb@example.com".encode(), "553 5.6.7"),
        (b"NOTIFIES=NEVER", "555 5.5.4"),
    ],
)
def test_other_options_of_rcpt_are_refused(argument: bytes, code: str) -> None:
    with pytest.raises(BadCommandError) as refused:
        parse_rcpt(b"TO:<alice@example.com> " + argument, smtputf8=False)
    assert str(refused.value.reply).startswith(code)
