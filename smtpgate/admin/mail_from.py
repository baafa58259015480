"""The MAIL FROM domain of an identity: set it, check its records, remove it."""

from dataclasses import dataclass, replace
from datetime import datetime

from smtpgate.admin.dns_checks import DnsChecks
from smtpgate.admin.errors import RefusedChangeError
from smtpgate.admin.refs import IdentityRef
from smtpgate.admin.retry import change_registered
from smtpgate.admin.session import Session
from smtpgate.core.proof.dns_record import DnsRecord, MxRecord
from smtpgate.core.proof.mail_from import (
    MailFromDomain,
    MailFromError,
    OnMxFailure,
    mail_from_records,
    parse_mail_from,
    spf_problem,
)
from smtpgate.core.proof.registered import Registered
from smtpgate.core.proof.verification import (
    NOT_STARTED,
    VerificationStatus,
    begin,
    begin_now,
    status_of,
)
from smtpgate.directory import identities as rows
from smtpgate.directory.change import NotFoundError
from smtpgate.directory.mail_from import (
    MailFromRow,
    mail_from_of,
    put_mail_from,
    remove_mail_from,
)
from smtpgate.ports import ResolverError


@dataclass(frozen=True, slots=True, kw_only=True)
class MailFromDetails:
    """A MAIL FROM domain; ``publish`` are its records, both of which are needed."""

    account_id: str
    identity: str
    domain: str
    on_mx_failure: OnMxFailure
    status: VerificationStatus
    problem: str
    verified_at: datetime | None
    checked_at: datetime | None
    missing_since: datetime | None
    next_check_at: datetime | None
    publish: tuple[MxRecord | DnsRecord, ...]

    @property
    def is_ready(self) -> bool:
        """True if mail is sent with it."""
        return self.status == "success"


def _details(session: Session, row: MailFromRow) -> MailFromDetails:
    feedback = session.config.feedback
    return MailFromDetails(
        account_id=row.account_id,
        identity=row.identity,
        domain=row.domain,
        on_mx_failure=row.on_mx_failure,
        status=status_of(row.value.verification, session.now()),
        problem=row.problem,
        verified_at=row.verified_at,
        checked_at=row.checked_at,
        missing_since=row.missing_since,
        next_check_at=row.next_check_at,
        publish=mail_from_records(row.domain, feedback.host, feedback.spf),
    )


async def put(
    session: Session, ref: IdentityRef, domain: str, on_mx_failure: OnMxFailure = "default"
) -> MailFromDetails:
    """Set the MAIL FROM domain of an identity; another domain is checked from its beginning."""
    session.must_be_allowed("SetMailFromDomain", session.identity_arn(ref))
    if not session.config.feedback.enabled:
        raise RefusedChangeError("this gate takes no bounces: feedback.enabled is false")
    async with session.changing() as change:
        identity = await rows.identity(
            change.connection, ref.account_id, session.region, ref.name
        )
        try:
            domain = parse_mail_from(domain, identity.name)
        except MailFromError as error:
            raise RefusedChangeError(str(error)) from None
        before = await mail_from_of(change.connection, *identity.key)
        current = NOT_STARTED
        if before is not None and before.domain == domain and before.state != "failed":
            current = before.value.verification
        value = MailFromDomain(
            domain=domain,
            on_mx_failure=on_mx_failure,
            verification=begin(current, change.now),
        )
        row = await put_mail_from(change, identity, value, action="mail-from")
    return _details(session, row)


async def get(session: Session, ref: IdentityRef) -> MailFromDetails:
    """The MAIL FROM domain of an identity. Raises NotFoundError."""
    session.must_be_allowed("GetMailFromDomain", session.identity_arn(ref))
    return await _read(session, ref)


async def check(
    session: Session, ref: IdentityRef, checks: DnsChecks
) -> tuple[MailFromDetails, str]:
    """Ask the DNS for the records now; returns the problem of the SPF record too, or nothing.

    Mail is sent with the domain once its MX is right, whatever its SPF record. Raises
    NotFoundError or OvertakenError.
    """
    session.must_be_allowed("GetMailFromDomain", session.identity_arn(ref))
    now = session.now()

    async def decide(before: Registered) -> Registered:
        if before.mail_from is None:
            raise _nothing(ref)
        due = begin_now(before.mail_from.verification, now)
        mail_from = replace(before.mail_from, verification=due)
        return await checks.after(replace(before, mail_from=mail_from), now, session.chance())

    await change_registered(
        session.registered_identities("mail-from-check"), ref.account_id, ref.name, decide
    )
    details = await _read(session, ref)
    try:
        return details, spf_problem(await checks.resolver.txt(details.domain))
    except ResolverError as error:
        return details, f"the SPF record was not found: {error}"


async def delete(session: Session, ref: IdentityRef) -> None:
    """Remove the MAIL FROM domain of an identity; MAIL FROM is the client's from then on."""
    session.must_be_allowed("SetMailFromDomain", session.identity_arn(ref))
    async with session.changing() as change:
        identity = await rows.identity(
            change.connection, ref.account_id, session.region, ref.name
        )
        row = await mail_from_of(change.connection, *identity.key)
        if row is None:
            raise _nothing(ref)
        await remove_mail_from(change, row, action="mail-from")


async def _read(session: Session, ref: IdentityRef) -> MailFromDetails:
    async with session.store.reading() as connection:
        identity = await rows.identity(connection, ref.account_id, session.region, ref.name)
        row = await mail_from_of(connection, *identity.key)
    if row is None:
        raise _nothing(ref)
    return _details(session, row)


def _nothing(ref: IdentityRef) -> NotFoundError:
    return NotFoundError(f"identity {ref} has no MAIL FROM domain")
