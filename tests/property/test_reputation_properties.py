"""Properties of rates, states and representative volumes, for all senders."""

from datetime import UTC, datetime, timedelta
from typing import Final, get_args

from hypothesis import given
from hypothesis import strategies as st

from smtpgate.core.reputation.judgement import Reputation, fresh_start, judged, resumed
from smtpgate.core.reputation.sender import RatedSender
from smtpgate.core.reputation.states import State, next_state
from smtpgate.core.reputation.thresholds import MEASURES, RatingRules, Thresholds
from smtpgate.core.reputation.volume import LONGEST, Day, Volume, representative

NOW: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
TODAY: Final = NOW.replace(hour=0)

counts = st.integers(0, 2_000_000)
volumes = st.builds(Volume, st.just(TODAY), counts, counts, counts)
STATES: Final[tuple[State, ...]] = get_args(State)
states = st.sampled_from(STATES)
measures = st.sampled_from(MEASURES)
thresholds = st.tuples(st.floats(0.0001, 1), st.floats(0.0001, 1)).map(
    lambda two: Thresholds(*sorted(two))
)
rules = st.builds(
    RatingRules,
    bounce=thresholds,
    complaint=thresholds,
    min_recipients=st.integers(1, 100_000),
    auto_pause=st.booleans(),
)
reputations = st.builds(
    Reputation,
    sender=st.just(RatedSender.account("999999999999")),
    bounce=states,
    complaint=states,
)
histories = st.lists(
    st.builds(
        Day,
        st.integers(-2, 60).map(lambda ago: TODAY - timedelta(days=ago)),
        counts,
        counts,
        counts,
    ),
    max_size=70,
    unique_by=lambda day: day.start,
)


@given(measures, states, volumes, rules)
def test_a_state_does_not_change_while_the_rate_does_not(
    measure: str, before: str, volume: Volume, wanted: RatingRules
) -> None:
    after = next_state(measure, before, volume, wanted)  # type: ignore[arg-type]
    assert next_state(measure, after, volume, wanted) == after  # type: ignore[arg-type]


@given(measures, states, counts, counts, counts, rules)
def test_a_higher_rate_gives_no_better_state(
    measure: str, before: str, sent: int, one: int, other: int, wanted: RatingRules
) -> None:
    fewer, more = sorted((one, other))
    low, high = (
        STATES.index(next_state(measure, before, Volume(TODAY, sent, bad, bad), wanted))  # type: ignore[arg-type]
        for bad in (fewer, more)
    )
    assert low <= high


@given(measures, volumes, rules)
def test_a_sender_gets_worse_at_the_threshold_and_not_before(
    measure: str, volume: Volume, wanted: RatingRules
) -> None:
    rate, of = volume.rate(measure), wanted.of(measure)  # type: ignore[arg-type]
    state = next_state(measure, "healthy", volume, wanted)  # type: ignore[arg-type]
    if rate < of.review or volume.sent < wanted.min_recipients:
        assert state == "healthy"
    elif volume.bad(measure) >= 5:  # type: ignore[arg-type]
        assert state == ("pause" if rate >= of.pause else "under-review")


@given(volumes)
def test_rates_are_shares(volume: Volume) -> None:
    assert all(0 <= volume.rate(measure) <= 1 for measure in MEASURES)


@given(histories)
def test_a_volume_is_the_sum_of_the_days_since_its_begin(history: list[Day]) -> None:
    volume = representative(history, NOW)
    if volume.since is None:
        assert not [day for day in history if NOW - LONGEST < day.start <= NOW]
        return
    assert NOW - LONGEST < volume.since <= NOW
    within = [day for day in history if volume.since <= day.start <= NOW]
    assert volume.sent == sum(day.sent for day in within)
    assert volume.bounces == sum(day.bounces for day in within)
    assert volume.complaints == sum(day.complaints for day in within)


@given(histories, st.randoms())
def test_the_order_of_days_does_not_matter(history: list[Day], random: object) -> None:
    mixed = list(history)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert representative(mixed, NOW) == representative(history, NOW)


@given(reputations, volumes, rules)
def test_a_judgement_is_final_until_something_changes(
    before: Reputation, volume: Volume, wanted: RatingRules
) -> None:
    after = judged(before, volume, wanted, NOW)
    assert judged(after, volume, wanted, NOW + timedelta(hours=1)) is after
    assert (after.pause is None) or wanted.auto_pause


@given(reputations, volumes, rules)
def test_a_sender_that_was_resumed_or_began_again_is_not_paused_by_the_past(
    before: Reputation, volume: Volume, wanted: RatingRules
) -> None:
    paused = judged(before, volume, wanted, NOW)
    for after in (resumed(paused, NOW), fresh_start(resumed(paused, NOW), NOW)):
        assert after.pause is None
        if after.fresh_start_at is not None:
            assert judged(after, Volume(), wanted, NOW).pause is None
