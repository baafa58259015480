"""The time that each stage of a message takes."""

from collections.abc import Mapping
from operator import sub

from smtpgate.core.events import Stage


def stage_seconds(began_s: Mapping[Stage, float], ended_s: float) -> dict[Stage, float]:
    """The time that each stage took: from when it began until the next one did."""
    moments = [*began_s.values(), ended_s]
    return dict(zip(began_s, map(sub, moments[1:], moments), strict=True))
