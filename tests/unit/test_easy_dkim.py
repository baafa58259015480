"""Keys of the API: which signs when, and the state that SES's words have for it."""

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from smtpgate.core.proof.dkim_stages import (
    KeyOrigin,
    KeyStage,
    StagedKey,
    activated_by_itself,
)
from smtpgate.core.proof.easy_dkim import (
    SelectorError,
    is_over,
    new_dkim_token,
    signing_selector,
    signing_status,
)
from smtpgate.core.proof.verification import GRACE, PATIENCE
from tests.support.rows import rows

NOW: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
SECOND: Final = timedelta(seconds=1)


def key(
    selector: str,
    stage: KeyStage = "pending",
    origin: KeyOrigin = "easy",
    *,
    missing: timedelta | None = None,
    problem: str = "",
) -> StagedKey:
    return StagedKey(
        selector=selector,
        algorithm="rsa-sha256",
        since=NOW,
        stage=stage,
        origin=origin,
        next_check_at=NOW,
        problem=problem,
        alarm_since=None if missing is None else NOW - missing,
    )


EASY: Final = (key("a"), key("b"), key("c"))


@rows(
    "keys, origin, found, signing",
    [
        (EASY, "easy", {"b", "c"}, {"b"}),
        (EASY, "easy", set(), set()),
        (EASY, None, {"a"}, set()),
        (EASY, "external", {"a"}, set()),
        ((key("a", "active"), key("b")), "easy", {"a", "b"}, {"a"}),
        ((key("a", "active", missing=SECOND), key("b")), "easy", {"b"}, {"b"}),
        ((key("m", origin="manual"),), "manual", {"m"}, set()),
        ((key("m", "active", "manual"), key("a")), "easy", {"a"}, {"a"}),
        (
            (key("o", "active", "external"), key("n", origin="external")),
            "external",
            {"n"},
            {"n"},
        ),
        (
            (key("o", "active", "external"), key("n", origin="external")),
            "external",
            {"o"},
            {"o"},
        ),
        ((key("a", "retiring"), key("b", "retired")), "easy", {"a", "b"}, set()),
    ],
)
def test_a_key_of_the_api_signs_once_its_record_is_found(
    keys: tuple[StagedKey, ...], origin: KeyOrigin | None, found: set[str], signing: set[str]
) -> None:
    after = activated_by_itself(keys, origin, found, NOW)
    assert {one.selector for one in after if one.signs} == signing
    assert [one.origin for one in after] == [one.origin for one in keys]
    replaced = {one.selector for one in keys if one.signs} - signing
    assert {one.selector for one in after if one.stage == "retiring"} >= replaced


@rows(
    "keys, origin, age, status",
    [
        ((), None, SECOND, "not-started"),
        (EASY, "easy", PATIENCE - SECOND, "pending"),
        (EASY, "easy", PATIENCE, "temporary-failure"),
        ((key("a", problem="no TXT record"),), "easy", PATIENCE, "failed"),
        ((key("a", "active"), key("b")), "easy", PATIENCE, "success"),
        ((key("a", "active", missing=SECOND),), "easy", SECOND, "temporary-failure"),
        ((key("a", "active", missing=SECOND),), "easy", GRACE, "failed"),
        ((key("a", "active"),), "external", SECOND, "not-started"),
        ((key("m", "active", "manual"),), None, SECOND, "success"),
        ((key("a", "retired"),), "easy", SECOND, "not-started"),
        (
            (key("o", "active", "external"), key("n", origin="external")),
            "external",
            SECOND,
            "pending",
        ),
    ],
)
def test_the_status_says_whether_a_key_signs(
    keys: tuple[StagedKey, ...], origin: KeyOrigin | None, age: timedelta, status: str
) -> None:
    assert signing_status(keys, origin, NOW + age) == status


def test_a_key_waits_for_its_record_for_72_hours() -> None:
    assert not is_over(key("a"), NOW + PATIENCE - SECOND)
    assert is_over(key("a"), NOW + PATIENCE)
    assert not is_over(key("a", "active"), NOW + PATIENCE)


def test_tokens_have_all_lower_case_letters_and_some_digits() -> None:
    assert new_dkim_token(lambda number: bytes(range(number))) == (
        "abcdefghijklmnopqrstuvwxyz234567"
    )
    assert new_dkim_token(lambda number: bytes([255]) * number) == "7" * 32


@rows("text", ["", "-a", "a-", "a.b", "a_b", "ä", "a" * 64, "a b", "a\n"])
def test_what_cannot_be_a_selector(text: str) -> None:
    with pytest.raises(SelectorError, match="1 to 63"):
        signing_selector(text)


def test_a_selector_is_written_in_lower_case() -> None:
    assert signing_selector("Mail-2026") == "mail-2026"
    assert signing_selector("A" * 63) == "a" * 63
