"""Reputations of senders: shown with their rates, paused, resumed, and begun again.

An account is paused for its rates by the gate, and resumed by an operator alone. A delegate of
an identity is paused by the gate, the owner or an operator, and resumed by the owner or an
operator. Delegates see their own rates only.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Final

from smtpgate.admin.errors import RefusedChangeError
from smtpgate.admin.paging import rows_in_pages
from smtpgate.admin.refs import ConfigurationSetRef, DelegateRef, IdentityRef
from smtpgate.admin.session import Session
from smtpgate.core.reputation.judgement import Reputation, fresh_start, paused_by_owner, resumed
from smtpgate.core.reputation.sender import RatedObject, RatedSender, RatingSettings
from smtpgate.core.reputation.states import Status
from smtpgate.core.reputation.volume import LONGEST, Volume, representative
from smtpgate.directory import accounts, configuration_sets, identities
from smtpgate.directory import reputations as rows
from smtpgate.directory.change import Change
from smtpgate.ports import ReputationCounts

_BEFORE_ALL: Final = RatedSender("account", "")
# What to do about the pauses that people look for with this one.
_OTHER_PAUSES: Final = {
    "account": (
        " for its rates; `account resume' ends a pause by an operator, "
        "`reputation resume --identity' one on an identity"
    ),
    "delegate": "",
    "set": "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderRates:
    """A sender's reputation, and its volume at this moment.

    ``is_judged`` is false for a configuration set or delegate that no owner has judged: its
    states do not change. ``auto_pause``: it is paused for its rates.
    """

    reputation: Reputation
    volume: Volume
    is_judged: bool
    auto_pause: bool


async def volume_of(
    counts: ReputationCounts, sender: RatedSender, since: datetime | None, now: datetime
) -> Volume:
    """The representative volume of a sender; nothing from before ``since`` counts.

    Raises JournalUnavailableError.
    """
    begin = now - LONGEST if since is None else max(now - LONGEST, since)
    return representative(await counts.days(sender, begin, now), now)


# -- shown -------------------------------------------------------------------------------------


async def pages(
    session: Session,
    account_id: str | None = None,
    *,
    after: RatedSender = _BEFORE_ALL,
    limit: int | None = None,
) -> AsyncIterator[Sequence[Reputation]]:
    """Senders that are not healthy or are paused; an account's with its delegates."""
    own = session.account_to_list("ListReputations", account_id, session.account_arn)

    read = partial(
        rows.reputations_of, region=session.region, account_id=own, only_troubled=True
    )
    async for page in rows_in_pages(session, read, after, attrgetter("sender"), limit):
        yield page


async def of_account(
    session: Session, counts: ReputationCounts, account_id: str
) -> Sequence[SenderRates]:
    """The rates of an account, then those of its configuration sets that are judged.

    Raises NotFoundError.
    """
    session.must_be_allowed("GetReputation", session.account_arn(account_id))
    async with session.store.reading() as connection:
        _ = await accounts.account(connection, account_id)
        settings = await rows.all_rating_settings(connection, session.region, account_id)
    senders = [RatedSender.account(account_id)]
    senders += [
        RatedSender.with_set(account_id, one.name) for one in settings if one.kind == "set"
    ]
    return [await _rates(session, counts, sender) for sender in senders]


async def of_identity(
    session: Session, counts: ReputationCounts, ref: IdentityRef
) -> Sequence[SenderRates]:
    """The rates of each delegate on an identity, for its owner. Raises NotFoundError."""
    session.must_be_allowed("GetIdentityReputations", session.identity_arn(ref))
    now, region = session.now(), session.region
    async with session.store.reading() as connection:
        row = await identities.identity(connection, ref.account_id, region, ref.name)
        known = await rows.reputations_of(
            connection, region, owner_id=row.account_id, identity=row.name
        )
    sending = await counts.delegates(row.account_id, row.name, now - LONGEST, now)
    delegates = sorted({*sending, *(one.sender.account_id for one in known)})
    return [
        await _rates(session, counts, RatedSender.delegate(one, row.account_id, row.name))
        for one in delegates
    ]


async def _rates(
    session: Session, counts: ReputationCounts, sender: RatedSender
) -> SenderRates:
    key = RatingSettings.key_of(sender)
    settings = None
    async with session.store.reading() as connection:
        found = await rows.reputation(connection, session.region, sender)
        if key is not None:
            settings = await rows.rating_settings(connection, session.region, *key)
    config = session.config.reputation
    if key is None:
        auto_pause = config.auto_pause
    else:
        auto_pause = settings is not None and settings.auto_pause
    return SenderRates(
        reputation=found,
        volume=await volume_of(counts, sender, found.fresh_start_at, session.now()),
        is_judged=session.config.has_reputation and (key is None or settings is not None),
        auto_pause=auto_pause,
    )


async def enforcement_status(session: Session, account_id: str) -> Status:
    """The status of an account, as GetAccount's EnforcementStatus. Raises NotFoundError."""
    session.must_be_allowed("GetReputation", session.account_arn(account_id))
    async with session.store.reading() as connection:
        _ = await accounts.account(connection, account_id)
        its = RatedSender.account(account_id)
        return (await rows.reputation(connection, session.region, its)).status


async def reputation_options(
    session: Session, ref: ConfigurationSetRef
) -> tuple[bool, datetime | None]:
    """True if the mail with a configuration set is judged, and since when; SES's options.

    Raises NotFoundError.
    """
    session.must_be_allowed("GetConfigurationSet", session.configuration_set_arn(ref))
    region, sender = session.region, RatedSender.with_set(ref.account_id, ref.name)
    async with session.store.reading() as connection:
        _ = await configuration_sets.configuration_set(
            connection, ref.account_id, region, ref.name
        )
        settings = await rows.rating_settings(
            connection, region, "set", ref.account_id, ref.name
        )
        found = await rows.reputation(connection, region, sender)
    return settings is not None, found.fresh_start_at


# -- paused and resumed ------------------------------------------------------------------------


async def pause_delegate(session: Session, ref: DelegateRef, reason: str) -> None:
    """Let an account send nothing by an identity of another until it is resumed there.

    Senders read the reason. Raises NotFoundError, or RefusedChangeError for the owner itself.
    """
    session.must_be_allowed("PauseDelegate", session.identity_arn(ref.identity))
    async with session.changing() as change:
        before = await _reputation_of_delegate(session, change, ref)
        # A pause on a misspelt account would stop nobody.
        _ = await accounts.account(change.connection, ref.account_id)
        after = paused_by_owner(before, reason, change.now)
        await rows.put_reputation(change, session.region, before, after, action="pause")


async def resume_delegate(session: Session, ref: DelegateRef) -> None:
    """Let an account send by an identity again. Raises RefusedChangeError if it may already."""
    session.must_be_allowed("ResumeDelegate", session.identity_arn(ref.identity))
    async with session.changing() as change:
        before = await _reputation_of_delegate(session, change, ref)
        await _resume(session, change, before)


async def resume_account(session: Session, account_id: str) -> None:
    """Let an account send again that was paused for its rates; it makes a fresh start.

    Raises NotFoundError, or RefusedChangeError if it is not paused so.
    """
    session.must_be_allowed("ResumeReputation", session.account_arn(account_id))
    async with session.changing() as change:
        _ = await accounts.account(change.connection, account_id)
        its = RatedSender.account(account_id)
        before = await rows.reputation(change.connection, session.region, its)
        await _resume(session, change, before)


async def _resume(session: Session, change: Change, before: Reputation) -> None:
    if before.pause is None:
        raise RefusedChangeError(
            f"{before.sender} is not paused{_OTHER_PAUSES[before.sender.kind]}"
        )
    after = resumed(before, change.now)
    await rows.put_reputation(change, session.region, before, after, action="resume")


async def _reputation_of_delegate(
    session: Session, change: Change, ref: DelegateRef
) -> Reputation:
    connection, region = change.connection, session.region
    owner_id, name = ref.identity.account_id, ref.identity.name
    row = await identities.identity(connection, owner_id, region, name)
    if ref.account_id == row.account_id:
        raise RefusedChangeError(
            f"account {row.account_id} owns {row.name}; pause the identity or the account"
        )
    its = RatedSender.delegate(ref.account_id, row.account_id, row.name)
    return await rows.reputation(connection, region, its)


# -- judged from now on ------------------------------------------------------------------------


async def start_account_again(session: Session, account_id: str) -> None:
    """Judge an account by what it sends from now on. Raises NotFoundError."""
    session.must_be_allowed("ResumeReputation", session.account_arn(account_id))
    async with session.changing() as change:
        _ = await accounts.account(change.connection, account_id)
        await _start_again(session, change, RatedSender.account(account_id))


async def start_delegate_again(session: Session, ref: DelegateRef) -> None:
    """Judge a delegate on an identity by what it sends from now on. Raises NotFoundError."""
    session.must_be_allowed("ResumeDelegate", session.identity_arn(ref.identity))
    async with session.changing() as change:
        before = await _reputation_of_delegate(session, change, ref)
        await _start_again(session, change, before.sender)


async def _start_again(session: Session, change: Change, sender: RatedSender) -> None:
    before = await rows.reputation(change.connection, session.region, sender)
    after = fresh_start(before, change.now)
    await rows.put_reputation(change, session.region, before, after, action="fresh-start")


async def rate_delegates(
    session: Session, ref: IdentityRef, *, is_rated: bool, auto_pause: bool = False
) -> None:
    """Have the delegates on an identity judged, and paused for their rates, or not.

    Raises NotFoundError.
    """
    session.must_be_allowed("RateDelegates", session.identity_arn(ref))
    async with session.changing() as change:
        row = await identities.identity(
            change.connection, ref.account_id, session.region, ref.name
        )
        wanted = RatingSettings("identity", row.account_id, row.name, auto_pause)
        await _put_settings(session, change, wanted, is_rated=is_rated)


async def rate_set(
    session: Session,
    ref: ConfigurationSetRef,
    *,
    is_rated: bool,
    auto_pause: bool | None = None,
) -> None:
    """Have the mail with a configuration set judged, and the set paused for it, or not.

    Without ``auto_pause`` that stays as it is. Raises NotFoundError.
    """
    arn = session.configuration_set_arn(ref)
    session.must_be_allowed("UpdateConfigurationSetReputationMetrics", arn)
    async with session.changing() as change:
        row = await configuration_sets.configuration_set(
            change.connection, ref.account_id, session.region, ref.name
        )
        key: tuple[RatedObject, str, str] = ("set", row.account_id, row.name)
        if auto_pause is None and is_rated:
            its = await rows.rating_settings(change.connection, row.region, *key)
            auto_pause = its is not None and its.auto_pause
        wanted = RatingSettings(*key, auto_pause or False)
        await _put_settings(session, change, wanted, is_rated=is_rated)


async def _put_settings(
    session: Session, change: Change, wanted: RatingSettings, *, is_rated: bool
) -> None:
    if wanted.auto_pause and not is_rated:
        raise RefusedChangeError("only what is judged can be paused for its rates")
    before = await rows.rating_settings(change.connection, session.region, *wanted.key)
    after = wanted if is_rated else None
    await rows.put_rating_settings(change, session.region, before, after)
