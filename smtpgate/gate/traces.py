"""The requests of ``smtpgate trace``: in each process that takes mail, and in the asked one."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from datetime import UTC
from pathlib import Path
from typing import Final

import msgspec

from smtpgate.control import Asker, Peers, RefusedError, Routes, TracePart, TraceRequest, asker
from smtpgate.core.transcript import TraceTarget, TranscriptLine, TranscriptPart
from smtpgate.log import JsonLog
from smtpgate.ports import Clock
from smtpgate.smtp.listener import Listener
from smtpgate.smtp.traced import facts_of
from smtpgate.tasks import TaskOwner
from smtpgate.tracing import MOST_TRACES, TooManyTracesError, Trace, Tracer

_TOO_MANY: Final = f"{MOST_TRACES} traces run already; end one of them"
_NO_LOGIN: Final = 0xFFFFFFFF  # of a process that no login began


def answer_part(
    routes: Routes, tracer: Tracer, listeners: Callable[[], Iterable[Listener]]
) -> None:
    """Have this process trace its sessions."""

    def open_sessions(target: TraceTarget) -> int:
        sessions = (session for one in listeners() for session in one.sessions)
        return sum(target.includes(facts_of(session)) is True for session in sessions)

    async def answer(part: TracePart) -> AsyncGenerator[object]:
        sessions = open_sessions(part.target)
        if part.target.session and not sessions:
            return
        try:
            trace = tracer.begin(part.target)
        except TooManyTracesError:
            raise RefusedError(_TOO_MANY) from None
        try:
            yield TranscriptPart(sessions=sessions)
            async for one in trace.parts():
                yield one
        finally:
            tracer.end(trace)

    routes.add(TracePart, answer)


def answer_requests(
    routes: Routes, peers: Callable[[], Peers], log: JsonLog, clock: Clock
) -> None:
    """Have requests of the control socket answered, by all processes that take mail."""
    running: set[_Traced] = set()

    async def answer(request: TraceRequest) -> AsyncGenerator[object]:
        _must_be_one(request.target)
        if len(running) >= MOST_TRACES:
            raise RefusedError(_TOO_MANY)
        traced = _Traced(request.target, clock)
        running.add(traced)
        target, who = _words_of(request.target), asker()
        log.note("info", "trace begun", target=target, **_facts_of(who))
        try:
            async for part in traced.parts(peers(), request.seconds):
                yield part
        finally:
            running.discard(traced)
            log.note(
                "info",
                "trace ended",
                target=target,
                **_facts_of(who),
                lines=traced.lines,
                dropped=traced.dropped,
            )

    routes.add(TraceRequest, answer)


class _Traced:
    """One trace, gathered from all processes: what is not read in time is dropped here."""

    def __init__(self, target: TraceTarget, clock: Clock) -> None:
        self.lines = self.dropped = 0
        self._sessions = 0
        self._clock = clock
        self._trace = Trace(target)

    async def parts(
        self, peers: Peers, seconds: float | None
    ) -> AsyncGenerator[TranscriptPart]:
        """The lines as they come. Raises RefusedError."""
        trace, tasks = self._trace, TaskOwner()
        gathering = tasks.start(self._gather(peers), name="trace")
        timer = None
        if seconds is not None:
            timer = asyncio.get_running_loop().call_later(seconds, trace.end)
        try:
            async for part in trace.parts():
                self.lines += len(part.lines)
                self.dropped += part.dropped
                yield part
            if gathering.done():
                gathering.result()
        finally:
            if timer is not None:
                timer.cancel()
            _ = await tasks.drain(0)

    async def _gather(self, peers: Peers) -> None:
        """Take the lines of all processes, however fast they are read. Raises RefusedError."""
        target, problems = self._trace.target, list[str]()
        try:
            async for one in peers.ask(TracePart(target)):
                if one.problem is not None:
                    problems.append(one.problem)
                    self._trace.put(self._problem(f"worker {one.worker}: {one.problem}"))
                    continue
                part = msgspec.convert(one.value, TranscriptPart)
                if part.sessions:
                    self._sessions += part.sessions
                    self._trace.greet(part.sessions)
                for line in part.lines:
                    self._trace.put(line)
                self._trace.drop(part.dropped)
        finally:
            self._trace.end()
        if target.session and not self._sessions:
            text = "; ".join(problems) or f"no open session has the id {target.session}"
            raise RefusedError(text)

    def _problem(self, text: str) -> TranscriptLine:
        at = self._clock.now().astimezone(UTC).isoformat(timespec="microseconds")
        return TranscriptLine(at.replace("+00:00", "Z"), "", "client", "note", text)


def _must_be_one(target: TraceTarget) -> None:
    """Refuse a target that names nothing, or several things. Raises RefusedError."""
    named = [one for one in (target.account, target.key, target.network, target.session) if one]
    if len(named) != 1:
        raise RefusedError("a trace is of one account, key, network or session")
    try:
        _ = target.includes_address("192.0.2.1")
    except ValueError as error:
        raise RefusedError(str(error)) from None


def _words_of(target: TraceTarget) -> str:
    fields = ("account", "key", "network", "session")
    return next(f"{name} {value}" for name in fields if (value := getattr(target, name)))


def _facts_of(who: Asker | None) -> dict[str, int]:
    """The process that asks and its user, also the one that logged in before a `sudo`."""
    if who is None:
        return {}
    facts = {"uid": who.user, "pid": who.process}
    try:
        login = int(Path(f"/proc/{who.process}/loginuid").read_text("ascii"))
    except (OSError, ValueError):
        return facts
    return facts if login == _NO_LOGIN else {**facts, "login_uid": login}
