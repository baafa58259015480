"""The line for connections: shares, turns, and a naive second reading."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from smtpgate.relay.turns import Turns

OTHERS = ["a", "b", "c"]
ACCOUNTS = [*OTHERS, ""]  # the last one is the gate itself
Step = tuple[str, str, int]  # what, which account, and a number to choose a waiter with

steps = st.lists(
    st.tuples(
        st.sampled_from(["join", "join", "first", "leave", "next", "next", "back"]),
        st.sampled_from(ACCOUNTS),
        st.integers(0, 5),
    ),
    max_size=60,
)


@dataclass
class Naive:
    """One list of all that wait, and the turn in which each account was last served."""

    share: int
    waiting: list[tuple[str, int]] = field(default_factory=list)
    in_use: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ACCOUNTS, 0))
    since: dict[str, int] = field(default_factory=dict)

    def next(self) -> tuple[str, int] | None:
        waiting = [
            account
            for account in dict.fromkeys(account for account, _ in self.waiting)
            if self.in_use[account] < self.share
        ]
        if not waiting:
            return None
        waiting = [account for account in waiting if account] or waiting
        best = min(waiting, key=lambda account: (self.in_use[account], self.since[account]))
        turn = next(entry for entry in self.waiting if entry[0] == best)
        self.waiting.remove(turn)
        return turn


def play(turns: Turns[int], naive: Naive, script: Sequence[Step]) -> None:
    for number, (what, account, choice) in enumerate(script):
        own = [entry for entry in naive.waiting if entry[0] == account]
        if what in ("join", "first"):
            turns.join(account, number, is_first=what == "first")
            if not own:
                naive.since[account] = number
            naive.waiting.insert(0 if what == "first" else number, (account, number))
        elif what == "leave":
            leaving = own[choice % len(own)] if own else (account, -1)
            assert turns.leave(*leaving) == bool(own)
            if own:
                naive.waiting.remove(leaving)
        elif what == "next":
            turn = turns.next()
            assert turn == naive.next()
            if turn is not None:
                turns.take(turn[0])
                naive.in_use[turn[0]] += 1
                naive.since[turn[0]] = number
        elif naive.in_use[account]:
            turns.give_back(account)
            naive.in_use[account] -= 1


@given(steps, st.integers(1, 4))
def test_turns_are_those_of_the_naive_reading(script: list[Step], share: int) -> None:
    turns, naive = Turns[int](share), Naive(share)
    play(turns, naive, script)
    assert turns.waiting == len(naive.waiting)
    for account in ACCOUNTS:
        assert turns.waiting_of(account) == sum(one == account for one, _ in naive.waiting)
        assert turns._in_use.get(account, 0) == naive.in_use[account] <= share
        has_share = naive.in_use[account] < share
        assert turns.has_share(account) == turns.take_share(account) == has_share
        assert turns._in_use[account] == naive.in_use[account] + has_share
    assert sorted(turns.clear()) == sorted(number for _, number in naive.waiting)
    assert turns.waiting == 0


@given(st.integers(1, 80), st.integers(1, 8), st.integers(1, 8))
def test_one_message_waits_for_one_turn_however_many_another_account_has(
    others: int, share: int, connections: int
) -> None:
    turns = Turns[int](share)
    for number in range(others):
        turns.join("many", number)
    for _ in range(connections):
        turn = turns.next()
        if turn is not None:
            turns.take(turn[0])
    turns.join("one", -1)
    assert turns.next() == ("one", -1)


@given(st.lists(st.sampled_from(OTHERS), min_size=12, max_size=60), st.integers(3, 9))
def test_connections_are_shared_evenly_among_accounts_that_all_wait(
    joining: list[str], connections: int
) -> None:
    turns = Turns[int](connections)
    for number, account in enumerate([*joining, *OTHERS * connections]):
        turns.join(account, number)
    for _ in range(connections):
        turn = turns.next()
        assert turn is not None
        turns.take(turn[0])
    used = [turns._in_use.get(account, 0) for account in OTHERS]
    assert max(used) - min(used) <= 1
