"""The journal of a gate whose configuration disables it."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from smtpgate.core.events import Event, SubmissionDone
from smtpgate.core.outbox.event import SendingEvent
from smtpgate.core.outbox.task import Task
from smtpgate.ports import JournalUnavailableError, Reading


class NoJournal:
    """Implements the journal's interface, and keeps nothing."""

    reads: ClassVar[tuple[type, ...]] = ()

    async def start(self) -> None:
        """Open nothing."""

    async def stop(self) -> None:
        """Close nothing."""

    def check(self) -> tuple[bool, str]:
        """Mail never waits for it."""
        return True, "off"

    def readings(self) -> Iterable[Reading]:
        """No metrics of it are in a scrape."""
        return ()

    async def begin(self, done: SubmissionDone) -> None:
        """Keep nothing of what is about to be relayed."""

    async def note(self, tasks: Sequence[Task], events: Sequence[SendingEvent]) -> None:
        """There is no outbox without a journal."""
        raise JournalUnavailableError("journal.enabled is false")

    async def finish(self, done: SubmissionDone) -> None:
        """Keep nothing of a verdict."""

    def publish(self, event: Event) -> None:
        """Keep nothing of an event."""
