"""The results of requests to the store as frames for the worker that asked."""

from smtpgate.core.limits import LimitExceededError
from smtpgate.gate.frames import BeginDone, BeginRefused, FinishDone, NotDone, StoreAnswer
from smtpgate.ports import Begun, LedgerUnavailableError
from smtpgate.store.owner import Result


def answer_of(number: int, result: Result) -> StoreAnswer:
    """The answer to a request of a message."""
    if isinstance(result, Begun):
        return BeginDone(number, result.reservation, result.problem)
    if isinstance(result, Exception):
        return failure(number, result)
    return FinishDone(number, result.crossings, result.is_recorded)


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
