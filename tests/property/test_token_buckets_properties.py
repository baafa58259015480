"""Token buckets: never more than their depth and their pace, for each key alone."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from smtpgate.core.limits.token_buckets import TokenBuckets

ASKED = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 100)), max_size=200)


@given(ASKED, st.integers(1, 10), st.floats(0.5, 50))
def test_nobody_gets_more_than_the_depth_and_what_came_back(
    asked: list[tuple[str, float]], tokens: int, every_s: float
) -> None:
    buckets, now, taken = TokenBuckets(tokens, every_s), 0.0, Counter[str]()
    for key, passed in asked:
        now += passed
        could = buckets.has_any(key, now)
        share = buckets.left(key, now)
        assert 0 <= share <= 1
        assert buckets.take(key, now) is could
        taken[key] += could
        assert taken[key] <= tokens + now / every_s + 1e-6


@given(st.integers(1, 10), st.floats(0.5, 50))
def test_all_tokens_can_be_taken_at_once_and_each_comes_back(
    tokens: int, every_s: float
) -> None:
    buckets = TokenBuckets(tokens, every_s)
    assert [buckets.take("a", 0) for _ in range(tokens + 1)] == [True] * tokens + [False]
    assert buckets.take("b", 0), "each key has its own"
    assert buckets.take("a", every_s * 1.01)
    assert not buckets.take("a", every_s * 1.01)


@given(ASKED)
def test_no_more_buckets_are_kept_than_there_are_places(
    asked: list[tuple[str, float]],
) -> None:
    buckets, now = TokenBuckets(2, 10, places=2), 0.0
    for key, passed in asked:
        now += passed
        buckets.take(key, now)
        assert len(buckets) <= 2
