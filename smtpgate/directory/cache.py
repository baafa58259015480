"""A cache bounded by octets; the least recently used entry is dropped first.

Entries name the objects that they depend on, so that a change of an account or a user drops
just those that have something of it in them. That something is not there is kept too, but only
for a while and in a bounded number, so that guessing names does not become load for the
database. After that while it serves no longer but where the database cannot be asked.

Entries, and all that the directory puts into them, are made of objects that Python's garbage
collector does not look at; a full cache would stop the gate for seconds otherwise.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from math import inf
from typing import Any, Final, Literal

from msgspec import Struct

SettingsKind = Literal["notifications", "topic", "set", "suppression"]
Kind = Literal["key", "identity", "addresses"] | SettingsKind


_WHAT: Final[dict[Kind, str]] = {
    "key": "access key",
    "identity": "identity",
    "addresses": "addresses of",
    "notifications": "notifications of",
    "topic": "topic",
    "set": "configuration set",
    "suppression": "suppression list of",
}


class CacheKey(Struct, frozen=True, gc=False):
    """The question of an entry: an access key's id, an identity's name or a domain.

    Of a topic and a configuration set it is ``ACCOUNT/NAME``, of the settings of a suppression
    list the account.
    """

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{_WHAT[self.kind]} {self.name}"


class Dependency(Struct, frozen=True, gc=False):
    """Something that is in many answers: an account, or a user of it by its key."""

    account_id: str
    user_key: str | None = None


class _Entry(Struct, frozen=True, gc=False):
    value: Any
    depends_on: tuple[Dependency, ...]
    octets: int


_UNKNOWN: Final = (None, -inf)
_Answers = dict[CacheKey, Any] | dict[Dependency, Any]


class Cache:
    """Answers by their questions; ``now_s`` is the time of a monotonic clock.

    ``gone`` counts the answers that were dropped or replaced. While it is the same, every
    answer is still there, but for those that have lapsed.
    """

    def __init__(self, *, max_octets: int, max_absent: int, absent_s: float) -> None:
        self.octets = 0
        self.hits = 0
        self.misses = 0
        self.gone = 0
        self._max_octets = max_octets
        self._max_absent = max_absent
        self._absent_s = absent_s
        self._entries: OrderedDict[CacheKey, _Entry] = OrderedDict()
        self._absent: OrderedDict[CacheKey, tuple[Any, float]] = OrderedDict()
        self._depending: defaultdict[Dependency, dict[CacheKey, None]] = defaultdict(dict)
        self._cleared: list[_Answers] = []

    def __len__(self) -> int:
        return len(self._entries) + len(self._absent)

    def get(
        self, key: CacheKey, now_s: float, *, also_lapsed: bool = False
    ) -> tuple[bool, Any]:
        """True if there is an answer, and the answer."""
        entry = self._entries.get(key)
        if entry is not None:
            self.hits += 1
            self._entries.move_to_end(key)
            return True, entry.value
        value, good_until_s = self._absent.get(key, (None, None))
        if good_until_s is not None and (also_lapsed or now_s < good_until_s):
            self.hits += 1
            self._absent.move_to_end(key)
            return True, value
        self.misses += 1
        return False, None

    def peek(self, key: CacheKey) -> Any:  # noqa: ANN401 - by the key's kind
        """The answer if it is cached, or ``None``; the use does not count."""
        entry = self._entries.get(key)
        return None if entry is None else entry.value

    def peek_until(self, key: CacheKey) -> tuple[Any, float]:
        """The answer and when it lapses; an unknown one has. The use does not count."""
        entry = self._entries.get(key)
        return self._absent.get(key, _UNKNOWN) if entry is None else (entry.value, inf)

    def put(
        self, key: CacheKey, value: object, depends_on: tuple[Dependency, ...], octets: int
    ) -> None:
        """Store an answer; the least recently used ones make room for it."""
        self._drop(key)
        if octets > self._max_octets:
            return
        self._entries[key] = _Entry(value, depends_on, octets)
        self.octets += octets
        for dependency in depends_on:
            self._depending[dependency][key] = None
        while self.octets > self._max_octets:
            self._drop(next(iter(self._entries)))

    def put_absent(self, key: CacheKey, value: object, now_s: float) -> None:
        """Keep for a while that there is nothing, which ``value`` says."""
        _, good_until_s = self._absent.pop(key, (None, now_s))
        if now_s < good_until_s:
            self.gone += 1
        self._drop(key)
        self._absent[key] = (value, now_s + self._absent_s)
        if len(self._absent) > self._max_absent:
            self._absent.popitem(last=False)
            self.gone += 1

    def drop(self, keys: Iterable[CacheKey]) -> None:
        """Forget those answers."""
        for key in keys:
            self._drop(key)

    def drop_depending(self, dependency: Dependency) -> None:
        """Forget every answer that depends on it."""
        self.drop(tuple(self._depending.get(dependency, ())))

    def clear(self) -> None:
        """Forget everything; it is freed by :meth:`free`, since that takes long."""
        self._cleared += (self._entries, self._absent, self._depending)
        self._entries, self._absent = OrderedDict(), OrderedDict()
        self._depending = defaultdict(dict)
        self.octets = 0
        self.gone += 1

    def free(self, count: int) -> bool:
        """Free so many of the answers that were cleared; true if there are more."""
        while self._cleared and count > 0:
            answers = self._cleared[-1]
            if answers:
                answers.popitem()
                count -= 1
            else:
                self._cleared.pop()
        return bool(self._cleared)

    def _drop(self, key: CacheKey) -> None:
        if self._absent.pop(key, None) is not None:
            self.gone += 1
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self.gone += 1
        self.octets -= entry.octets
        for dependency in entry.depends_on:
            keys = self._depending[dependency]
            keys.pop(key, None)
            if not keys:
                del self._depending[dependency]
