"""The watch over access keys: no alarm in ordinary months, leaked keys found, in words."""

from collections.abc import Callable, Iterable
from functools import cache
from itertools import islice
from random import Random
from typing import Final

import pytest
from msgspec import msgpack, structs

from smtpgate.core.watch.observe import (
    WatchRules,
    is_to_be_reported,
    observe,
    with_report,
)
from smtpgate.core.watch.profile import Observation, Profile, joined, taught, without_alarm
from smtpgate.core.watch.signals import SIGNALS, Assessment
from smtpgate.core.watch.sketch import hash_of
from tests.support import key_uses
from tests.support.key_uses import MONDAY, ORDINARY, SITE, Use, weeks_of

RULES = WatchRules()
WEEKS: Final = 6
AFTER: Final = MONDAY + 7 * WEEKS  # a Monday
NIGHT, DAY = AFTER * 24 + 3, AFTER * 24 + 11
# The senders with the most messages in a week.
BUSY: Final = frozenset({"company", "transactional"})
AUTHOR: Final = {
    "business": "employee1@example.com",
    "newsletter": "news@example.com",
    "transactional": "orders@example.com",
    "campaign": "offers@example.com",
    "growing": "shop@example.com",
    "company": "mailbox1@example.com",
}


def watched(
    uses: Iterable[Use], profile: Profile | None = None
) -> tuple[Profile | None, list[Assessment]]:
    """The profile after these uses, and all reports that they give."""
    found: list[Assessment] = []
    for use in uses:
        seen = use.observed()
        profile, assessment = observe(profile, seen, RULES)
        if is_to_be_reported(profile, assessment, seen.hour):
            profile = with_report(profile, assessment, seen.hour)
            found.append(assessment)
    return profile, found


def reports(uses: Iterable[Use], profile: Profile | None = None) -> list[Assessment]:
    return watched(uses, profile)[1]


def alarms(uses: Iterable[Use], profile: Profile | None = None) -> list[Assessment]:
    return [one for one in reports(uses, profile) if one.level == "alarm"]


@cache
def six_weeks(sender: str) -> tuple[Profile, list[Assessment]]:
    """The profile of a key after six ordinary weeks, and the reports that these gave."""
    profile, found = watched(weeks_of(ORDINARY[sender], 1, WEEKS))
    assert profile is not None
    return profile, found


def known(sender: str) -> Profile:
    return six_weeks(sender)[0]


def found_after(sender: str, leak: Iterable[Use]) -> int:
    """The number of messages after which the leak is reported; 0 if it is not."""
    profile = known(sender)
    for number, use in enumerate(leak, 1):
        profile, assessment = observe(profile, use.observed(), RULES)
        if assessment.level == "alarm":
            return number
    return 0


def elsewhere(hour: int, seed: int = 1) -> list[Use]:
    """The first messages of a leak."""
    return list(islice(key_uses.from_elsewhere(Random(seed), hour), 40))


# -- ordinary months -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sender",
    [
        pytest.param(sender, marks=[pytest.mark.slow] if sender in BUSY else [])
        for sender in ORDINARY
    ],
)
def test_ordinary_weeks_give_no_alarm(sender: str) -> None:
    assert [one for one in six_weeks(sender)[1] if one.level == "alarm"] == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_no_ordinary_weeks_of_many_give_an_alarm(seed: int) -> None:
    for sender in ORDINARY.values():
        assert alarms(weeks_of(sender, seed, WEEKS)) == []


@pytest.mark.slow
@pytest.mark.parametrize("sender", ["business", "newsletter", "transactional", "holidays"])
def test_an_ordinary_month_gives_not_even_a_notice(sender: str) -> None:
    assert six_weeks(sender)[1] == []


def test_a_move_to_another_network_is_noted_once() -> None:
    (notice,) = six_weeks("moved site")[1]
    assert (notice.level, notice.score, notice.signals) == ("notice", 2, ("network",))
    assert "198.51.100.0/24" in notice.findings[0].text


@pytest.mark.slow
def test_profiles_are_small() -> None:
    for sender in ORDINARY:
        assert len(msgpack.encode(known(sender))) < 6_000


# -- leaked keys: after how many messages they are found -------------------------------------

Leak = Callable[[Random, str, int], Iterable[Use]]
LEAKS: Final[dict[str, Leak]] = {
    "from elsewhere": lambda chance, _, hour: key_uses.from_elsewhere(chance, hour),
    "from elsewhere, alike": lambda chance, sender, hour: key_uses.from_elsewhere_alike(
        chance, hour, AUTHOR[sender]
    ),
    "slow": lambda chance, _, hour: key_uses.slow_alike(chance, hour),
    "burst": lambda chance, sender, hour: key_uses.burst_alike(chance, hour, AUTHOR[sender]),
    "refusals": lambda chance, _, hour: key_uses.refused_attempts(chance, hour),
}
# By day: within so many messages. One that is not here is not found as an alarm.
WITHIN: Final = {
    ("business", "from elsewhere"): 3,
    ("business", "from elsewhere, alike"): 100,
    ("business", "slow"): 30,
    ("business", "burst"): 10,
    ("business", "refusals"): 20,
    ("newsletter", "from elsewhere"): 3,
    ("newsletter", "from elsewhere, alike"): 450,
    ("newsletter", "slow"): 30,
    ("newsletter", "burst"): 250,
    ("newsletter", "refusals"): 20,
    ("transactional", "from elsewhere"): 3,
    ("transactional", "from elsewhere, alike"): 130,
    ("transactional", "slow"): 30,
    ("transactional", "burst"): 25,
    ("transactional", "refusals"): 20,
    ("campaign", "from elsewhere"): 3,
    ("campaign", "slow"): 30,
    ("campaign", "burst"): 1500,
    ("campaign", "refusals"): 20,
    ("growing", "from elsewhere"): 3,
    ("growing", "from elsewhere, alike"): 130,
    ("growing", "slow"): 30,
    ("growing", "burst"): 20,
    ("growing", "refusals"): 20,
    ("company", "from elsewhere"): 25,
    ("company", "from elsewhere, alike"): 450,
    ("company", "slow"): 40,
    ("company", "burst"): 30,
    ("company", "refusals"): 25,
}


# New recipients are counted in a sample of addresses, so it depends on the victims when a leak
# is found: each number is of other ones.
@pytest.mark.parametrize(
    "victims",
    [
        pytest.param(range(1), id="of 1"),
        pytest.param(range(1, 10), id="of 9", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("sender", AUTHOR)
def test_a_leaked_key_is_found_within_so_many_messages(
    sender: str, leak: str, victims: range
) -> None:
    within = WITHIN.get((sender, leak), 0)
    for hour in (NIGHT, DAY):
        for number in victims:
            found = found_after(sender, LEAKS[leak](Random(f"{number}"), sender, hour))
            assert (0 < found <= within) if within else found == 0, found


# -- words and settings ----------------------------------------------------------------------


def test_a_finding_says_what_differs_with_its_figures() -> None:
    burst = islice(key_uses.burst_alike(Random(1), DAY, AUTHOR["business"]), 125)
    profile, assessment = known("business"), Assessment()
    for use in burst:
        profile, assessment = observe(profile, use.observed(), RULES)
    history = profile.history(AFTER)
    most = max(day.peak for day in history)
    texts = {one.signal: one.text for one in assessment.findings}
    assert texts["hour-volume"] == (
        f"3,125 recipients in an hour; the most in any hour of its last "
        f"{len(history)} days of use was {most}"
    )


def test_nothing_is_found_before_a_key_has_a_history() -> None:
    first_days = [use for use in weeks_of(ORDINARY["business"], 1, 1) if use.hour < DAY]
    profile: Profile | None = None
    for use in first_days[:19]:
        profile, _ = observe(profile, use.observed(), RULES)
    assert reports(elsewhere(NIGHT), profile) == []


def test_a_key_that_slept_for_long_is_judged_by_what_it_was() -> None:
    later = NIGHT + 200 * 24
    assert alarms(elsewhere(later), known("business"))[0].level == "alarm"


def test_a_higher_score_is_a_setting() -> None:
    (use, *_) = elsewhere(NIGHT)
    _, assessment = observe(known("business"), use.observed(), WatchRules(alarm_score=3))
    assert (assessment.level, assessment.score) == ("alarm", 3)
    _, assessment = observe(known("business"), use.observed(), WatchRules(alarm_score=4))
    assert assessment.level == "notice"


def outside(hour: int) -> Observation:
    return Observation(hour=hour, network="203.0.113.0/24", outside=1)


def test_a_login_from_outside_the_networks_of_a_key_is_noted_and_teaches_nothing() -> None:
    profile, assessment = observe(known("business"), outside(DAY), RULES)
    assert (assessment.level, assessment.signals) == ("notice", ("outside-networks",))
    assert "(203.0.113.0/24)" in assessment.findings[0].text
    assert "203.0.113.0/24" not in profile.networks


# -- reports ---------------------------------------------------------------------------------


def test_an_alarm_is_reported_once_an_hour_and_only_if_it_is_another() -> None:
    first = reports(elsewhere(NIGHT), known("business"))
    assert [one.level for one in first][-1] == "alarm"
    assert sum(one.level == "alarm" for one in first) == 1


def test_the_same_alarm_is_reported_again_on_the_next_day() -> None:
    uses = [use for day in range(3) for use in elsewhere(NIGHT + 24 * day, day)]
    assert len(alarms(uses, known("business"))) == 3


def after_alarm() -> Profile:
    profile = known("business")
    for use in elsewhere(NIGHT):
        profile, _ = observe(profile, use.observed(), RULES)
    assert profile.days[AFTER].has_alarm
    return profile


def test_days_pass_and_what_was_reported_is_still_no_history() -> None:
    profile = after_alarm()
    for use in weeks_of(ORDINARY["business"], 2, WEEKS + 2):
        if use.hour >= NIGHT + 24:
            profile, _ = observe(profile, use.observed(), RULES)
    later = Use(hour=NIGHT + 10 * 24, network=key_uses.ELSEWHERE, author=AUTHOR["business"])
    _, assessment = observe(profile, later.observed(), RULES)
    assert "network" in assessment.signals


def test_a_confirmation_makes_it_history() -> None:
    profile = taught(after_alarm(), AFTER, epoch=1)
    assert reports(elsewhere(DAY), profile) == []
    assert profile.epoch == 1


def test_a_resumption_forgets_it_and_goes_on_to_watch() -> None:
    profile = without_alarm(after_alarm(), AFTER, epoch=1)
    assert reports([], profile) == []
    calm = Use(hour=DAY, author=AUTHOR["business"], to=["customer1@example.net"])
    _, assessment = observe(profile, calm.observed(), RULES)
    assert assessment == Assessment()
    assert alarms(elsewhere(DAY), profile)


def test_profiles_of_different_epochs_are_not_joined() -> None:
    before, after = after_alarm(), taught(after_alarm(), AFTER, epoch=1)
    assert joined(before, after) == joined(after, before) == after


def test_what_another_gate_has_seen_is_known() -> None:
    elsewhere = [
        Use(hour=use.hour, network="198.51.100.0/24", author=use.author, to=use.to)
        for use in weeks_of(ORDINARY["business"], 1, WEEKS)
    ]
    other: Profile | None = None
    for use in elsewhere:
        other, _ = observe(other, use.observed(), RULES)
    assert other is not None
    use = Use(hour=DAY, network="198.51.100.0/24", author=AUTHOR["business"])
    assert reports([use], known("business"))
    assert reports([use], joined(known("business"), other)) == []


def test_the_names_of_signals_and_their_figures_are_right() -> None:
    assert len({signal.name for signal in SIGNALS}) == len(SIGNALS)
    for signal in SIGNALS:
        weights = [step.weight for step in signal.steps]
        assert weights == sorted(weights)
        assert [step.minimum for step in signal.steps] == sorted(
            step.minimum for step in signal.steps
        )


def test_only_the_latest_thirty_days_of_use_are_kept() -> None:
    profile: Profile | None = None
    for day in range(MONDAY, MONDAY + 33):
        use = Use(hour=day * 24 + 9, to=["customer1@example.net"])
        profile, _ = observe(profile, use.observed(), RULES)
    assert profile is not None
    assert sorted(profile.days) == list(range(MONDAY + 3, MONDAY + 33))


def test_an_observation_that_is_too_old_changes_nothing() -> None:
    profile = known("business")
    old = Observation(hour=(MONDAY - 400) * 24, network=SITE, messages=1, recipients=1)
    full = structs.replace(
        profile, days={day: next(iter(profile.days.values())) for day in range(1000, 1030)}
    )
    assert observe(full, structs.replace(old, hour=24), RULES)[0] == full
    assert hash_of("A@example.com") == hash_of("a@EXAMPLE.com")
