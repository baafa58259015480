"""Senders are judged in the background: a real directory, and mail that a test writes down."""

import asyncio
from typing import Any, Final

import pytest
from msgspec import structs

from smtpgate.admin.reputation_worker import ReputationWorker
from smtpgate.core.events import Event, ReputationChanged, ReputationsJudged
from smtpgate.core.reputation.judgement import Reputation, fresh_start, resumed
from smtpgate.core.reputation.sender import RatedMail, RatedSender
from smtpgate.core.reputation.thresholds import RatingRules
from smtpgate.directory.change import Actor
from smtpgate.directory.configuration_sets import configuration_set
from smtpgate.directory.rated_senders import DirectoryReputations
from smtpgate.directory.reputations import put_reputation, reputation
from smtpgate.directory.store import DirectoryStore
from smtpgate.ports import JournalUnavailableError
from tests.support.clock import MovableClock, move_loop, settle
from tests.support.directory import ACTOR
from tests.support.rated_mail import SentMail
from tests.support.reputations import rate
from tests.support.tenants import ACME, OTHER, add_account, add_identity, notes
from tests.support.topics import add_set
from tests.support.world import REGION

OWN: Final = RatedMail(OTHER, OTHER, "other.example")
DELEGATED: Final = RatedMail(OTHER, ACME, "example.com")
WITH_SET: Final = RatedMail(ACME, ACME, "example.com", "spring")
ACCOUNT: Final = RatedSender.account(OTHER)
DELEGATE: Final = RatedSender.delegate(OTHER, ACME, "example.com")
SET: Final = RatedSender.with_set(ACME, "spring")
DAY_S: Final = 86_400


class World:
    """A directory with two accounts, a worker, and what it published."""

    def __init__(self, store: DirectoryStore, clock: MovableClock) -> None:
        self.store, self.clock = store, clock
        self.mail = SentMail()
        self.seen: list[Event] = []
        self.errors: list[BaseException] = []
        self.worker = self.new_worker(RatingRules())

    def new_worker(self, rules: RatingRules, **more: Any) -> ReputationWorker:  # noqa: ANN401
        """Another worker on the same directory."""
        actor = Actor("smtpgate serve", "a test")
        settings: dict[str, Any] = {
            "max_accounts": 10,
            "clock": self.clock,
            "chance": lambda: 0.0,
            "events": self,
            "on_error": self.errors.append,
            "rest_s": 0.0,
        }
        reputations = DirectoryReputations(self.store, actor)
        return ReputationWorker(self.mail, reputations, rules, **(settings | more))

    def publish(self, event: Event) -> None:
        """Keep the event."""
        self.seen.append(event)

    def send(self, mail: RatedMail, recipients: int, bounces: int = 0, more: int = 0) -> None:
        """Messages of today."""
        self.mail.send(self.clock.now(), mail, recipients, bounces, more)

    async def round(self) -> list[tuple[RatedSender, str]]:
        """Judge; the senders that changed, with their status."""
        self.seen.clear()
        await self.worker.round()
        return [
            (one.after.sender, one.after.status)
            for one in self.seen
            if isinstance(one, ReputationChanged)
        ]

    async def of(self, sender: RatedSender) -> Reputation:
        """The stored reputation of a sender."""
        async with self.store.reading() as connection:
            return await reputation(connection, REGION, sender)

    async def put(self, after: Reputation) -> None:
        """Change a reputation as a person would."""
        async with self.store.changing(ACTOR) as change:
            before = await reputation(change.connection, REGION, after.sender)
            await put_reputation(change, REGION, before, after, action="resume")

    def rates(self) -> dict[tuple[str, str], float]:
        """The gauges, by account and measure."""
        return {
            (one.labels[0], one.metric.split("_")[2]): one.value
            for one in self.worker.readings()
        }


@pytest.fixture
async def world(store: DirectoryStore, clock: MovableClock) -> World:
    """Two accounts, one with an identity and a configuration set."""
    await add_account(store)
    await add_account(store, OTHER)
    await add_identity(store)
    await add_set(store)
    return World(store, clock)


async def test_an_account_is_judged_by_all_that_it_sends(world: World) -> None:
    world.send(OWN, 600, 20)
    world.send(DELEGATED, 400, 35)
    assert await world.round() == [(ACCOUNT, "PROBATION")]
    found = await world.of(ACCOUNT)
    assert (found.bounce, found.volume.sent, found.volume.bounces) == ("under-review", 1000, 55)
    assert world.rates() == {(OTHER, "bounce"): 0.055, (OTHER, "complaint"): 0.0}
    note = (await notes(world.store))[-1]
    assert (note.actor, note.action, note.kind) == ("smtpgate serve", "judge", "account")
    # The owner of the identity is not judged by it.
    assert await world.of(RatedSender.account(ACME)) == Reputation(
        sender=RatedSender.account(ACME)
    )
    assert await world.round() == []
    (round_,) = [one for one in world.seen if isinstance(one, ReputationsJudged)]
    assert round_.troubled == {("account", "PROBATION"): 1}


async def test_a_healthy_account_is_written_nowhere(world: World) -> None:
    world.send(OWN, 10_000, 100)
    before = await notes(world.store)
    assert await world.round() == []
    assert await notes(world.store) == before
    assert world.rates()[OTHER, "bounce"] == 0.01


async def test_an_account_is_paused_only_if_the_operator_wants_that(world: World) -> None:
    world.send(OWN, 1_000, 100)
    assert await world.round() == [(ACCOUNT, "PROBATION")]
    assert (await world.of(ACCOUNT)).words("bounce") == "Pending sending pause"
    world.worker = world.new_worker(RatingRules(auto_pause=True))
    assert await world.round() == [(ACCOUNT, "SHUTDOWN")]
    found = await world.of(ACCOUNT)
    assert found.pause is not None
    assert (found.pause.by, found.pause.at) == ("gate", world.clock.now())
    assert (await notes(world.store))[-1].action == "auto-pause"
    assert await world.round() == []


async def test_after_a_resume_only_new_mail_counts(world: World) -> None:
    world.worker = world.new_worker(RatingRules(auto_pause=True))
    world.send(OWN, 1_000, 500)
    await world.round()
    world.clock.move(DAY_S)
    await world.put(resumed(await world.of(ACCOUNT), world.clock.now()))
    assert await world.round() == []
    assert (await world.of(ACCOUNT)).status == "PROBATION"
    world.clock.move(DAY_S)
    world.send(OWN, 1_000, 1)
    assert await world.round() == [(ACCOUNT, "HEALTHY")]


async def test_sets_and_delegates_are_judged_where_their_owners_want_it(world: World) -> None:
    world.send(DELEGATED, 10_000, 1_000)
    world.send(WITH_SET, 10_000, 0, 60)
    both = [(RatedSender.account(ACME), "PROBATION"), (ACCOUNT, "PROBATION")]
    assert sorted(await world.round()) == sorted(both)
    await rate(world.store)
    await rate(world.store, "set", "spring", auto_pause=True)
    assert sorted(await world.round()) == [(DELEGATE, "PROBATION"), (SET, "SHUTDOWN")]
    async with world.store.reading() as connection:
        row = await configuration_set(connection, ACME, REGION, "spring")
    assert not row.is_sending
    found = (await world.of(SET)).pause
    assert found is not None
    assert "complaint rate is 0.60 %" in found.reason
    (round_,) = [one for one in world.seen if isinstance(one, ReputationsJudged)]
    assert round_.troubled == {
        ("account", "PROBATION"): 2,
        ("delegate", "PROBATION"): 1,
        ("set", "SHUTDOWN"): 1,
    }
    await rate(world.store, auto_pause=True)
    assert await world.round() == [(DELEGATE, "SHUTDOWN")]


async def test_old_mail_is_looked_at_once_an_hour_and_new_trouble_at_once(world: World) -> None:
    world.send(OWN, 10_000, 10)
    await world.round()
    world.clock.move(60)
    world.mail.asked.clear()
    await world.round()
    assert world.mail.asked == []
    world.send(WITH_SET, 10_000, 10)
    await world.round()
    assert set(world.mail.asked) == {RatedSender.account(ACME)}
    assert world.rates()[OTHER, "bounce"] == world.rates()[ACME, "bounce"] == 0.001
    world.clock.move(3_600)
    world.mail.asked.clear()
    await world.round()
    assert set(world.mail.asked) == {ACCOUNT, RatedSender.account(ACME)}
    # What is 30 days old leaves the metrics.
    world.clock.move(31 * DAY_S)
    await world.round()
    assert world.rates() == {}


async def test_a_paused_sender_is_looked_at_once_an_hour_and_others_in_each_round(
    world: World,
) -> None:
    world.send(OWN, 1_000, 60)
    await world.round()
    world.mail.asked.clear()
    await world.round()
    assert world.mail.asked == [ACCOUNT]
    world.worker = world.new_worker(RatingRules(auto_pause=True))
    world.send(OWN, 1_000, 900)
    assert await world.round() == [(ACCOUNT, "SHUTDOWN")]
    world.mail.asked.clear()
    await world.round()
    assert world.mail.asked == []
    world.clock.move(3_600)
    await world.round()
    assert world.mail.asked == [ACCOUNT]


async def test_the_accounts_in_the_most_danger_have_metrics(world: World) -> None:
    world.worker = world.new_worker(RatingRules(), max_accounts=1)
    world.send(OWN, 10_000, 400)
    world.send(WITH_SET, 10_000, 0, 40)
    await world.round()
    assert world.rates() == {(ACME, "bounce"): 0.0, (ACME, "complaint"): 0.004}


async def test_of_two_gates_one_judges(world: World) -> None:
    world.send(OWN, 1_000, 60)
    other = world.new_worker(RatingRules())
    assert await world.round() == [(ACCOUNT, "PROBATION")]
    world.seen.clear()
    await other.round()
    assert not [one for one in world.seen if isinstance(one, ReputationChanged)]


async def test_a_judgement_of_what_was_changed_meanwhile_is_dropped(world: World) -> None:
    reputations = DirectoryReputations(world.store, ACTOR)
    before = Reputation(sender=ACCOUNT)
    after = structs.replace(before, bounce="pause", changed_at=world.clock.now())
    await world.put(fresh_start(before, world.clock.now()))
    assert not await reputations.save(before, after)
    assert (await world.of(ACCOUNT)).bounce == "healthy"


@pytest.mark.parametrize(
    "sender",
    [
        RatedSender.account("333333333333"),
        RatedSender.with_set(ACME, "gone"),
        RatedSender.delegate(OTHER, ACME, "gone.example"),
    ],
)
async def test_a_sender_that_is_gone_is_not_judged(world: World, sender: RatedSender) -> None:
    reputations = DirectoryReputations(world.store, ACTOR)
    before = Reputation(sender=sender)
    after = structs.replace(before, bounce="pause", changed_at=world.clock.now())
    assert not await reputations.save(before, after)
    assert await world.of(sender) == before


async def test_a_round_that_fails_is_reported_and_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = JournalUnavailableError("disk full")

    async def troubled(since: object, until: object) -> dict[RatedMail, int]:
        world.worker.stop()  # after this round
        raise failure

    monkeypatch.setattr(world.mail, "troubled", troubled)
    running = asyncio.ensure_future(world.worker.run())
    await settle()
    await move_loop(1)
    await running
    assert world.errors == [failure]
