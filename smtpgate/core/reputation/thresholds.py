"""The thresholds of bounce and complaint rates, as Amazon SES has them.

https://docs.aws.amazon.com/ses/latest/dg/faqs-enforcement.html
"""

from collections.abc import Mapping
from typing import Final, Literal, get_args

from msgspec import Struct, structs

Measure = Literal["bounce", "complaint"]
MEASURES: Final[tuple[Measure, ...]] = get_args(Measure)


class Thresholds(Struct, frozen=True, gc=False):
    """Rates, as shares of the recipients: a sender is under review from one on, and paused
    from the other on."""

    review: float
    pause: float


SES: Final[Mapping[Measure, Thresholds]] = {
    "bounce": Thresholds(0.05, 0.10),
    "complaint": Thresholds(0.001, 0.005),
}
# Fewer are chance, whatever the rate: one complaint is 0.1 % of a thousand recipients.
LEAST: Final[Mapping[Measure, int]] = {"bounce": 5, "complaint": 3}
# A rate has healed only at this share of the threshold, so that no state comes and goes.
HEALED: Final = 0.8


class RatingRules(Struct, frozen=True, gc=False, kw_only=True):
    """The thresholds that senders are judged by.

    Nobody is judged by fewer than ``min_recipients``. ``auto_pause``: a sender whose rate
    reaches the threshold for it is paused.
    """

    bounce: Thresholds = SES["bounce"]
    complaint: Thresholds = SES["complaint"]
    min_recipients: int = 1000
    auto_pause: bool = False

    def pausing(self, *, auto_pause: bool) -> "RatingRules":
        """The same, with a pause that follows from the rates, or without."""
        return structs.replace(self, auto_pause=auto_pause)

    def of(self, measure: Measure) -> Thresholds:
        """The thresholds of a measure."""
        return self.bounce if measure == "bounce" else self.complaint
