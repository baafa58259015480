"""Transcripts of sessions while they go on: which are wanted, and the lines that wait.

While no trace runs, ``Tracer.traces`` is empty: that is all a session asks, once a line. While
one runs, every session writes lines, and each trace takes those of its own. The account of a
session is known after its login only; what came before is kept in a small ring until then.

The upstream's side of a session is a connection of the relay, which serves one session after
another. It finds the transcript of the session that it works for in ``SERVED``, which the
session's task sets before it hands over a message.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final

from smtpgate.core.transcript import (
    Kind,
    SessionFacts,
    Side,
    TraceTarget,
    TranscriptLine,
    TranscriptPart,
)

MOST_TRACES: Final = 8
_MOST_WAITING: Final = 2000
_MOST_IN_PART: Final = 250
# Lines of a session before its login, and of all sessions.
_MOST_KEPT: Final = 40
_MOST_KEPT_IN_ALL: Final = 10_000
# Between two parts, so that lines that come together leave together.
_PAUSE_S: Final = 0.02


class TooManyTracesError(Exception):
    """As many traces run as may."""


class Trace:
    """One trace: the lines that wait to be read."""

    def __init__(self, target: TraceTarget) -> None:
        self.target = target
        self.is_over = False
        self._waiting: deque[TranscriptLine] = deque()
        self._dropped = self._sessions = 0
        self._more = asyncio.Event()

    def put(self, line: TranscriptLine) -> None:
        """Take a line; while too many wait, it is only counted."""
        if len(self._waiting) >= _MOST_WAITING:
            self._dropped += 1
        else:
            self._waiting.append(line)
        self._more.set()

    def drop(self, lines: int) -> None:
        """Count lines that were dropped before they came here."""
        if lines:
            self._dropped += lines
            self._more.set()

    def greet(self, sessions: int) -> None:
        """Pass on how many open sessions the trace is about."""
        self._sessions += sessions
        self._more.set()

    def end(self) -> None:
        """No more lines come."""
        self.is_over = True
        self._more.set()

    async def parts(self) -> AsyncGenerator[TranscriptPart]:
        """The lines as they come, until the end."""
        while True:
            await self._more.wait()
            while self._waiting or self._dropped or self._sessions:
                count = min(len(self._waiting), _MOST_IN_PART)
                lines = tuple(self._waiting.popleft() for _ in range(count))
                dropped = 0
                if not self._waiting:
                    dropped, self._dropped = self._dropped, 0
                sessions, self._sessions = self._sessions, 0
                yield TranscriptPart(lines, dropped, sessions)
            if self.is_over:
                return
            self._more.clear()
            await asyncio.sleep(_PAUSE_S)


class Tracer:
    """The traces of one process. ``now`` is asked for the time of each line."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.traces: list[Trace] = []
        self.now = now
        self.period = 0  # grows whenever the first trace of several begins
        self.kept = 0
        self._keeping: set[SessionTranscript] = set()

    def begin(self, target: TraceTarget) -> Trace:
        """Begin a trace; :meth:`end` it, whatever happens. Raises TooManyTracesError."""
        if len(self.traces) >= MOST_TRACES:
            raise TooManyTracesError
        self.period += not self.traces
        trace = Trace(target)
        self.traces.append(trace)
        return trace

    def end(self, trace: Trace) -> None:
        """End it; with the last one all lines that were kept go."""
        trace.end()
        if trace in self.traces:
            self.traces.remove(trace)
        if not self.traces:
            for one in tuple(self._keeping):
                one.forget()

    def keep(self, transcript: "SessionTranscript", kept: int) -> None:
        """A session keeps so many lines more, or fewer."""
        self.kept += kept
        if transcript.has_kept:
            self._keeping.add(transcript)
        else:
            self._keeping.discard(transcript)

    @property
    def may_keep(self) -> bool:
        """True if there is room for another line that is kept."""
        return self.kept < _MOST_KEPT_IN_ALL

    def note(self, facts: SessionFacts, text: str) -> None:
        """Write one line about a connection that is no session."""
        SessionTranscript(self, facts).add("client", "note", text)


class SessionTranscript:
    """The lines of one session, on their way to the traces that want them.

    ``is_doubtful``: the client may send something else than commands now (see
    ``core/transcript.py``); that is so for sessions of which the beginning was not seen.
    ``owes_doubtful``: a reply to such a line is still to be written.
    """

    def __init__(
        self, tracer: Tracer, facts: SessionFacts, *, is_doubtful: bool = True
    ) -> None:
        self.period = tracer.period
        self.is_doubtful = self.owes_doubtful = is_doubtful
        self.last_verb = b""
        self.last_transaction: object = None
        self._tracer = tracer
        self._facts = facts
        self._kept: deque[TranscriptLine] = deque()
        self._is_over = False

    @property
    def has_kept(self) -> bool:
        """True if lines are kept until the account is known."""
        return bool(self._kept)

    @property
    def is_wanted(self) -> bool:
        """True while a trace is about the session, or may be."""
        tracer = self._tracer
        return (
            not self._is_over
            and self.period == tracer.period
            and any(trace.target.includes(self._facts) is not False for trace in tracer.traces)
        )

    def add(self, side: Side, kind: Kind, text: str, upstream: str = "") -> None:
        """Write a line."""
        tracer = self._tracer
        wishes = [trace.target.includes(self._facts) for trace in tracer.traces]
        if not any(one is not False for one in wishes):
            return
        at = tracer.now().astimezone(UTC).isoformat(timespec="microseconds")
        line = TranscriptLine(
            at.replace("+00:00", "Z"), self._facts.session, side, kind, text, upstream
        )
        for trace, is_wanted in zip(tracer.traces, wishes, strict=True):
            if is_wanted:
                trace.put(line)
        if None in wishes and not self._is_over:
            self._keep(line)

    def add_all(self, side: Side, kind: Kind, texts: Iterable[str], upstream: str = "") -> None:
        """Write lines."""
        for text in texts:
            self.add(side, kind, text, upstream)

    def logged_in(self, account: str, key: str) -> None:
        """The session has logged in: those that want it get what was kept."""
        before = self._facts
        self._facts = SessionFacts(before.session, before.address, account, key)
        for trace in self._tracer.traces:
            if trace.target.includes(before) is None and trace.target.includes(self._facts):
                for line in self._kept:
                    trace.put(line)
        self.forget()

    def ended(self) -> None:
        """The session is over, and so is a trace of it alone."""
        self._is_over = True
        for trace in tuple(self._tracer.traces):
            if trace.target.session and trace.target.session == self._facts.session:
                trace.end()
        self.forget()

    def forget(self) -> None:
        """Drop what was kept."""
        kept = len(self._kept)
        self._kept.clear()
        self._tracer.keep(self, -kept)

    def _keep(self, line: TranscriptLine) -> None:
        if len(self._kept) >= _MOST_KEPT:
            _ = self._kept.popleft()
            self._kept.append(line)
        elif self._tracer.may_keep:
            self._kept.append(line)
            self._tracer.keep(self, 1)


SERVED: Final[ContextVar[SessionTranscript | None]] = ContextVar("SERVED", default=None)
"""The transcript of the session that a task works for; ``None`` unless it is wanted."""
