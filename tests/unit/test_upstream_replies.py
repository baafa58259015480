from typing import Any

import pytest

from smtpgate.core.upstream.replies import ReplyReader, extensions_of
from tests.support.cases import load_cases
from tests.support.rows import rows

CASES = load_cases("upstream/40-replies.toml")


def read(octets: bytes, due: int = 1) -> list[str]:
    reader = ReplyReader()
    replies = [str(answer.reply) for answer in reader.read(octets, due)]
    assert not reader.problem
    assert not reader.has_rest
    return replies


def problem_of(octets: bytes) -> str:
    reader = ReplyReader()
    assert not reader.read(octets)
    assert reader.has_rest
    return reader.problem


@rows("case", CASES, ids=lambda case: case["note"])
def test_octets_are_read_as_these_replies_or_not_at_all(case: dict[str, Any]) -> None:
    octets = case["octets"].encode()
    if "want" in case:
        assert read(octets) == read(octets, due=2) == case["want"]
        return
    assert case["error"] in problem_of(octets)


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
    assert says in problem_of(octets)


def test_each_reply_of_a_connection_may_be_as_long() -> None:
    reader = ReplyReader()
    for _ in range(20):
        (answer,) = reader.read((b"250-" + b"x" * 1000 + b"\r\n") * 9 + b"250 y\r\n")
        assert len(answer.more) == 9
        assert not reader.problem


def test_a_long_text_is_cut() -> None:
    (reply,) = read(b"".join(b"550-" + b"x" * 900 + b"\r\n" for _ in range(3)) + b"550 y\r\n")
    assert len(reply) == len("550 5.0.0 ") + 1000
    assert reply.endswith("...")


def test_half_a_reply_is_kept_until_the_rest_comes() -> None:
    reader = ReplyReader()
    for octet in b"250-one\r\n250 two\r":
        assert not reader.read(bytes([octet]))
        assert reader.has_rest
    (answer,) = reader.read(b"\n354")
    assert answer.more == ("two",)
    assert reader.has_rest
    assert [answer.reply.code for answer in reader.read(b" go\r\n")] == [354]
    assert not reader.has_rest


def test_replies_before_a_problem_are_read() -> None:
    reader = ReplyReader()
    answers = reader.read(b"250 one\r\n354 go\r\nhello\r\n250 x\r\n")
    assert [answer.reply.code for answer in answers] == [250, 354]
    assert "no reply line" in reader.problem
    assert reader.has_rest


@pytest.mark.parametrize("due", [0, 1, 50])
def test_few_of_the_replies_to_no_command_are_read(due: int) -> None:
    assert len(ReplyReader().read(b"250 ok\r\n" * 10_000, due)) == due + 2


def test_an_offer_has_its_parameters() -> None:
    lines = ["SIZE 1000", "auth plain LOGIN ", "8BITMIME", "-X", "A?B"]
    assert extensions_of(lines) == {"SIZE": "1000", "AUTH": "PLAIN LOGIN", "8BITMIME": ""}
