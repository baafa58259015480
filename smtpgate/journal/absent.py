"""What stands in for the journal where there is none."""

from smtpgate.core.events import Event, SubmissionDone


class NoJournal:
    """Implements the Journal and EventSink ports, and keeps nothing."""

    async def start(self) -> None:
        """Begin with nothing."""

    async def stop(self) -> None:
        """End with it."""

    async def begin(self, done: SubmissionDone) -> None:
        """Keep nothing of what is about to be relayed."""

    async def finish(self, done: SubmissionDone) -> None:
        """Keep nothing of a verdict."""

    def publish(self, event: Event) -> None:
        """Keep nothing of an event."""
