import pytest

from smtpgate.core.address import Mailbox
from smtpgate.smtp.command import (
    CommandError,
    parse_helo,
    parse_mail,
    parse_rcpt,
    split_command,
)

ALICE = Mailbox("alice", "example.com")


@pytest.mark.parametrize(
    ("line", "want"),
    [
        (b"NOOP", (b"NOOP", b"")),
        (b"noop  ", (b"NOOP", b"")),
        (b"mail FROM:<a@example.com>", (b"MAIL", b"FROM:<a@example.com>")),
        (b"", (b"", b"")),
        (b"NO\xffOP", (b"", b"")),
        (b" NOOP", (b"", b"")),
    ],
)
def test_a_line_is_a_verb_and_an_argument(line: bytes, want: tuple[bytes, bytes]) -> None:
    assert split_command(line) == want


@pytest.mark.parametrize(
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
    with pytest.raises(CommandError, match=r"5\.6\.7"):
        parse_mail(utf8)


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        (b"", "501 5.5.4"),
        (b"<alice@example.com>", "501 5.5.4"),
        (b"TO:<alice@example.com>", "501 5.5.4"),
        (b"FROM:<alice@example.com> SIZE=ten", "501 5.5.4"),
        (b"FROM:<alice@example.com> SIZE=1 SIZE=2", "501 5.5.4"),
        (b"FROM:<alice@example.com> BODY=BINARYMIME", "501 5.5.4"),
        (b"FROM:<alice@example.com> SMTPUTF8=yes", "501 5.5.4"),
        (b"FROM:<alice@example.com> AUTH=a=b", "501 5.5.4"),
        (b"FROM:<alice@example.com> ENVID=x", "555 5.5.4"),
        (b"FROM:<alice@example.com> SMTPUTF8 RET=FULL", "555 5.5.4"),
        (b"FROM:<alice>", "553 5.1.7"),
        (b"FROM:<@relay.example:alice@example.com>", "553 5.1.7"),
        (b"FROM:<a\xff@example.com> SMTPUTF8", "553 5.1.7"),
    ],
)
def test_mail_that_is_not_understood_is_refused_with_a_fitting_code(
    argument: bytes, code: str
) -> None:
    with pytest.raises(CommandError) as caught:
        parse_mail(argument)
    assert str(caught.value.reply).startswith(code)


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        (b"TO:<>", "553 5.1.3"),
        (b"TO:<bob>", "553 5.1.3"),
        (b"FROM:<alice@example.com>", "501 5.5.4"),
        (b"TO:<alice@example.com> NOTIFY=NEVER", "555 5.5.4"),
    ],
)
def test_rcpt_that_is_not_understood_is_refused_with_a_fitting_code(
    argument: bytes, code: str
) -> None:
    with pytest.raises(CommandError) as caught:
        parse_rcpt(argument, smtputf8=False)
    assert str(caught.value.reply).startswith(code)


@pytest.mark.parametrize("name", [b"", b"a\tb", "bücher".encode(), b"<script>", b"x" * 256])
def test_a_client_name_that_could_not_stand_in_a_received_field_is_refused(name: bytes) -> None:
    with pytest.raises(CommandError):
        parse_helo(name)


def test_a_client_may_call_itself_by_an_address_literal() -> None:
    assert parse_helo(b"[IPv6:2001:db8::1]") == "[IPv6:2001:db8::1]"
