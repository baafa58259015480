"""SES's types and subtypes of bounces."""

from typing import get_args

from smtpgate.core.feedback.kinds import (
    BOUNCE_KINDS,
    BounceSubtype,
    BounceType,
    complaint_type,
)


def test_the_kinds_have_every_type_and_subtype_once() -> None:
    assert {kind.type for kind in BOUNCE_KINDS} == set(get_args(BounceType))
    assert {kind.subtype for kind in BOUNCE_KINDS} == set(get_args(BounceSubtype))
    assert len(set(BOUNCE_KINDS)) == len(BOUNCE_KINDS)


def test_a_complaint_has_a_type_of_ses() -> None:
    assert [complaint_type(one) for one in ("Abuse", "auth-failure", "opt-out", "")] == [
        "abuse",
        "auth-failure",
        "other",
        "other",
    ]


def test_only_permanent_bounces_are_hard() -> None:
    assert {kind for kind in BOUNCE_KINDS if kind.is_hard} == {
        kind for kind in BOUNCE_KINDS if kind.type == "Permanent"
    }
