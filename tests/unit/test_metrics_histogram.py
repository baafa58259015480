from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as TheirHistogram

from smtpgate.metrics.catalogue import MetricRow
from smtpgate.metrics.histogram import Histogram, Observed

BOUNDS = (0.001, 0.5, 1.0, 30.0)


def output(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return sorted(line for line in lines if "_created" not in line)


@given(st.lists(st.floats(0, 100) | st.sampled_from(BOUNDS)))
def test_a_histogram_tells_what_the_librarys_own_would(values: Iterable[float]) -> None:
    row = MetricRow("smtpgate_x_seconds", "histogram", ("stage",), "Time.", BOUNDS)
    ours = Histogram(row, ["relay"])
    registry, their_registry = CollectorRegistry(), CollectorRegistry()
    registry.register(ours)
    theirs = TheirHistogram(
        row.name, row.meaning, row.labels, buckets=BOUNDS, registry=their_registry
    ).labels("relay")
    for value in values:
        ours.series["relay"].observe(value)
        theirs.observe(value)
    assert output(registry) == output(their_registry)


@given(st.lists(st.floats(0, 100) | st.sampled_from(BOUNDS), min_size=1))
def test_values_that_are_counted_together_are_counted_as_one_by_one(
    values: list[float],
) -> None:
    row = MetricRow("smtpgate_x_seconds", "histogram", ("stage",), "Time.", BOUNDS)
    together, one_by_one = (Histogram(row, ["relay"]).series["relay"] for _ in range(2))
    together.add(Observed.of(row, "relay", values))
    for value in sorted(values):
        one_by_one.observe(value)
    assert together.counts == one_by_one.counts
    assert together.sum == one_by_one.sum
