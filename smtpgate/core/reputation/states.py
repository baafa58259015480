"""The state of a rate, and the status of a sender, in Amazon SES's words.

https://docs.aws.amazon.com/ses/latest/dg/reputationdashboardmessages.html
"""

from collections.abc import Mapping
from typing import Final, Literal, get_args

from smtpgate.core.reputation.thresholds import HEALED, LEAST, Measure, RatingRules
from smtpgate.core.reputation.volume import Volume

State = Literal["healthy", "almost-healed", "under-review", "pause"]
# As GetAccount's EnforcementStatus.
Status = Literal["HEALTHY", "PROBATION", "SHUTDOWN"]
STATUSES: Final[tuple[Status, ...]] = get_args(Status)
UNHEALTHY: Final[tuple[Status, ...]] = ("PROBATION", "SHUTDOWN")

# By the state, what SES's console says of it; of the last one while the sender is not paused.
WORDS: Final[Mapping[State, str]] = {
    "healthy": "Healthy",
    "almost-healed": "Almost healed",
    "under-review": "Under review",
    "pause": "Pending sending pause",
}
PAUSED_WORDS: Final = "Sending pause"


def next_state(measure: Measure, before: State, volume: Volume, rules: RatingRules) -> State:
    """The state of a rate after the one that it had.

    Without enough recipients nobody is judged: the state stays. A sender that was under review
    is healthy only when its rate is well below the threshold, and almost healed before.
    """
    if volume.sent < rules.min_recipients:
        return before
    rate, thresholds = volume.rate(measure), rules.of(measure)
    if volume.bad(measure) < LEAST[measure] or rate < HEALED * thresholds.review:
        return "healthy"
    if rate >= thresholds.pause:
        return "pause"
    if before == "pause" and rate >= HEALED * thresholds.pause:
        return "pause"
    if rate >= thresholds.review:
        return "under-review"
    return "healthy" if before == "healthy" else "almost-healed"
