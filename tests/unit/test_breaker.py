from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from smtpgate.core.routing.breaker import Breaker, BreakerRules
from tests.support.cases import load_cases
from tests.support.rows import rows

CASES = load_cases("routing/30-breaker.toml")


def step(breaker: Breaker, one: dict[str, Any]) -> bool:
    """Do what the step says; whether it changed the state."""
    now, changed = float(one["at"]), False
    if "begins" in one:
        breaker.on_trial += 1
    if "ends" in one:
        breaker.on_trial -= 1
    if "message" in one:
        changed = breaker.succeeded(now, one["message"])
    if "large" in one:
        changed = breaker.succeeded(now)
    if "fails" in one:
        changed = breaker.failed(one["fails"], "it failed", now, one.get("account"))
    if "probe" in one:
        changed = breaker.probed(now, one["probe"] or None)
    return changed


@rows("case", CASES, ids=lambda case: case["note"])
def test_a_breaker_opens_and_closes_by_what_became_of_messages(case: dict[str, Any]) -> None:
    breaker = Breaker(BreakerRules(case.get("max_failures", 3)))
    usual = case.get("usual", {"messages": 0})
    for _ in range(usual["messages"]):
        assert not breaker.succeeded(0, usual["seconds"])
    for one in case["steps"]:
        assert step(breaker, one) is one.get("changed", False), one
        assert breaker.state == one["state"], one
        assert breaker.stand() == one.get("stand", breaker.stand()), one
        assert breaker.retry_at == one.get("retry_at", breaker.retry_at), one


happenings = st.one_of(
    st.builds(lambda seconds: {"message": seconds}, st.floats(0, 100)),
    st.builds(
        lambda cause, account: {"fails": cause, "account": account},
        st.sampled_from(["connect", "421", "timeout", "lost", "busy", "extension"]),
        st.sampled_from([None, "a", "b"]),
    ),
    st.builds(lambda problem: {"probe": problem}, st.sampled_from(["", "refused"])),
)


@given(st.lists(happenings, max_size=60), st.integers(0, 5))
def test_a_breaker_is_never_stuck_and_says_when_its_state_changes(
    steps: list[dict[str, Any]], max_failures: int
) -> None:
    breaker = Breaker(BreakerRules(max_failures))
    for now, one in enumerate(steps):
        before = breaker.state, breaker.is_slow
        changed = step(breaker, one | {"at": now})
        assert changed == (before != (breaker.state, breaker.is_slow))
        if breaker.state == "closed":
            assert breaker.stand() == "ready"
            assert not breaker.problem
        else:
            assert max_failures
        if breaker.state == "open":
            assert breaker.problem
            assert (breaker.stand() == "last resort") is breaker.is_slow
        assert breaker.retry_at <= now + 60
    for _ in range(30):  # a probe and quick answers bring each back
        breaker.probed(1000)
        breaker.succeeded(1000, 0.1)
    assert (breaker.state, breaker.stand()) == ("closed", "ready")


@given(
    st.lists(st.sampled_from(["421", "lost", "protocol", "refused"]), max_size=20),
    st.integers(2, 9),
)
def test_one_account_cannot_close_an_upstream_off_by_its_messages(
    causes: list[Any], max_failures: int
) -> None:
    breaker = Breaker(BreakerRules(max_failures + 1))
    for cause in causes:
        assert not breaker.failed(cause, "it failed", 0, "111122223333")
    assert breaker.stand() == "ready"


@given(st.integers(1, 9), st.lists(st.sampled_from(["connect", "421", "lost"]), min_size=10))
def test_failures_in_a_row_open_it_and_no_fewer(max_failures: int, causes: list[Any]) -> None:
    breaker, points = Breaker(BreakerRules(max_failures)), 0
    for cause in causes:
        breaker.failed(cause, "it failed", 0)
        points += 2 if cause == "421" else 1
        assert (breaker.state == "open") is (points >= max_failures)


def test_an_answer_that_says_nothing_of_the_time_closes_it_all_the_same() -> None:
    breaker = Breaker(BreakerRules(1))
    breaker.failed("connect", "it failed", 0)
    breaker.probed(2)
    assert breaker.succeeded(3)
    assert (breaker.state, breaker.stand()) == ("closed", "ready")
