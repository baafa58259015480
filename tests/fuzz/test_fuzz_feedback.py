"""Real bounces, cut, joined and changed at random: read without an error, in bounded time."""

import time
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.cases import CASES
from tests.support.reports import read_report

MOST_S = 2.0  # of a processor; the slowest input that is known takes a fifth of it


@cache
def corpus() -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted((CASES / "bounces").glob("*.eml")))


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A bounce with a piece of it repeated, pieces of others put in, and octets changed."""
    octets = bytearray(draw(st.sampled_from(corpus())))
    for _ in range(draw(st.integers(0, 4))):
        other = draw(st.sampled_from(corpus()))
        start = draw(st.integers(0, len(other)))
        piece = other[start : start + draw(st.integers(1, 300))]
        piece *= draw(st.sampled_from((1, 1, 2, 50, 5000)))
        at = draw(st.integers(0, len(octets)))
        octets[at : at + draw(st.sampled_from((0, 1, 100)))] = piece
    return bytes(octets)


@pytest.mark.fuzz
@given(changed())
def test_changed_bounces_are_read_in_bounded_time(octets: bytes) -> None:
    begun = time.process_time()
    report = read_report(octets)
    assert time.process_time() - begun < MOST_S
    assert all(one.address for one in report.recipients)
