"""Profiles of keys: bounded, and the same in any order; a worse use never scores less."""

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack, structs

from smtpgate.core.watch.batch import Batch, UseOfKey
from smtpgate.core.watch.observe import WatchRules, observe
from smtpgate.core.watch.profile import (
    MAX_AUTHORS,
    MAX_DAYS,
    MAX_NAMES,
    MAX_RECIPIENTS,
    Observation,
    Profile,
    joined,
    record,
)
from smtpgate.core.watch.sketch import Sketch
from tests.support.key_uses import MONDAY, ORDINARY, weeks_of

RULES = WatchRules()
LEARN = RULES.learn_days
NETWORKS = st.integers(0, 5).map(lambda number: f"192.0.{number}.0/24")
AUTHORS = st.lists(st.integers(0, 5), max_size=2, unique=True).map(
    lambda numbers: tuple(f"a{number}@{number}.example.com" for number in sorted(numbers))
)


def observations(first_day: int, days: int, hashes: int = 40) -> st.SearchStrategy[Observation]:
    return st.builds(
        Observation,
        hour=st.integers(first_day * 24, (first_day + days) * 24 - 1),
        network=NETWORKS,
        authors=AUTHORS,
        messages=st.integers(1, 50),
        recipients=st.integers(0, 1000),
        addresses=st.lists(st.integers(0, hashes), max_size=5).map(tuple),
        refused=st.integers(0, 50),
        bounced=st.integers(0, 50),
        outside=st.integers(0, 2),
    )


def recorded(seen: list[Observation], before: Profile | None = None) -> Profile | None:
    return reduce(lambda profile, one: record(profile, one, LEARN), seen, before)


def usual() -> Profile:
    uses = [use.observed() for use in weeks_of(ORDINARY["business"], 3, 3)]
    profile = recorded(uses)
    assert profile is not None
    return profile


USUAL = usual()
TODAY = MONDAY + 21


@given(st.lists(observations(TODAY, 1), max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_a_day_does_not_matter(seen: list[Observation], chance: object) -> None:
    other = list(seen)
    chance.shuffle(other)  # type: ignore[attr-defined]
    assert recorded(seen, USUAL) == recorded(other, USUAL)


@given(st.lists(observations(TODAY, 1), max_size=12))
def test_a_batch_is_as_good_as_one_by_one(seen: list[Observation]) -> None:
    batch = Batch(1000)
    for one in seen:
        batch.add(UseOfKey("AKIAIOSFODNN7EXAMPLE", one))
    added = [use.observation for use in batch.take()]
    assert recorded(added, USUAL) == recorded(seen, USUAL)


@given(
    st.lists(
        st.builds(
            Observation,
            hour=st.integers(0, 24 * 400),
            network=st.integers(0, 10_000).map(lambda n: f"10.{n // 256}.{n % 256}.0/24"),
            authors=st.integers(0, 10_000).map(lambda n: (f"a{n}@{n}.example.com",)),
            messages=st.integers(1, 10**9),
            recipients=st.integers(0, 10**12),
            addresses=st.integers(0, 2**32 - 400).map(lambda n: tuple(range(n, n + 300, 7))),
        ),
        max_size=60,
    )
)
def test_a_profile_is_bounded(seen: list[Observation]) -> None:
    profile = recorded(seen)
    if profile is None:
        return
    assert len(profile.days) <= MAX_DAYS
    assert len(profile.networks) <= MAX_NAMES
    assert len(profile.domains) <= MAX_NAMES
    assert len(profile.authors.spans) <= MAX_AUTHORS
    assert len(profile.recipients.spans) <= MAX_RECIPIENTS
    assert len(msgpack.encode(profile)) < 12_000
    assert msgpack.decode(msgpack.encode(profile), type=Profile) == profile


@given(
    st.lists(observations(TODAY, 1), max_size=5),
    observations(TODAY + 1, 1),
    st.sampled_from(["recipients", "refused", "bounced", "outside"]),
    st.integers(1, 10_000),
)
def test_more_of_it_never_scores_less(
    before: list[Observation], one: Observation, figure: str, more: int
) -> None:
    profile = recorded(before, USUAL)
    worse = structs.replace(one, **{figure: getattr(one, figure) + more})
    assert observe(profile, worse, RULES)[1].score >= observe(profile, one, RULES)[1].score


@given(observations(TODAY, 1))
def test_another_network_never_scores_less(one: Observation) -> None:
    known = structs.replace(one, network="192.0.2.0/24")
    new = structs.replace(one, network="203.0.113.0/24")
    assert observe(USUAL, new, RULES)[1].score >= observe(USUAL, known, RULES)[1].score


@given(
    st.lists(observations(TODAY, 3), max_size=8),
    st.lists(observations(TODAY, 3), max_size=8),
)
def test_profiles_are_joined_in_any_order_and_as_often_as_one_likes(
    one: list[Observation], other: list[Observation]
) -> None:
    a, b = recorded(one, USUAL), recorded(other, USUAL)
    assert a is not None
    assert b is not None
    both = joined(a, b)
    assert both == joined(b, a)
    assert joined(both, a) == both
    assert joined(a, a) == a


@given(st.sets(st.integers(0, 2**32 - 1), max_size=600))
def test_a_sample_stands_for_about_all(keys: set[int]) -> None:
    sketch = Sketch().seen(sorted(keys), 1, 64)
    assert len(sketch.spans) <= 64
    assert all(sketch.has_in_sample(key) for key in sketch.spans)
    wanted = {key for key in keys if sketch.has_in_sample(key)}
    assert set(sketch.spans) == wanted
