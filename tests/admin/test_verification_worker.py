"""Identities are looked after: a real directory and resolver, a scripted name server."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import dns.rcode
import pytest

from smtpgate.admin.verification_worker import VerificationWorker
from smtpgate.config.sections import DnsConfig
from smtpgate.core.events import DkimAlarm, Event, IdentitiesChecked, IdentityStateChanged
from smtpgate.core.proof.dkim_stages import RETIRING
from smtpgate.core.proof.registered import Registered
from smtpgate.core.proof.verification import GRACE, NOT_STARTED, PATIENCE, begin
from smtpgate.directory.accounts import AccountRow, create_account
from smtpgate.directory.change import Actor
from smtpgate.directory.dkim import DkimKeyRow, add_dkim_key, dkim_key
from smtpgate.directory.identities import IdentityRow, create_identity, identity
from smtpgate.directory.registered_identities import DirectoryIdentities
from smtpgate.directory.store import DirectoryStore
from smtpgate.dns.resolver import DnsResolver
from smtpgate.ports import DirectoryUnavailableError, Resolver
from smtpgate.signing.private_keys import generate_private_key
from tests.support.clock import MovableClock, move_loop, settle
from tests.support.directory import ACTOR, open_store, sqlite_in
from tests.support.dns_records import Records, checks_by
from tests.support.scripted_dns import Query, ScriptedDns, answer_of, open_dns, soa, texts
from tests.support.waiting import until
from tests.support.world import OWNER, REGION

DOMAIN: Final = "ses-example.com"
TOKEN: Final = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


class Zone:
    """The records of the name server, and its faults."""

    def __init__(self) -> None:
        self.records: dict[str, bytes] = {}
        self.is_broken = False

    def answer(self, query: Query) -> list[bytes]:
        """Its answer to a query."""
        name = query.question[0].name.to_text(omit_final_dot=True).lower()
        if self.is_broken:
            return [answer_of(query, code=dns.rcode.SERVFAIL)]
        if name in self.records:
            return [answer_of(query, texts(name, self.records[name]))]
        return [answer_of(query, authority=[soa(DOMAIN)], code=dns.rcode.NXDOMAIN)]


class Events:
    """Keeps what happened."""

    def __init__(self) -> None:
        self.seen: list[Event] = []

    def publish(self, event: Event) -> None:
        """Keep it."""
        self.seen.append(event)

    def take(self) -> list[Event]:
        """The events since the last call, less the ends of rounds."""
        seen: list[Event] = [
            event for event in self.seen if not isinstance(event, IdentitiesChecked)
        ]
        self.seen.clear()
        return seen


class World:
    """A store, a zone and a worker."""

    def __init__(self, store: DirectoryStore, dns: ScriptedDns, clock: MovableClock) -> None:
        self.store = store
        self.clock = clock
        self.zone = Zone()
        self.events = Events()
        dns.on_udp = self.zone.answer
        resolver = DnsResolver(
            DnsConfig(nameservers=(dns.nameserver,), timeout_s=2, lifetime_s=4)
        )
        self.checks = self.worker(resolver, _fail)

    def worker(
        self, resolver: Resolver, on_error: Callable[[BaseException], None]
    ) -> VerificationWorker:
        """A worker, as each gate has one."""
        return VerificationWorker(
            DirectoryIdentities(self.store, Actor("worker", "here"), "recheck"),
            checks_by(resolver),
            clock=self.clock,
            chance=lambda: 0.5,
            events=self.events,
            on_error=on_error,
        )

    async def pass_by(self, hours: float, step_hours: float = 6.0) -> list[Event]:
        """Let time pass with a round of the worker now and then; what happened."""
        while hours > 0:
            self.clock.move(min(step_hours, hours) * 3600)
            hours -= step_hours
            await self.checks.round()
        return self.events.take()

    async def row(self) -> IdentityRow:
        """The identity now."""
        async with self.store.reading() as connection:
            return await identity(connection, OWNER, REGION, DOMAIN)

    async def key(self, selector: str = "one") -> DkimKeyRow:
        """The DKIM key now."""
        async with self.store.reading() as connection:
            return await dkim_key(connection, OWNER, REGION, DOMAIN, selector)


def pending_row(domain: str, clock: MovableClock) -> IdentityRow:
    pending = begin(NOT_STARTED, clock.now())
    return IdentityRow(
        account_id=OWNER,
        region=REGION,
        name=domain,
        token=TOKEN,
        state=pending.state,
        started_at=pending.started_at,
        next_check_at=pending.next_check_at,
    )


@pytest.fixture
async def world(tmp_path: Path, clock: MovableClock) -> AsyncIterator[World]:
    async with open_store(sqlite_in(tmp_path), clock=clock) as store, open_dns() as dns:
        async with store.changing(ACTOR) as change:
            await create_account(change, AccountRow(id=OWNER))
            await create_identity(change, pending_row(DOMAIN, clock), "aws")
        yield World(store, dns, clock)


def _fail(error: BaseException) -> None:
    raise error


async def add_key(world: World, stage: str = "active") -> DkimKeyRow:
    async with world.store.changing(ACTOR) as change:
        return await add_dkim_key(
            change,
            world.store.master_keys,
            DkimKeyRow(
                account_id=OWNER,
                region=REGION,
                domain=DOMAIN,
                selector="one",
                stage=stage,  # type: ignore[arg-type]  # a table of tests names it
                next_check_at=world.clock.now() if stage == "active" else None,
            ),
            generate_private_key("ed25519"),
        )


async def test_a_domain_is_verified_once_its_token_is_published(world: World) -> None:
    assert await world.pass_by(1) == []
    assert (await world.row()).problem == (
        "no TXT record at _smtpgate.ses-example.com; no TXT record at ses-example.com"
    )
    world.zone.records["_smtpgate.ses-example.com"] = TOKEN.encode()
    (event,) = await world.pass_by(1)
    assert isinstance(event, IdentityStateChanged)
    assert event.state == "success"
    row = await world.row()
    assert (row.is_verified, row.method, row.problem) == (True, "txt", "")


async def test_the_token_may_be_where_amazon_ses_has_its_own(world: World) -> None:
    world.zone.records["_amazonses.ses-example.com"] = TOKEN.encode()
    await world.pass_by(1)
    assert (await world.row()).method == "txt"


async def test_a_domain_is_verified_by_the_record_of_its_own_key(world: World) -> None:
    key = await add_key(world)
    world.zone.records[key.dns_name] = key.record.encode()
    await world.pass_by(1)
    assert (await world.row()).method == "dkim"


async def test_a_domain_whose_token_never_appears_fails_after_72_hours(world: World) -> None:
    assert await world.pass_by(PATIENCE.total_seconds() / 3600 - 1) == []
    (event,) = await world.pass_by(2)
    assert isinstance(event, IdentityStateChanged)
    assert event.state == "failed"
    assert await world.pass_by(24) == []


async def test_a_record_that_is_gone_leaves_72_hours_of_grace(world: World) -> None:
    world.zone.records["_smtpgate.ses-example.com"] = TOKEN.encode()
    await world.pass_by(1)
    world.zone.records.clear()
    (event,) = await world.pass_by(12)
    assert isinstance(event, IdentityStateChanged)
    assert (event.state, event.missing_since is not None) == ("success", True)
    assert await world.pass_by(GRACE.total_seconds() / 3600 - 14) == []
    assert (await world.row()).is_verified
    (event,) = await world.pass_by(14)
    assert isinstance(event, IdentityStateChanged)
    assert event.state == "failed"


async def test_a_record_that_comes_back_in_time_is_as_if_it_never_was_gone(
    world: World,
) -> None:
    world.zone.records["_smtpgate.ses-example.com"] = TOKEN.encode()
    await world.pass_by(1)
    world.zone.records.clear()
    await world.pass_by(12)
    world.zone.records["_smtpgate.ses-example.com"] = TOKEN.encode()
    (event,) = await world.pass_by(12)
    assert isinstance(event, IdentityStateChanged)
    assert event.missing_since is None
    assert await world.pass_by(100) == []


async def test_a_name_server_out_of_order_is_no_verdict(world: World) -> None:
    world.zone.records["_smtpgate.ses-example.com"] = TOKEN.encode()
    await world.pass_by(1)
    world.zone.is_broken = True
    assert await world.pass_by(200, 8) == []
    row = await world.row()
    assert row.is_verified
    assert "SERVFAIL" in row.problem


async def test_an_alarm_tells_of_a_signing_key_whose_record_is_gone(world: World) -> None:
    key = await add_key(world)
    world.zone.records[key.dns_name] = key.record.encode()
    await world.pass_by(2)
    del world.zone.records[key.dns_name]
    events = await world.pass_by(2)
    (alarm,) = (event for event in events if isinstance(event, DkimAlarm))
    assert (alarm.selector, alarm.since is not None) == ("one", True)
    assert alarm.problem == "no TXT record is published"
    world.zone.records[key.dns_name] = key.record.encode()
    events = await world.pass_by(2)
    (alarm,) = (event for event in events if isinstance(event, DkimAlarm))
    assert alarm.since is None


async def test_a_retiring_key_is_retired_after_a_week(world: World) -> None:
    await add_key(world, "retiring")
    days = RETIRING.days
    await world.pass_by(24 * days - 1, 24)
    assert (await world.key()).stage == "retiring"
    await world.pass_by(2)
    assert (await world.key()).stage == "retired"


async def test_only_what_changed_is_in_the_audit_log(world: World) -> None:
    world.zone.records["_smtpgate.ses-example.com"] = TOKEN.encode()
    await world.pass_by(48)
    async with world.store.reading() as connection:
        found = await connection.exec_driver_sql("SELECT actor, action FROM audit_log")
        noted = [tuple(row) for row in found]
    assert noted == [("tester", "create"), ("tester", "create"), ("worker", "recheck")]


async def test_one_identity_that_cannot_be_looked_at_is_reported_and_the_others_are_settled(
    world: World,
) -> None:
    class Faulty(Records):
        async def txt(self, name: str) -> tuple[bytes, ...]:
            if name.endswith("example.org"):
                raise LookupError(name)
            return (TOKEN.encode(),)

    async with world.store.changing(ACTOR) as change:
        await create_identity(change, pending_row("example.org", world.clock), "aws")
    reported: list[BaseException] = []
    checks = world.worker(Faulty(), reported.append)
    world.clock.move(3600)
    assert await checks.round() == 1
    assert [type(error) for error in reported] == [LookupError]
    assert (await world.row()).is_verified
    registry = DirectoryIdentities(world.store, Actor("worker", "here"), "recheck")
    (due,) = await registry.due(world.clock.now(), 10)
    assert due.name == "example.org"


async def test_what_another_process_wrote_meanwhile_is_not_overwritten(world: World) -> None:
    registry = DirectoryIdentities(world.store, Actor("worker", "here"), "recheck")
    world.clock.move(3600)
    (before,) = await registry.due(world.clock.now(), 10)
    await world.checks.round()
    changed = before.with_staged(())
    assert await registry.save([(before, changed)]) == []


class Unsteady(DirectoryIdentities):
    """The identities, which cannot be read the first time."""

    is_first = True

    async def due(self, now: datetime, limit: int) -> Sequence[Registered]:
        if self.is_first:
            self.is_first = False
            raise DirectoryUnavailableError("disk full")
        return await super().due(now, limit)


async def test_a_round_that_fails_is_reported_and_another_follows(world: World) -> None:
    reported: list[BaseException] = []
    worker = VerificationWorker(
        Unsteady(world.store, Actor("worker", "here"), "recheck"),
        checks_by(Records()),
        clock=world.clock,
        chance=lambda: 0.5,
        events=world.events,
        on_error=reported.append,
    )
    running = asyncio.ensure_future(worker.run())
    await until(lambda: reported)
    assert [type(error) for error in reported] == [DirectoryUnavailableError]
    assert world.events.seen == []
    await settle()
    await move_loop(21)
    await until(lambda: world.events.seen)
    worker.stop()
    await running
    assert len(reported) == 1
