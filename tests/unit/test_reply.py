import pytest

from smtpgate.core.reason import ALL_REASONS
from smtpgate.core.reply import CATALOGUE, Reject, Reply, accepted, reply_of
from tests.support.rows import rows


def test_a_reply_whose_two_codes_disagree_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="do not agree"):
        Reply(454, "5.7.0", "Throttling failure")


@pytest.mark.parametrize("code", [0, 199, 600])
def test_a_reply_has_a_code_of_smtp(code: int) -> None:
    with pytest.raises(ValueError, match="not a reply code"):
        Reply(code, "", "hello")


def test_a_long_text_becomes_several_lines_that_each_carry_the_codes() -> None:
    wire = Reply(554, "5.7.1", " ".join(["word"] * 300)).wire()
    lines = wire.split(b"\r\n")[:-1]
    assert len(lines) > 2
    assert all(line.startswith(b"554-5.7.1 ") for line in lines[:-1])
    assert lines[-1].startswith(b"554 5.7.1 ")
    assert all(len(line) <= 510 for line in lines)  # RFC 5321 §4.5.3.1.5
    assert wire.count(b"word") == 300


def test_a_long_text_without_spaces_is_cut_and_nothing_is_lost() -> None:
    wire = Reply(554, "5.7.1", "x" * 2000).wire()
    assert wire.count(b"x") == 2000


@pytest.mark.parametrize("text", ["two\r\nlines", "a\0b", "fo\x7fo", "naïve"])
def test_no_text_can_break_out_of_its_line(text: str) -> None:
    wire = Reply(554, "5.7.1", text).wire()
    assert wire.startswith(b"554 5.7.1 ")
    assert wire.count(b"\r\n") == 1
    assert wire[:-2].decode("ascii").isprintable()


def test_characters_beyond_ascii_are_escaped_and_not_lost() -> None:
    wire = Reply(554, "5.7.1", "saw `Frühling', `日本', `a\\b', \x7f").wire()
    assert wire == b"554 5.7.1 saw `Fr\\xfchling', `\\u65e5\\u672c', `a\\b', \\x7f\r\n"


def test_a_reason_that_is_not_in_the_catalogue_cannot_be_given() -> None:
    with pytest.raises(ValueError, match="not a reason code"):
        Reject(CATALOGUE["ok"], "because")


def test_facts_are_filled_in_and_braces_in_them_are_left_alone() -> None:
    assert reply_of("bad-sequence", problem="{x}").text.endswith("{x}")


def test_every_reason_says_what_it_means() -> None:
    for code, reason in ALL_REASONS.items():
        assert reason.advice, code
        assert reason.meaning or reason.at_login, code


@rows("code", sorted(ALL_REASONS))
def test_a_reasons_replies_are_in_the_catalogue(code: str) -> None:
    reason = ALL_REASONS[code]
    assert reason.reply in CATALOGUE or code == "upstream-reply"
    assert not reason.last_word or CATALOGUE[reason.last_word].code == 421


def test_the_reply_to_an_accepted_message_is_the_catalogues() -> None:
    for message_id in ("0100-1", "{message_id}", "{x}"):
        reply = accepted(message_id)
        assert reply == reply_of("accepted", message_id=message_id)
        assert (reply.name, str(reply)) == ("accepted", f"250 2.0.0 Ok {message_id}")
