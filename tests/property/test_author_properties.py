import re
from contextlib import suppress

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from smtpgate.core.address import AddressError, parse_mailbox
from smtpgate.core.message.author import Author, AuthorError, parse_authors
from tests.support.mailreaders import python_readers, read_by_gate
from tests.support.rows import rows

PIECES = [
    *("a", "b@example.com", "<b@example.com>", "<", ">", '"', "\\", ",", " ", "\t", "@"),
    *("(", ")", ":", ";", "[", "]", ".", "=?utf-8?q?x?=", "=?utf-8?b?4oKs?=", "=?", "?=", "ü"),
    *(
        "\r\n ",
        "\x00",
        "\u202e",
        "alice@example.org",
        "(x)",
        "=?utf-8?q?alice=40example=2Eorg?=",
    ),
]
texts = st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.lists(
    st.integers(0, 0xD7FF).map(chr), max_size=20
).map("".join)

local_parts = st.from_regex(r"[ab+'=-]{1,4}(\.[ab+'=-]{1,4})?", fullmatch=True)
shown = st.sampled_from("ab,.()[]:;?\\\"'üß日本👩")
names = st.lists(st.text(shown, min_size=1, max_size=6), min_size=1, max_size=3).map(" ".join)


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@given(texts, st.booleans())
def test_any_text_gives_authors_or_an_error(text: str, smtputf8: bool) -> None:
    try:
        authors = parse_authors(text, smtputf8=smtputf8)
    except AuthorError:
        return
    assert authors
    for author in authors:
        assert parse_mailbox(str(author.mailbox)) == author.mailbox
        assert author.display_name != ""
        assert author.display_name is None or author.display_name.isprintable()


@given(st.binary(max_size=40), st.booleans())
def test_any_octets_give_authors_or_an_error(octets: bytes, smtputf8: bool) -> None:
    with suppress(AuthorError):
        assert parse_authors(octets, smtputf8=smtputf8)


@given(texts)
def test_every_mailbox_that_is_read_stands_in_the_text(text: str) -> None:
    """No mailbox comes out of an encoded word, a quoted name or a comment."""
    try:
        authors = parse_authors(text, smtputf8=False)
    except AuthorError:
        return
    rest = text
    for author in authors:
        domain_at = rest.find(f"@{author.mailbox.domain}")
        assert domain_at >= 0
        rest = rest[domain_at + 1 :]


@given(st.lists(st.tuples(st.none() | names, local_parts), min_size=1, max_size=4))
def test_what_is_written_down_is_read_back(mailboxes: list[tuple[str | None, str]]) -> None:
    written, want = [], []
    for name, local_part in mailboxes:
        assume(name is None or name.count('"') % 2 == 0)
        address = f"<{local_part}@example.com>"
        written.append(address if name is None else f"{quoted(name)} {address}")
        want.append((name, parse_mailbox(f"{local_part}@example.com")))
    authors = parse_authors(", ".join(written), smtputf8=True)
    assert [author.mailbox for author in authors] == [mailbox for _, mailbox in want]
    for author, (name, _) in zip(authors, want, strict=True):
        assert_same_name(author, name)


@given(texts)
def test_no_name_that_is_read_shows_another_address(text: str) -> None:
    try:
        authors = parse_authors(text, smtputf8=True)
    except AuthorError:
        return
    for author in authors:
        name = author.display_name or ""
        assert "<" not in name
        assert ">" not in name
        for found in re.findall(r"[a-z]+@[a-z]+(?:\.[a-z]+)+", name):
            assert found == str(author.mailbox)


@given(st.text(st.sampled_from(' ".@<>()[],;:\\'), min_size=1, max_size=6))
def test_a_local_part_that_needs_quotes_is_refused(local_part: str) -> None:
    address = f"{quoted(local_part)}@example.com"
    assume(parse_local(address) is not None)
    for value in (address, f"<{address}>", f"Joe {address}", f"Joe <{address}>, a@example.com"):
        with pytest.raises(AuthorError):
            parse_authors(value, smtputf8=False)


def parse_local(address: str) -> str | None:
    try:
        return parse_mailbox(address).local_part
    except AddressError:
        return None


def assert_same_name(author: Author, name: str | None) -> None:
    if name is not None and name.isascii():
        assert author.display_name == name
    assert (author.display_name is None) == (name is None)


@given(texts)
@example("a@example.com (x)")
@example("a@example.com <a@example.com>")
@example('"alice" (x) <b@example.com>')
@example("[x] alice <b@example.com>")
def test_other_readers_find_the_same_addresses(text: str) -> None:
    """A field that we accept has the same mailboxes in the standard library's reading."""
    assume("\r" not in text)
    for message in read_by_gate(f"From: {text}\r\n\r\n".encode("utf-8", "replace")):
        for name, read in python_readers().items():
            assert read(message) == message.addresses, name


@rows(
    "text",
    [
        '"' * 60_000,
        "(" * 60_000,
        "<" * 60_000,
        "a " * 30_000 + "<a@example.com>",
        '"' + "\\a" * 30_000,
        "=?utf-8?q?a?= " * 4000 + "<a@example.com>",
        "a@" * 30_000,
        "a" + "\u0316\u0300" * 10_000 + " <a@example.com>",
        "\u0316\u0300" * 10_000 + "@example.com",
        "a@" + "ü" * 20_000,
        "a@b " * 15_000 + "<a@b>",
        '""' * 30_000 + "<a@example.com>",
        "(a)" * 20_000 + "<a@example.com>",
        "(" + "(a)" * 20_000 + "<a@example.com>",
        "(" * 30_000 + ")" * 30_000,
        '<"' + "\\a" * 30_000,
        '<""' * 20_000,
        "[a]" * 20_000 + "<a@example.com>",
        '"' + "a@" * 400 + 'a" <a@example.com>, ' * 70,
        ('"' + "a" * 490 + "@" + "1." * 200 + '" <a@example.com>, ') * 70 + "a@example.com",
        "a " * 249,
        '"a"@' * 15_000,
        "[" * 60_000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_no_text_takes_long(text: str) -> None:
    """A reader that takes more than linear time would not come back from these."""
    with suppress(AuthorError):
        assert parse_authors(text, smtputf8=True)
