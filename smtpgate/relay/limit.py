"""The number of connections that the upstream allows: configured, and learned from refusals.

Servers bound the connections of a client and answer 421 to one more (RFC 5321 §3.1 allows a
refusal at the greeting). Once one is refused while others work, their number is the limit for a
while. Then one more is tried at a time, and each that is accepted raises the limit.
"""

from typing import Final

_KEPT_S: Final = 60.0


class ConnectionLimit:
    """The limit now; moments are seconds of a clock that only goes forward."""

    def __init__(self, configured: int) -> None:
        self._configured = configured
        self._learned = configured
        self._until = 0.0

    def at(self, now: float) -> int:
        """The number of allowed connections."""
        if self._learned >= self._configured or now < self._until:
            return self._learned
        return self._learned + 1

    def refused(self, working: int, now: float) -> bool:
        """One more was refused while so many worked; whether that lowers the limit."""
        before, self._learned = self._learned, min(max(working, 1), self._configured)
        self._until = now + _KEPT_S
        return self._learned < before

    def accepted(self, working: int) -> None:
        """One was accepted: so many work with it."""
        self._learned = min(max(self._learned, working), self._configured)

    def forget(self) -> None:
        """None works, so nothing can be learned."""
        self._learned = self._configured
