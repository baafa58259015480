from typing import Any

import pytest

from smtpgate.core.upstream.replies import ReplyError, ReplyReader, as_reply, extensions_of
from tests.support.cases import load_cases
from tests.support.rows import rows

CASES = load_cases("upstream/40-replies.toml")


def read(octets: bytes) -> list[str]:
    reader = ReplyReader()
    reader.feed(octets)
    replies = []
    while (answer := reader.take()) is not None:
        replies.append(str(as_reply(answer)))
    assert not reader.has_rest
    return replies


@rows("case", CASES, ids=lambda case: case["note"])
def test_octets_are_read_as_these_replies_or_not_at_all(case: dict[str, Any]) -> None:
    octets = case["octets"].encode()
    if "want" in case:
        assert read(octets) == case["want"]
        return
    with pytest.raises(ReplyError) as caught:
        read(octets)
    assert case["error"] in str(caught.value)


@pytest.mark.parametrize(
    ("octets", "says"),
    [
        (b"250 " + b"x" * 3000, "line is longer than 2048 octets"),
        (b"250 " + b"x" * 3000 + b"\r\n", "line is longer than 2048 octets"),
        (b"250-x\r\n" * 200, "a reply is too long"),
        (b"250-" + b"x" * 1900 + b"\r\n" + (b"250-" + b"x" * 1900 + b"\r\n") * 9, "too long"),
    ],
)
def test_a_server_cannot_make_us_keep_a_reply_without_end(octets: bytes, says: str) -> None:
    with pytest.raises(ReplyError, match=says):
        read(octets)


def test_a_long_text_is_cut() -> None:
    (reply,) = read(b"".join(b"550-" + b"x" * 900 + b"\r\n" for _ in range(3)) + b"550 y\r\n")
    assert len(reply) == len("550 5.0.0 ") + 1000
    assert reply.endswith("...")


def test_half_a_reply_is_kept_until_the_rest_comes() -> None:
    reader = ReplyReader()
    for octet in b"250-one\r\n250 two\r":
        reader.feed(bytes([octet]))
        assert reader.take() is None
    assert reader.has_rest
    reader.feed(b"\n354")
    answer = reader.take()
    assert answer is not None
    assert answer.lines == ("one", "two")
    assert reader.has_rest


def test_an_offer_has_its_parameters() -> None:
    lines = ["mx.example.net Hello", "SIZE 1000", "auth plain LOGIN ", "8BITMIME", "-X", "A?B"]
    assert extensions_of(lines) == {"SIZE": "1000", "AUTH": "PLAIN LOGIN", "8BITMIME": ""}
