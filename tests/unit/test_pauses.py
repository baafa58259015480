import gc

from smtpgate.config.sections import MetricsConfig
from smtpgate.core.events import SessionOpened
from smtpgate.metrics import Metrics
from smtpgate.metrics.observed import SubmissionSums
from smtpgate.metrics.pauses import Longest
from tests.support.clock import MovableClock, move_loop


def a_metrics(clock: MovableClock) -> Metrics:
    return Metrics(MetricsConfig(max_identities=9, idle_s=9), clock=clock)


def samples(metrics: Metrics) -> dict[str, float]:
    lines = (line.rsplit(" ", 1) for line in metrics.render().decode().splitlines())
    return {name: float(value) for name, value in lines if not name.startswith("#")}


async def pass_time(clock: MovableClock, seconds: float) -> None:
    clock.move(seconds)
    await move_loop(seconds)


async def test_a_late_timer_is_a_delay_and_one_in_time_is_none() -> None:
    clock = MovableClock()
    metrics = a_metrics(clock)
    metrics.pauses.start()
    await pass_time(clock, 0.01)
    await pass_time(clock, 0.05)
    metrics.pauses.stop()
    seen = samples(metrics)
    name = "smtpgate_loop_delay_seconds"
    assert seen[f'{name}_bucket{{le="0.0002"}}'] == 1
    assert seen[f'{name}_bucket{{le="0.025"}}'] == 1
    assert seen[f'{name}_bucket{{le="0.05"}}'] == 2
    assert round(seen[f"{name}_sum"], 3) == 0.04
    assert round(seen["smtpgate_loop_delay_longest_seconds"], 3) == 0.04


async def test_without_clients_the_delay_is_measured_ten_times_less_often() -> None:
    clock = MovableClock()
    metrics = a_metrics(clock)
    metrics.pauses.start()

    async def measured(seconds: float) -> float:
        name = "smtpgate_loop_delay_seconds_count"
        before = samples(metrics)[name]
        for _ in range(round(seconds / 0.01)):
            await pass_time(clock, 0.01)
        return samples(metrics)[name] - before

    try:
        assert await measured(1) > 90  # it begins as with clients
        assert await measured(1) < 30
        metrics.publish(SessionOpened("submission"))
        assert await measured(1) > 80
        assert await measured(1) < 30
        metrics.count_submissions(SubmissionSums([], {}, []))  # a worker's
        assert await measured(1) > 80
    finally:
        metrics.pauses.stop()


def test_the_longest_delay_is_forgotten_within_two_minutes() -> None:
    longest = Longest(0)
    for now_s, delay, wanted in (
        (1, 0.3, 0.3),
        (59, 0.1, 0.3),
        (61, 0.0, 0.3),
        (120, 0.2, 0.3),
        (121, 0.0, 0.2),
        (182, 0.0, 0.0),
        (183, 0.5, 0.5),
        (900, 0.1, 0.1),
    ):
        longest.note(delay, now_s)
        assert longest.value == wanted


async def test_a_stopped_timer_fires_no_more() -> None:
    clock = MovableClock()
    metrics = a_metrics(clock)
    metrics.pauses.start()
    metrics.pauses.stop()
    metrics.pauses.stop()
    await pass_time(clock, 1)
    assert samples(metrics)["smtpgate_loop_delay_seconds_count"] == 0


async def test_pauses_of_the_collector_are_counted_by_generation() -> None:
    metrics = a_metrics(MovableClock())
    metrics.pauses.start()
    try:
        gc.collect(0)
        gc.collect(1)
    finally:
        metrics.pauses.stop()
        metrics.pauses.stop()
    seen = samples(metrics)
    name = "smtpgate_collector_pause_seconds_count"
    before = {one: seen[f'{name}{{generation="{one}"}}'] for one in "012"}
    assert before["0"] >= 1
    assert before["1"] >= 1
    gc.collect(0)
    after = samples(metrics)
    assert before == {one: after[f'{name}{{generation="{one}"}}'] for one in "012"}
