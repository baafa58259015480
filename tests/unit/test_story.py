"""The stories of records: golden texts, one for every outcome and reason code.

``python -m tests.support.stories`` writes them again; read the diff.
"""

import pytest
from msgspec import structs

from smtpgate.core.history.advice import DENIAL_ADVICE, denial_advice
from smtpgate.core.history.record import Record
from smtpgate.core.history.story import as_seen_by, story_of
from smtpgate.core.message.author import parse_authors
from smtpgate.core.policy import Determining
from smtpgate.core.reason import LOGIN_REASONS, REASONS
from tests.support.rows import rows
from tests.support.stories import NOW, STORIES, records, story
from tests.support.world import DELEGATE, OWNER

RECORDS = dict(records())


@rows("name", sorted(RECORDS))
def test_the_story_is_the_one_that_is_written_down(name: str) -> None:
    assert story(RECORDS[name]) == (STORIES / f"{name}.txt").read_text("utf-8")


def test_every_story_that_is_written_down_is_of_a_record() -> None:
    assert {path.stem for path in STORIES.glob("*.txt")} == set(RECORDS)


def test_every_outcome_and_reason_code_has_a_story() -> None:
    assert {record.reason for record in RECORDS.values()} == {
        *REASONS,
        *LOGIN_REASONS,
        "accepted",
        "relaying",
    }
    assert {record.outcome for record in RECORDS.values()} == {
        "relaying",
        "accepted",
        "deferred",
        "refused",
        "in-doubt",
    }


@rows("side", ["user", "identity"])
@rows(
    "element, kind",
    [
        (None, "nothing"),
        ("Action", "Action"),
        ("NotAction", "Action"),
        ("Resource", "Resource"),
        ("NotResource", "Resource"),
        ("StringLike ses:FromAddress", "condition"),
    ],
)
def test_a_denial_s_advice_is_about_what_did_not_fit(
    side: str, element: str | None, kind: str
) -> None:
    assert denial_advice(side, element) == DENIAL_ADVICE[side, kind]


def test_the_advice_for_a_sender_that_is_not_named_is_to_name_it() -> None:
    for element in ("Principal", "NotPrincipal"):
        assert denial_advice("identity", element) == DENIAL_ADVICE["identity", "Principal"]


def cited(record: Record) -> list[Determining]:
    decision = record.decision
    assert decision is not None
    sides = (decision.user_side, decision.identity_side)
    misses = [side.miss for side in sides] + [decision.nearest_miss]
    return [
        *decision.determining,
        *(one for side in sides for one in side.cited),
        *(miss.statement for miss in misses if miss is not None),
    ]


@pytest.mark.parametrize("name", ["accepted", "explicit-deny", "implicit-deny"])
def test_each_side_sees_its_own_statements_alone(name: str) -> None:
    record = RECORDS[name]
    assert all(one.text for one in cited(record))
    for account, side in ((DELEGATE, "user"), (OWNER, "identity"), ("7" * 12, "")):
        for one in cited(as_seen_by(record, account)):
            assert bool(one.text) is (one.side == side)


def test_an_owner_does_not_see_the_sender_s_access_key() -> None:
    record = RECORDS["accepted"]
    assert record.username in story(record)
    assert record.username not in story(as_seen_by(record, OWNER))
    assert record.username in story(as_seen_by(record, DELEGATE))


def test_an_owner_sees_neither_the_tags_of_the_sender_s_user_nor_its_organization() -> None:
    record = structs.replace(
        RECORDS["accepted"], organization_id="o-1", tags=(("team", "press"),)
    )
    seen = as_seen_by(record, OWNER)
    assert (seen.tags, seen.organization_id) == ((), None)
    assert as_seen_by(record, DELEGATE).tags == record.tags


def test_a_name_that_programs_show_with_its_comment_is_shown_with_it() -> None:
    authors = parse_authors(b"Shop (CEO) <ceo@ses-example.com>", smtputf8=False)
    text = story(structs.replace(RECORDS["accepted"], authors=authors))
    assert 'From: "Shop" <ceo@ses-example.com>, shown by some programs as "Shop (CEO)"' in text


def test_another_owner_does_not_see_whose_cap_was_reached() -> None:
    refused = RECORDS["cap-of-the-owner-seen-by-the-owner"]
    assert "by identity" in str(refused.reply)
    seen = as_seen_by(refused, "7" * 12)
    assert (seen.limits, seen.detail) == ((), "")
    assert as_seen_by(RECORDS["many-limits"], "7" * 12).limits == ()
    assert "by identity" not in str(seen.reply)
    assert str(seen.reply).startswith("454 4.7.0 Throttling failure: Daily message quota")


def test_a_stranger_reads_one_story_of_whatever_an_identity_is() -> None:
    seen = {
        story(record)
        for name, record in RECORDS.items()
        if name.startswith("masked-") and name.endswith("-seen-by-a-stranger")
    }
    assert len(seen) == 1
    (text,) = seen
    assert "being sold" not in text
    assert "NeverAsTheCeo" not in text
    for reason in ("identity-paused", "explicit-deny", "implicit-deny"):
        assert reason in story(RECORDS[f"masked-{reason}-seen-by-its-owner"]).split("\n")[0]
    unknown = RECORDS["masked-not-verified-seen-by-its-owner"]
    assert unknown.reason == "implicit-deny", "nothing shows that it is the identity's owner"


def test_a_sender_that_no_policy_names_learns_neither_its_name_nor_its_text() -> None:
    text = str(story_of(as_seen_by(RECORDS["denied-by-principal"], DELEGATE), NOW))
    assert "press" not in text
    assert "777777777777" not in text
    assert "they do not name the sender" in text
