"""The watch over keys of a running gate: judged, reported by mail, slowed down, suspended."""

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final

import pytest
from msgspec import structs

from smtpgate.admin import key_watch
from smtpgate.admin.key_watcher import KeyWatcher
from smtpgate.config.sections import WatchConfig
from smtpgate.core.events import Event, EventsRecorded, FeedbackTaken, KeyUseDiffers
from smtpgate.core.feedback.kinds import NO_EMAIL
from smtpgate.core.history.key_use import hour_of
from smtpgate.core.outbox.event import (
    BounceDetail,
    EventRecipient,
    NoticeDetail,
    SentMail,
    sending_event,
)
from smtpgate.core.outbox.task import Task
from smtpgate.core.reply import Reply
from smtpgate.core.watch.batch import UseOfKey
from smtpgate.core.watch.observe import WatchRules
from smtpgate.core.watch.profile import Profile, record
from smtpgate.directory.key_watch import store_profiles, stored_profiles
from smtpgate.directory.keys import AccessKeyRow, access_key, delete_access_key
from smtpgate.directory.store import DirectoryStore
from smtpgate.ports import DirectoryUnavailableError, JournalUnavailableError
from tests.support import key_uses
from tests.support.admin import session_of
from tests.support.clock import MovableClock
from tests.support.directory import ACTOR, open_store, sqlite_in
from tests.support.events import auth_failed, done
from tests.support.key_uses import MONDAY, Use, business, weeks_of
from tests.support.tenants import add_account, add_key, notes, raw
from tests.support.world import DELEGATE, OWNER

KEY: Final = "AKIAIOSFODNN7EXAMPLE"
WEEKS: Final = 3
AFTER: Final = MONDAY + 7 * WEEKS
NIGHT: Final = AFTER * 24 + 3
AT_NIGHT: Final = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=NIGHT)


def usual() -> Profile:
    """The profile of three ordinary weeks."""
    profile: Profile | None = None
    for use in weeks_of(business, 1, WEEKS):
        profile = record(profile, use.observed(), WatchRules().learn_days)
    assert profile is not None
    return profile


USUAL: Final = usual()


class World:
    """A directory, and a watch whose reports are kept."""

    def __init__(self, store: DirectoryStore, clock: MovableClock) -> None:
        self.store = store
        self.clock = clock
        self.events: list[Event] = []
        self.errors: list[BaseException] = []
        self.tasks: list[Task] = []
        self.journal_problem: Exception | None = None
        self.watcher = self.new()

    def new(self, **settings: object) -> KeyWatcher:
        """A watch, as each gate has one."""
        return KeyWatcher(
            self.store,
            WatchConfig.model_validate(settings),
            hostname="gate.example.com",
            clock=self.clock,
            events=self,
            on_error=self.errors.append,
            deliver=self.deliver,
        )

    def publish(self, event: Event) -> None:
        """Keep it."""
        self.events.append(event)

    async def deliver(self, tasks: Sequence[Task]) -> None:
        """Keep the mail, or fail."""
        if self.journal_problem is not None:
            raise self.journal_problem
        known = {task.id for task in self.tasks}
        self.tasks += [task for task in tasks if task.id not in known]

    async def use(self, uses: Iterable[Use], *, at_once: bool = True) -> list[KeyUseDiffers]:
        """Have the key used, and the uses judged; what was reported."""
        before = len(self.events)
        for use in uses:
            self.watcher.take([UseOfKey(KEY, use.observed(), (OWNER,))])
            if not at_once:
                await self.watcher.round()
        await self.watcher.round()
        found = self.events[before:]
        assert all(isinstance(one, KeyUseDiffers) for one in found)
        return [one for one in found if isinstance(one, KeyUseDiffers)]

    async def key(self) -> AccessKeyRow:
        """The key now."""
        async with self.store.reading() as connection:
            return await access_key(connection, KEY)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A key that is used for three weeks, an owner of its identity, both with a contact."""
    clock = MovableClock(AT_NIGHT)
    async with open_store(sqlite_in(tmp_path), clock=clock) as store:
        await add_account(store, OWNER, contact="owner@example.com")
        await add_account(store, DELEGATE, contact="admin@example.net")
        await add_key(store, KEY, DELEGATE)
        async with store.database.changing() as connection:
            await store_profiles(connection, {KEY: USUAL}, clock.now())
        yield World(store, clock)


def leak(number: int = 40, hour: int = NIGHT, seed: int = 1) -> list[Use]:
    return list(key_uses.from_elsewhere(Random(seed), hour))[:number]


# -- reports -----------------------------------------------------------------------------------


async def test_a_leaked_key_is_reported_to_its_account_the_operator_and_the_owner(
    world: World,
) -> None:
    world.watcher = world.new(operator="postmaster@example.com")
    (alarm,) = await world.use(leak())
    assert (alarm.level, alarm.action, alarm.key_id) == ("alarm", "reported", KEY)
    assert {"network", "from-address"} <= {one.signal for one in alarm.findings}
    to = {task.destination.name: task for task in world.tasks}
    assert set(to) == {"admin@example.net", "postmaster@example.com", "owner@example.com"}
    accounts = {name: task.destination.account_id for name, task in to.items()}
    assert (accounts["admin@example.net"], accounts["owner@example.com"]) == (DELEGATE, OWNER)
    detail = to["admin@example.net"].event.detail
    assert isinstance(detail, NoticeDetail)
    for words in (KEY, DELEGATE, "203.0.113.0/24", f"key confirm {KEY}", f"key disable {KEY}"):
        assert words in detail.text
    others = to["owner@example.com"].event.detail
    assert isinstance(others, NoticeDetail)
    assert KEY not in others.text  # it is not the owner's
    assert DELEGATE in others.text
    row = await world.key()
    assert row.watch_state == "reported"
    assert row.watch_reason is not None
    assert "203.0.113.0/24" in row.watch_reason
    (entry,) = [one for one in await notes(world.store) if one.action == "alarm"]
    assert (entry.actor, entry.origin) == ("watch", "gate gate.example.com")


async def test_there_is_one_report_an_hour_however_the_uses_come(world: World) -> None:
    found = await world.use(leak(), at_once=False)
    assert [one.level for one in found] == ["notice", "alarm"]
    assert len(world.tasks) == 2
    world.clock.move(60)
    assert await world.use(leak(seed=2)) == []


async def test_a_gate_that_starts_again_does_not_report_again(world: World) -> None:
    await world.use(leak())
    world.watcher = world.new()
    assert await world.use(leak(seed=2)) == []


async def test_two_gates_report_the_same_alarm_by_one_mail(world: World) -> None:
    other = world.new()
    other.take([UseOfKey(KEY, use.observed(), (OWNER,)) for use in leak(5)])
    await world.use(leak(5))
    assert len(world.tasks) == 2
    world.clock.move(1800)  # it is another hour soon, and it may be one already
    await other.round()
    assert len(world.tasks) == 2
    assert len([one for one in await notes(world.store) if one.action == "alarm"]) == 1


async def test_a_notice_is_logged_and_not_mailed(world: World) -> None:
    moved = Use(hour=NIGHT, network=key_uses.ELSEWHERE, author="employee1@example.com")
    (notice,) = await world.use([moved])
    assert (notice.level, notice.action) == ("notice", "noted")
    assert world.tasks == []
    assert (await world.key()).watch_state is None


async def test_accounts_without_a_contact_and_a_gate_without_outbox_only_log(
    world: World,
) -> None:
    await raw(world.store, "UPDATE accounts SET contact = NULL")
    (alarm,) = await world.use(leak())
    assert alarm.level == "alarm"
    assert world.tasks == []
    world.watcher = world.new()
    world.watcher.deliver = None
    (later,) = await world.use(leak(hour=NIGHT + 24))
    assert later.level == "alarm"


# -- actions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "state", "rate"),
    [("report", "reported", None), ("slow", "slowed", 0.5), ("disable", "suspended", None)],
)
async def test_the_setting_says_what_is_done(
    world: World, action: str, state: str, rate: float | None
) -> None:
    world.watcher = world.new(action=action, slow_to_per_s=0.5)
    (alarm,) = await world.use(leak())
    row = await world.key()
    assert (alarm.action, row.watch_state, row.slowed_to_per_s) == (state, state, rate)
    detail = world.tasks[0].event.detail
    assert isinstance(detail, NoticeDetail)
    words = {"reported": "can still be used", "slowed": "slowed down", "suspended": "suspended"}
    assert words[state] in detail.text


async def test_a_suspended_key_stays_suspended_when_the_setting_is_milder(world: World) -> None:
    world.watcher = world.new(action="disable")
    await world.use(leak())
    world.watcher = world.new(action="report")
    (alarm,) = await world.use(leak(hour=NIGHT + 25))
    assert alarm.action == "suspended"
    assert (await world.key()).watch_state == "suspended"


async def test_a_confirmed_use_is_usual(world: World) -> None:
    await world.use(leak())
    world.clock.move(30)
    await key_watch.confirm(session_of(world.store, clock=world.clock), KEY)
    world.clock.move(6)
    assert await world.use([]) == []
    assert await world.use(leak(seed=2)) == []
    shown = await key_watch.history(session_of(world.store), KEY)
    assert shown.key.watch_state is None


async def test_a_resumed_key_is_watched_as_before(world: World) -> None:
    world.watcher = world.new(action="disable")
    await world.use(leak())
    world.clock.move(30)
    await key_watch.resume(session_of(world.store, clock=world.clock), KEY)
    world.clock.move(6)
    calm = Use(hour=NIGHT, author="employee1@example.com", to=["customer1@example.net"])
    assert await world.use([calm]) == []
    (alarm,) = await world.use(leak(seed=2))
    assert alarm.action == "suspended"


async def test_a_confirmation_counts_though_the_gate_has_not_read_it_yet(world: World) -> None:
    await world.use(leak(1))  # a notice
    await key_watch.confirm(session_of(world.store, clock=world.clock), KEY)
    world.clock.move(1)
    assert await world.use(leak()) == []
    assert (await world.key()).watch_state is None


async def test_a_confirmation_is_obeyed_by_a_gate_that_starts_later(world: World) -> None:
    await world.use(leak())
    world.clock.move(30)
    await key_watch.confirm(session_of(world.store, clock=world.clock), KEY)
    world.watcher = world.new()
    assert await world.use(leak(seed=2)) == []


# -- faults ------------------------------------------------------------------------------------


async def test_nothing_is_lost_while_the_directory_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise DirectoryUnavailableError("away")

    with monkeypatch.context() as patch:
        patch.setattr(DirectoryStore, "reading", lambda _: away())
        with pytest.raises(DirectoryUnavailableError):
            await world.use(leak())
    (alarm,) = await world.use([])
    assert alarm.level == "alarm"


async def test_a_report_waits_for_the_outbox_and_is_made_once(world: World) -> None:
    world.journal_problem = JournalUnavailableError("disk full")
    with pytest.raises(JournalUnavailableError):
        await world.use(leak())
    assert (await world.key()).watch_state is None
    world.journal_problem = None
    (alarm,) = await world.use([])
    assert alarm.level == "alarm"
    assert len(world.tasks) == 2
    assert await world.use([]) == []


async def test_a_report_that_could_not_be_made_is_made_after_a_start(world: World) -> None:
    world.journal_problem = JournalUnavailableError("disk full")
    world.watcher.take([UseOfKey(KEY, use.observed()) for use in leak()])
    world.watcher.stop()
    await world.watcher.run()
    assert (await profile_of(world)).days[AFTER].has_alarm
    world.journal_problem, world.watcher = None, world.new()
    (alarm,) = await world.use(leak(1))
    assert alarm.level == "alarm"


async def test_a_key_that_was_deleted_meanwhile_is_forgotten(world: World) -> None:
    await world.use(leak(1))
    async with world.store.changing(ACTOR) as change:
        await delete_access_key(change, KEY)
    assert await world.use(leak(hour=NIGHT + 2)) == []
    world.clock.move(301)
    assert await world.use([]) == []
    assert world.errors == []


async def test_an_error_is_reported_and_the_watch_goes_on(world: World) -> None:
    world.journal_problem = RuntimeError("a defect")
    world.watcher.take([UseOfKey(KEY, use.observed()) for use in leak()])
    world.watcher.stop()
    await world.watcher.run()
    assert [str(one) for one in world.errors] == ["a defect"]


# -- what it notes, and keeps ------------------------------------------------------------------


async def profile_of(world: World) -> Profile:
    async with world.store.reading() as connection:
        found = (await stored_profiles(connection, [KEY]))[KEY].profile
    assert found is not None
    return found


async def test_profiles_are_written_every_five_minutes_and_at_the_end(world: World) -> None:
    used = Use(hour=NIGHT, author="employee1@example.com", to=["customer1@example.net"])
    await world.use([used])
    assert AFTER not in (await profile_of(world)).days
    world.clock.move(301)
    await world.use([])
    assert (await profile_of(world)).days[AFTER].messages == 1
    world.watcher.take([UseOfKey(KEY, used.observed())])
    world.watcher.stop()
    await world.watcher.run()
    assert (await profile_of(world)).days[AFTER].messages == 2


def bounced(address: str) -> EventsRecorded:
    """A bounce that came back, of a message that was sent with the key."""
    mail = SentMail("an id", AT_NIGHT, "", (address,), OWNER, access_key=KEY)
    to = EventRecipient(address, "failed", "5.1.1")
    return EventsRecorded((sending_event(AT_NIGHT, mail, [to], BounceDetail(NO_EMAIL)),))


async def test_events_of_the_gate_are_uses(world: World) -> None:
    event = done(recipients=3)
    event.submission = structs.replace(event.submission, received_at=AT_NIGHT)
    world.watcher.publish(event)
    outside = structs.replace(
        auth_failed(), username=KEY, reason="network-not-allowed", at=AT_NIGHT
    )
    world.watcher.publish(outside)

    for number in range(5):
        world.watcher.publish(bounced(f"jane{number}@example.net"))
    # What a report says, and how often it comes, is a stranger's choice.
    everybody = tuple(f"joe{number}@example.net" for number in range(2000))
    world.watcher.publish(
        FeedbackTaken(
            kind="bounce",
            outcome="published",
            message_id="an id",
            recipients=everybody,
            reply=Reply(250, "2.0.0", "Ok"),
            at=AT_NIGHT,
        )
    )
    await world.watcher.round()
    world.watcher.stop()
    await world.watcher.run()
    its = (await profile_of(world)).days[hour_of(AT_NIGHT) // 24]
    assert (its.messages, its.recipients, its.outside, its.bounced) == (1, 3, 1, 5)
