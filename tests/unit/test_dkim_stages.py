from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from smtpgate.core.proof.dkim_record import CheckKind, DkimCheck, unanswered
from smtpgate.core.proof.dkim_stages import (
    RETIRING,
    KeyOrigin,
    KeyStage,
    StagedKey,
    StageError,
    activate,
    checked,
    new_key,
    origin_after,
    retire,
    retired_when_due,
    withdraw,
)
from tests.support.rows import rows

NOW: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
LATER: Final = NOW + timedelta(days=1)
MATCH: Final = DkimCheck("matches")
ABSENT: Final = DkimCheck("absent", "no TXT record is published")
MIDDLE: Final = 0.5
MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)


def key(selector: str, stage: KeyStage, algorithm: str = "rsa-sha256") -> StagedKey:
    planned = NOW if stage in ("pending", "active") else None
    return StagedKey(
        selector=selector, algorithm=algorithm, since=NOW, stage=stage, next_check_at=planned
    )


def stages(keys: tuple[StagedKey, ...]) -> dict[str, str]:
    return {one.selector: one.stage for one in keys}


# -- from stage to stage -----------------------------------------------------------------------


def test_a_new_key_is_published_before_it_signs() -> None:
    made = new_key("one", "rsa-sha256", NOW)
    assert (made.stage, made.signs, made.is_published) == ("pending", False, True)
    assert made.next_check_at == NOW + MINUTE


@pytest.mark.parametrize(
    ("stage", "signs", "is_published"),
    [("active", True, True), ("retiring", False, True), ("retired", False, False)],
)
def test_a_retiring_key_is_still_published(
    stage: KeyStage, signs: bool, is_published: bool
) -> None:
    one = key("one", stage)
    assert (one.signs, one.is_published) == (signs, is_published)


def test_a_key_takes_over_from_the_one_of_its_algorithm_and_from_no_other() -> None:
    keys = (
        key("old", "active"),
        key("ed", "active", "ed25519-sha256"),
        key("older", "retiring"),
        key("new", "pending"),
        key("next", "pending"),
    )
    after = activate(keys, "new", MATCH, LATER)
    assert stages(after) == {
        "old": "retiring", "ed": "active", "older": "retiring", "new": "active",
        "next": "pending",
    }  # fmt: skip
    assert [one.since for one in after] == [LATER, NOW, NOW, LATER, NOW]
    assert after[3].next_check_at == LATER
    assert after[0].next_check_at is None


def test_there_is_a_way_back_to_a_retiring_key() -> None:
    keys = (key("old", "retiring"), key("new", "active"))
    assert stages(activate(keys, "old", MATCH, LATER)) == {"old": "active", "new": "retiring"}


def test_a_key_that_is_active_already_changes_nothing() -> None:
    keys = (key("one", "active"), key("two", "pending"))
    assert activate(keys, "one", ABSENT, LATER) == keys


@pytest.mark.parametrize("kind", ["absent", "differs", "revoked", "several", "unanswered"])
def test_a_key_signs_only_when_its_record_is_seen_or_by_force(kind: CheckKind) -> None:
    keys = (key("one", "pending"),)
    with pytest.raises(StageError) as refused:
        activate(keys, "one", DkimCheck(kind, "why not"), NOW)
    assert str(refused.value) == (
        "the record of key `one' is not published as it should be: why not; "
        "publish it and wait, or use --force"
    )
    forced = activate(keys, "one", DkimCheck(kind, "why not"), NOW, force=True)
    assert stages(forced) == {"one": "active"}


def test_the_last_key_that_signs_is_retired_only_by_force() -> None:
    keys = (key("one", "active"), key("two", "pending"))
    with pytest.raises(StageError, match=r"activate another first, or use --force$"):
        retire(keys, "one", NOW)
    assert stages(retire(keys, "one", NOW, force=True)) == {"one": "retiring", "two": "pending"}


def test_a_key_beside_which_another_signs_can_be_retired() -> None:
    keys = (key("one", "active"), key("ed", "active", "ed25519-sha256"))
    assert stages(retire(keys, "ed", NOW)) == {"one": "active", "ed": "retiring"}


def test_a_key_that_never_signed_is_withdrawn_at_once() -> None:
    keys = (key("one", "pending"), key("two", "active"))
    assert stages(withdraw(keys, "one", NOW)) == {"one": "retired", "two": "active"}


def test_a_retiring_key_is_withdrawn_only_by_force() -> None:
    keys = (key("one", "retiring"),)
    with pytest.raises(StageError, match=r"may not be delivered yet; wait .*, or use --force$"):
        withdraw(keys, "one", NOW)
    assert stages(withdraw(keys, "one", NOW, force=True)) == {"one": "retired"}


Step = Callable[[tuple[StagedKey, ...], str], object]


@pytest.mark.parametrize(
    ("stage", "step", "says"),
    [
        ("retired", lambda keys, s: activate(keys, s, MATCH, NOW), "cannot become active"),
        ("retired", lambda keys, s: activate(keys, s, MATCH, NOW, force=True), "is retired"),
        ("pending", lambda keys, s: retire(keys, s, NOW, force=True), "cannot become retiring"),
        ("retiring", lambda keys, s: retire(keys, s, NOW, force=True), "is retiring already"),
        ("active", lambda keys, s: withdraw(keys, s, NOW, force=True), "cannot become retired"),
        ("retired", lambda keys, s: withdraw(keys, s, NOW, force=True), "is retired already"),
    ],
)
def test_what_is_not_in_the_table_is_not_even_forced(
    stage: KeyStage, step: Step, says: str
) -> None:
    with pytest.raises(StageError, match=f"key `one' is {stage}.*") as refused:
        step((key("one", stage), key("two", "active", "ed25519-sha256")), "one")
    assert says in str(refused.value)


def test_a_key_that_is_not_there_is_reported() -> None:
    with pytest.raises(StageError, match="there is no DKIM key `two'"):
        activate((key("one", "active"),), "two", MATCH, NOW)


# -- time --------------------------------------------------------------------------------------


def test_a_retiring_key_retires_when_mail_in_flight_has_arrived() -> None:
    retiring = key("one", "retiring")
    assert retired_when_due(retiring, NOW + RETIRING - MINUTE) == retiring
    retired = retired_when_due(retiring, NOW + RETIRING)
    assert (retired.stage, retired.since) == ("retired", NOW + RETIRING)
    assert retired_when_due(retiring, NOW + HOUR, HOUR).stage == "retired"


@pytest.mark.parametrize("stage", ["pending", "active", "retired"])
def test_no_other_key_retires_by_itself(stage: KeyStage) -> None:
    one = key("one", stage)
    assert retired_when_due(one, NOW + timedelta(days=999)) is one


def test_a_clock_set_back_lets_no_key_retire_early_or_never() -> None:
    ahead = replace(key("one", "retiring"), since=NOW + timedelta(days=999))
    again = retired_when_due(ahead, NOW)
    assert (again.stage, again.since) == ("retiring", NOW)
    assert retired_when_due(again, NOW + RETIRING).stage == "retired"


# -- the record in the DNS ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["absent", "differs", "revoked", "several"])
def test_an_active_key_that_is_not_published_raises_an_alarm(kind: CheckKind) -> None:
    found = checked(key("one", "active"), DkimCheck(kind, "why"), LATER, MIDDLE)
    assert (found.alarm_since, found.problem, found.checked_at) == (LATER, "why", LATER)
    assert found.next_check_at == LATER + HOUR
    again = checked(found, ABSENT, LATER + HOUR, MIDDLE)
    assert (again.alarm_since, again.problem) == (LATER, ABSENT.text)
    assert checked(again, ABSENT, NOW, MIDDLE).alarm_since == NOW  # the clock was set back
    ended = checked(again, MATCH, LATER + 2 * HOUR, MIDDLE)
    assert (ended.alarm_since, ended.problem) == (None, "")


def test_a_question_without_an_answer_neither_raises_nor_ends_an_alarm() -> None:
    fine = key("one", "active")
    silent = checked(fine, unanswered("SERVFAIL"), LATER, MIDDLE)
    assert silent == replace(fine, checked_at=LATER, next_check_at=LATER + HOUR)
    alarmed = checked(fine, ABSENT, LATER, MIDDLE)
    silent = checked(alarmed, unanswered("SERVFAIL"), LATER, MIDDLE)
    assert silent == alarmed


def test_a_pending_key_that_is_not_published_yet_raises_none() -> None:
    found = checked(key("one", "pending"), ABSENT, NOW, MIDDLE)
    assert (found.alarm_since, found.problem) == (None, ABSENT.text)
    assert found.next_check_at == NOW + MINUTE
    assert checked(found, ABSENT, LATER, MIDDLE).next_check_at == LATER + 30 * MINUTE


def test_a_match_with_a_remark_keeps_the_remark() -> None:
    remark = DkimCheck("matches", "the record has t=y (test)")
    found = checked(key("one", "active"), remark, NOW, MIDDLE)
    assert (found.alarm_since, found.problem) == (None, remark.text)


@pytest.mark.parametrize("stage", ["retiring", "retired"])
def test_a_key_that_signs_no_more_raises_none(stage: KeyStage) -> None:
    one = key("one", stage)
    assert checked(one, ABSENT, NOW, MIDDLE) is one


def test_an_alarm_ends_when_the_key_signs_no_longer() -> None:
    alarmed = checked(key("one", "active"), ABSENT, NOW, MIDDLE)
    (retiring,) = retire((alarmed,), "one", LATER, force=True)
    assert (retiring.alarm_since, retiring.problem) == (None, "")
    assert retiring.checked_at == NOW


# -- the turn of the API's keys ----------------------------------------------------------------


@rows(
    "keys, selector, origin, after",
    [
        # A person's key beside those of the API, of another algorithm, and one in their place.
        ((("one", "easy", "a"), ("two", "manual", "b")), "two", "easy", "easy"),
        ((("one", "easy", "a"), ("two", "manual", "a")), "two", "easy", None),
        ((("one", "manual", "a"), ("two", "easy", "a")), "two", None, "easy"),
        ((("one", "easy", "a"), ("two", "external", "a")), "two", "easy", "external"),
    ],
)
def test_a_key_of_a_person_ends_the_turn_of_those_that_it_replaces(
    keys: tuple[tuple[str, KeyOrigin, str], ...],
    selector: str,
    origin: KeyOrigin | None,
    after: KeyOrigin | None,
) -> None:
    staged = [replace(key(name, "active", kind), origin=its) for name, its, kind in keys]
    assert origin_after(staged, origin, selector) == after
