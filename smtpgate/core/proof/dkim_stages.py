"""The stages of a DKIM key: pending, active, retiring, retired; keys overlap, no mail is lost.

A key is published before it signs, and stays published after its last signature until the last
message with one has been delivered. A key of another algorithm does not replace it: both sign
(RFC 8463 §6).
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from smtpgate.core.proof.dkim_record import DkimCheck
from smtpgate.core.proof.recheck import next_check_at

KeyStage = Literal["pending", "active", "retiring", "retired"]
KeyOrigin = Literal["manual", "easy", "external"]

# Longer than any queue tries to deliver (RFC 5321 §4.5.4.1 says four or five days).
RETIRING: Final = timedelta(days=7)
_FIRST_CHECK: Final = timedelta(minutes=1)
# A step that is not in the table is refused. From retiring to active is the way back.
_MOVES: Final[Mapping[KeyStage, frozenset[KeyStage]]] = {
    "pending": frozenset({"active", "retired"}),
    "active": frozenset({"retiring"}),
    "retiring": frozenset({"active", "retired"}),
    "retired": frozenset(),
}


class StageError(ValueError):
    """A step that is not possible from the key's stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedKey:
    """A DKIM key of a domain, and its stage since a moment.

    ``origin``: a person handles the key, or SES's API made it (Easy DKIM) or got it (BYODKIM).
    ``problem`` is the problem that the last answer of the DNS showed; ``alarm_since`` is the
    moment from which an active key had one. ``next_check_at`` is ``None`` if the DNS is not
    queried.
    """

    selector: str
    algorithm: str
    since: datetime
    stage: KeyStage = "pending"
    origin: KeyOrigin = "manual"
    checked_at: datetime | None = None
    next_check_at: datetime | None = None
    problem: str = ""
    alarm_since: datetime | None = None

    @property
    def signs(self) -> bool:
        """True if the key signs messages."""
        return self.stage == "active"

    @property
    def is_published(self) -> bool:
        """True if the record has to be in the DNS."""
        return self.stage != "retired"


def new_key(selector: str, algorithm: str, now: datetime) -> StagedKey:
    """A new key, whose record is to be published."""
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
    """Make the key active, and the active ones of the same algorithm retiring.

    ``keys`` are all keys of the domain. Raises StageError if the check did not find the record
    as it should be, unless ``force`` is set.
    """
    chosen = _of(keys, selector)
    if chosen.stage == "active":
        return tuple(keys)
    active = _moved(chosen, "active", now)
    if check.kind != "matches" and not force:
        raise StageError(
            f"the record of key `{selector}' is not published as it should be: {check.text}; "
            "publish it and wait, or use --force"
        )

    def now_is(key: StagedKey) -> StagedKey:
        if key is chosen:
            return active
        is_replaced = key.signs and key.algorithm == chosen.algorithm
        return _moved(key, "retiring", now) if is_replaced else key

    return tuple(map(now_is, keys))


def activated_by_itself(
    keys: Sequence[StagedKey], origin: KeyOrigin | None, found: Set[str], now: datetime
) -> tuple[StagedKey, ...]:
    """Let a pending key of the API sign, if its record was found; ``found`` has the selectors.

    Only keys of the domain's origin do so; one that is handled by a person waits for its step.
    Of the keys of Easy DKIM one signs, and another takes its place if its record is missing.
    """
    keys = tuple(keys)
    if origin == "easy" and any(
        key.signs and key.origin == "easy" and key.alarm_since is None for key in keys
    ):
        return keys
    for key in keys:
        is_its_turn = key.stage == "pending" and key.origin == origin != "manual"
        if is_its_turn and key.selector in found:
            return activate(keys, key.selector, DkimCheck("matches"), now)
    return keys


def origin_after(
    keys: Sequence[StagedKey], origin: KeyOrigin | None, selector: str
) -> KeyOrigin | None:
    """The domain's origin of keys after a person activated the one of that selector.

    A person's key that replaces those of the API ends their turn: they do not sign by
    themselves any more.
    """
    chosen = _of(keys, selector)
    is_other = all(key.algorithm != chosen.algorithm for key in keys if key.origin == origin)
    if chosen.origin == "manual":
        return origin if is_other else None
    return chosen.origin


def retire(
    keys: Sequence[StagedKey], selector: str, now: datetime, *, force: bool = False
) -> tuple[StagedKey, ...]:
    """Make the key retiring: it does not sign any more, and its record stays published.

    Raises StageError if no key would be left to sign, unless ``force`` is set.
    """
    chosen = _of(keys, selector)
    retiring = _moved(chosen, "retiring", now)
    if not force and not any(key.signs for key in keys if key is not chosen):
        raise StageError(
            f"no key would sign without `{selector}'; activate another first, or use --force"
        )
    return tuple(retiring if key is chosen else key for key in keys)


def withdraw(
    keys: Sequence[StagedKey], selector: str, now: datetime, *, force: bool = False
) -> tuple[StagedKey, ...]:
    """Withdraw a key that never signed; with ``force``, also a retiring one before its time.

    Raises StageError.
    """
    chosen = _of(keys, selector)
    retired = _moved(chosen, "retired", now)
    if chosen.stage == "retiring" and not force:
        raise StageError(
            f"mail that key `{selector}' signed may not be delivered yet; wait until it has "
            "retired, or use --force"
        )
    return tuple(retired if key is chosen else key for key in keys)


def retired_when_due(key: StagedKey, now: datetime, period: timedelta = RETIRING) -> StagedKey:
    """The key, retired if it has been retiring for the period.

    If the clock was set back, the period begins again.
    """
    if key.stage != "retiring":
        return key
    if key.since > now:
        return replace(key, since=now)
    return _moved(key, "retired", now) if now - key.since >= period else key


def checked(key: StagedKey, check: DkimCheck, now: datetime, jitter: float) -> StagedKey:
    """The key after a check of its record; ``jitter`` as in next_check_at.

    An active key whose record is absent or differs raises an alarm; the right record ends it. A
    query without an answer does neither.
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
    raise StageError(f"there is no DKIM key `{selector}'")


def _moved(key: StagedKey, stage: KeyStage, now: datetime) -> StagedKey:
    """The key at the beginning of its next stage. Raises StageError."""
    if stage not in _MOVES[key.stage]:
        why = "already" if key.stage == stage else f"and cannot become {stage}"
        raise StageError(f"key `{key.selector}' is {key.stage} {why}")
    # A key that becomes active is checked at once: it may have been forced.
    next_check = now if stage == "active" else None
    return StagedKey(
        selector=key.selector,
        algorithm=key.algorithm,
        since=now,
        stage=stage,
        origin=key.origin,
        checked_at=key.checked_at,
        next_check_at=next_check,
    )
