"""The watch over access keys: its state, confirmations, and reports about the past."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from smtpgate.admin import keys
from smtpgate.admin.errors import RefusedChangeError
from smtpgate.admin.journal import JournalSession
from smtpgate.admin.keys import KeyDetails
from smtpgate.admin.paging import in_pages
from smtpgate.admin.session import Session
from smtpgate.config.sections import WatchConfig
from smtpgate.core.history.key_use import of_record
from smtpgate.core.history.record import Record
from smtpgate.core.watch.observe import WatchRules, is_to_be_reported, observe, with_report
from smtpgate.core.watch.profile import Profile
from smtpgate.core.watch.signals import Assessment
from smtpgate.directory import key_watch as rows

_PAGE: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyHistory:
    """An access key with what the watch knows about its use; no profile if that is nothing."""

    key: KeyDetails
    profile: Profile | None


async def history(session: Session, key_id: str) -> KeyHistory:
    """An access key, and the profile of its use as the gates have written it last."""
    key = await keys.get(session, key_id)
    async with session.store.reading() as connection:
        found = await rows.stored_profiles(connection, [key_id])
    stored = found.get(key_id)
    return KeyHistory(key=key, profile=None if stored is None else stored.profile)


async def confirm(session: Session, key_id: str) -> None:
    """The use of the key is its owner's: all of it is usual from now on."""
    await keys.found(session, "Update", key_id)
    async with session.changing() as change:
        await rows.clear(change, key_id, "confirmed")


async def resume(session: Session, key_id: str) -> None:
    """Let a key that was slowed down or suspended send as before, and learn nothing from it.

    Raises RefusedChangeError if no alarm is open.
    """
    row = await keys.found(session, "Update", key_id)
    if row.watch_state is None:
        raise RefusedChangeError(f"access key {key_id} has no alarm that is open")
    async with session.changing() as change:
        await rows.clear(change, key_id, "resumed")


@dataclass(frozen=True, slots=True, kw_only=True)
class PastReport:
    """A report that the watch would have made."""

    at: datetime
    key_id: str
    account_id: str
    user_arn: str
    message_id: str
    assessment: Assessment


def rules_of(settings: WatchConfig) -> WatchRules:
    """The rules of the configuration."""
    return WatchRules(settings.alarm_score, settings.learn_days)


async def replay(
    session: JournalSession, *, since: datetime | None = None, key_id: str | None = None
) -> AsyncIterator[Sequence[PastReport]]:
    """The reports that the journal's records give with the settings of the configuration.

    The watch begins without any history, so nothing is found in the first days. A journal
    without recipients says nothing about new ones.
    """
    session.must_be_allowed("ReplayKeyWatch", "*")
    async for page in in_pages(_reports(session, since, key_id), _PAGE, None):
        yield page


async def _reports(
    session: JournalSession, since: datetime | None, key_id: str | None
) -> AsyncIterator[PastReport]:
    rules, profiles = rules_of(session.config.watch), dict[str, Profile]()
    async for page in session.reader.in_order(since):
        for record in page:
            if key_id in (None, record.username):
                found = _judged(profiles, record, rules)
                if found is not None:
                    yield found


def _judged(
    profiles: dict[str, Profile], record: Record, rules: WatchRules
) -> PastReport | None:
    use = of_record(record)
    if use is None:
        return None
    seen = use.observation
    profile, assessment = observe(profiles.get(use.key_id), seen, rules)
    is_due = is_to_be_reported(profile, assessment, seen.hour)
    if is_due:
        profile = with_report(profile, assessment, seen.hour)
    profiles[use.key_id] = profile
    if not is_due:
        return None
    return PastReport(
        at=record.received_at,
        key_id=use.key_id,
        account_id=record.account_id,
        user_arn=record.user_arn,
        message_id=record.id,
        assessment=assessment,
    )
