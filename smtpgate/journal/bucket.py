"""How often something may be done: a burst at once, and then at a steady pace."""

from smtpgate.ports import Clock

__all__ = ["Bucket"]


class Bucket:
    """Full of tokens at first; gets another every ``every_s`` seconds."""

    def __init__(self, tokens: int, every_s: float, clock: Clock) -> None:
        self._depth_s = tokens * every_s
        self._every_s = every_s
        self._clock = clock
        self._full_at_s = clock.monotonic()

    def take(self) -> bool:
        """Take a token; whether there was one."""
        now_s = self._clock.monotonic()
        full_at_s = max(self._full_at_s, now_s) + self._every_s
        if full_at_s - now_s > self._depth_s:
            return False
        self._full_at_s = full_at_s
        return True
