"""The mail of senders in memory: what a journal would have of it."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import structs

from smtpgate.core.reputation.sender import RatedMail, RatedSender
from smtpgate.core.reputation.volume import Day


class SentMail:
    """Implements the ReputationCounts port over days that a test writes down."""

    def __init__(self) -> None:
        self.asked: list[RatedSender] = []
        self._days: defaultdict[RatedSender, dict[datetime, Day]] = defaultdict(dict)
        self._mail: list[tuple[datetime, RatedMail, bool]] = []

    def send(
        self,
        at: datetime,
        mail: RatedMail,
        recipients: int,
        bounces: int = 0,
        complaints: int = 0,
    ) -> None:
        """Messages of one day."""
        self._mail.append((at, mail, bounces + complaints > 0))
        start = at.replace(hour=0, minute=0, second=0, microsecond=0)
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

    async def troubled(self, since: datetime, until: datetime) -> Sequence[RatedMail]:
        """The mail of that time that bounced or was complained about."""
        found = [mail for at, mail, is_bad in self._mail if is_bad and since <= at <= until]
        return list(dict.fromkeys(found))

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
