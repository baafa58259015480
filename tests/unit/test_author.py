from typing import Any

import pytest

from smtpgate.core.message.author import (
    AuthorError,
    TooManyAuthorsError,
    parse_authors,
    read_author_fields,
)
from smtpgate.core.message.headers import HeaderBlock, split_message
from tests.support.cases import load_cases
from tests.support.rows import rows

READ = load_cases("author/10-read.toml")
REFUSED = load_cases("author/20-refused.toml")


@rows("case", READ, ids=lambda case: case["note"])
def test_a_mailbox_list_is_read(case: dict[str, Any]) -> None:
    smtputf8 = case.get("smtputf8", False)
    authors = parse_authors(case["value"].encode(), smtputf8=smtputf8)
    assert [[author.display_name or "", str(author.mailbox)] for author in authors] == case[
        "want"
    ]
    assert parse_authors(case["value"], smtputf8=smtputf8) == authors


@rows("case", REFUSED, ids=lambda case: case["note"])
def test_what_is_ambiguous_or_malformed_is_refused(case: dict[str, Any]) -> None:
    with pytest.raises(AuthorError) as caught:
        parse_authors(case["value"].encode(), smtputf8=case.get("smtputf8", False))
    assert case["says"] in str(caught.value)


def test_octets_that_are_not_utf8_are_refused_even_with_smtputf8() -> None:
    with pytest.raises(AuthorError, match="not UTF-8"):
        parse_authors(b"Fr\xfchling <joe@example.com>", smtputf8=True)


def test_a_hundred_mailboxes_are_the_most() -> None:
    assert len(parse_authors(b", ".join([b"a@example.com"] * 100), smtputf8=False)) == 100
    with pytest.raises(TooManyAuthorsError, match="more than 100 mailboxes"):
        parse_authors(b", ".join([b"a@example.com"] * 101), smtputf8=False)


def test_a_field_beyond_8_kib_is_not_read() -> None:
    with pytest.raises(TooManyAuthorsError, match="longer than 8192 octets"):
        parse_authors(b'"' + b"x" * 8192 + b'" <a@example.com>', smtputf8=False)


def test_a_name_beyond_a_thousand_characters_is_refused() -> None:
    assert parse_authors(b"x" * 1000 + b" <a@example.com>", smtputf8=False)
    with pytest.raises(AuthorError, match="longer than 1000 characters"):
        parse_authors(b"x" * 1001 + b" <a@example.com>", smtputf8=False)


def test_a_name_that_grows_beyond_a_thousand_characters_is_refused() -> None:
    # U+FDFA is 18 characters for programs that normalize a name, and so for the check.
    short, long = "\uff20" + "\ufdfa" * 55, "\uff20" + "\ufdfa" * 56
    assert parse_authors(f"{short} <a@example.com>".encode(), smtputf8=True)
    with pytest.raises(AuthorError, match="longer than 1000 characters"):
        parse_authors(f"{long} <a@example.com>".encode(), smtputf8=True)


def test_an_address_of_absurd_length_is_not_looked_at() -> None:
    for value in ("a@" + "ü" * 4_000, "ü" * 4_000 + "@a <a@example.com>"):
        with pytest.raises(AuthorError, match=r"too long|another address"):
            parse_authors(value, smtputf8=True)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("Joe (CEO) <a@example.com>", {"Joe", "Joe (CEO)"}),
        ('(CEO) "Joe" <a@example.com> (x)', {"Joe", "Joe (CEO) (x)"}),
        ("(CEO) <a@example.com> (x)", {None, "CEO", "x", "CEO x"}),
        ("(CEO) <a@example.com>", {"CEO"}),
        ("Joe () <a@example.com>", {"Joe"}),
        ("Joe <a@example.com>", {"Joe"}),
    ],
)
def test_comments_are_in_the_names_that_programs_show(
    value: str, names: set[str | None]
) -> None:
    (author,) = parse_authors(value, smtputf8=False)
    assert {one.display_name for one in author.shown} == names
    assert {one.mailbox for one in author.shown} == {author.mailbox}


@pytest.mark.parametrize("piece", ["() ", "a ", '"" '])
def test_a_value_of_very_many_pieces_is_not_read(piece: str) -> None:
    value = f"{piece * 900}<a@example.com>, {piece * 100}<a@example.com>"
    with pytest.raises(TooManyAuthorsError, match="more than 1000 words and marks"):
        parse_authors(value, smtputf8=False)


def block_of(fields: str) -> HeaderBlock:
    return split_message(fields.encode()).block


def test_the_authors_and_the_sender_are_found() -> None:
    block = block_of("Sender: Joe <joe@example.com>\r\nFROM : a@example.com,\r\n b@example.org")
    authors, sender = read_author_fields(block, smtputf8=False)
    assert [str(author.mailbox) for author in authors] == ["a@example.com", "b@example.org"]
    assert sender is not None
    assert (sender.display_name, str(sender.mailbox)) == ("Joe", "joe@example.com")


def test_several_authors_need_no_sender() -> None:
    block = block_of("From: a@example.com, b@example.org\r\n")
    assert read_author_fields(block, smtputf8=False)[1] is None


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ("To: a@example.com\r\n", "Missing required header 'From'."),
        ("From: a@example.com\r\nfrom : b@example.com\r\n", "Duplicate header 'From'."),
        ("From: a b\r\n", "header 'From': white space in the address"),
        ("From:\r\n", "header 'From': it has no address"),
        ("From: a@example.com\r\nSender: x\r\n", "header 'Sender': Missing final '@domain'"),
        (
            "From: a@example.com\r\nSender: a@example.com\r\nSender: b@example.com\r\n",
            "Duplicate header 'Sender'.",
        ),
        (
            "From: a@example.com\r\nSender: a@example.com, b@example.com\r\n",
            "header 'Sender' has more than one mailbox",
        ),
    ],
)
def test_a_refusal_names_the_field(fields: str, says: str) -> None:
    with pytest.raises(AuthorError) as caught:
        read_author_fields(block_of(fields), smtputf8=False)
    assert says in str(caught.value)
