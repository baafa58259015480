"""The circuit breaker of an upstream: whether messages go to it, by what became of the last.

Closed: messages go. After failures in a row, or when it takes far longer than usual, it opens:
messages go to other upstreams, or are refused at once. After a while the upstream is probed; if
that works the breaker is half-open, and lets one message through at a time while others wait
elsewhere. The first that is answered closes it, a failure opens it again, for twice as long.

One that opened because the upstream is slow does not forbid it: messages still go there when
they can go nowhere else. The owner says what happened, and brings the time.
"""

from typing import Final, Literal

from msgspec import Struct

from smtpgate.core.upstream.delivery import Cause

BreakerState = Literal["closed", "half-open", "open"]
# Whether a message may go to an upstream now, and whether to others first.
Stand = Literal["ready", "last resort", "closed off"]

# A server that is overloaded or stopping says 421: it counts as two failures of other kinds.
_POINTS: Final = {"421": 2}
# These say nothing about the server's health.
_NO_FAILURES: Final = frozenset({"busy", "extension"})
_OPEN_S: Final = 2.0
_LONGEST_OPEN_S: Final = 30.0
# Mean times of a delivery: over the last few, and over many.
_LATELY: Final = 0.3
_USUALLY: Final = 0.02
_MANY: Final = 20
_SLOW_RATIO: Final = 10.0
_QUICK_S: Final = 0.5
_SLOW_S: Final = 5.0


class BreakerRules(Struct, frozen=True, gc=False):
    """When a breaker opens: ``max_failures`` in a row, never if 0."""

    max_failures: int = 5
    slow_s: float = _SLOW_S
    slow_ratio: float = _SLOW_RATIO


class Breaker:
    """The breaker of one upstream; moments are seconds of a clock that only goes forward."""

    def __init__(self, rules: BreakerRules) -> None:
        self.state: BreakerState = "closed"
        self.is_slow = False
        self.problem = ""
        self.retry_at = 0.0
        self._rules = rules
        self._points = 0
        self._openings = 0
        self.on_trial = 0  # messages that are there now
        self._blamed: set[str] = set()
        self._usual_s = self._lately_s = 0.0
        self._measured = 0
        self._is_out_of_line = False  # messages lately take far longer than usually

    def stand(self) -> Stand:
        """The answer to a message that would go there now."""
        if self.state == "closed":
            return "ready"
        if self.state == "half-open":
            return "last resort" if self.on_trial else "ready"
        return "last resort" if self.is_slow else "closed off"

    def succeeded(self, now: float, seconds: float | None = None) -> bool:
        """The server answered a message, for good or bad; whether the state changed.

        ``seconds`` is how long that took, ``None`` of a message that says nothing about it.
        """
        self._points = 0
        if self._blamed:
            self._blamed.clear()
        if seconds is not None:
            self._measure(seconds)
        if self._is_out_of_line and self._may_open():
            if self.state == "open" and self.is_slow:
                return False
            lately, usual = f"{self._lately_s:.1f} s", f"{self._usual_s:.1f}"
            return self._open(f"a message takes {lately}, usually {usual}", now, is_slow=True)
        if self.state == "closed":
            return False
        self.state, self.is_slow, self.problem = "closed", False, ""
        self._openings = 0
        return True

    def failed(
        self, cause: Cause, problem: str, now: float, account: str | None = None
    ) -> bool:
        """It was of no use for a message; whether the state changed.

        With ``account`` the connection worked, and the transaction of that account's message
        did not. That may be the message's fault, so it counts once for an account, until a
        message is answered; silence always counts.
        """
        if cause in _NO_FAILURES or not self._may_open():
            return False
        if account is not None and cause != "timeout":
            if account in self._blamed:
                return False
            self._blamed.add(account)
        self._points += _POINTS.get(cause, 1)
        if self.state == "open":
            if self.is_slow and self._points >= self._rules.max_failures:
                return self._open(problem, now)
            return False
        if self.state == "half-open" or self._points >= self._rules.max_failures:
            return self._open(problem, now)
        return False

    def failed_elsewhere(self, problem: str, now: float) -> bool:
        """Another worker's breaker opened for that problem; whether the state changed."""
        return self.state == "closed" and self._may_open() and self._open(problem, now)

    def probed(self, now: float, problem: str | None = None, cause: Cause = "lost") -> bool:
        """A probe was answered, or failed for that ``problem``; whether the state changed."""
        if problem is not None:
            if self.state == "closed":
                return self.failed(cause, problem, now)
            return self._open(problem, now)
        if self.state != "open":
            return False
        self.state, self._points = "half-open", 0
        # It is measured again: whether it is still slow shows soon.
        self._lately_s, self._is_out_of_line = self._usual_s, False
        return True

    def _may_open(self) -> bool:
        return self._rules.max_failures > 0

    def _open(self, problem: str, now: float, *, is_slow: bool = False) -> bool:
        is_new = self.state != "open" or self.is_slow != is_slow
        self.state, self.is_slow, self.problem = "open", is_slow, problem
        self._openings += 1
        self.retry_at = now + min(_OPEN_S * 2 ** min(self._openings - 1, 10), _LONGEST_OPEN_S)
        return is_new

    def _measure(self, seconds: float) -> None:
        if not self._measured:
            self._usual_s = self._lately_s = seconds
        self._measured += 1
        lately_s, usual_s = self._lately_s, self._usual_s
        self._lately_s = lately_s = lately_s + _LATELY * (seconds - lately_s)
        self._is_out_of_line = (
            lately_s > self._rules.slow_s
            and lately_s > usual_s * self._rules.slow_ratio
            and self._measured > _MANY
        )
        if self._is_out_of_line:
            return
        # The mean of the first ones, then of the many, which a few slow ones do not change.
        share = 1 / self._measured
        if share < _USUALLY:
            share = _USUALLY
        if seconds > _QUICK_S and self._measured > _MANY:
            seconds = min(seconds, max(2 * usual_s, _QUICK_S))
        self._usual_s = usual_s + share * (seconds - usual_s)
