"""An upstream with its circuit breaker, and the probes that see whether it works.

A probe is made when the upstream has answered nothing for a while: connect, EHLO, TLS, login
and NOOP, over a kept connection where there is one. An upstream whose breaker is open is probed
when the breaker says so, and gets no message before a probe has succeeded.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from smtpgate.config.upstream import UpstreamConfig
from smtpgate.core.routing.breaker import Breaker, BreakerRules, BreakerState, Stand
from smtpgate.core.routing.notes import UpstreamFailed
from smtpgate.core.upstream import (
    Answered,
    Cause,
    Delivery,
    InDoubt,
    NotSentError,
    UpstreamUnavailableError,
)
from smtpgate.ports import Clock, DeliveryAttempt
from smtpgate.relay.connection import cause_of, reason_of
from smtpgate.relay.pool import PooledUpstream, Tell
from smtpgate.relay.traced import trace_nothing
from smtpgate.tasks import TaskOwner

# An upstream that answered so lately is not given up for what another worker has seen.
_LATELY_S: Final = 10.0
# After a probe that failed while the breaker is closed, or that could see nothing.
_AGAIN_S: Final = 2.0
# A larger message takes long because of its size.
SHORT_OCTETS: Final = 65_536
_LOST: Final = "lost"

# Called with the upstream's name, its state, and the problem of one that is open.
OnState = Callable[[str, BreakerState, str], None]


class WatchedUpstream:
    """A pool, and whether messages go there."""

    def __init__(
        self,
        pool: PooledUpstream,
        config: UpstreamConfig,
        *,
        clock: Clock,
        tasks: TaskOwner,
        on_state: OnState | None = None,
        tell_peers: Tell | None = None,
    ) -> None:
        self.pool = pool
        self.name = pool.name
        self.breaker = Breaker(BreakerRules(config.max_failures))
        self._config = config
        self._clock = clock
        self._tasks = tasks
        self._on_state = on_state
        self._tell_peers = tell_peers
        self._problem = ""  # of the last probe
        self._timer: asyncio.TimerHandle | None = None
        self._is_probed = False
        self._is_passed_on = False
        pool.on_failure = self._note_failure

    @property
    def problem(self) -> str:
        """The reason why it is of no use now; empty if it is, or nothing is known."""
        if self.breaker.stand() == "closed off":
            return self.breaker.problem
        return self._problem

    def stand(self, now: float) -> Stand:
        """The answer to a message that would go there now, by the event loop's time."""
        breaker = self.breaker
        if breaker.state == "open" and not self._is_probed and now >= breaker.retry_at:
            self._changed(breaker.probed(now))  # a message is the probe
        return breaker.stand()

    def note(
        self, delivery: Delivery, attempt: DeliveryAttempt, octets: int, now: float
    ) -> None:
        """Note a delivery that has ended now; failures are noted by the pool."""
        if isinstance(delivery, Answered):
            self._problem = ""
            # To see how many recipients are taken at once, one must be taken and one refused.
            if len(delivery.recipients) > 1 and not delivery.is_accepted:
                self.pool.learn_from(delivery)
            seconds = attempt.served_s if octets <= SHORT_OCTETS else None
            self._changed(self.breaker.succeeded(now, seconds))
        elif isinstance(delivery, InDoubt):
            self._failed("lost", delivery.problem, attempt.account_id)

    def failed_elsewhere(self, problem: str) -> None:
        """It failed in another worker: do not try it, unless it answered here lately.

        A server may be of no use to one worker because others have all of its connections.
        """
        silent_s = self._clock.monotonic() - self.pool.answered_at
        if self.pool.answered_at and silent_s < _LATELY_S:
            return
        now = asyncio.get_running_loop().time()
        self._is_passed_on = True
        self._changed(self.breaker.failed_elsewhere(problem, now))
        self._is_passed_on = False

    def _note_failure(self, error: NotSentError | OSError, account: str | None) -> None:
        if isinstance(error, OSError):
            problem = f"upstream {self.name}: {reason_of(error)}"
            self._failed(cause_of(error), problem, account)
        elif error.delivery.cause is not None:
            self._failed(error.delivery.cause, error.delivery.problem, account)

    def _failed(self, cause: Cause, problem: str, account: str | None) -> None:
        now = asyncio.get_running_loop().time()
        self._changed(self.breaker.failed(cause, problem, now, account), cause)

    def _changed(self, is_changed: bool, cause: Cause = "lost") -> None:
        """Do what follows from another state of the breaker, if it is another."""
        if not is_changed:
            return
        breaker = self.breaker
        if breaker.state == "open":
            if not breaker.is_slow:
                self.pool.turn_away(breaker.problem, cause)
                if self._tell_peers is not None and not self._is_passed_on:
                    self._tell_peers(UpstreamFailed(self.name, breaker.problem))
            if self._is_probed:
                self._probe_in(breaker.retry_at - asyncio.get_running_loop().time())
        if self._on_state is not None:
            self._on_state(self.name, breaker.state, breaker.problem)

    # -- probes --------------------------------------------------------------------------------

    def start(self) -> None:
        """Probe it from now on, at once for the first time."""
        if self._config.probe_interval_s and not self._is_probed:
            self._is_probed = True
            self._probe_in(0)

    def stop(self) -> None:
        """Probe it no more."""
        self._is_probed = False
        if self._timer is not None:
            self._timer.cancel()

    def _probe_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(seconds, 0), self._due)

    def _due(self) -> None:
        """Probe it, unless it answered lately."""
        self._timer = None
        idle_s = self._clock.monotonic() - self.pool.answered_at
        left_s = self._config.probe_interval_s - idle_s
        if self.pool.answered_at and left_s > 0 and not self.problem:
            self._probe_in(left_s)
        else:
            _ = self._tasks.start(self._probe(), name="upstream-probe")

    async def _probe(self) -> None:
        """Probe it, and go on whatever becomes of that."""
        trace_nothing()  # a message may have begun this task
        seen: tuple[str, Cause] | None = ("the probe was cut short", _LOST)
        try:
            seen = await self._probed()
        finally:
            now = asyncio.get_running_loop().time()
            if seen is not None:
                self._problem, cause = seen
                self._changed(self.breaker.probed(now, self._problem or None, cause), cause)
            if self._is_probed and self._timer is None:
                self._probe_in(self._pause_s(now))

    async def _probed(self) -> tuple[str, Cause] | None:
        """The problem, empty if there is none, and its cause.

        ``None`` if all connections are in use: what becomes of their messages will say more.
        """
        loop, config = asyncio.get_running_loop(), self._config
        patience_s = min(config.connect_timeout_s + config.command_timeout_s, config.deadline_s)
        try:
            is_seen = await self.pool.probe(loop.time() + patience_s)
        except UpstreamUnavailableError as error:
            return str(error), error.delivery.cause or _LOST
        except OSError as error:
            return f"upstream {self.name}: {reason_of(error)}", cause_of(error)
        return ("", _LOST) if is_seen else None

    def _pause_s(self, now: float) -> float:
        """The time until the next probe."""
        if self.breaker.state == "open":
            left_s = self.breaker.retry_at - now
            return left_s if left_s > 0 else _AGAIN_S  # over where nothing could be seen
        is_in_trouble = self._problem and self._config.max_failures
        return _AGAIN_S if is_in_trouble else self._config.probe_interval_s
