"""The watch over access keys in a running gate: judged once a second, reported, acted upon.

The path of a message only notes uses; all else is done here, in small pieces. Each gate judges
what it has relayed itself. It writes the profiles now and then, joined with those of other
gates, and obeys what a person has decided about a key.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar, Final

from smtpgate.admin.key_profiles import KeyProfiles
from smtpgate.admin.key_watch import rules_of
from smtpgate.config.sections import WatchConfig
from smtpgate.core.events import Event, EventsRecorded, KeyAction, KeyUseDiffers
from smtpgate.core.history.key_use import USES, of_bounces, use_of
from smtpgate.core.notification.key_alarm import alarm_tasks
from smtpgate.core.outbox.task import Task
from smtpgate.core.watch.batch import Batch, UseOfKey
from smtpgate.core.watch.observe import is_to_be_reported, observe, with_report
from smtpgate.core.watch.profile import Profile, joined
from smtpgate.core.watch.signals import Assessment
from smtpgate.directory.change import Actor, NotFoundError
from smtpgate.directory.key_watch import contacts, raise_alarm, store_profiles, stored_profiles
from smtpgate.directory.keys import AccessKeyRow, WatchState, access_key
from smtpgate.directory.store import DirectoryStore
from smtpgate.ports import Clock, DirectoryUnavailableError, EventSink, JournalUnavailableError
from smtpgate.tasks import Rhythm

_EVERY_S: Final = 1.0
_FLUSH_S: Final = 300.0
_OBEY_S: Final = 5.0
_MAX_ROWS: Final = 10_000
# Uses that are judged before others run: some 100 microseconds each.
_AT_ONCE: Final = 4
_STATES: Final[Mapping[str, WatchState]] = {
    "report": "reported",
    "slow": "slowed",
    "disable": "suspended",
}

Deliver = Callable[[Sequence[Task]], Awaitable[object]]
"""Puts tasks into the outbox. Raises JournalUnavailableError."""


@dataclass(frozen=True, slots=True)
class _Due:
    """A report that is to be made."""

    key_id: str
    assessment: Assessment
    owners: frozenset[str]
    hour: int
    at: datetime


class KeyWatcher:
    """Watches the use of access keys; implements the EventSink port."""

    reads: ClassVar[tuple[type, ...]] = (*USES, EventsRecorded)

    def __init__(
        self,
        store: DirectoryStore,
        settings: WatchConfig,
        *,
        hostname: str,
        clock: Clock,
        events: EventSink,
        on_error: Callable[[BaseException], None],
        deliver: Deliver | None = None,
    ) -> None:
        """Without ``deliver`` nothing is mailed."""
        self.deliver = deliver
        self._store = store
        self._settings = settings
        self._rules = rules_of(settings)
        self._actor = Actor("watch", f"gate {hostname}")
        self._clock = clock
        self._events = events
        self._on_error = on_error
        self._batch = Batch(_MAX_ROWS)
        self._profiles = KeyProfiles(store)
        self._due: dict[str, _Due] = {}
        self._flushed_s = self._obeyed_s = clock.monotonic()
        self._rhythm = Rhythm()

    # -- what happens --------------------------------------------------------------------------

    def publish(self, event: Event) -> None:
        """Note the use of a key, or bounces that came back."""
        use = use_of(event)
        if use is not None:
            self._batch.add(use)
        elif isinstance(event, EventsRecorded):
            self._note_bounces(event)

    def _note_bounces(self, recorded: EventsRecorded) -> None:
        """Those that are new: a stranger may report one twice, and name any address in it."""
        bounced: Counter[str] = Counter()
        for event in recorded.events:
            if event.kind == "Bounce" and event.mail.access_key:
                bounced[event.mail.access_key] += len(event.recipients)
        for key_id, number in bounced.items():
            self._batch.add(of_bounces(key_id, self._clock.now(), number))

    def take(self, uses: Iterable[UseOfKey]) -> None:
        """Note uses at another process of the gate."""
        for use in uses:
            self._batch.add(use)

    # -- life ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Judge once a second, until stopped; then write the profiles."""
        while await self._rhythm.goes_on(_EVERY_S):
            await self._try(self.round)
        await self._try(self.round)
        await self._try(self._profiles.flush)

    def stop(self) -> None:
        """Judge and write once more, and then no longer."""
        self._rhythm.end()

    async def _try(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except (DirectoryUnavailableError, JournalUnavailableError):
            pass  # others report it; it is tried again
        except Exception as error:  # noqa: BLE001 - it must not end the gate's life
            self._on_error(error)

    async def round(self) -> None:
        """Judge what was noted, report, and now and then write the profiles.

        Raises DirectoryUnavailableError or JournalUnavailableError; nothing is lost then.
        """
        uses = self._batch.take()
        try:
            await self._profiles.load(dict.fromkeys(use.key_id for use in uses))
        except DirectoryUnavailableError:
            self.take(uses)
            raise
        await self._judge_all(uses)
        now_s = self._clock.monotonic()
        if now_s - self._obeyed_s >= _OBEY_S:
            self._obeyed_s = now_s
            await self._profiles.obey()
        for due in tuple(self._due.values()):
            await self._report(due)
            self._due.pop(due.key_id, None)
        if now_s - self._flushed_s >= _FLUSH_S:
            self._flushed_s = now_s
            await self._profiles.flush()

    # -- judging -------------------------------------------------------------------------------

    async def _judge_all(self, uses: Sequence[UseOfKey]) -> None:
        by_key: dict[str, list[UseOfKey]] = defaultdict(list)
        for use in uses:
            by_key[use.key_id].append(use)
        for key_id, its in by_key.items():
            await self._judge(key_id, its)

    async def _judge(self, key_id: str, uses: Sequence[UseOfKey]) -> None:
        profile = self._profiles.get(key_id)
        for number, use in enumerate(uses, 1):
            seen = use.observation
            profile, assessment = observe(profile, seen, self._rules)
            if is_to_be_reported(profile, assessment, seen.hour):
                self._note_due(key_id, assessment, use)
            if not number % _AT_ONCE:
                await asyncio.sleep(0)
        if profile is not None:
            self._profiles.put(key_id, profile)
        await asyncio.sleep(0)

    def _note_due(self, key_id: str, assessment: Assessment, use: UseOfKey) -> None:
        hour, owners = use.observation.hour, frozenset(use.owners)
        due = _Due(key_id, assessment, owners, hour, self._clock.now())
        before = self._due.get(key_id)
        if before is not None:
            due = replace(due, owners=before.owners | due.owners)
            if before.assessment.score > assessment.score:
                due = replace(due, assessment=before.assessment)
        self._due[key_id] = due

    # -- reporting -----------------------------------------------------------------------------

    async def _report(self, due: _Due) -> None:
        """Report once; whatever cannot be done is tried again as a whole."""
        async with self._store.reading() as connection:
            try:
                row = await access_key(connection, due.key_id)
            except NotFoundError:
                return  # it was deleted meanwhile
            addresses = await contacts(connection, [row.account_id, *due.owners])
            stored = (await stored_profiles(connection, [due.key_id])).get(due.key_id)
        if self._profiles.is_outdated(due.key_id, row.cleared_at):
            return  # decided by a person meanwhile: the next use is judged again
        profile = self._profiles.get(due.key_id) or Profile()
        if stored is not None and stored.profile is not None:
            profile = joined(profile, stored.profile)
        if not is_to_be_reported(profile, due.assessment, due.hour):
            self._profiles.put(due.key_id, profile)
            return  # another gate has reported it
        profile = with_report(profile, due.assessment, due.hour)
        is_alarm = due.assessment.level == "alarm"
        alarm = KeyUseDiffers(
            key_id=row.id,
            account_id=row.account_id,
            user_name=row.user_name,
            level=due.assessment.level,
            score=due.assessment.score,
            findings=due.assessment.findings,
            action=self._action(row) if is_alarm else "noted",
            at=due.at,
        )
        if is_alarm:
            await self._mail(alarm, addresses)
            await self._act(alarm, profile)
        self._profiles.put(due.key_id, profile)
        self._events.publish(alarm)

    def _action(self, row: AccessKeyRow) -> KeyAction:
        """The state of the key with this alarm: what it is already, if that is graver."""
        if row.watch_state == "suspended" or self._settings.action == "report":
            return row.watch_state or "reported"
        return _STATES[self._settings.action]

    async def _mail(self, alarm: KeyUseDiffers, addresses: Mapping[str, str]) -> None:
        if self.deliver is None:
            return
        operator = self._settings.operator
        own = [addresses.get(alarm.account_id), operator]
        others = {one: to for one, to in addresses.items() if one != alarm.account_id}
        tasks = alarm_tasks(alarm, [to for to in own if to is not None], others)
        if tasks:
            await self.deliver(tasks)

    async def _act(self, alarm: KeyUseDiffers, profile: Profile) -> None:
        """Set the state of the key, and keep that it was reported."""
        reason = "; ".join(one.text for one in alarm.findings)
        state = _STATES[self._settings.action]
        async with self._store.changing(self._actor) as change:
            await raise_alarm(change, alarm.key_id, state, reason, self._settings.slow_to_per_s)
            _ = await store_profiles(change.connection, {alarm.key_id: profile}, change.now)
        self._profiles.note_alarm(alarm.key_id)
