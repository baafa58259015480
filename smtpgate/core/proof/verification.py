"""The verification state of an identity, and what an answer of the DNS makes of it.

An identity is pending until its record is seen, for 72 hours. A verified one whose record is
gone may send for 72 hours more
(https://docs.aws.amazon.com/ses/latest/dg/creating-identities.html). Only an answer decides:
while the resolver is out of order nothing changes but the date of the next question.

A clock that was set back leads to no verdict: a period that began in the future begins anew.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from smtpgate.core.proof.observation import Absent, Found, Observation
from smtpgate.core.proof.recheck import next_check_at

State = Literal["not-started", "pending", "success", "failed"]
Status = Literal["not-started", "pending", "success", "temporary-failure", "failed"]
Method = Literal["txt", "dkim", "mail", "trust"]

PATIENCE: Final = timedelta(hours=72)
GRACE: Final = timedelta(hours=72)
_FIRST_CHECK: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """True if an identity is known to be its owner's, and how.

    ``method`` and ``verified_at`` are those of a success. ``checked_at`` is the last question
    to the DNS, ``problem`` what was wrong with its answer. ``missing_since`` is when the record
    of a success was first gone. ``next_check_at`` is ``None`` where the DNS is not asked.
    """

    state: State = "not-started"
    method: Method | None = None
    started_at: datetime | None = None
    verified_at: datetime | None = None
    checked_at: datetime | None = None
    missing_since: datetime | None = None
    next_check_at: datetime | None = None
    problem: str = ""

    @property
    def is_verified(self) -> bool:
        """True if the identity may be sent from."""
        return self.state == "success"


NOT_STARTED: Final = Verification()


def begin(held: Verification, now: datetime) -> Verification:
    """Begin to ask the DNS, or go on with it.

    What is pending keeps its time and is asked for at once; a success stays one; what failed
    has its 72 hours again.
    """
    if held.next_check_at is not None:
        return replace(held, next_check_at=now)
    if held.is_verified:
        return held
    # Nobody can have published a token that is new. To ask at once would only teach the
    # resolver that there is no record (RFC 2308 §5).
    wait = _FIRST_CHECK if held.state == "not-started" else timedelta(0)
    return Verification(state="pending", started_at=now, next_check_at=now + wait)


def begin_by_mail(held: Verification, now: datetime) -> Verification:
    """Wait for somebody who reads the address to enter the code that was mailed to it."""
    if held.is_verified or held.state == "pending":
        return held
    return Verification(state="pending", started_at=now)


def confirmed_by_mail(held: Verification, now: datetime) -> Verification:
    """The code was right: verified, and not asked for again."""
    if held.is_verified:
        return held
    return Verification(
        state="success", method="mail", started_at=held.started_at or now, verified_at=now
    )


def vouched(now: datetime) -> Verification:
    """An operator vouches for the identity: verified, whatever the DNS says."""
    return Verification(state="success", method="trust", started_at=now, verified_at=now)


def observed(
    held: Verification, seen: Observation, now: datetime, jitter: float
) -> Verification:
    """What the verification is after the DNS was asked; ``jitter`` as in next_check_at.

    One that the DNS is not asked about stays as it is.
    """
    if held.next_check_at is None:
        return held
    held = _without_future(replace(held, checked_at=now), now)
    match seen:
        case Found(method):
            held = replace(
                held,
                state="success",
                method=method,
                verified_at=held.verified_at or now,
                missing_since=None,
                problem="",
            )
        case Absent(instead) if held.is_verified:
            missing_since = held.missing_since or now
            held = replace(held, missing_since=missing_since, problem=instead)
            if now - missing_since >= GRACE:
                return _failed(held, "the record has been gone for 72 hours")
        case Absent(instead):
            held = replace(held, problem=instead)
            if _waited(held, now) >= PATIENCE:
                return _failed(held, "the record was not found within 72 hours")
        case _:
            held = replace(held, problem=seen.why)
    return replace(held, next_check_at=_next_check_at(held, now, jitter))


def status_of(held: Verification, now: datetime) -> Status:
    """The state in the words of Amazon SES.

    ``temporary-failure`` is a pending one whose time is over and about which the DNS has given
    no answer since.
    """
    if held.state == "pending" and held.next_check_at and _waited(held, now) >= PATIENCE:
        return "temporary-failure"
    return held.state


def _without_future(held: Verification, now: datetime) -> Verification:
    """With no period that begins after now: the clock was set back since."""
    if held.started_at is not None and held.started_at > now:
        held = replace(held, started_at=now)
    if held.missing_since is not None and held.missing_since > now:
        held = replace(held, missing_since=now)
    return held


def _waited(held: Verification, now: datetime) -> timedelta:
    return now - (held.started_at or now)


def _failed(held: Verification, why: str) -> Verification:
    return Verification(
        state="failed",
        started_at=held.started_at,
        checked_at=held.checked_at,
        problem=f"{why}: {held.problem}",
    )


def _next_check_at(held: Verification, now: datetime, jitter: float) -> datetime:
    if held.missing_since is not None:
        return next_check_at("missing", now - held.missing_since, now, jitter)
    if held.is_verified:
        return next_check_at("success", timedelta(0), now, jitter)
    return next_check_at("pending", _waited(held, now), now, jitter)
