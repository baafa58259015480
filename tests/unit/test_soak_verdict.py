"""The account at the end of a soak finds each kind of fault."""

import pytest

from tests.soak.deliveries import Attempt, Deliveries
from tests.soak.gauge import Reading, growth
from tests.soak.verdict import JournalRow, judge

_ID = "0100019a00000000-00000000-1111-2222-3333-444444444444-000000"
_NAME = "soak-0-0"


def answered(code: str, *, its_id: str = _ID, is_complete: bool = True) -> Attempt:
    return Attempt(_NAME, 1, code, its_id, is_complete)


def row(outcome: str, *, upstream: str = "default", reason: str = "accepted") -> JournalRow:
    return JournalRow(_ID, outcome, reason, 1, upstream, ())


def deliveries(*upstreams: str, name: str = _NAME) -> Deliveries:
    made = Deliveries()
    for upstream in upstreams:
        trace = f"Received: from a by b\r\n\tid {_ID}; date\r\n"
        made.add(f"{trace}Message-ID: <{name}@example.com>\r\n\r\nx\r\n".encode(), upstream)
    return made


_GOOD = [
    (answered("250"), deliveries("default"), row("accepted")),
    (answered("451"), deliveries(), row("deferred", reason="upstream-unreachable")),
    (answered("451"), deliveries("default"), row("in-doubt", reason="in-doubt")),
    (answered("451"), deliveries(), row("in-doubt", reason="in-doubt")),
    (answered("", its_id=""), deliveries("default"), row("accepted")),
]
_BAD = [
    ("acknowledged and not taken", answered("250"), deliveries(), row("accepted")),
    ("more than once", answered("250"), deliveries("default", "second"), row("accepted")),
    ("refused and taken", answered("451"), deliveries("default"), row("deferred")),
    ("refused and taken", answered("554"), deliveries("default"), row("accepted")),
    ("not sent all", answered("", is_complete=False), deliveries("default"), row("accepted")),
    (
        "the journal lacks",
        answered("250", its_id="0100x"),
        deliveries("default"),
        row("accepted"),
    ),
    (
        "that no client sent",
        answered("250"),
        deliveries("default", name="soak-9"),
        row("accepted"),
    ),
    ("without an accepted", answered("", its_id=""), deliveries("default"), row("refused")),
    ("by another upstream", answered("250"), deliveries("second"), row("accepted")),
    ("still open", answered("451"), deliveries(), row("relaying")),
    (
        "internal errors",
        answered("451"),
        deliveries(),
        row("deferred", reason="internal-error"),
    ),
]


@pytest.mark.parametrize(("attempt", "taken", "written"), _GOOD)
def test_a_message_with_a_true_answer_is_no_problem(
    attempt: Attempt, taken: Deliveries, written: JournalRow
) -> None:
    assert judge([attempt], taken, [written]).problems == []


@pytest.mark.parametrize(("problem", "attempt", "taken", "written"), _BAD)
def test_a_fault_is_a_problem(
    problem: str, attempt: Attempt, taken: Deliveries, written: JournalRow
) -> None:
    found = judge([attempt], taken, [written]).problems
    assert any(problem in one for one in found), found


def test_a_message_that_a_killed_postfix_sends_on_again_is_one_message() -> None:
    made = Deliveries()
    for queue_id in ("4A", "4A", "4B"):
        trace = f"Received: from a by b\r\n\tid {_ID}; date\r\n"
        text = f"{trace}Message-ID: <{_NAME}@example.com>\r\n\r\nx\r\n"
        made.add(text.encode(), "default", queue_id)
    assert [one.queue_id for one in made.taken[_NAME]] == ["4A", "4B"]


def test_memory_and_descriptors_that_grow_are_problems() -> None:
    flat = [Reading((1,), 100_000_000, 50)] * 40
    grown = [Reading((1,), 100_000_000 + at * 2_000_000, 50 + at) for at in range(40)]
    assert growth(flat)[1] == []
    assert [problem.partition(" ")[0] for problem in growth(grown)[1]] == [
        "memory",
        "descriptors",
    ]
