"""An observation of a key's use: recorded in its profile, and judged."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct, structs

from smtpgate.core.watch.profile import Observation, Profile, Reported, record, with_alarm
from smtpgate.core.watch.signals import ALARM_SCORE, Assessment, Level, assess

# The same is reported again after so many hours.
_AGAIN_HOURS: Final[Mapping[Level, int]] = {"": 0, "notice": 72, "alarm": 24}


class WatchRules(Struct, frozen=True, gc=False):
    """The settings of the watch: the score of an alarm, and how long it learns."""

    alarm_score: int = ALARM_SCORE
    learn_days: int = 7


def observe(
    profile: Profile | None, seen: Observation, rules: WatchRules
) -> tuple[Profile, Assessment]:
    """The profile with the observation, and the judgement of its day.

    While a key has too little history nothing is found.
    """
    profile = record(profile, seen, rules.learn_days)
    if seen.day not in profile.days or not profile.has_learned(seen.day, rules.learn_days):
        return profile, Assessment()
    assessment = assess(profile, seen, rules.alarm_score)
    if assessment.level == "alarm":
        profile = with_alarm(profile, seen.day)
    return profile, assessment


def is_to_be_reported(profile: Profile, assessment: Assessment, hour: int) -> bool:
    """True if it is worth a report: at most one a key and hour, of what was not reported.

    The same is reported again after a day, or three.
    """
    level = assessment.level
    if not level:
        return False
    last = profile.alarm if level == "alarm" else profile.notice
    since = hour - last.hour
    if since >= _AGAIN_HOURS[level]:
        return True
    return since > 0 and not set(assessment.signals) <= set(last.signals)


def with_report(profile: Profile, assessment: Assessment, hour: int) -> Profile:
    """The profile once that was reported."""
    is_alarm = assessment.level == "alarm"
    last = profile.alarm if is_alarm else profile.notice
    is_recent = hour - last.hour < _AGAIN_HOURS[assessment.level]
    signals = {*(last.signals if is_recent else ()), *assessment.signals}
    report = Reported(hour, tuple(sorted(signals)))
    if is_alarm:
        return structs.replace(profile, alarm=report)
    return structs.replace(profile, notice=report)
