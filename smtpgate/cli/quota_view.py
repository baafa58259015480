"""How sending limits are shown: as they hold now, and how much the ledger says is left."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from smtpgate.admin.session import Session
from smtpgate.cli.limits import shown_limit
from smtpgate.cli.listing import View, shown
from smtpgate.cli.terminal import warn
from smtpgate.core.account import UNLIMITED, SendingLimits, TemporaryLimits
from smtpgate.core.arn import IdentityArn
from smtpgate.core.limits import Charge, Standing, Subject, SubjectKind, clock_time, standings
from smtpgate.directory.allowances import Allowance
from smtpgate.directory.quotas import QuotaKey, QuotaKind
from smtpgate.gate.errors import OpenError
from smtpgate.gate.ledger import open_ledger
from smtpgate.ports import Ledger, LedgerUnavailableError

_KINDS: Final[dict[QuotaKind, SubjectKind]] = {
    "account": "account",
    "user": "user",
    "key": "access-key",
    "identity": "identity",
}
_AT_ONCE: Final = 200


@dataclass(frozen=True, slots=True)
class QuotaNow:
    """The limits of one as they hold now; without ``standing`` nobody knows what is left."""

    name: str
    subject: Subject
    limits: SendingLimits
    raised: TemporaryLimits | None
    standing: Standing | None

    @property
    def wait(self) -> timedelta | None:
        """How long until something may be sent again, if nothing may be now."""
        if self.standing is None:
            return None
        waits = (self.standing.frees_in, self.standing.lends_in)
        return max((wait for wait in waits if wait is not None), default=None)


def name_of(place: QuotaKey, partition: str) -> str:
    """What people call it."""
    if place.kind != "identity":
        return str(place.audit_subject)
    return f"account {place.delegate_id} by {_arn(place, partition)}"


def _arn(place: QuotaKey, partition: str) -> str:
    return str(IdentityArn(partition, place.region, place.account_id, place.subject))


def in_words(limits: SendingLimits) -> str:
    """The limits, such as ``500 recipients in 24 hours, any number a second``."""
    day, a_second = limits.max_24h_send, limits.max_send_rate_per_s
    many = "any number of" if day == UNLIMITED else day
    return (
        f"{many} recipients in 24 hours, "
        f"{'any number' if a_second == UNLIMITED else shown(a_second)} a second"
    )


async def quotas_of(session: Session, allowances: Sequence[Allowance]) -> list[QuotaNow]:
    """How they all stand now."""
    now, partition = session.now(), session.partition
    found = [_quota(allowance, partition, now) for allowance in allowances]
    by_account: dict[str, list[Charge]] = {}
    for one in found:
        charge = Charge(one.subject, one.limits)
        by_account.setdefault(one.subject.account_id, []).append(charge)
    known = await _standings(session, list(by_account.values()), now)
    return [
        QuotaNow(one.name, one.subject, one.limits, one.raised, known.get(one.subject))
        for one in found
    ]


def _quota(allowance: Allowance, partition: str, now: datetime) -> QuotaNow:
    place, raised = allowance.key, allowance.limits.raised
    account_id, name = place.account_id, place.shown
    if place.kind == "identity":
        account_id, name = place.delegate_id, _arn(place, partition)
    return QuotaNow(
        name_of(place, partition),
        Subject(account_id, _KINDS[place.kind], name),
        allowance.limits.at(now),
        raised if raised is not None and raised.until > now else None,
        None,
    )


async def _standings(
    session: Session, charges: Sequence[Sequence[Charge]], now: datetime
) -> dict[Subject, Standing]:
    """What the ledger says of each, or nothing when it cannot be asked, which is told."""
    config = session.config
    kind, path = config.ledger.kind, config.ledger_path
    if kind == "memory":
        warn(['ledger.kind is "memory": what is left is known to the running gate alone'])
        return {}
    if kind == "sqlite" and not path.exists():
        # To open it would make it, and it would not be the service's.
        return {
            standing.charge.subject: standing
            for some in charges
            for standing in standings([None] * len(some), some, now)
        }
    try:
        async with open_ledger(config) as ledger:
            return await _asked(ledger, charges, now)
    except (LedgerUnavailableError, OpenError) as error:
        warn([f"what is left is not known: {error}"])
        return {}


async def _asked(
    ledger: Ledger, charges: Sequence[Sequence[Charge]], now: datetime
) -> dict[Subject, Standing]:
    found: dict[Subject, Standing] = {}
    for of_account in charges:
        for some in _parts(of_account):
            for standing in await ledger.standings(some, now):
                found[standing.charge.subject] = standing
    return found


def _parts(charges: Sequence[Charge]) -> Iterator[list[Charge]]:
    rest = iter(charges)
    while some := list(islice(rest, _AT_ONCE)):
        yield some


def _fields(row: QuotaNow) -> dict[str, object]:
    """A quota as programs see it; -1 is unlimited, null is not known."""
    standing, raised = row.standing, row.raised
    return {
        "kind": row.subject.kind,
        "account": row.subject.account_id,
        "name": row.subject.name or None,
        "max_24h_send": row.limits.max_24h_send,
        "used_24h": None if standing is None else standing.used_24h,
        "left": None if standing is None else standing.left,
        "max_send_rate_per_s": row.limits.max_send_rate_per_s,
        "rate_left": None if standing is None else standing.rate_left,
        "wait_s": None if row.wait is None else row.wait.total_seconds(),
        "raised_until": None if raised is None else raised.until,
    }


def _left(row: QuotaNow) -> object:
    if row.standing is None:
        return None
    return "any" if row.standing.left is None else row.standing.left


QUOTA_VIEW: Final[View[QuotaNow]] = View(
    columns={
        "whose": lambda row: row.name,
        "24 h": lambda row: shown_limit(row.limits.max_24h_send),
        "used": lambda row: None if row.standing is None else row.standing.used_24h,
        "left": _left,
        "a second": lambda row: shown_limit(row.limits.max_send_rate_per_s),
        "free in": lambda row: None if row.wait is None else clock_time(row.wait),
        "raised until": lambda row: None if row.raised is None else row.raised.until,
    },
    fields=_fields,
    nothing="no limits",
)
