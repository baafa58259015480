"""The verification state of an identity, and its changes by answers of the DNS.

An identity is pending until its record is found, for 72 hours. A verified one whose record is
gone may be used for 72 hours more
(https://docs.aws.amazon.com/ses/latest/dg/creating-identities.html). Only an answer changes the
state: while the resolver is not available, only the time of the next check changes.

A clock that was set back never causes a failure: a period that began in the future begins
again.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from smtpgate.core.proof.observation import Absent, Found, Observation
from smtpgate.core.proof.recheck import next_check_at

VerificationState = Literal["not-started", "pending", "success", "failed"]
VerificationStatus = Literal["not-started", "pending", "success", "temporary-failure", "failed"]
VerificationMethod = Literal["txt", "dkim", "mx", "mail", "trust"]

DnsProblem = Literal["absent", "differs", "unanswered"]

PATIENCE: Final = timedelta(hours=72)
GRACE: Final = timedelta(hours=72)
_FIRST_CHECK: Final = timedelta(minutes=1)
_OVER: Final = "72 hours: "
_OTHER_RECORD: Final = ("the TXT record", "TXT records ", "the record ", "the public key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The verification of an identity.

    ``method`` and ``verified_at`` are those of a success. ``checked_at`` is the last query of
    the DNS, ``problem`` the problem of its answer. ``missing_since`` is the first time that the
    record of a success was missing. ``next_check_at`` is ``None`` if the DNS is not queried.
    """

    state: VerificationState = "not-started"
    method: VerificationMethod | None = None
    started_at: datetime | None = None
    verified_at: datetime | None = None
    checked_at: datetime | None = None
    missing_since: datetime | None = None
    next_check_at: datetime | None = None
    problem: str = ""

    @property
    def is_verified(self) -> bool:
        """True if the identity may be used."""
        return self.state == "success"


NOT_STARTED: Final = Verification()


def begin(current: Verification, now: datetime) -> Verification:
    """Begin to check the DNS, or check again now.

    A pending identity keeps its start and is checked at once; a success stays a success; a
    failed one is pending again for 72 hours.
    """
    if current.next_check_at is not None:
        return replace(current, next_check_at=now)
    if current.is_verified:
        return current
    # A new token cannot be published yet. A query now would only make the resolver cache that
    # there is no record (RFC 2308 §5).
    wait = _FIRST_CHECK if current.state == "not-started" else timedelta(0)
    return Verification(state="pending", started_at=now, next_check_at=now + wait)


def begin_now(current: Verification, now: datetime) -> Verification:
    """The same, with the first check due at once too, for a user that wants the result now."""
    begun = begin(current, now)
    return begun if begun.next_check_at is None else replace(begun, next_check_at=now)


def begin_by_mail(current: Verification, now: datetime) -> Verification:
    """Wait for the code that was mailed to the address."""
    if current.is_verified or current.state == "pending":
        return current
    return Verification(state="pending", started_at=now)


def confirmed_by_mail(current: Verification, now: datetime) -> Verification:
    """The code was right: verified, without further checks."""
    if current.is_verified:
        return current
    return Verification(
        state="success", method="mail", started_at=current.started_at or now, verified_at=now
    )


def trusted(now: datetime) -> Verification:
    """Verified because an operator trusts the identity, without a check of the DNS."""
    return Verification(state="success", method="trust", started_at=now, verified_at=now)


def observed(
    current: Verification, seen: Observation, now: datetime, jitter: float
) -> Verification:
    """The verification after an observation in the DNS; ``jitter`` as in next_check_at.

    One that is not checked stays as it is.
    """
    if current.next_check_at is None:
        return current
    current = _without_future(replace(current, checked_at=now), now)
    match seen:
        case Found(method):
            current = replace(
                current,
                state="success",
                method=method,
                verified_at=current.verified_at or now,
                missing_since=None,
                problem="",
            )
        case Absent(instead) if current.is_verified:
            missing_since = current.missing_since or now
            current = replace(current, missing_since=missing_since, problem=instead)
            if now - missing_since >= GRACE:
                return _failed(current, "the record has been gone for 72 hours")
        case Absent(instead):
            current = replace(current, problem=instead)
            if _waited(current, now) >= PATIENCE:
                return _failed(current, "the record was not found within 72 hours")
        case _:
            current = replace(current, problem=seen.why)
    return replace(current, next_check_at=_next_check_at(current, now, jitter))


def status_of(current: Verification, now: datetime) -> VerificationStatus:
    """The status in the terms of Amazon SES.

    ``temporary-failure`` is a pending one whose 72 hours are over, without an answer of the DNS
    since then.
    """
    if (
        current.state == "pending"
        and current.next_check_at
        and _waited(current, now) >= PATIENCE
    ):
        return "temporary-failure"
    return current.state


def problem_kind(problem: str) -> DnsProblem | None:
    """The kind of the problem that the last check showed; ``None`` if there was none.

    The texts are those of :mod:`smtpgate.core.proof.ownership` and of
    :mod:`smtpgate.core.proof.dkim_record`.
    """
    if not problem:
        return None
    cause = problem.rpartition(_OVER)[2]
    if any(words in cause for words in _OTHER_RECORD):
        return "differs"
    return "absent" if "no TXT record" in cause else "unanswered"


def _without_future(current: Verification, now: datetime) -> Verification:
    """The verification without periods that begin after now, as when the clock was set back."""
    if current.started_at is not None and current.started_at > now:
        current = replace(current, started_at=now)
    if current.missing_since is not None and current.missing_since > now:
        current = replace(current, missing_since=now)
    return current


def _waited(current: Verification, now: datetime) -> timedelta:
    return now - (current.started_at or now)


def _failed(current: Verification, why: str) -> Verification:
    return Verification(
        state="failed",
        started_at=current.started_at,
        checked_at=current.checked_at,
        problem=f"{why}: {current.problem}",
    )


def _next_check_at(current: Verification, now: datetime, jitter: float) -> datetime:
    if current.missing_since is not None:
        return next_check_at("missing", now - current.missing_since, now, jitter)
    if current.is_verified:
        return next_check_at("success", timedelta(0), now, jitter)
    return next_check_at("pending", _waited(current, now), now, jitter)
