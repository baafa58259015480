"""The log about what a service needs: its upstreams, the keys of issuers, its own files."""

from dataclasses import dataclass
from pathlib import Path

from smtpgate.core.routing.breaker import BreakerState
from smtpgate.log import JsonLog, Level


@dataclass(frozen=True, slots=True)
class ServiceLog:
    """Has a method for each event. A ``problem`` of ``None`` says that it is over."""

    log: JsonLog
    state_dir: Path

    def note_limit(self, upstream: str, connections: int, problem: str) -> None:
        """Log that an upstream refused a further connection; messages wait for the others."""
        facts = {"upstream": upstream, "connections": connections, "problem": problem}
        self.log.note("warning", "upstream-limit", **facts)

    def note_files(self, upstream: str, problem: str | None) -> None:
        """Log that an upstream's changed certificates cannot be used, or are in use."""
        names = "upstream-certificate loaded", "upstream-certificate not loaded"
        self._note(names, "error", problem, upstream=upstream)

    def note_token(self, upstream: str, problem: str | None) -> None:
        """Log that an upstream has no new access token, or has one again."""
        names = "upstream-token usable", "upstream-token failed"
        self._note(names, "warning", problem, upstream=upstream)

    def note_issuer(self, issuer: str, problem: str | None) -> None:
        """Log that an issuer's keys cannot be read, or can be again."""
        names = "issuer-keys usable", "issuer-keys failed"
        self._note(names, "warning", problem, issuer=issuer)

    def note_storage(self, problem: str | None) -> None:
        """Log that large messages cannot be written to files, or can be again."""
        names = "storage usable", "storage unusable"
        self._note(names, "error", problem, folder=str(self.state_dir))

    def note_state(self, upstream: str, state: BreakerState, problem: str) -> None:
        """Log that messages go to an upstream no more, for a try, or again."""
        level: Level = "warning" if state == "open" else "info"
        facts = {"problem": problem} if problem else {}
        self.log.note(level, "upstream-state", upstream=upstream, state=state, **facts)

    def _note(
        self, names: tuple[str, str], level: Level, problem: str | None, **facts: str
    ) -> None:
        """Log the first name without a problem, the second one, at that level, with one."""
        if problem is None:
            self.log.note("info", names[0], **facts)
        else:
            self.log.note(level, names[1], **facts, problem=problem)
