"""MAIL FROM domains of identities in the directory: set, update, remove."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import exists, select

from smtpgate.core.proof.mail_from import MailFromDomain, OnMxFailure
from smtpgate.core.proof.verification import Verification, VerificationMethod, VerificationState
from smtpgate.directory.change import AuditSubject, Change, ConflictError
from smtpgate.directory.identities import IdentityRow
from smtpgate.directory.rows import columns_of, delete_rows, insert_rows, selects, update_row
from smtpgate.directory.schema import identities, mail_from_domains
from smtpgate.sql.asynchronous import AsyncConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class MailFromRow:
    """A stored MAIL FROM domain."""

    account_id: str
    region: str
    identity: str
    domain: str
    on_mx_failure: OnMxFailure
    state: VerificationState
    method: VerificationMethod | None = None
    started_at: datetime | None = None
    verified_at: datetime | None = None
    checked_at: datetime | None = None
    missing_since: datetime | None = None
    next_check_at: datetime | None = None
    problem: str = ""

    @property
    def subject(self) -> AuditSubject:
        """The subject of its audit entries: the identity."""
        return AuditSubject("identity", self.account_id, self.identity)

    @property
    def key(self) -> dict[str, str]:
        """The values of the key columns."""
        return {name: getattr(self, name) for name in _KEY}

    @property
    def value(self) -> MailFromDomain:
        """The domain as the checks know it."""
        values = asdict(self)
        verification = Verification(**{name: values[name] for name in _VERIFICATION})
        return MailFromDomain(
            domain=self.domain, on_mx_failure=self.on_mx_failure, verification=verification
        )

    def facts(self) -> dict[str, Any]:
        """The facts whose changes are in the audit log."""
        return {
            "mail_from": self.domain,
            "on_mx_failure": self.on_mx_failure,
            "state": self.state,
            "missing_since": self.missing_since.isoformat() if self.missing_since else None,
        }


_KEY: Final = ("account_id", "region", "identity")
_VERIFICATION: Final = tuple(Verification.__dataclass_fields__)
_COLUMNS: Final = columns_of(mail_from_domains, MailFromRow)


def _row(of: IdentityRow, value: MailFromDomain) -> MailFromRow:
    return MailFromRow(
        account_id=of.account_id,
        region=of.region,
        identity=of.name,
        domain=value.domain,
        on_mx_failure=value.on_mx_failure,
        **asdict(value.verification),
    )


async def mail_from_of(
    connection: AsyncConnection, account_id: str, region: str, identity: str
) -> MailFromRow | None:
    """The MAIL FROM domain of an identity, or ``None``."""
    key = {"account_id": account_id, "region": region, "identity": identity}
    found = await connection.execute(select(*_COLUMNS).where(selects(mail_from_domains, key)))
    row = found.one_or_none()
    return None if row is None else MailFromRow(**row._mapping)


async def put_mail_from(
    change: Change, of: IdentityRow, value: MailFromDomain, *, action: str
) -> MailFromRow:
    """Set or update the MAIL FROM domain of an identity that was read in this transaction.

    Raises ConflictError.
    """
    before = await mail_from_of(change.connection, of.account_id, of.region, of.name)
    row = _row(of, value)
    if before is None or before.domain != row.domain:
        await _must_be_free(change, row)
    if before is None:
        await insert_rows(change, mail_from_domains, [asdict(row)], [row], action=action)
        return row
    return await update_row(change, mail_from_domains, before.key, before, row, action=action)


async def _must_be_free(change: Change, row: MailFromRow) -> None:
    """A domain that mail is sent from is none; to have registered it is not enough."""
    name = exists().where(
        identities.c.region == row.region,
        identities.c.domain == row.domain,
        identities.c.state == "success",
    )
    if (await change.connection.execute(select(name))).scalar():
        raise ConflictError(f"`{row.domain}' is a verified identity, or the domain of one")


async def remove_mail_from(change: Change, row: MailFromRow, *, action: str) -> None:
    """Remove the MAIL FROM domain of an identity."""
    await delete_rows(change, mail_from_domains, [row.key], [row], action=action)
