"""Token buckets for many keys: some tokens at once, then one every so many seconds."""

from typing import Final

_PLACES: Final = 10_000
_ROUNDING_S: Final = 1e-6


class TokenBuckets:
    """A bucket a key, full at first; a token is added every ``every_s`` seconds.

    Only buckets that are not full are kept. When there are more than ``places``, the fullest
    one is dropped, and counts as full.
    """

    def __init__(self, tokens: int, every_s: float, *, places: int = _PLACES) -> None:
        self._depth_s = tokens * every_s
        self._every_s = every_s
        self._places = places
        self._full_at_s: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._full_at_s)

    def take(self, key: str, now_s: float) -> bool:
        """Take a token; true if there was one."""
        if not self.has_any(key, now_s):
            return False
        full_at_s = max(self._full_at_s.get(key, now_s), now_s) + self._every_s
        if key not in self._full_at_s and len(self._full_at_s) >= self._places:
            self._make_room(now_s)
        self._full_at_s[key] = full_at_s
        return True

    def left(self, key: str, now_s: float) -> float:
        """The share of the tokens that is left, from 0 to 1."""
        full_at_s = self._full_at_s.get(key)
        if full_at_s is None or full_at_s <= now_s or not self._depth_s:
            return 1.0
        return max(0.0, 1 - (full_at_s - now_s) / self._depth_s)

    def has_any(self, key: str, now_s: float) -> bool:
        """True if ``take`` would find a token."""
        waits_s = self._full_at_s.get(key, now_s) - now_s
        return waits_s + self._every_s <= self._depth_s + _ROUNDING_S or waits_s <= 0

    def _make_room(self, now_s: float) -> None:
        full = [key for key, full_at_s in self._full_at_s.items() if full_at_s <= now_s]
        for key in full or [min(self._full_at_s, key=self._full_at_s.__getitem__)]:
            del self._full_at_s[key]
