"""DKIM as Amazon SES's API has it: Easy DKIM, or a key that the owner brings (BYODKIM).

Keys that came this way sign by themselves once their record is found. Keys of the command line
wait for ``dkim activate``.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Final

from smtpgate.admin.errors import ConflictError, NotFoundError, RefusedChangeError
from smtpgate.admin.paging import rows_in_pages
from smtpgate.admin.refs import IdentityRef
from smtpgate.admin.session import Session
from smtpgate.core.proof.dkim_stages import KeyOrigin, StagedKey, new_key
from smtpgate.core.proof.dns_record import DnsRecord
from smtpgate.core.proof.easy_dkim import (
    TOKENS,
    hosted_record,
    is_over,
    its_keys,
    new_dkim_token,
    signing_selector,
    signing_status,
)
from smtpgate.core.proof.verification import VerificationStatus
from smtpgate.directory import dkim as rows
from smtpgate.directory.change import Change
from smtpgate.directory.dkim import DkimKeyRow
from smtpgate.directory.identities import IdentityRow, identity, update_identity
from smtpgate.directory.registered_identities import registered
from smtpgate.directory.rows import refusing
from smtpgate.signing.private_keys import generate_private_key, pem_of_base64
from smtpgate.tasks import Threads

# One key at a time: whatever calls there are, they keep one core of a process busy.
_KEY_MAKER: Final = Threads("new-keys")


@dataclass(frozen=True, slots=True, kw_only=True)
class DkimSettings:
    """A domain's DKIM; ``tokens`` are the selectors of its keys, of Easy DKIM or its own.

    ``origin`` is ``manual`` for keys of the command line. ``generated_at`` is when the newest
    key was made or brought, ``publish`` what its owner publishes.
    """

    is_enabled: bool
    status: VerificationStatus
    origin: KeyOrigin
    tokens: tuple[str, ...]
    generated_at: datetime | None
    publish: tuple[DnsRecord, ...]


async def begin(
    session: Session, ref: IdentityRef, before_new_keys: Callable[[], None] = lambda: None
) -> DkimSettings:
    """Have a domain's mail signed with Easy DKIM: its three keys, which are made if need be.

    Keys that were not published in 72 hours are looked for again. ``before_new_keys`` may raise
    what the caller is to get in place of new keys.
    """
    session.must_be_allowed("BeginEasyDkim", session.identity_arn(ref))
    _, keys = await _read(session, ref)
    missing = TOKENS - len(_tokens_of(keys))
    if missing > 0:
        before_new_keys()
    made = await easy_keys(missing)
    async with session.changing() as change:
        row = await identity(change.connection, ref.account_id, session.region, ref.name)
        row = await put_easy_keys(session, change, row, made)
        keys = await rows.dkim_keys_of(change.connection, *row.key)
    return _settings(session, row, keys)


async def put_signing_key(
    session: Session, ref: IdentityRef, selector: str, key: str
) -> DkimSettings:
    """Have a domain's mail signed with the owner's key, from when its record is found.

    ``key`` is the private half: base64 of DER. Until then its present keys sign.
    """
    session.must_be_allowed("PutSigningKey", session.identity_arn(ref))
    brought = await own_key(session, selector, key)
    async with session.changing() as change:
        row = await identity(change.connection, ref.account_id, session.region, ref.name)
        row = await put_own_key(session, change, row, brought)
        keys = await rows.dkim_keys_of(change.connection, *row.key)
    return _settings(session, row, keys)


async def get(session: Session, ref: IdentityRef) -> DkimSettings:
    """A domain's DKIM. An address has that of its domain, if its account has registered it."""
    session.must_be_allowed("GetDkimKey", session.identity_arn(ref))
    return await read_settings(session, ref)


async def read_settings(session: Session, ref: IdentityRef) -> DkimSettings:
    """DKIM as it is now, for a caller whose right was checked."""
    row, keys = await _read(session, ref)
    if not row.is_domain:
        try:
            row, keys = await _read(session, IdentityRef(ref.account_id, row.domain))
        except NotFoundError:
            keys = []
    return _settings(session, row, keys)


async def set_enabled(session: Session, ref: IdentityRef, *, is_enabled: bool) -> None:
    """Have a domain's mail signed, or not. An address has its domain's keys and no switch.

    A gate that sends only signed mail (``signing.require``) does not switch it off. Raises
    RefusedChangeError.
    """
    session.must_be_allowed("SetDkimSigning", session.identity_arn(ref))
    async with session.changing() as change:
        row = await identity(change.connection, ref.account_id, session.region, ref.name)
        if row.dkim_enabled == is_enabled:
            return
        if session.config.signing.require:
            raise RefusedChangeError(
                "This gate sends only signed mail ([signing] require = true), so that signing "
                "cannot be switched off."
            )
        if not row.is_domain:
            raise RefusedChangeError(
                f"{row.name} is an address: it is signed for with the keys of its domain, "
                "where signing can be switched off."
            )
        columns = {"dkim_enabled": is_enabled}
        await update_identity(change, row, columns, action="set-dkim-signing")


async def hosted(session: Session) -> AsyncIterator[Sequence[DnsRecord]]:
    """The records of the operator's zone, to which the CNAMEs of Easy DKIM point.

    Raises RefusedChangeError without such a zone.
    """
    session.must_be_allowed("ListHostedKeys", session.account_arn("*"))
    zone = session.config.signing.hosted_zone
    if zone is None:
        raise RefusedChangeError("[signing] hosted_zone is not set: there is no such zone")

    read = partial(rows.dkim_key_page, region=session.region, origin="easy")
    place = attrgetter("account_id", "domain", "selector")
    async for page in rows_in_pages(session, read, ("", "", ""), place, None):
        yield [
            hosted_record(row.selector, zone, row.record)
            for row in page
            if row.stage != "retired"
        ]


# -- what other use cases take -----------------------------------------------------------------


async def easy_keys(number: int = TOKENS) -> Mapping[str, bytes]:
    """New keys in PEM, by their tokens; each takes a tenth of a second of the one thread."""
    made = {}
    for _ in range(number):
        made[new_dkim_token(os.urandom)] = await _KEY_MAKER.run(generate_private_key)
    return made


async def own_key(session: Session, selector: str, key: str) -> tuple[str, bytes]:
    """The selector and the key that an owner brings, checked. Raises RefusedChangeError."""
    with refusing("DomainSigningSelector"):
        selector = signing_selector(selector)
    with refusing("DomainSigningPrivateKey"):
        # A key of 4096 bits takes 3 ms.
        bits = session.config.signing.min_rsa_bits
        pem = await asyncio.to_thread(pem_of_base64, key, bits)
    return selector, pem


async def put_easy_keys(
    session: Session, change: Change, row: IdentityRow, made: Mapping[str, bytes]
) -> IdentityRow:
    """Keep as many of those keys as the domain lacks, and let it have Easy DKIM."""
    there = await rows.dkim_keys_of(change.connection, *row.key)
    missing = TOKENS - len(_tokens_of(there))
    for token, pem in list(made.items())[: max(missing, 0)]:
        await _add(session, change, row, token, pem, "easy")
    for key in there:
        if key.origin == "easy" and is_over(_staged(session, row, key), change.now):
            columns = {"since": change.now, "next_check_at": change.now, "problem": ""}
            await rows.update_dkim_key(change, key, columns, action="look-for-dkim-key")
    return await update_identity(change, row, {"dkim_origin": "easy"}, action="set-dkim-origin")


async def put_own_key(
    session: Session, change: Change, row: IdentityRow, brought: tuple[str, bytes]
) -> IdentityRow:
    """Keep a key that the owner brings; it replaces one that waits for its record."""
    selector, pem = brought
    record, kept = rows.record_of(pem), False
    for key in await rows.dkim_keys_of(change.connection, *row.key):
        if key.selector != selector:
            if key.origin == "external" and key.stage == "pending":
                await rows.delete_dkim_key(change, key)
        elif key.record == record and key.stage in ("pending", "active"):
            kept, columns = True, {"origin": "external"}
            await rows.update_dkim_key(change, key, columns, action="bring-dkim-key")
        elif key.record != record and key.stage in ("active", "retiring"):
            raise ConflictError(
                f"Selector {selector} is that of a key that signs, or signed mail that is on "
                "its way: choose another selector."
            )
        else:
            await rows.delete_dkim_key(change, key)
    if not kept:
        await _add(session, change, row, selector, pem, "external")
    return await update_identity(
        change, row, {"dkim_origin": "external"}, action="set-dkim-origin"
    )


async def _add(
    session: Session,
    change: Change,
    row: IdentityRow,
    selector: str,
    pem: bytes,
    origin: KeyOrigin,
) -> None:
    new = DkimKeyRow(
        account_id=row.account_id,
        region=row.region,
        domain=row.name,
        selector=selector,
        origin=origin,
        next_check_at=new_key("", "", change.now).next_check_at,
    )
    await rows.add_dkim_key(change, session.store.master_keys, new, pem, is_checked=True)


# -- views -------------------------------------------------------------------------------------


async def _read(session: Session, ref: IdentityRef) -> tuple[IdentityRow, list[DkimKeyRow]]:
    async with session.store.reading() as connection:
        row = await identity(connection, ref.account_id, session.region, ref.name)
        return row, await rows.dkim_keys_of(connection, *row.key)


def _tokens_of(keys: Sequence[DkimKeyRow]) -> list[DkimKeyRow]:
    return [key for key in keys if key.origin == "easy" and key.stage != "retired"]


def _staged(session: Session, row: IdentityRow, key: DkimKeyRow) -> StagedKey:
    return registered(row, [key], session.partition).staged[0]


def _settings(session: Session, row: IdentityRow, keys: Sequence[DkimKeyRow]) -> DkimSettings:
    origin = row.dkim_origin
    staged = registered(row, keys, session.partition).staged
    wanted = {key.selector for key in its_keys(staged, origin)}
    shown = sorted(
        (key for key in keys if key.selector in wanted),
        key=lambda key: (key.created_at or session.now(), key.selector),
    )
    return DkimSettings(
        is_enabled=row.dkim_enabled,
        status=signing_status(staged, origin, session.now()),
        origin=origin or "manual",
        tokens=tuple(key.selector for key in shown),
        generated_at=shown[-1].created_at if shown else None,
        publish=tuple(DnsRecord(key.dns_name, key.record) for key in shown),
    )
