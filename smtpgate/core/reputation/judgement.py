"""The judgement on a sender: its states, and the pause that may follow from them."""

from datetime import datetime
from typing import Literal

from msgspec import Struct, structs

from smtpgate.core.reputation.sender import RatedSender
from smtpgate.core.reputation.states import PAUSED_WORDS, WORDS, State, Status, next_state
from smtpgate.core.reputation.thresholds import MEASURES, Measure, RatingRules
from smtpgate.core.reputation.volume import Volume, percent

PausedBy = Literal["gate", "owner"]


class SendingPause(Struct, frozen=True, gc=False):
    """A pause of a sender: made by the gate for its rates, or by the owner of the identity."""

    by: PausedBy
    reason: str
    at: datetime


class Reputation(Struct, frozen=True, gc=False, kw_only=True):
    """A sender's states, with the volume at their last change.

    Mail from before ``fresh_start_at`` does not count any more.
    """

    sender: RatedSender
    bounce: State = "healthy"
    complaint: State = "healthy"
    volume: Volume = Volume()
    changed_at: datetime | None = None
    fresh_start_at: datetime | None = None
    pause: SendingPause | None = None

    def state(self, measure: Measure) -> State:
        """The state of a rate."""
        return self.bounce if measure == "bounce" else self.complaint

    def words(self, measure: Measure) -> str:
        """SES's words for the state of a rate."""
        state = self.state(measure)
        is_paused = self.pause is not None and self.pause.by == "gate"
        return PAUSED_WORDS if state == "pause" and is_paused else WORDS[state]

    @property
    def status(self) -> Status:
        """The status of the sender."""
        if self.pause is not None:
            return "SHUTDOWN"
        is_healthy = self.bounce == self.complaint == "healthy"
        return "HEALTHY" if is_healthy else "PROBATION"


def judged(before: Reputation, volume: Volume, rules: RatingRules, now: datetime) -> Reputation:
    """The reputation with that volume; the same one if no state changes.

    A pause stays until a person lifts it.
    """
    bounce, complaint = (
        next_state(measure, before.state(measure), volume, rules) for measure in MEASURES
    )
    after = structs.replace(before, bounce=bounce, complaint=complaint)
    if after.pause is None and rules.auto_pause and "pause" in (bounce, complaint):
        reason = pause_reason(after, volume, rules)
        after = structs.replace(after, pause=SendingPause("gate", reason, now))
    if after == before:
        return before
    return structs.replace(after, volume=volume, changed_at=now)


def pause_reason(reputation: Reputation, volume: Volume, rules: RatingRules) -> str:
    """The reason for an automatic pause, which the sender reads."""
    rates = [
        f"its {measure} rate is {volume.percent(measure)}, and sending is paused from "
        f"{percent(rules.of(measure).pause)} on"
        for measure in MEASURES
        if reputation.state(measure) == "pause"
    ]
    return "; ".join(rates)


def paused_by_owner(before: Reputation, reason: str, now: datetime) -> Reputation:
    """The reputation of a delegate that the owner of the identity pauses."""
    return structs.replace(before, pause=SendingPause("owner", reason, now), changed_at=now)


def resumed(before: Reputation, now: datetime) -> Reputation:
    """The reputation after a person lifted its pause.

    After an automatic pause it makes a fresh start, or the next judgement would pause it again.
    It is under review until new mail shows that it got better.
    """
    after = structs.replace(before, pause=None, changed_at=now)
    if before.pause is None or before.pause.by != "gate":
        return after
    states = {
        measure: "under-review" if before.state(measure) == "pause" else before.state(measure)
        for measure in MEASURES
    }
    return structs.replace(after, **states, volume=Volume(), fresh_start_at=now)


def fresh_start(before: Reputation, now: datetime) -> Reputation:
    """The reputation judged by what is sent from now on; a pause stays."""
    fresh = Reputation(sender=before.sender, pause=before.pause)
    return structs.replace(fresh, changed_at=now, fresh_start_at=now)
