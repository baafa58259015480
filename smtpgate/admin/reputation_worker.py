"""The worker that judges senders by their bounces and complaints, in every running gate.

A round looks at senders with new bounces or complaints, and at those that are not healthy. Once
an hour it looks at every sender with any in its last 30 days, because days leave the volumes.
Several gates may judge the same sender. Each sees what the others wrote, and drops a judgement
of its own if the reputation changed meanwhile.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from itertools import chain
from typing import Final

from smtpgate.admin.reputation import volume_of
from smtpgate.core.events import ReputationChanged, ReputationsJudged
from smtpgate.core.reputation.judgement import judged
from smtpgate.core.reputation.sender import RatedMail, RatedObject, RatedSender, RatingSettings
from smtpgate.core.reputation.thresholds import MEASURES, Measure, RatingRules
from smtpgate.core.reputation.volume import LONGEST, Volume
from smtpgate.ports import Clock, EventSink, Reading, ReputationCounts, Reputations
from smtpgate.tasks import Rhythm

_EVERY_S: Final = 60.0
_ALL_EVERY_S: Final = 3600.0
# What a round looks back, so that nothing between two rounds is missed.
_LATELY: Final = timedelta(minutes=30)
_GAUGES: Final[Mapping[Measure, str]] = {
    "bounce": "smtpgate_reputation_bounce_ratio",
    "complaint": "smtpgate_reputation_complaint_ratio",
}


class ReputationWorker:
    """Judges senders. ``chance`` gives numbers from 0 to below 1.

    ``max_accounts`` have metrics of their own, those with the highest rates first.
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
    ) -> None:
        self._counts = counts
        self._reputations = reputations
        self._rules = rules
        self._max_accounts = max_accounts
        self._clock = clock
        self._chance = chance
        self._events = events
        self._on_error = on_error
        self._rhythm = Rhythm()
        self._all_at_s = float("-inf")
        self._volumes: dict[str, Volume] = {}

    async def run(self) -> None:
        """Judge until stopped; a round that fails is reported, and tried again later."""
        wait_s = 0.0
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
        since = now - (LONGEST if is_of_all else _LATELY)
        settings = {one.key: one for one in await self._reputations.settings()}
        troubled = [one.sender for one in await self._reputations.troubled()]
        mail = await self._counts.troubled(since, now)
        volumes: dict[str, Volume] = {}
        for sender in _senders(mail, troubled):
            rules = self._rules_of(sender, settings)
            if rules is None:
                continue
            volume = await self._judge(sender, rules)
            if sender.kind == "account":
                volumes[sender.account_id] = volume
        if is_of_all:
            self._all_at_s = now_s
            self._volumes = volumes
        else:
            self._volumes.update(volumes)
        after = await self._reputations.troubled()
        counts = Counter((one.sender.kind, one.status) for one in after)
        self._events.publish(ReputationsJudged(counts))

    def _rules_of(
        self,
        sender: RatedSender,
        settings: Mapping[tuple[RatedObject, str, str], RatingSettings],
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


def _senders(
    mail: Iterable[RatedMail], troubled: Iterable[RatedSender]
) -> Iterable[RatedSender]:
    """Each sender once: those of the mail, and those that are not healthy."""
    of_mail = (sender for one in mail for sender in one.senders())
    return dict.fromkeys(chain(of_mail, troubled))
