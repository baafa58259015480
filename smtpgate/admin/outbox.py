"""The outbox: events and reports that wait, were delivered, or were given up.

An account sees the tasks of its own settings, an operator all of them or those of an account.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Final

from smtpgate.admin.errors import AmbiguousIdError, NotFoundError, RefusedChangeError
from smtpgate.admin.journal import JournalSession
from smtpgate.admin.paging import pages_of
from smtpgate.outbox.kept import KeptTask, KeptTasks, TaskFilter

_CANDIDATES: Final = 10
_AT_ONCE: Final = 500


async def tasks(
    session: JournalSession, wanted: TaskFilter, *, limit: int | None = None
) -> AsyncIterator[Sequence[KeptTask]]:
    """Tasks in pages, the newest first."""
    wanted = _seen(session, "ListOutbox", wanted)
    kept = KeptTasks(session.reader.store)

    async def read(before: tuple[int, str] | None, number: int) -> Sequence[KeptTask]:
        return await kept.find(wanted, before, number)

    start: tuple[int, str] | None = None
    async for page in pages_of(read, start, lambda one: one.position, limit):
        yield page


async def get(session: JournalSession, task_id: str, account_id: str | None = None) -> KeptTask:
    """A task by its id or a unique beginning of it.

    Raises NotFoundError, or AmbiguousIdError with the ids that begin so.
    """
    viewer = session.viewer("GetOutboxTask", account_id)
    kept, beginning = KeptTasks(session.reader.store), task_id.strip().lower()
    found: Sequence[KeptTask] = ()
    if beginning.isalnum():
        found = await kept.beginning_with(beginning, _CANDIDATES + 1)
    found = [one for one in found if viewer in (None, one.task.destination.account_id)]
    if not found:
        raise NotFoundError(f"the outbox has no task {task_id}")
    if len(found) > 1:
        ids = [one.id for one in found]
        raise AmbiguousIdError(task_id, ids[:_CANDIDATES], are_all=len(ids) <= _CANDIDATES)
    return found[0]


async def retry(session: JournalSession, task_id: str) -> KeptTask:
    """Have a task tried at once, and for as long as a new one. Raises as :func:`get`.

    Raises RefusedChangeError for one that was sent or is being carried out.
    """
    session.must_be_allowed("RetryOutboxTasks", "*")
    found = await get(session, task_id)
    if not await KeptTasks(session.reader.store).retry([found.id], session.now()):
        raise RefusedChangeError(_not_now(found))
    return await get(session, found.id)


async def retry_all(session: JournalSession, wanted: TaskFilter) -> int:
    """Have all tasks tried at once for which the filter is true; the number of them."""
    session.must_be_allowed("RetryOutboxTasks", "*")
    kept, number = KeptTasks(session.reader.store), 0
    before: tuple[int, str] | None = None
    while found := await kept.find(wanted, before, _AT_ONCE):
        # What is tried again is newer than all that is found after it.
        before = found[-1].position
        number += await kept.retry([one.id for one in found], session.now())
    return number


async def drop(session: JournalSession, task_id: str) -> KeptTask:
    """Delete a task that is not sent yet. Raises as :func:`get`.

    Raises RefusedChangeError for one that was sent.
    """
    session.must_be_allowed("DropOutboxTasks", "*")
    found = await get(session, task_id)
    if not await KeptTasks(session.reader.store).drop([found.id]):
        raise RefusedChangeError(_not_now(found))
    return found


def _seen(session: JournalSession, operation: str, wanted: TaskFilter) -> TaskFilter:
    viewer = session.viewer(operation, wanted.account_id)
    return TaskFilter(
        account_id=viewer,
        message_id=wanted.message_id,
        state=wanted.state,
        kind=wanted.kind,
        destination=wanted.destination,
    )


def _not_now(found: KeptTask) -> str:
    if found.state == "waiting":
        return f"task {found.id} is being delivered now"
    return f"task {found.id} is {found.state}; only waiting and dead ones can be changed"
