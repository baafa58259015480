"""Checks of an identity's proof, DKIM and MX records in the DNS, and what follows from them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from smtpgate.core.proof.dkim_record import DkimCheck, compare, dkim_name, unanswered
from smtpgate.core.proof.dkim_stages import activated_by_itself, checked, retired_when_due
from smtpgate.core.proof.dns_record import DnsRecord
from smtpgate.core.proof.mail_from import mx_seen
from smtpgate.core.proof.observation import Found, Observation, Unanswered, combined
from smtpgate.core.proof.ownership import SES_LABEL, ownership_records, token_seen
from smtpgate.core.proof.recheck import is_due
from smtpgate.core.proof.registered import Registered, RegisteredKey
from smtpgate.core.proof.verification import observed
from smtpgate.ports import Resolver, ResolverError


async def ownership(
    identity: Registered, resolver: Resolver, label: str, checks: Sequence[DkimCheck]
) -> Observation:
    """Look for a proof of the domain: the account's token, or the record of a DKIM key.

    The token may also be where Amazon SES has its own: tools for SES publish it there.
    """
    records = ownership_records(identity.name, identity.token, label)
    ses, *seen = await asyncio.gather(
        _token(ownership_records(identity.name, identity.token, SES_LABEL)[0], resolver),
        *(_token(record, resolver) for record in records),
    )
    if isinstance(ses, Found):
        return ses
    return combined([*seen, *(check.observation for check in checks)])


async def key_check(identity: Registered, key: RegisteredKey, resolver: Resolver) -> DkimCheck:
    """Compare the published record of a key with the record that it should have."""
    try:
        published = await resolver.txt(dkim_name(key.staged.selector, identity.name))
    except ResolverError as error:
        return unanswered(str(error))
    return compare(published, key.record)


async def _start_of_authority(identity: Registered, resolver: Resolver) -> str:
    """The start of authority of a domain, or what is known of it without an answer."""
    try:
        found = await resolver.soa(identity.name)
    except ResolverError:
        return identity.soa
    return "" if found is None else str(found)


async def _token(record: DnsRecord, resolver: Resolver) -> Observation:
    try:
        return token_seen(record, await resolver.txt(record.name))
    except ResolverError as error:
        return Unanswered(str(error))


@dataclass(frozen=True, slots=True)
class DnsChecks:
    """Makes the checks that are due.

    ``label`` is that of the TXT records which prove a domain. ``mx_host`` is the host that MX
    records of MAIL FROM domains name, or empty if this gate has no feedback listener.
    """

    resolver: Resolver
    label: str
    mx_host: str

    async def after(self, identity: Registered, now: datetime, jitter: float) -> Registered:
        """The identity after each check that is due."""
        identity = await self._after_mx_check(identity, now, jitter)
        return await self._after_proof_checks(identity, now, jitter)

    async def _after_mx_check(
        self, identity: Registered, now: datetime, jitter: float
    ) -> Registered:
        mail_from = identity.mail_from
        if mail_from is None or not is_due(mail_from.verification.next_check_at, now):
            return identity
        seen: Observation = Unanswered("the configuration has no section [feedback]")
        if self.mx_host:
            try:
                seen = mx_seen(self.mx_host, await self.resolver.mx(mail_from.domain))
            except ResolverError as error:
                seen = Unanswered(str(error))
        verification = observed(mail_from.verification, seen, now, jitter)
        return replace(identity, mail_from=replace(mail_from, verification=verification))

    async def _after_proof_checks(
        self, identity: Registered, now: datetime, jitter: float
    ) -> Registered:
        if not identity.is_domain:
            return identity
        resolver = self.resolver
        wants_proof = is_due(identity.verification.next_check_at, now)
        asked = [
            key
            for key in identity.keys
            if is_due(key.staged.next_check_at, now)
            or (wants_proof and key.staged.is_published)
        ]
        answers = await asyncio.gather(*(key_check(identity, key, resolver) for key in asked))
        check_of = {
            key.staged.selector: check for key, check in zip(asked, answers, strict=True)
        }
        if wants_proof:
            seen, soa = await asyncio.gather(
                ownership(identity, resolver, self.label, answers),
                _start_of_authority(identity, resolver),
            )
            verification = observed(identity.verification, seen, now, jitter)
            identity = replace(identity, verification=verification, soa=soa)
        staged = tuple(
            checked(key, check_of[key.selector], now, jitter)
            if key.selector in check_of
            else retired_when_due(key, now)
            for key in identity.staged
        )
        found = {name for name, check in check_of.items() if check.kind == "matches"}
        return identity.with_staged(
            activated_by_itself(staged, identity.dkim_origin, found, now)
        )
