import pytest

from smtpgate.core.proof.observation import (
    Absent,
    Found,
    Observation,
    Unanswered,
    combined,
    excerpt,
)

A, B = Absent("nothing at a"), Absent("nothing at b")
SILENT, FAILED = Unanswered("silent"), Unanswered("SERVFAIL")


@pytest.mark.parametrize(
    ("observations", "together"),
    [
        ([A], A),
        ([A, B, A], Absent("nothing at a; nothing at b")),
        ([A, SILENT, FAILED], SILENT),
        ([A, SILENT, Found("dkim")], Found("dkim")),
        ([Found("txt"), Found("dkim")], Found("txt")),
    ],
)
def test_one_record_is_enough_and_absence_needs_every_answer(
    observations: list[Observation], together: Observation
) -> None:
    assert combined(observations) == together


def test_who_looked_nowhere_has_seen_nothing() -> None:
    with pytest.raises(ValueError, match="no name"):
        combined([])


def test_a_strangers_octets_are_reported_on_one_line_and_shortened() -> None:
    assert excerpt(b"plain") == "'plain'"
    assert excerpt(b"\x1b[31m\n\xc3\xa9") == r"'\x1b[31m\n\xc3\xa9'"
    assert excerpt(b"x" * 60) == f"'{'x' * 60}'"
    assert excerpt(b"x" * 61) == f"'{'x' * 60}...'"
