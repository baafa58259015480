"""The gate's own return path: only the gate can make one, and each names its message."""

from datetime import UTC, datetime

import pytest

from smtpgate.core.feedback.return_path import (
    MIN_KEY_OCTETS,
    TAG_LENGTH,
    PathTagger,
    is_valid,
    return_path,
    tagged_path,
)
from smtpgate.core.message_id import message_id
from tests.support.rows import rows

KEY, OTHER = b"k" * MIN_KEY_OCTETS, b"o" * MIN_KEY_OCTETS
ID = message_id(datetime(2026, 11, 29, 3, 0, tzinfo=UTC), bytes(range(16)))
PATH = return_path(ID, "Bounce.Example.com", KEY)


def test_a_return_path_has_a_local_part_that_every_server_takes() -> None:
    local, _, domain = PATH.partition("@")
    assert len(local) == 59
    assert local.startswith("b+")
    assert domain == "bounce.example.com"


def test_a_return_path_gives_the_message_id_back() -> None:
    path = tagged_path(PATH)
    assert path is not None
    assert (path.message_id, path.domain) == (ID, "bounce.example.com")
    assert len(path.tag) == TAG_LENGTH
    assert str(path) == PATH
    assert is_valid(path, [KEY])


def test_a_server_may_change_the_case_of_a_return_path() -> None:
    path = tagged_path(PATH.upper())
    assert path is not None
    assert is_valid(path, [KEY])


def test_a_path_that_the_key_before_made_is_valid_until_that_key_goes() -> None:
    path = tagged_path(PATH)
    assert path is not None
    assert is_valid(path, [OTHER, KEY])
    assert not is_valid(path, [OTHER])
    assert not is_valid(path, [])


def test_a_tag_is_of_one_domain() -> None:
    path = tagged_path(PATH.replace("bounce.example.com", "bounce.example.net"))
    assert path is not None
    assert not is_valid(path, [KEY])


@rows(
    "address",
    [
        "",
        "b+@bounce.example.com",
        "jane@example.com",
        PATH[1:],
        "x" + PATH,
        PATH.replace(".", "", 1),
        PATH.replace("@", "a@"),
        PATH.replace("@", ""),
        PATH.replace("b+", "b-", 1),
        PATH[:38].replace(PATH[2:38], "a" * 35 + "b") + PATH[38:],  # idle bits that are set
        PATH + "@example.net",
    ],
)
def test_another_address_is_no_return_path(address: str) -> None:
    assert tagged_path(address) is None


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter than 32 octets"):
        return_path(ID, "example.com", b"short")


@rows("text", ["", "0100", ID[:-1], ID.upper(), ID + "\n", ID.replace("0100", "0200", 1)])
def test_a_text_that_is_no_message_id_has_no_return_path(text: str) -> None:
    with pytest.raises(ValueError, match="no message id"):
        str(return_path(text, "example.com", KEY))


def test_a_tag_of_the_key_before_still_proves_its_message() -> None:
    old, new = bytes(32), bytes([1]) * 32
    path = PathTagger([old]).path_of(ID, "bounce.example.com")
    tag = path.local_part.rpartition(".")[2]
    assert PathTagger([new, old]).made(ID, tag, path.domain)
    assert PathTagger([new, old]).message_of(str(path)) == ID
    assert not PathTagger([new]).made(ID, tag, path.domain)
    assert not PathTagger([new, old]).made(ID, tag, "bounce.example.net")
    assert not PathTagger([new, old]).made(ID, "", path.domain)
