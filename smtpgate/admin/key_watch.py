"""The watch over access keys: what it would have reported about the past."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from smtpgate.admin.journal import JournalSession
from smtpgate.admin.paging import in_pages
from smtpgate.config.sections import WatchConfig
from smtpgate.core.history.key_use import of_record
from smtpgate.core.history.record import Record
from smtpgate.core.watch.observe import (
    WatchRules,
    is_to_be_reported,
    observe,
    with_report,
)
from smtpgate.core.watch.profile import Profile
from smtpgate.core.watch.signals import Assessment

_PAGE: Final = 50


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
