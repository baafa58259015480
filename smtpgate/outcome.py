"""The outcome of a submission: written down first, then told.

The journal has a submission before the upstream does, and its verdict before the client does.
So no end of the gate, at whatever moment, leaves anything that nobody can look up.
"""

from collections.abc import Callable

from smtpgate.core.authorization import Denial
from smtpgate.core.events import SubmissionDone
from smtpgate.core.reply import Reject, Reply, reject
from smtpgate.core.upstream.verdict import worded
from smtpgate.ports import Clock, EventSink, Journal, JournalUnavailableError


def refuse(done: SubmissionDone, refusal: Reject) -> Reply:
    """Note the refusal as the verdict; what the client hears of it."""
    done.reason, done.detail = refusal.reason, refusal.detail
    if refusal.reason == "in-doubt":
        done.outcome = "in-doubt"
    else:
        done.outcome = "deferred" if refusal.reply.is_transient else "refused"
    shown: Reject | None = None
    if isinstance(refusal, Denial):
        done.decision, done.identities = refusal.decision, refusal.identities
        shown = refusal.shown
    done.is_masked = shown is not None
    return worded(shown or refusal, done.submission.message_id)


class Outcome:
    """Writes down what is about to be relayed and what came of it; then one event tells of it.

    With ``is_journal_needed`` nothing is relayed, and before the relay no verdict is told, that
    is not written down. After the relay the verdict is what it is.
    """

    def __init__(
        self,
        journal: Journal,
        events: EventSink,
        clock: Clock,
        *,
        is_journal_needed: bool,
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._journal = journal
        self._events = events
        self._clock = clock
        self._is_journal_needed = is_journal_needed
        self._on_error = on_error

    async def begin(self, done: SubmissionDone) -> None:
        """The upstream is about to have the message. Raises Reject."""
        try:
            await self._journal.begin(done)
        except JournalUnavailableError as error:
            if self._is_journal_needed:
                reject("journal-unavailable", str(error))

    async def end(self, done: SubmissionDone) -> None:
        """There is a verdict, ``done.reply``; it may be another one afterwards."""
        try:
            done.done_at = self._clock.now()
            if not await self._is_written(done) and self._can_be_put_off(done):
                refusal = Reject.of("journal-unavailable")
                done.reply = refuse(done, refusal)
                await self._is_written(done)
        finally:
            done.done_at = self._clock.now()
            self._events.publish(done)

    def _can_be_put_off(self, done: SubmissionDone) -> bool:
        return self._is_journal_needed and "relay" not in done.stage_s

    async def _is_written(self, done: SubmissionDone) -> bool:
        try:
            await self._journal.finish(done)
        except JournalUnavailableError:
            return False
        except Exception as error:  # noqa: BLE001 - the message's fate is decided already
            self._on_error(error)
            return False
        return True
