"""The worker that checks identities and DKIM keys in the background, in every running gate.

Several gates may check the same identity. Each sees what the others wrote, and drops a result
of its own if the identity changed meanwhile.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from smtpgate.admin.dns_checks import DnsChecks
from smtpgate.core.events import DkimAlarm, IdentitiesChecked, IdentityStateChanged
from smtpgate.core.proof.registered import Registered
from smtpgate.ports import Clock, EventSink, RegisteredIdentities
from smtpgate.tasks import Rhythm

_EVERY_S: Final = 20.0
_AT_ONCE: Final = 16
_A_ROUND: Final = 200


class VerificationWorker:
    """Asks the DNS about what is due. ``chance`` gives numbers from 0 to below 1."""

    def __init__(
        self,
        registry: RegisteredIdentities,
        checks: DnsChecks,
        *,
        clock: Clock,
        chance: Callable[[], float],
        events: EventSink,
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._registry = registry
        self._checks = checks
        self._clock = clock
        self._chance = chance
        self._events = events
        self._on_error = on_error
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._rhythm = Rhythm()

    async def run(self) -> None:
        """Check until stopped; a round that fails is reported, and tried again later."""
        wait_s = 0.0
        while await self._rhythm.goes_on(wait_s):
            wait_s = _EVERY_S * (0.5 + self._chance())
            try:
                if await self.round() >= _A_ROUND:
                    wait_s = 0.0
            except Exception as error:  # noqa: BLE001 - the next round may fare better
                self._on_error(error)

    def stop(self) -> None:
        """Stop after the current round."""
        self._rhythm.end()

    async def round(self) -> int:
        """Check what is due, at most 200 identities; returns how many could be checked.

        Raises DirectoryUnavailableError.
        """
        due = await self._registry.due(self._clock.now(), _A_ROUND)
        after = await asyncio.gather(*map(self._check, due))
        looked = [(old, new) for old, new in zip(due, after, strict=True) if new is not None]
        changed = [(old, new) for old, new in looked if old != new]
        for before, now_is in await self._registry.save(changed):
            self._publish_changes(before, now_is)
        self._events.publish(IdentitiesChecked(await self._registry.troubles()))
        return len(looked)

    async def _check(self, identity: Registered) -> Registered | None:
        """The identity after its checks, or ``None`` if they failed."""
        async with self._slots:
            try:
                return await self._checks.after(identity, self._clock.now(), self._chance())
            except Exception as error:  # noqa: BLE001 - it must not stop the other checks
                self._on_error(error)
                return None

    def _publish_changes(self, before: Registered, after: Registered) -> None:
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
