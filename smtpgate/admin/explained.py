"""A message explained: its record, the events that came later, and who was notified.

An account sees of these what it sees of the record; destinations only of its own settings.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from smtpgate.admin import journal
from smtpgate.admin.journal import JournalSession
from smtpgate.core.history.later import Later, Notice, seen_later
from smtpgate.core.history.record import Record
from smtpgate.journal.event_query import events_of
from smtpgate.outbox.kept import KeptTask, KeptTasks, TaskFilter

_MAX_NOTICES: Final = 500


class Explained(NamedTuple):
    """A record with all that came later."""

    record: Record
    later: Later


async def explained(
    session: JournalSession, message_id: str, account_id: str | None = None
) -> Explained:
    """A message by its id or a unique beginning of it. Raises as :func:`journal.get`."""
    viewer = session.viewer("GetMessage", account_id)
    record = await journal.get(session, message_id, account_id)
    later = Later(
        tuple(await events_of(session.reader.store, record.id)),
        await _notices(session, record.id, viewer),
    )
    return Explained(record, later if viewer is None else seen_later(later, record, viewer))


async def _notices(
    session: JournalSession, message_id: str, viewer: str | None
) -> tuple[Notice, ...]:
    """The tasks of a message in order of time, the newest ones if there are very many."""
    wanted = TaskFilter(account_id=viewer, message_id=message_id)
    tasks: Sequence[KeptTask] = await KeptTasks(session.reader.store).find(
        wanted, None, _MAX_NOTICES
    )
    return tuple(_notice(one) for one in reversed(tasks))


def _notice(one: KeptTask) -> Notice:
    event, to = one.task.event, one.task.destination
    return Notice(
        task_id=one.id,
        event_id=event.id,
        kind=event.kind,
        recipients=tuple(recipient.address for recipient in event.recipients),
        destination_kind=to.kind,
        destination=to.name,
        account_id=to.account_id,
        state=one.state,
        due_at=one.due_at,
        done_at=one.done_at,
        attempts=one.attempts,
        answer=one.answer,
    )
