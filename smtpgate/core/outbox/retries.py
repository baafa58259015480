"""Retries: the state of a task after an attempt, and when the next one is due."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from smtpgate.core.outbox.task import Carried, GivenUp, LeasedTask, Result, TaskState, TryAgain

_FIRST_WAIT_S: Final = 10.0
_LONGEST_WAIT_S: Final = 3600.0
# A wait is up to this part longer or shorter, so that tasks that failed together do not come
# back together.
_JITTER: Final = 0.25
_MAX_ANSWER: Final = 500


@dataclass(frozen=True, slots=True)
class Settled:
    """The state of a task after its attempt of that number, and when it is due again."""

    task_id: str
    number: int
    state: TaskState
    at: datetime
    due_at: datetime
    answer: str


def wait_s(number: int, random: float) -> float:
    """The wait after that attempt, counted from 1; ``random`` is from 0 to 1."""
    usual = min(_FIRST_WAIT_S * 2.0 ** min(number - 1, 30), _LONGEST_WAIT_S)
    return usual * (1 + _JITTER * (2 * random - 1))


def settled(
    leased: LeasedTask, result: Result, now: datetime, give_up_after_s: float, random: float
) -> Settled:
    """The task after an attempt: sent, dead, or waiting for its next attempt.

    It is dead when its next attempt would come too late.
    """
    task_id, number = leased.task.id, leased.number
    match result:
        case Carried(answer):
            return Settled(task_id, number, "sent", now, now, answer[:_MAX_ANSWER])
        case GivenUp(problem):
            return Settled(task_id, number, "dead", now, now, problem[:_MAX_ANSWER])
        case TryAgain(problem, after_s):
            asked_s = min(after_s or 0.0, _LONGEST_WAIT_S)
            due_at = now + timedelta(seconds=max(wait_s(number, random), asked_s))
            is_over = due_at > leased.created_at + timedelta(seconds=give_up_after_s)
            state: TaskState = "dead" if is_over else "waiting"
            return Settled(task_id, number, state, now, due_at, problem[:_MAX_ANSWER])
