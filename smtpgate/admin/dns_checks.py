"""Checks of an identity's proof and DKIM records in the DNS, and what follows from them."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from smtpgate.core.proof.dkim_record import DkimCheck, compare, dkim_name, unanswered
from smtpgate.core.proof.dkim_stages import checked, retired_when_due
from smtpgate.core.proof.dns_record import DnsRecord
from smtpgate.core.proof.observation import Observation, Unanswered, combined
from smtpgate.core.proof.ownership import ownership_records, token_seen
from smtpgate.core.proof.recheck import is_due
from smtpgate.core.proof.registered import Registered, RegisteredKey
from smtpgate.core.proof.verification import observed
from smtpgate.ports import Resolver, ResolverError


async def ownership(
    identity: Registered, resolver: Resolver, label: str, checks: Sequence[DkimCheck]
) -> Observation:
    """Look for a proof of the domain: the account's token, or the record of a DKIM key."""
    records = ownership_records(identity.name, identity.token, label)
    seen = await asyncio.gather(*(_token(record, resolver) for record in records))
    return combined([*seen, *(check.observation for check in checks)])


async def key_check(identity: Registered, key: RegisteredKey, resolver: Resolver) -> DkimCheck:
    """Compare the published record of a key with the record that it should have."""
    try:
        published = await resolver.txt(dkim_name(key.staged.selector, identity.name))
    except ResolverError as error:
        return unanswered(str(error))
    return compare(published, key.record)


async def _token(record: DnsRecord, resolver: Resolver) -> Observation:
    try:
        return token_seen(record, await resolver.txt(record.name))
    except ResolverError as error:
        return Unanswered(str(error))


async def after_dns_checks(
    identity: Registered, resolver: Resolver, label: str, now: datetime, jitter: float
) -> Registered:
    """The identity after each check that is due."""
    if not identity.is_domain:
        return identity
    wants_proof = is_due(identity.verification.next_check_at, now)
    asked = [
        key
        for key in identity.keys
        if is_due(key.staged.next_check_at, now) or (wants_proof and key.staged.is_published)
    ]
    answers = await asyncio.gather(*(key_check(identity, key, resolver) for key in asked))
    check_of = {key.staged.selector: check for key, check in zip(asked, answers, strict=True)}
    if wants_proof:
        seen = await ownership(identity, resolver, label, answers)
        verification = observed(identity.verification, seen, now, jitter)
        identity = replace(identity, verification=verification)
    return identity.with_staged(
        tuple(
            checked(staged, check_of[staged.selector], now, jitter)
            if staged.selector in check_of
            else retired_when_due(staged, now)
            for staged in identity.staged
        )
    )
