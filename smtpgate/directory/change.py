"""One transaction that changes the directory, with its actor and its steps.

Each step gets an audit entry, which is also the notification for the caches of all gates. So
nothing can change without both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import insert

from smtpgate.directory.schema import audit_log
from smtpgate.sql.asynchronous import AsyncConnection

AuditSubjectKind = Literal[
    "account", "user", "key", "identity", "topic", "set", "list", "template", "store"
]
Facts = Mapping[str, Any]


class RefusedChangeError(ValueError):
    """A change that the directory does not take; the text says why, and nothing was changed."""


class NotFoundError(RefusedChangeError):
    """The object of a change does not exist."""


class MissingTopicError(NotFoundError):
    """The topic that a setting names does not exist, or is not open to its account."""


class MissingSetError(NotFoundError):
    """The configuration set that a setting names does not exist."""


class ConflictError(RefusedChangeError):
    """The object was changed meanwhile, or it exists already."""


@dataclass(frozen=True, slots=True)
class Actor:
    """The author of a change: a name and an origin."""

    name: str
    origin: str


@dataclass(frozen=True, slots=True)
class AuditSubject:
    """The object of a step; ``name`` is the user's, the key's id, or the identity's name.

    A ``set`` is a configuration set. A ``list`` is an account's suppression list; the name is
    the address that a person added or removed, and empty if no single one was named.

    ``store`` is the directory as a whole, and has neither an account nor a name.
    """

    kind: AuditSubjectKind
    account_id: str
    name: str = ""

    def __str__(self) -> str:
        if self.kind == "store":
            return "the directory"
        if self.kind == "account":
            return f"account {self.account_id}"
        if self.kind == "key":
            return f"access key {self.name}"
        if self.kind == "list":
            whose = f"suppression list of {self.account_id}"
            return f"{whose}: {self.name}" if self.name else whose
        kind = "configuration set" if self.kind == "set" else self.kind
        return f"{kind} {self.account_id}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """An audit entry: the action, its subject, and the facts that changed; no secrets."""

    action: str
    subject: AuditSubject
    before: Facts | None = None
    after: Facts | None = None


class Change:
    """A transaction in progress."""

    def __init__(self, connection: AsyncConnection, actor: Actor, now: datetime) -> None:
        self.connection = connection
        self.actor = actor
        self.now = now
        self.steps: list[tuple[str, AuditSubject]] = []

    async def note(
        self,
        action: str,
        subject: AuditSubject,
        *,
        before: Facts | None = None,
        after: Facts | None = None,
    ) -> None:
        """Write a step into the audit log, without secrets: it is never deleted."""
        note = Note(action=action, subject=subject, before=before, after=after)
        await self.note_all([note])

    async def note_all(self, notes: Sequence[Note]) -> None:
        """Write several steps into the audit log, in their order."""
        if not notes:
            return
        self.steps += ((note.action, note.subject) for note in notes)
        await self.connection.execute(insert(audit_log), [self._line(note) for note in notes])

    def _line(self, note: Note) -> dict[str, Any]:
        subject, before, after = note.subject, note.before, note.after
        return {
            "at": self.now,
            "actor": self.actor.name,
            "origin": self.actor.origin,
            "action": note.action,
            "kind": subject.kind,
            "account_id": subject.account_id,
            "name": subject.name,
            "before": dict(before) if before is not None else None,
            "after": dict(after) if after is not None else None,
        }
