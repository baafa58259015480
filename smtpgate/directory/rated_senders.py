"""Reputations as the task that judges senders reads and saves them."""

from collections.abc import Sequence
from typing import Final

from smtpgate.core.reputation.judgement import Reputation
from smtpgate.core.reputation.sender import RatedSender, RatingSettings
from smtpgate.directory.accounts import account
from smtpgate.directory.change import Actor, Change, NotFoundError
from smtpgate.directory.configuration_sets import configuration_set, update_configuration_set
from smtpgate.directory.identities import identity
from smtpgate.directory.reputations import (
    all_rating_settings,
    put_reputation,
    reputation,
    reputations_of,
)
from smtpgate.directory.store import DirectoryStore

# Of so many senders the state is looked at again in each round.
_MOST_TROUBLED: Final = 10_000


class DirectoryReputations:
    """Implements the Reputations port over a store; one actor makes all changes."""

    def __init__(self, store: DirectoryStore, actor: Actor) -> None:
        self._store = store
        self._actor = actor

    async def one(self, sender: RatedSender) -> Reputation:
        """The reputation of a sender."""
        async with self._store.reading() as connection:
            return await reputation(connection, self._store.region, sender)

    async def troubled(self) -> Sequence[Reputation]:
        """Those that are not healthy, or paused."""
        async with self._store.reading() as connection:
            return await reputations_of(
                connection, self._store.region, only_troubled=True, limit=_MOST_TROUBLED
            )

    async def settings(self) -> Sequence[RatingSettings]:
        """The configuration sets and identities that are judged."""
        async with self._store.reading() as connection:
            return await all_rating_settings(connection, self._store.region)

    async def save(self, before: Reputation, after: Reputation) -> bool:
        """Save a changed reputation, unless it was changed meanwhile."""
        async with self._store.changing(self._actor) as change:
            return await self._save(change, before, after)

    async def _save(self, change: Change, before: Reputation, after: Reputation) -> bool:
        region, sender = self._store.region, after.sender
        if await reputation(change.connection, region, sender) != before:
            return False
        is_paused = before.pause is None and after.pause is not None
        try:
            await _must_be_there(change, region, sender, is_paused=is_paused)
        except NotFoundError:
            return False
        action = "auto-pause" if is_paused else "judge"
        await put_reputation(change, region, before, after, action=action)
        return True


async def _must_be_there(
    change: Change, region: str, sender: RatedSender, *, is_paused: bool
) -> None:
    """Find the sender, and pause its configuration set with it. Raises NotFoundError."""
    connection = change.connection
    await account(connection, sender.account_id)
    if sender.kind == "delegate":
        await identity(connection, sender.owner_id, region, sender.name)
    if sender.kind == "set":
        row = await configuration_set(connection, sender.account_id, region, sender.name)
        if is_paused:
            await update_configuration_set(change, row, {"is_sending": False})
