"""Bans against a second reading, and their bounds."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from smtpgate.core.limits.bans import BanRules, Bans

RULES = BanRules(max_failures=4, window_s=100, first_s=10, longest_s=80, max_clients=3)
steps = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from([1.0, 3.0, 5.0]), st.integers(0, 120)),
    max_size=40,
)


class Naive:
    """One client, second by second."""

    def __init__(self) -> None:
        self.level, self.bans, self.until = 0.0, 0, 0.0
        self.at = self.quiet_since = 0

    def fail(self, points: float, now: int) -> bool:
        for _ in range(self.at, now):
            self.level = max(0.0, self.level - RULES.max_failures / RULES.window_s)
        quiet: float = now - max(self.at, self.until)
        while quiet >= RULES.longest_s and self.bans:
            quiet -= RULES.longest_s
            self.bans -= 1
        self.at = now
        if now < self.until:
            return False
        self.level += points
        if self.level <= RULES.max_failures - 1 + 1e-6:
            return False
        length = RULES.first_s
        for _ in range(self.bans):
            length = min(RULES.longest_s, length * 2)
        self.bans, self.until, self.level = self.bans + 1, now + length, 0.0
        return True


@given(steps)
def test_a_client_is_banned_when_a_second_reading_says_so(
    steps: list[tuple[str, float, int]],
) -> None:
    bans, naive, now = Bans(RULES), Naive(), 1000
    naive.at = now
    for _, points, wait in steps:
        now += wait
        ban = bans.fail("a", points, now)
        assert (ban is not None) == naive.fail(points, now)
        assert (bans.until("a", now) is not None) == (naive.until > now)
        if ban is not None:
            assert (ban.until_s, ban.number) == (naive.until, naive.bans)


@given(steps)
def test_no_more_clients_are_remembered_than_may_be_and_a_banned_one_is_the_last_to_go(
    steps: list[tuple[str, float, int]],
) -> None:
    bans, now = Bans(RULES), 0.0
    for client, points, wait in steps:
        now += wait
        before = {ban.client for ban in bans.in_force(now)}
        bans.fail(client, points, now)
        assert len(bans) <= RULES.max_clients
        if len(before | {client}) <= RULES.max_clients:
            assert before <= {ban.client for ban in bans.in_force(now)}


@given(st.integers(1, 12))
def test_each_ban_is_twice_as_long_as_the_one_before_up_to_the_longest(times: int) -> None:
    bans, now, lengths = Bans(RULES), 0.0, []
    for _ in range(times):
        ban = bans.fail("a", 100, now)
        assert ban is not None
        lengths.append(ban.until_s - now)
        now = ban.until_s
    assert lengths[0] == RULES.first_s
    assert all(after == min(before * 2, RULES.longest_s) for before, after in pairwise(lengths))


def test_failures_while_it_is_banned_do_not_lengthen_a_ban() -> None:
    bans = Bans(RULES)
    ban = bans.fail("a", 4, 0.0)
    assert ban is not None
    assert bans.fail("a", 100, 5.0) is None
    assert bans.until("a", 5.0) == ban.until_s == 10
    assert bans.until("a", 10.0) is None


def test_a_person_may_ban_and_forgive() -> None:
    bans = Bans(RULES)
    bans.add("a", 1000, 0)
    assert [(ban.client, ban.number) for ban in bans.in_force(999)] == [("a", 0)]
    assert bans.remove("a")
    assert not bans.remove("a")
    assert bans.in_force(0) == []


def test_other_rules_leave_the_bans_that_are_in_force() -> None:
    bans = Bans(RULES)
    for client in "abc":
        bans.fail(client, 100, 0.0)
    bans.use(BanRules(max_clients=2, max_failures=1))
    assert [ban.client for ban in bans.in_force(1)] == ["b", "c"]


@given(steps, steps)
def test_a_list_that_begins_with_the_standings_of_another_goes_on_like_it(
    before: list[tuple[str, float, int]], after: list[tuple[str, float, int]]
) -> None:
    bans, copied, now = Bans(RULES), Bans(RULES), 0.0
    for client, points, wait in before:
        now += wait
        bans.fail(client, points, now)
    copied.restore(bans.standings())
    for client, points, wait in after:
        now += wait
        assert copied.fail(client, points, now) == bans.fail(client, points, now)
    assert copied.standings() == bans.standings()
