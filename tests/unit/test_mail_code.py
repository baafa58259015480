from datetime import UTC, datetime, timedelta

import pytest

from smtpgate.core.proof.mail_code import (
    MAX_ATTEMPTS,
    VALID,
    check_code,
    code_digest,
    mail_code,
    new_code,
)
from smtpgate.core.secret import Secret

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
SUBJECT = "arn:aws:ses:us-east-1:999999999999:identity/alice@example.com"
CODE = new_code(bytes(range(0, 120, 10)))
STORED = mail_code(CODE, SUBJECT, NOW)
WRONG = Secret("0000-0000-0000")


def test_a_code_can_be_typed_and_does_not_print_itself() -> None:
    assert CODE.value == "0AMY-8JW6-GT4E"
    assert CODE.value not in repr(CODE)
    assert new_code(b"\xff" * 12).value == "ZZZZ-ZZZZ-ZZZZ"
    with pytest.raises(ValueError, match="12 octets, not 11"):
        new_code(bytes(11))


@pytest.mark.parametrize(
    "typed",
    [
        "0AMY-8JW6-GT4E",
        "0amy-8jw6-gt4e",
        "OAMY8JW6GT4E",
        " oamy 8jw6\tgt4e\r\n",
        "0-A-M-Y-8-J-W-6-G-T-4-E",
    ],
)
def test_a_code_is_right_however_it_is_typed(typed: str) -> None:
    assert check_code(STORED, Secret(typed), SUBJECT, NOW) == ("right", STORED)


def test_i_and_l_are_read_as_1() -> None:
    one = new_code(bytes([1] * 12))
    assert one.value == "1111-1111-1111"
    assert code_digest(Secret("iIlL-1111-1111"), SUBJECT) == code_digest(one, SUBJECT)


@pytest.mark.parametrize(
    "typed", ["", "0AMY-8JW6-GT4", "0AMY-8JW6-GT4E0", "\ud800", "é" * 99, "0AMY-8JW6-GT4F"]
)
def test_anything_else_is_wrong_and_counts(typed: str) -> None:
    attempt, current = check_code(STORED, Secret(typed), SUBJECT, NOW)
    assert (attempt, current.wrong_attempts) == ("wrong", 1)


def test_a_code_is_worth_nothing_for_another_subject() -> None:
    other = SUBJECT.replace("alice", "bob")
    assert check_code(STORED, CODE, other, NOW)[0] == "wrong"
    assert len(STORED.digest) == 32


def test_after_five_wrong_attempts_the_right_code_is_not_taken() -> None:
    current = STORED
    for count in range(1, MAX_ATTEMPTS + 1):
        attempt, current = check_code(current, WRONG, SUBJECT, NOW)
        assert (attempt, current.wrong_attempts) == ("wrong", count)
    assert check_code(current, CODE, SUBJECT, NOW) == ("too-many-attempts", current)


def test_the_fifth_attempt_may_still_be_right() -> None:
    current = STORED
    for _ in range(MAX_ATTEMPTS - 1):
        current = check_code(current, WRONG, SUBJECT, NOW)[1]
    assert check_code(current, CODE, SUBJECT, NOW)[0] == "right"


def test_a_code_is_valid_for_a_day() -> None:
    moment = timedelta(microseconds=1)
    assert check_code(STORED, CODE, SUBJECT, NOW + VALID - moment)[0] == "right"
    assert check_code(STORED, CODE, SUBJECT, NOW + VALID) == ("expired", STORED)


def test_a_clock_set_back_makes_no_code_hold_for_ever() -> None:
    assert check_code(STORED, CODE, SUBJECT, NOW - timedelta(hours=1))[0] == "right"
    assert check_code(STORED, CODE, SUBJECT, NOW - VALID) == ("expired", STORED)
