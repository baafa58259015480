"""The stages of a DKIM key: pending, active, retiring, retired; keys overlap, no mail is lost.

A key is published before it signs, and stays published after it has ceased to sign until the
last message with its signature has been delivered. A key of another algorithm does not take
its place: both sign (RFC 8463 §6).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from smtpgate.core.proof.dkim_record import DkimCheck
from smtpgate.core.proof.recheck import next_check_at

Stage = Literal["pending", "active", "retiring", "retired"]

# Longer than any queue tries to deliver (RFC 5321 §4.5.4.1 says four or five days).
RETIRING: Final = timedelta(days=7)
_FIRST_CHECK: Final = timedelta(minutes=1)
# What is not in the table is not done. From retiring to active is the way back.
_MOVES: Final[Mapping[Stage, frozenset[Stage]]] = {
    "pending": frozenset({"active", "retired"}),
    "active": frozenset({"retiring"}),
    "retiring": frozenset({"active", "retired"}),
    "retired": frozenset(),
}


class StageError(ValueError):
    """A step that a key in its stage cannot take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedKey:
    """A DKIM key of a domain, in its stage since then.

    ``problem`` is what the last answer of the DNS said against the key; ``alarm_since`` is when
    that began for an active key. ``next_check_at`` is ``None`` where the DNS is not asked.
    """

    selector: str
    algorithm: str
    since: datetime
    stage: Stage = "pending"
    checked_at: datetime | None = None
    next_check_at: datetime | None = None
    problem: str = ""
    alarm_since: datetime | None = None

    @property
    def signs(self) -> bool:
        """True if messages are signed with it."""
        return self.stage == "active"

    @property
    def is_published(self) -> bool:
        """True if its record has to be in the DNS."""
        return self.stage != "retired"


def new_key(selector: str, algorithm: str, now: datetime) -> StagedKey:
    """A key that was made now, and whose record is to be published."""
    return StagedKey(
        selector=selector, algorithm=algorithm, since=now, next_check_at=now + _FIRST_CHECK
    )


def activate(
    keys: Sequence[StagedKey],
    selector: str,
    check: DkimCheck,
    now: datetime,
    *,
    force: bool = False,
) -> tuple[StagedKey, ...]:
    """Let the key sign, and its older ones of the same algorithm retire.

    ``keys`` are all keys of the domain. Raises StageError when the check says that the record
    is not published as it should be, unless it is forced.
    """
    chosen = _of(keys, selector)
    if chosen.stage == "active":
        return tuple(keys)
    active = _moved(chosen, "active", now)
    if check.kind != "matches" and not force:
        raise StageError(
            f"the record of key {selector!r} is not published as it should be: {check.text}; "
            "publish it and wait, or force it (--force)"
        )

    def now_is(key: StagedKey) -> StagedKey:
        if key is chosen:
            return active
        is_replaced = key.signs and key.algorithm == chosen.algorithm
        return _moved(key, "retiring", now) if is_replaced else key

    return tuple(map(now_is, keys))


def retire(
    keys: Sequence[StagedKey], selector: str, now: datetime, *, force: bool = False
) -> tuple[StagedKey, ...]:
    """Let the key sign no longer; its record stays published.

    Raises StageError when no key would be left to sign, unless it is forced.
    """
    chosen = _of(keys, selector)
    retiring = _moved(chosen, "retiring", now)
    if not force and not any(key.signs for key in keys if key is not chosen):
        raise StageError(
            f"no key would sign without {selector!r}; activate another first, or force it "
            f"(--force)"
        )
    return tuple(retiring if key is chosen else key for key in keys)


def withdraw(
    keys: Sequence[StagedKey], selector: str, now: datetime, *, force: bool = False
) -> tuple[StagedKey, ...]:
    """End a key that never signed; or, if forced, a retiring one before its time.

    Raises StageError.
    """
    chosen = _of(keys, selector)
    retired = _moved(chosen, "retired", now)
    if chosen.stage == "retiring" and not force:
        raise StageError(
            f"mail that key {selector!r} signed may be on its way; wait until it has retired, "
            "or force it (--force)"
        )
    return tuple(retired if key is chosen else key for key in keys)


def retired_when_due(key: StagedKey, now: datetime, period: timedelta = RETIRING) -> StagedKey:
    """The key, retired when it has been retiring for so long.

    When the clock was set back the time begins anew.
    """
    if key.stage != "retiring":
        return key
    if key.since > now:
        return replace(key, since=now)
    return _moved(key, "retired", now) if now - key.since >= period else key


def checked(key: StagedKey, check: DkimCheck, now: datetime, jitter: float) -> StagedKey:
    """The key after the DNS was asked for its record; ``jitter`` as in next_check_at.

    An active key whose record is gone or is another raises an alarm, and its record seen again
    ends it. A question without an answer does neither.
    """
    if key.next_check_at is None:
        return key
    key = replace(key, checked_at=now)
    if check.kind == "matches":
        key = replace(key, problem=check.text, alarm_since=None)
    elif check.kind != "unanswered":
        alarm_since = min(key.alarm_since or now, now) if key.signs else None
        key = replace(key, problem=check.text, alarm_since=alarm_since)
    phase: Literal["signing", "pending"] = "signing" if key.signs else "pending"
    return replace(key, next_check_at=next_check_at(phase, now - key.since, now, jitter))


def _of(keys: Sequence[StagedKey], selector: str) -> StagedKey:
    for key in keys:
        if key.selector == selector:
            return key
    raise StageError(f"there is no key {selector!r}")


def _moved(key: StagedKey, stage: Stage, now: datetime) -> StagedKey:
    """The key at the beginning of its next stage. Raises StageError."""
    if stage not in _MOVES[key.stage]:
        why = "already" if key.stage == stage else f"and cannot become {stage}"
        raise StageError(f"key {key.selector!r} is {key.stage} {why}")
    # What signs is asked for at once: it may have been forced.
    next_check = now if stage == "active" else None
    return StagedKey(
        selector=key.selector,
        algorithm=key.algorithm,
        since=now,
        stage=stage,
        checked_at=key.checked_at,
        next_check_at=next_check,
    )
