"""Retries of tasks: growing waits, and an end."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtpgate.core.outbox.event import SendDetail, SentMail, sending_event
from smtpgate.core.outbox.retries import settled, wait_s
from smtpgate.core.outbox.task import (
    Carried,
    Destination,
    GivenUp,
    LeasedTask,
    Result,
    Task,
    TryAgain,
)

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DAY_S = 86_400.0
TASK = Task(
    sending_event(AT, SentMail("0100", AT, "", (), "999999999999"), (), SendDetail()),
    Destination("webhook", "arn:aws:sns:us-east-1:888888888888:t:1"),
)


def leased(number: int = 1) -> LeasedTask:
    return LeasedTask(TASK, number, AT)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_waits_grow_up_to_an_hour_and_differ_by_a_quarter(number: int, random: float) -> None:
    usual = min(10 * 2 ** min(number - 1, 20), 3600)
    assert 0.75 * usual <= wait_s(number, random) <= 1.25 * usual
    assert wait_s(number, 0.5) <= wait_s(number + 1, 0.5)


@pytest.mark.parametrize(
    ("result", "state"),
    [(Carried("250 OK"), "sent"), (GivenUp("gone"), "dead"), (TryAgain("busy"), "waiting")],
)
def test_each_result_leaves_a_task_in_its_state(result: Result, state: str) -> None:
    after = settled(leased(), result, AT, DAY_S, 0.5)
    assert (after.state, after.task_id, after.number) == (state, TASK.id, 1)


@given(st.integers(1, 100), st.floats(0, 1), st.floats(60, 30 * DAY_S))
def test_no_attempt_is_due_after_the_end(number: int, random: float, give_up_s: float) -> None:
    after = settled(leased(number), TryAgain("busy"), AT, give_up_s, random)
    assert after.state == "dead" or after.due_at <= AT + timedelta(seconds=give_up_s)


@given(st.floats(0, 1e9))
def test_a_wait_that_a_destination_asks_for_is_respected_up_to_an_hour(asked_s: float) -> None:
    after = settled(leased(), TryAgain("busy", asked_s), AT, 30 * DAY_S, 0.5)
    assert after.due_at - AT == timedelta(seconds=max(10.0, min(asked_s, 3600.0)))


def test_a_long_answer_is_shortened() -> None:
    assert len(settled(leased(), TryAgain("x" * 9999), AT, DAY_S, 0.5).answer) == 500
