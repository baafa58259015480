"""The worker that looks after identities in the background, in every running gate.

Several gates may look at the same identity; what one of them wrote, the others see, and a
result that was overtaken is dropped.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from smtpgate.core.events import DkimAlarm, IdentityStateChanged, UpkeepDone
from smtpgate.core.proof.registered import Registered
from smtpgate.ports import Clock, EventSink, Registry, Resolver
from smtpgate.tasks import Rhythm
from smtpgate.upkeep.dns import looked_at

_EVERY_S: Final = 20.0
_AT_ONCE: Final = 16
_A_ROUND: Final = 200


class Upkeep:
    """Asks the DNS about whatever is due. ``chance`` gives numbers from 0 to below 1."""

    def __init__(
        self,
        registry: Registry,
        resolver: Resolver,
        *,
        label: str,
        clock: Clock,
        chance: Callable[[], float],
        events: EventSink,
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._registry = registry
        self._resolver = resolver
        self._label = label
        self._clock = clock
        self._chance = chance
        self._events = events
        self._on_error = on_error
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._rhythm = Rhythm()

    async def run(self) -> None:
        """Work until stopped; what goes wrong is told, and tried again later."""
        wait_s = 0.0
        while await self._rhythm.goes_on(wait_s):
            wait_s = _EVERY_S * (0.5 + self._chance())
            try:
                if await self.round() >= _A_ROUND:
                    wait_s = 0.0
            except Exception as error:  # noqa: BLE001 - the next round may fare better
                self._on_error(error)

    def stop(self) -> None:
        """Work no longer, once the round that may be going on is done."""
        self._rhythm.end()

    async def round(self) -> int:
        """Look at what is due, at most 200 identities; how many of them that could be done for.

        Raises DirectoryUnavailableError.
        """
        due = await self._registry.due(self._clock.now(), _A_ROUND)
        after = await asyncio.gather(*map(self._look, due))
        looked = [(old, new) for old, new in zip(due, after, strict=True) if new is not None]
        changed = [(old, new) for old, new in looked if old != new]
        for before, now_is in await self._registry.settle(changed):
            self._tell(before, now_is)
        self._events.publish(UpkeepDone(await self._registry.troubles()))
        return len(looked)

    async def _look(self, identity: Registered) -> Registered | None:
        """The identity as it is now; ``None`` when one cannot look, and the next round will."""
        async with self._slots:
            try:
                return await looked_at(
                    identity, self._resolver, self._label, self._clock.now(), self._chance()
                )
            except Exception as error:  # noqa: BLE001 - the others are not to wait for this one
                self._on_error(error)
                return None

    def _tell(self, before: Registered, after: Registered) -> None:
        was, is_now, at = before.verification, after.verification, self._clock.now()
        if (was.state, was.missing_since is None) != (
            is_now.state,
            is_now.missing_since is None,
        ):
            self._events.publish(
                IdentityStateChanged(
                    after.arn,
                    after.account_id,
                    is_now.state,
                    is_now.missing_since,
                    is_now.problem,
                    at,
                )
            )
        for old, new in zip(before.staged, after.staged, strict=True):
            if (old.alarm_since is None) != (new.alarm_since is None):
                self._events.publish(
                    DkimAlarm(after.arn, new.selector, new.alarm_since, new.problem, at)
                )
