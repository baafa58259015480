"""Identities: the domains and addresses that an account may send from."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any

from smtpgate.admin.errors import RefusedChangeError
from smtpgate.admin.paging import rows_in_pages
from smtpgate.admin.refs import IdentityRef
from smtpgate.admin.session import Operator, Session
from smtpgate.core.proof.dns_record import DnsRecord
from smtpgate.core.proof.mail_code import was_just_sent
from smtpgate.core.proof.ownership import ownership_records
from smtpgate.core.proof.soa import Soa, read_soa
from smtpgate.core.proof.verification import (
    VerificationMethod,
    VerificationState,
    VerificationStatus,
    status_of,
    trusted,
)
from smtpgate.directory import identities as rows
from smtpgate.directory.identities import IdentityRow
from smtpgate.directory.registered_identities import registered


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityDetails:
    """An identity; ``publish`` are the DNS records of which any one proves a domain."""

    arn: str
    account_id: str
    name: str
    status: VerificationStatus
    method: VerificationMethod | None
    problem: str
    paused_reason: str | None
    created_at: datetime | None
    verified_at: datetime | None
    checked_at: datetime | None
    missing_since: datetime | None
    next_check_at: datetime | None
    publish: tuple[DnsRecord, ...]
    soa: Soa | None = None

    @property
    def is_verified(self) -> bool:
        """True if it may be sent from."""
        return self.status == "success"


def details_of(session: Session, row: IdentityRow) -> IdentityDetails:
    """An identity as the use cases return it."""
    verification = registered(row, (), session.partition).verification
    label = session.config.directory.verification_label
    return IdentityDetails(
        arn=row.arn(session.partition),
        account_id=row.account_id,
        name=row.name,
        status=status_of(verification, session.now()),
        method=row.method,
        problem=row.problem,
        paused_reason=row.paused_reason,
        created_at=row.created_at,
        verified_at=row.verified_at,
        checked_at=row.checked_at,
        missing_since=row.missing_since,
        next_check_at=row.next_check_at,
        publish=ownership_records(row.name, row.token, label) if row.is_domain else (),
        soa=read_soa(row.soa),
    )


async def create(
    session: Session, ref: IdentityRef, *, is_trusted: bool = False
) -> IdentityDetails:
    """Register a domain or an address; with ``is_trusted`` it counts as verified at once."""
    arn = session.identity_arn(ref)
    kind = "Domain" if ref.is_domain else "Address"
    session.must_be_allowed(f"Create{kind}Identity", arn)
    if is_trusted:
        session.must_be_allowed("VouchForIdentity", arn)
    new = IdentityRow(account_id=ref.account_id, region=session.region, name=ref.name)
    async with session.changing() as change:
        row = await rows.create_identity(change, new, session.partition)
        if is_trusted:
            values = asdict(trusted(change.now))
            row = await rows.update_identity(change, row, values, action="vouch")
    return details_of(session, row)


async def pages(
    session: Session,
    account_id: str | None = None,
    *,
    name: str | None = None,
    domain: str | None = None,
    state: VerificationState | None = None,
    is_paused: bool | None = None,
    is_domain: bool | None = None,
    after: tuple[str, str] = ("", ""),
    limit: int | None = None,
) -> AsyncIterator[Sequence[IdentityDetails]]:
    """Identities by account and name, behind ``after``; ``domain`` finds its addresses too."""
    account_id = session.account_to_list(
        "ListIdentities", account_id, lambda own: session.identity_arn(IdentityRef(own, "*"))
    )

    read = partial(
        rows.identity_page,
        region=session.region,
        account_id=account_id,
        name=name,
        domain=domain,
        state=state,
        is_paused=is_paused,
        is_domain=is_domain,
    )
    async for page in rows_in_pages(
        session, read, after, attrgetter("account_id", "name"), limit
    ):
        yield [details_of(session, row) for row in page]


async def get(session: Session, ref: IdentityRef) -> IdentityDetails:
    """An identity."""
    session.must_be_allowed("GetIdentity", session.identity_arn(ref))
    return await read_details(session, ref)


async def read_details(session: Session, ref: IdentityRef) -> IdentityDetails:
    """An identity as it is now, for a caller whose right was checked."""
    async with session.store.reading() as connection:
        row = await rows.identity(connection, ref.account_id, session.region, ref.name)
    return details_of(session, row)


async def pause(session: Session, ref: IdentityRef, reason: str) -> None:
    """Let no account send with an identity until it is resumed; senders read the reason."""
    session.must_be_allowed("PauseIdentity", session.identity_arn(ref))
    await _update(session, ref, {"paused_reason": reason}, "pause")


async def resume(session: Session, ref: IdentityRef) -> None:
    """Let a paused identity be used again."""
    session.must_be_allowed("ResumeIdentity", session.identity_arn(ref))
    await _update(session, ref, {"paused_reason": None}, "resume")


async def _update(
    session: Session, ref: IdentityRef, columns: Mapping[str, Any], action: str
) -> None:
    async with session.changing() as change:
        row = await rows.identity(change.connection, ref.account_id, session.region, ref.name)
        await rows.update_identity(change, row, columns, action=action)


async def delete(session: Session, ref: IdentityRef) -> None:
    """Delete an identity with its policies, caps and DKIM keys.

    Only an operator may delete one that is paused: its account could register it again, and
    so resume it. Nor may an account delete an address that a code was just mailed to: it could
    have any number of codes mailed there, by registering it again.
    """
    arn = session.identity_arn(ref)
    session.must_be_allowed("DeleteIdentity", arn)
    async with session.changing() as change:
        row = await rows.identity(change.connection, ref.account_id, session.region, ref.name)
        if row.paused_reason is not None:
            session.must_be_allowed("DeletePausedIdentity", arn)
        is_operator = isinstance(session.caller, Operator)
        if row.code_sent_at and was_just_sent(row.code_sent_at, change.now) and not is_operator:
            raise RefusedChangeError(f"a code was sent to {ref.name} less than a minute ago")
        await rows.delete_identity(change, row, session.partition)
