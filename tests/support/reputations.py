"""Reputations and the settings of them in a store, made in a line."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from msgspec import structs
from sqlalchemy import insert, select

from smtpgate.core.reputation.judgement import PausedBy, Reputation, SendingPause
from smtpgate.core.reputation.sender import RatedObject, RatedSender, RatingSettings
from smtpgate.core.reputation.volume import Volume
from smtpgate.directory.change import Change
from smtpgate.directory.reputations import (
    put_rating_settings,
    put_reputation,
    rating_settings,
    reputation,
)
from smtpgate.directory.schema import reputations
from smtpgate.directory.store import DirectoryStore
from tests.support.directory import ACTOR
from tests.support.tenants import ACME, OTHER
from tests.support.world import REGION

AT: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
DELEGATE: Final = RatedSender.delegate(OTHER, ACME, "example.com")
RATE: Final = "its bounce rate is 12.34 %, and sending is paused from 10.00 % on"
VOLUME: Final = Volume(AT, 10_000, 1_234, 5)


def paused(sender: RatedSender, by: PausedBy = "gate") -> Reputation:
    """A sender that is paused for its bounces."""
    return Reputation(
        sender=sender,
        bounce="pause",
        volume=VOLUME,
        changed_at=AT,
        pause=SendingPause(by, RATE, AT),
    )


async def put(change: Change, after: Reputation) -> None:
    """Write a reputation, whatever was there."""
    before = await reputation(change.connection, REGION, after.sender)
    await put_reputation(change, REGION, before, after, action="judge")


async def pause(store: DirectoryStore, sender: RatedSender, by: PausedBy = "gate") -> None:
    """Pause a sender."""
    async with store.changing(ACTOR) as change:
        await put(change, paused(sender, by))


async def pause_many(store: DirectoryStore, account_ids: Sequence[str]) -> None:
    """Pause accounts, in one statement and without entries of the audit log."""
    await pause(store, RatedSender.account(OTHER))
    async with store.changing(ACTOR) as change:
        row = (await change.connection.execute(select(reputations).limit(1))).one()
        rows = [dict(row._mapping) | {"account_id": one} for one in account_ids]
        await change.connection.execute(insert(reputations), rows)


async def resume(store: DirectoryStore, sender: RatedSender) -> None:
    """Resume a sender."""
    async with store.changing(ACTOR) as change:
        await put(change, structs.replace(paused(sender), pause=None))


async def rate(
    store: DirectoryStore,
    kind: RatedObject = "identity",
    name: str = "example.com",
    account_id: str = ACME,
    *,
    auto_pause: bool = False,
) -> None:
    """Have a configuration set, or the delegates of an identity, judged."""
    async with store.changing(ACTOR) as change:
        its = kind, account_id, name
        before = await rating_settings(change.connection, REGION, *its)
        await put_rating_settings(change, REGION, before, RatingSettings(*its, auto_pause))
