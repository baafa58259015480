"""DKIM keys: what the mail of a domain is signed with, from the first key to the next."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Final, Literal

from smtpgate.admin.dns_checks import key_check
from smtpgate.admin.paging import rows_in_pages
from smtpgate.admin.refs import IdentityRef
from smtpgate.admin.retry import change_registered
from smtpgate.admin.session import Session
from smtpgate.core.proof import dkim_stages
from smtpgate.core.proof.dkim_record import DkimCheck, unanswered
from smtpgate.core.proof.dkim_stages import (
    RETIRING,
    KeyOrigin,
    KeyStage,
    StagedKey,
    new_key,
    withdraw,
)
from smtpgate.core.proof.dns_record import DnsRecord
from smtpgate.core.proof.registered import Registered
from smtpgate.directory import dkim as rows
from smtpgate.directory.dkim import DkimKeyRow
from smtpgate.directory.identities import identity
from smtpgate.directory.registered_identities import registered
from smtpgate.ports import Resolver
from smtpgate.signing.private_keys import Algorithm, generate_private_key

KeyKind = Literal["rsa", "ed25519", "both"]

# The keys that are made of each kind, by what follows the name in their selectors.
_ALGORITHMS: Final[Mapping[KeyKind, Mapping[str, Algorithm]]] = {
    "rsa": {"": "rsa"},
    "ed25519": {"": "ed25519"},
    "both": {"-rsa": "rsa", "-ed25519": "ed25519"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DkimKeyDetails:
    """A DKIM key without its private half; ``publish`` is its DNS record."""

    account_id: str
    domain: str
    selector: str
    algorithm: str
    stage: KeyStage
    origin: KeyOrigin
    since: datetime | None
    problem: str
    alarm_since: datetime | None
    created_at: datetime | None
    checked_at: datetime | None
    next_check_at: datetime | None
    publish: DnsRecord


def _details(row: DkimKeyRow) -> DkimKeyDetails:
    return DkimKeyDetails(
        account_id=row.account_id,
        domain=row.domain,
        selector=row.selector,
        algorithm=row.algorithm,
        stage=row.stage,
        origin=row.origin,
        since=row.since,
        problem=row.problem,
        alarm_since=row.alarm_since,
        created_at=row.created_at,
        checked_at=row.checked_at,
        next_check_at=row.next_check_at,
        publish=DnsRecord(row.dns_name, row.record),
    )


# -- keys come and go ------------------------------------------------------------------------


async def generate(
    session: Session, ref: IdentityRef, kind: KeyKind = "rsa", selector: str | None = None
) -> list[DkimKeyDetails]:
    """Make a key for a domain, or two; none signs before it is activated.

    Without a selector the key is called by the date.
    """
    session.must_be_allowed("CreateDkimKey", session.identity_arn(ref))
    pem_of_suffix = {
        # Making an RSA key takes a tenth of a second and more.
        suffix: await asyncio.to_thread(generate_private_key, algorithm)
        for suffix, algorithm in _ALGORITHMS[kind].items()
    }
    return await _add(session, ref, selector, pem_of_suffix)


async def import_key(
    session: Session, ref: IdentityRef, selector: str, pem: bytes
) -> DkimKeyDetails:
    """Keep a private key that was made elsewhere; it signs nothing before it is activated."""
    session.must_be_allowed("ImportDkimKey", session.identity_arn(ref))
    (details,) = await _add(session, ref, selector, {"": pem})
    return details


async def _add(
    session: Session, ref: IdentityRef, selector: str | None, pem_of_suffix: Mapping[str, bytes]
) -> list[DkimKeyDetails]:
    """Keep all of the private keys, or none; a suffix follows the selector."""
    now, region = session.now(), session.region
    added: list[DkimKeyDetails] = []
    async with session.changing() as change:
        present = await rows.dkim_keys_of(change.connection, ref.account_id, region, ref.name)
        for suffix, pem in pem_of_suffix.items():
            wanted = f"{selector or f'gate{now:%Y%m%d}'}{suffix}"
            new = DkimKeyRow(
                account_id=ref.account_id,
                region=region,
                domain=ref.name,
                selector=wanted if selector else _free_selector(wanted, present),
                next_check_at=new_key("", "", now).next_check_at,
            )
            row = await rows.add_dkim_key(
                change,
                session.store.master_keys,
                new,
                pem,
                min_rsa_bits=session.config.signing.min_rsa_bits,
            )
            added.append(_details(row))
    return added


def _free_selector(wanted: str, present: Sequence[DkimKeyRow]) -> str:
    """A selector that none of the keys has."""
    taken = {row.selector for row in present}
    others = (f"{wanted}-{number}" for number in range(2, len(taken) + 3))
    return next(one for one in (wanted, *others) if one not in taken)


async def delete(
    session: Session, ref: IdentityRef, selector: str, *, force: bool = False
) -> None:
    """Delete a key that has retired or never signed, with its private half.

    ``force`` deletes one that is retiring, though mail that it signed may be in transit.
    Raises StageError.
    """
    session.must_be_allowed("DeleteDkimKey", session.identity_arn(ref))
    where = (ref.account_id, session.region, ref.name)
    async with session.changing() as change:
        row = await rows.dkim_key(change.connection, *where, selector)
        if row.stage != "retired":
            keys = await rows.dkim_keys_of(change.connection, *where)
            owner = await identity(change.connection, *where)
            staged = registered(owner, keys, session.partition).staged
            _ = withdraw(staged, row.selector, session.now(), force=force)
        await rows.delete_dkim_key(change, row)


# -- keys are looked up ----------------------------------------------------------------------


async def pages(
    session: Session,
    account_id: str | None = None,
    ref: IdentityRef | None = None,
    *,
    stage: KeyStage | None = None,
    after: tuple[str, str, str] = ("", "", ""),
    limit: int | None = None,
) -> AsyncIterator[Sequence[DkimKeyDetails]]:
    """Keys by account, domain and selector: all, of one account, or of one identity."""
    if ref is None:
        account_id = session.account_to_list(
            "ListDkimKeys", account_id, lambda own: session.identity_arn(IdentityRef(own, "*"))
        )
    else:
        account_id = ref.account_id
        session.must_be_allowed("ListDkimKeys", session.identity_arn(ref))

    read = partial(
        rows.dkim_key_page,
        region=session.region,
        account_id=account_id,
        domain=ref.name if ref else None,
        stage=stage,
    )
    async for page in rows_in_pages(
        session, read, after, attrgetter("account_id", "domain", "selector"), limit
    ):
        yield list(map(_details, page))


async def get(session: Session, ref: IdentityRef, selector: str) -> DkimKeyDetails:
    """A key and its DNS record."""
    session.must_be_allowed("GetDkimKey", session.identity_arn(ref))
    async with session.store.reading() as connection:
        return _details(
            await rows.dkim_key(connection, ref.account_id, session.region, ref.name, selector)
        )


async def check(
    session: Session, ref: IdentityRef, resolver: Resolver
) -> Mapping[str, DkimCheck]:
    """Ask the DNS for the record of each key that has to be published; by selector.

    Raises OvertakenError.
    """
    session.must_be_allowed("CheckDkimKeys", session.identity_arn(ref))
    now, chance = session.now(), session.chance()
    domain = await session.registered_identities("check-dkim-keys").one(
        ref.account_id, ref.name
    )
    keys = [key for key in domain.keys if key.staged.is_published]
    checks = await asyncio.gather(*(key_check(domain, key, resolver) for key in keys))
    found = {key.staged.selector: check for key, check in zip(keys, checks, strict=True)}

    def noted(key: StagedKey) -> StagedKey:
        if key.selector not in found:
            return key
        return dkim_stages.checked(key, found[key.selector], now, chance)

    await _change(
        session, ref, "check-dkim-keys", lambda staged: tuple(noted(key) for key in staged)
    )
    return found


# -- keys change their stage -----------------------------------------------------------------


async def activate(
    session: Session,
    ref: IdentityRef,
    selector: str,
    resolver: Resolver,
    *,
    force: bool = False,
) -> Mapping[str, datetime]:
    """Let a key sign if its record is published, or if forced; older ones of its kind retire.

    Returns the retiring keys by selector, with the end of the time that their records have to
    stay published. Raises StageError or OvertakenError.
    """
    session.must_be_allowed("ActivateDkimKey", session.identity_arn(ref))
    found = (
        unanswered("not asked for") if force else await _check(session, ref, selector, resolver)
    )
    name, now = selector.lower(), session.now()
    return await _change(
        session,
        ref,
        "activate-dkim-key",
        lambda staged: dkim_stages.activate(staged, name, found, now, force=force),
        lambda staged, origin: dkim_stages.origin_after(staged, origin, name),
    )


async def retire(
    session: Session, ref: IdentityRef, selector: str, *, force: bool = False
) -> Mapping[str, datetime]:
    """Let a key sign no longer; returns as :func:`activate`.

    ``force`` retires the last one that signs. Raises StageError or OvertakenError.
    """
    session.must_be_allowed("RetireDkimKey", session.identity_arn(ref))
    return await _change(
        session,
        ref,
        "retire-dkim-key",
        lambda staged: dkim_stages.retire(staged, selector.lower(), session.now(), force=force),
    )


async def _check(
    session: Session, ref: IdentityRef, selector: str, resolver: Resolver
) -> DkimCheck:
    domain = await session.registered_identities("activate-dkim-key").one(
        ref.account_id, ref.name
    )
    for key in domain.keys:
        if key.staged.selector == selector.lower():
            return await key_check(domain, key, resolver)
    return unanswered("there is no such key")


_Keys = tuple[StagedKey, ...]


async def _change(
    session: Session,
    ref: IdentityRef,
    action: str,
    step: Callable[[_Keys], _Keys],
    origin_after: Callable[[_Keys, KeyOrigin | None], KeyOrigin | None] = (
        lambda _, origin: origin
    ),
) -> Mapping[str, datetime]:
    """Change the stages of a domain's keys, and their origin; returns as :func:`activate`."""

    async def decide(before: Registered) -> Registered:
        after = before.with_staged(step(before.staged))
        return replace(after, dkim_origin=origin_after(after.staged, before.dkim_origin))

    registry = session.registered_identities(action)
    after = await change_registered(registry, ref.account_id, ref.name, decide)
    return {
        key.selector: key.since + RETIRING for key in after.staged if key.stage == "retiring"
    }
