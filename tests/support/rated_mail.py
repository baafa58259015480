"""The mail of senders in memory: what a journal would have of it."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import structs

from smtpgate.core.reputation.sender import RatedMail, RatedSender
from smtpgate.core.reputation.volume import Day


class SentMail:
    """Implements the ReputationCounts port over days that a test writes down."""

    def __init__(self) -> None:
        self.asked: list[RatedSender] = []
        self._days: defaultdict[RatedSender, dict[datetime, Day]] = defaultdict(dict)
        self._mail: list[tuple[datetime, RatedMail, int]] = []

    def send(
        self,
        at: datetime,
        mail: RatedMail,
        recipients: int,
        bounces: int = 0,
        complaints: int = 0,
    ) -> None:
        """Messages of one day."""
        self._mail.append((at, mail, bounces + complaints))
        start = _day(at)
        for sender in mail.senders():
            day = self._days[sender].get(start, Day(start))
            self._days[sender][start] = structs.replace(
                day,
                sent=day.sent + recipients,
                bounces=day.bounces + bounces,
                complaints=day.complaints + complaints,
            )

    async def days(
        self, sender: RatedSender, since: datetime, until: datetime
    ) -> Sequence[Day]:
        """The days that begin in that time."""
        self.asked.append(sender)
        days = self._days[sender].values()
        return [day for day in days if since <= day.start <= until]

    async def troubled(self, since: datetime, until: datetime) -> Mapping[RatedMail, int]:
        """The mail of those days that bounced or was complained about."""
        found: Counter[RatedMail] = Counter()
        for at, mail, bad in self._mail:
            if bad and _day(since) <= at <= until:
                found[mail] += bad
        return found

    async def delegates(
        self, owner_id: str, identity: str, since: datetime, until: datetime
    ) -> Sequence[str]:
        """The other accounts that sent by the identity in that time."""
        found = {
            mail.account_id
            for at, mail, _ in self._mail
            if (mail.owner_id, mail.identity) == (owner_id, identity)
            and mail.account_id != owner_id
            and since - timedelta(days=1) <= at <= until
        }
        return sorted(found)


def _day(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)
