"""The worker that judges senders by their bounces and complaints, in every running gate.

A round looks at senders with new bounces or complaints, and at those that are under review.
Once an hour it looks at every sender with any in its last 30 days, because days leave the
volumes.

Several gates may judge the same sender. Each sees what the others wrote, and drops a judgement
of its own if the reputation changed meanwhile.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final, TypeAlias, TypeVar

from smtpgate.admin.reputation import volume_of
from smtpgate.core.events import ReputationChanged, ReputationsJudged
from smtpgate.core.reputation.judgement import judged
from smtpgate.core.reputation.sender import RatedMail, RatedObject, RatedSender, RatingSettings
from smtpgate.core.reputation.thresholds import MEASURES, Measure, RatingRules
from smtpgate.core.reputation.volume import LONGEST, Volume
from smtpgate.ports import Clock, EventSink, Reading, ReputationCounts, Reputations
from smtpgate.tasks import Rhythm

_EVERY_S: Final = 60.0
_FIRST_AFTER_S: Final = 1.0  # a start has other work
_ALL_EVERY_S: Final = 3600.0
# A bounce or complaint may be written late, but not a day late.
_LATELY: Final = timedelta(days=1)
_GAUGES: Final[Mapping[Measure, str]] = {
    "bounce": "smtpgate_reputation_bounce_ratio",
    "complaint": "smtpgate_reputation_complaint_ratio",
}

T = TypeVar("T")
# A step of so many takes less than half a millisecond.
_STEP: Final = 100
# By kind, account and name.
_Settings: TypeAlias = Mapping[tuple[RatedObject, str, str], RatingSettings]


class ReputationWorker:
    """Judges senders. ``chance`` gives numbers from 0 to below 1.

    ``max_accounts`` have metrics of their own, those with the highest rates first. ``rest_s``
    is the wait after each judgement, so that many of them delay no message.
    """

    def __init__(
        self,
        counts: ReputationCounts,
        reputations: Reputations,
        rules: RatingRules,
        *,
        max_accounts: int,
        clock: Clock,
        chance: Callable[[], float],
        events: EventSink,
        on_error: Callable[[BaseException], None],
        rest_s: float = 0.02,
    ) -> None:
        self._counts = counts
        self._reputations = reputations
        self._rules = rules
        self._max_accounts = max_accounts
        self._clock = clock
        self._chance = chance
        self._events = events
        self._on_error = on_error
        self._rest_s = rest_s
        self._rhythm = Rhythm()
        self._all_at_s = float("-inf")
        self._lately: Mapping[RatedMail, int] = {}
        self._settings: _Settings = {}
        self._volumes: dict[str, Volume] = {}

    async def run(self) -> None:
        """Judge until stopped; a round that fails is reported, and tried again later."""
        wait_s = _FIRST_AFTER_S
        while await self._rhythm.goes_on(wait_s):
            wait_s = _EVERY_S * (0.5 + self._chance())
            try:
                await self.round()
            except Exception as error:  # noqa: BLE001 - the next round may fare better
                self._on_error(error)

    def stop(self) -> None:
        """Stop after the current round."""
        self._rhythm.end()

    def readings(self) -> Iterator[Reading]:
        """The rates of accounts, as of their last judgement, for a scrape."""
        for account_id, volume in self._worst():
            for measure, gauge in _GAUGES.items():
                yield Reading(gauge, volume.rate(measure), (account_id,))

    def _worst(self) -> list[tuple[str, Volume]]:
        def danger(found: tuple[str, Volume]) -> float:
            rules, volume = self._rules, found[1]
            return max(volume.rate(one) / rules.of(one).pause for one in MEASURES)

        found = list(self._volumes.items())  # in one step: the event loop adds some meanwhile
        return sorted(found, key=danger, reverse=True)[: self._max_accounts]

    async def round(self) -> None:
        """Judge those that may have changed.

        Raises JournalUnavailableError or DirectoryUnavailableError.
        """
        now, now_s = self._clock.now(), self._clock.monotonic()
        is_of_all = now_s - self._all_at_s >= _ALL_EVERY_S
        its = await self._reputations.settings()
        settings: _Settings = {one.key: one async for one in _in_steps(its)}
        lately = await self._counts.troubled(now - _LATELY, now)
        if is_of_all:
            senders = await self._all(now)
        else:
            senders = await self._changed(now, lately, settings)
        volumes: dict[str, Volume] = {}
        for sender in senders:
            rules = self._rules_of(sender, settings)
            if rules is None:
                continue
            volume = await self._judge(sender, rules)
            if sender.kind == "account":
                volumes[sender.account_id] = volume
            if not await self._rhythm.goes_on(self._rest_s):
                return
        self._lately, self._settings = lately, settings
        if is_of_all:
            self._all_at_s, self._volumes = now_s, volumes
        else:
            self._volumes.update(volumes)
        after = await self._reputations.troubled()
        counts = Counter([(one.sender.kind, one.status) async for one in _in_steps(after)])
        self._events.publish(ReputationsJudged(counts))

    async def _all(self, now: datetime) -> Iterable[RatedSender]:
        """The senders of mail with trouble in 30 days, and those that are not healthy."""
        troubled = await self._reputations.troubled()
        found = {one.sender: None async for one in _in_steps(troubled)}
        async for sender in _senders(await self._counts.troubled(now - LONGEST, now)):
            found[sender] = None
        return found

    async def _changed(
        self, now: datetime, lately: Mapping[RatedMail, int], settings: _Settings
    ) -> Iterable[RatedSender]:
        """The senders with new trouble, those under review, and those with other settings."""
        troubled = await self._reputations.troubled()
        found = {
            one.sender: None async for one in _in_steps(troubled) if one.status == "PROBATION"
        }
        async for one, bad in _in_steps(lately.items()):
            if bad != self._lately.get(one):
                found |= dict.fromkeys(one.senders())
        changed = {
            key
            async for key, its in _in_steps(settings.items())
            if self._settings.get(key) != its
        }
        if changed:
            async for sender in _senders(await self._counts.troubled(now - LONGEST, now)):
                if RatingSettings.key_of(sender) in changed:
                    found[sender] = None
        return found

    def _rules_of(
        self,
        sender: RatedSender,
        settings: _Settings,
    ) -> RatingRules | None:
        """The rules for a sender; ``None`` if no owner has it judged."""
        key = RatingSettings.key_of(sender)
        if key is None:
            return self._rules
        its = settings.get(key)
        return None if its is None else self._rules.pausing(auto_pause=its.auto_pause)

    async def _judge(self, sender: RatedSender, rules: RatingRules) -> Volume:
        before, now = await self._reputations.one(sender), self._clock.now()
        volume = await volume_of(self._counts, sender, before.fresh_start_at, now)
        after = judged(before, volume, rules, now)
        if after is not before and await self._reputations.save(before, after):
            self._events.publish(ReputationChanged(before, after, now))
        return volume


async def _senders(mail: Iterable[RatedMail]) -> AsyncIterator[RatedSender]:
    """All senders whose rates the mail is part of; some of them more than once."""
    async for one in _in_steps(mail):
        for sender in one.senders():
            yield sender


async def _in_steps(things: Iterable[T]) -> AsyncIterator[T]:
    """The things; the event loop does other work now and then."""
    for number, one in enumerate(things, 1):
        yield one
        if number % _STEP == 0:
            await asyncio.sleep(0)
