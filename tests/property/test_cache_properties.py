"""The directory's cache never holds more than it may, and forgets what it is asked to."""

from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from smtpgate.directory.cache import Cache, CacheKey, Dependency

MAX_OCTETS: Final = 1000
MAX_ABSENT: Final = 5
ABSENT_S: Final = 60.0
keys = st.integers(0, 12).map(lambda number: CacheKey("identity", f"d{number}.example"))
dependencies = st.sampled_from(
    [Dependency("a"), Dependency("a", "mailer"), Dependency("b"), Dependency("b", "mailer")]
)
several = st.frozensets(dependencies, max_size=3).map(tuple)


class CacheAgainstLists(RuleBasedStateMachine):
    """The kept and the absent names, each as a list with the latest use last."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = Cache(max_octets=MAX_OCTETS, max_absent=MAX_ABSENT, absent_s=ABSENT_S)
        self.kept: list[tuple[CacheKey, int, tuple[Dependency, ...], int]] = []
        self.absent: list[tuple[CacheKey, float]] = []
        self.now_s = 0.0
        self.number = 0
        self.noted: dict[CacheKey, tuple[object, float]] = {}
        self.noted_gone = 0

    def forget(self, key: CacheKey) -> None:
        self.kept = [one for one in self.kept if one[0] != key]
        self.absent = [one for one in self.absent if one[0] != key]

    @rule(key=keys, of=several, octets=st.integers(1, 1100))
    def put(self, key: CacheKey, of: tuple[Dependency, ...], octets: int) -> None:
        self.number += 1
        self.cache.put(key, self.number, of, octets)
        self.forget(key)
        if octets <= MAX_OCTETS:
            self.kept.append((key, self.number, of, octets))
            while sum(one[3] for one in self.kept) > MAX_OCTETS:
                del self.kept[0]

    @rule(key=keys)
    def put_absent(self, key: CacheKey) -> None:
        self.cache.put_absent(key, (), self.now_s)
        self.forget(key)
        self.absent = [*self.absent, (key, self.now_s + ABSENT_S)][-MAX_ABSENT:]

    @rule(key=keys, also_lapsed=st.booleans())
    def get(self, key: CacheKey, *, also_lapsed: bool) -> None:
        output = self.cache.get(key, self.now_s, also_lapsed=also_lapsed)
        for one in self.kept:
            if one[0] == key:
                assert output == (True, one[1])
                self.kept.remove(one)
                self.kept.append(one)
                return
        for known in self.absent:
            if known[0] == key and (also_lapsed or self.now_s < known[1]):
                assert output == (True, ())
                self.absent.remove(known)
                self.absent.append(known)
                return
        assert output == (False, None)

    @rule(key=keys)
    def drop(self, key: CacheKey) -> None:
        self.cache.drop([key])
        self.forget(key)

    @rule(of=dependencies)
    def drop_depending(self, of: Dependency) -> None:
        self.cache.drop_depending(of)
        self.kept = [one for one in self.kept if of not in one[2]]

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        while self.cache.free(3):
            pass
        self.kept, self.absent = [], []

    @rule(seconds=st.floats(0, 90))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def note(self) -> None:
        self.noted_gone = self.cache.gone
        known = (*(one[0] for one in self.kept), *(one[0] for one in self.absent))
        self.noted = {key: self.cache.peek_until(key) for key in known}

    @invariant()
    def all_noted_answers_are_there_unless_one_is_gone(self) -> None:
        if self.cache.gone == self.noted_gone:
            for key, answer in self.noted.items():
                assert self.now_s >= answer[1] or self.cache.peek_until(key) == answer

    @invariant()
    def both_hold_as_much(self) -> None:
        assert self.cache.octets == sum(one[3] for one in self.kept) <= MAX_OCTETS
        assert len(self.cache) == len(self.kept) + len(self.absent)
        assert len(self.absent) <= MAX_ABSENT


TestCacheAgainstLists = CacheAgainstLists.TestCase


def test_an_absence_that_is_kept_again_is_another_answer_until_it_has_lapsed() -> None:
    cache = Cache(max_octets=MAX_OCTETS, max_absent=MAX_ABSENT, absent_s=ABSENT_S)
    key = CacheKey("identity", "example.com")
    gone = []
    for now_s in (0.0, 59.0, 119.0):
        cache.put_absent(key, (), now_s)
        gone.append(cache.gone)
    assert gone == [0, 1, 1]
