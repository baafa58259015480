"""The answers to requests to the store as frames for the worker that asked."""

from typing import Any

from smtpgate.core.limits import LimitExceededError, Reservation
from smtpgate.gate.frames import BeginDone, BeginRefused, FinishDone, NotDone, StoreAnswer
from smtpgate.ports import Begun, LedgerUnavailableError
from smtpgate.store.owner import Result
from smtpgate.store.requests import BeginAnswer, FinishAnswer


def answer_without_trouble(number: int, answer: Any) -> StoreAnswer | None:  # noqa: ANN401 - any request's
    """The frame for an answer of the store's thread; ``None`` if something is left to do."""
    kind = type(answer)
    if kind is FinishAnswer:
        is_done = answer.not_counted is None and answer.not_written is None
        return FinishDone(number, answer.crossings, True) if is_done else None
    if kind is not BeginAnswer or answer.not_written is not None:
        return None
    counted = answer.counted
    if counted is None or type(counted) is Reservation:
        return _begun(number, counted, None)
    return failure(number, counted) if isinstance(counted, LimitExceededError) else None


def answer_of(number: int, result: Result) -> StoreAnswer:
    """The answer to a request of a message."""
    if isinstance(result, Begun):
        return _begun(number, result.reservation, result.problem)
    if isinstance(result, Exception):
        return failure(number, result)
    return FinishDone(number, result.crossings, result.is_recorded)


def _begun(number: int, reservation: Reservation | None, problem: str | None) -> BeginDone:
    if reservation is None:
        return BeginDone(number, (), False, problem)
    return BeginDone(number, reservation.counted, reservation.may_cross, problem)


def failure(number: int, error: Exception) -> StoreAnswer:
    """The answer to a request that failed."""
    if isinstance(error, LimitExceededError):
        return BeginRefused(
            number,
            error.charge,
            error.limit,
            error.recipients,
            error.left,
            error.retry_after,
        )
    if isinstance(error, LedgerUnavailableError):
        return NotDone(number, encodable(str(error)), is_defect=False)
    words = f"{type(error).__name__}: {error}"
    return NotDone(number, encodable(words), is_defect=True)


def encodable(text: str) -> str:
    """The text, with octets of a path that are not UTF-8 as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
