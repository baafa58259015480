"""The mail of senders by days, and what it came to, from the sums of usage and events."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, func, select

from smtpgate.core.arn import ArnError, IdentityArn
from smtpgate.core.history.event_counts import EventCounts
from smtpgate.core.history.usage import ACCEPTED, Grain, start_of, unit_of
from smtpgate.core.reputation.sender import RatedMail, RatedSender
from smtpgate.core.reputation.volume import Day
from smtpgate.journal.event_query import EventQuery, event_counts_by
from smtpgate.journal.schema import event_sums, set_usage, usage
from smtpgate.journal.store import JournalStore
from smtpgate.sql.steps import in_steps

_NONE: Final = EventCounts()


class JournalReputationCounts:
    """Implements the ReputationCounts port over a journal.

    ``partition`` and ``region`` are those of the gate's identities.
    """

    def __init__(self, store: JournalStore, *, partition: str, region: str) -> None:
        self._store = store
        self._partition = partition
        self._region = region

    async def days(
        self, sender: RatedSender, since: datetime, until: datetime
    ) -> Sequence[Day]:
        """The sums of a sender's mail by days.

        The first day is added up by the quarters of an hour that begin after ``since``, while
        these are kept.
        """
        first = unit_of(Grain.DAY, since)
        is_part = since > start_of(Grain.DAY, first)
        found = await self._sums(sender, Grain.DAY, start_of(Grain.DAY, first + is_part), until)
        days = [Day(start_of(Grain.DAY, unit), *sums) for unit, sums in found.items()]
        if is_part:
            last = min(start_of(Grain.DAY, first + 1) - Grain.POINT.length, until)
            points = await self._sums(sender, Grain.POINT, since + Grain.POINT.length, last)
            sums = tuple(map(sum, zip(*points.values(), strict=True)))
            days += [Day(start_of(Grain.DAY, first), *sums)] if sums else []
        return days

    async def _sums(
        self, sender: RatedSender, grain: Grain, since: datetime, until: datetime
    ) -> Mapping[int, tuple[int, int, int]]:
        """By the unit of the grain: recipients, hard bounces and complaints."""
        if since > until:
            return {}
        sent = await self._sent(sender, grain, since, until)
        events = await event_counts_by(
            self._store, self._query(sender, grain, since, until), "start"
        )
        found: dict[int, tuple[int, int, int]] = {}
        for unit in (*sent, *(key[0] for key in events)):
            counts = events.get((unit,), _NONE)
            # Those of messages that were refused as a whole are in no sum of accepted ones.
            recipients = sent.get(unit, 0) + counts.refused
            found[unit] = recipients, counts.hard_bounces, counts.complaints
        return found

    async def _sent(
        self, sender: RatedSender, grain: Grain, since: datetime, until: datetime
    ) -> Mapping[int, int]:
        table = set_usage if sender.kind == "set" else usage
        query = (
            select(table.c.start, func.sum(table.c.recipients))
            .where(
                table.c.grain == int(grain),
                table.c.account_id == sender.account_id,
                table.c.start >= unit_of(grain, since),
                table.c.start <= unit_of(grain, until),
                *self._of(sender),
            )
            .group_by(table.c.start)
        )
        async with self._store.reading() as connection:
            return {row[0]: int(row[1]) for row in await connection.execute(query)}

    def _of(self, sender: RatedSender) -> Iterator[ColumnElement[bool]]:
        """The conditions on the mail of a sender, beside its account and time."""
        if sender.kind == "set":
            yield set_usage.c.configuration_set == sender.name
            return
        yield usage.c.reason == ACCEPTED
        if sender.kind == "delegate":
            yield usage.c.identity == self._arn(sender.owner_id, sender.name)

    def _query(
        self, sender: RatedSender, grain: Grain, since: datetime, until: datetime
    ) -> EventQuery:
        is_delegate = sender.kind == "delegate"
        return EventQuery(
            grain=grain,
            since=since,
            until=until,
            account_id=sender.account_id,
            identity=self._arn(sender.owner_id, sender.name) if is_delegate else None,
            configuration_set=sender.name if sender.kind == "set" else None,
        )

    def _arn(self, owner_id: str, name: str) -> str:
        return str(IdentityArn(self._partition, self._region, owner_id, name))

    async def troubled(self, since: datetime, until: datetime) -> Mapping[RatedMail, int]:
        """Mail of which recipients bounced for good or complained, and how many did."""
        columns, grain = event_sums.c, Grain.DAY
        keys = columns.account_id, columns.owner_id, columns.identity, columns.configuration_set
        bad = columns.hard_bounces + columns.complaints
        query = (
            select(*keys, func.sum(bad).label("bad"))
            .where(
                columns.grain == int(grain),
                columns.start >= unit_of(grain, since),
                columns.start <= unit_of(grain, until),
                bad > 0,
            )
            .group_by(*keys)
        )
        found: dict[RatedMail, int] = {}
        async with self._store.reading() as connection:
            async for row in in_steps(connection, query):
                mail = self._mail(row)
                found[mail] = found.get(mail, 0) + int(row.bad)
        return found

    def _mail(self, row: Any) -> RatedMail:  # noqa: ANN401 - a row of a query
        name = ""
        try:
            arn = IdentityArn.parse(row.identity)
            if (arn.partition, arn.region) == (self._partition, self._region):
                name = arn.name
        except ArnError:
            pass  # a message that was refused before its identity was known
        return RatedMail(
            row.account_id, row.owner_id if name else "", name, row.configuration_set
        )

    async def delegates(
        self, owner_id: str, identity: str, since: datetime, until: datetime
    ) -> Sequence[str]:
        """The other accounts that sent by an owner's identity in that time."""
        columns, grain = usage.c, Grain.DAY
        query = (
            select(columns.account_id)
            .distinct()
            .where(
                columns.grain == int(grain),
                columns.owner_id == owner_id,
                columns.start >= unit_of(grain, since),
                columns.start <= unit_of(grain, until),
                columns.identity == self._arn(owner_id, identity),
                columns.account_id != owner_id,
            )
            .order_by(columns.account_id)
        )
        async with self._store.reading() as connection:
            return [row[0] for row in await connection.execute(query)]
