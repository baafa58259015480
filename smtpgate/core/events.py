"""What happened, as values: the log, the metrics and every later reader are fed from these."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from smtpgate.core.address import Mailbox
from smtpgate.core.envelope import Client, Submission
from smtpgate.core.policy import Decision
from smtpgate.core.reply import Reply

__all__ = [
    "AuthFailed",
    "Event",
    "Outcome",
    "Role",
    "SessionClosed",
    "SessionOpened",
    "Stage",
    "SubmissionDone",
    "UsedIdentity",
]

Outcome = Literal["accepted", "deferred", "refused", "in-doubt"]
Role = Literal["source", "from", "sender", "return-path"]
Stage = Literal["message", "authorization", "limits", "signing", "relay"]


@dataclass(frozen=True, slots=True)
class UsedIdentity:
    """Which identity served a role, and how it was found."""

    role: Role
    address: Mailbox
    arn: str
    how: Literal["named", "inherited", "own", "inferred"]


@dataclass(slots=True, kw_only=True)
class SubmissionDone:
    """One submission, from the final dot to its verdict.

    The pipeline fills it in stage by stage, so that a refusal tells all that was known by then.
    ``stage_s`` has the seconds that each stage took. ``used_24h`` is the account's count of
    recipients in the last 24 hours, after this message.
    """

    submission: Submission
    outcome: Outcome = "refused"
    reason: str = "internal-error"
    detail: str = ""
    reply: Reply | None = None
    authors: tuple[Mailbox, ...] = ()
    identities: tuple[UsedIdentity, ...] = ()
    decision: Decision | None = None
    used_24h: int | None = None
    signing_domain: str | None = None
    selectors: tuple[str, ...] = ()
    upstream: str | None = None
    upstream_reply: Reply | None = None
    done_at: datetime | None = None
    stage_s: dict[Stage, float] = field(default_factory=dict)

    @property
    def from_identity(self) -> str:
        """The ARN of the identity that served From, or an empty text before that was known."""
        return next((used.arn for used in self.identities if used.role == "from"), "")


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """A client connected; ``refused`` names the limit when it was turned away."""

    listener: str
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """A connection ended."""

    listener: str


@dataclass(frozen=True, slots=True)
class AuthFailed:
    """Credentials were refused; ``username`` is what the client claimed, shortened."""

    client: Client
    username: str
    reason: str
    at: datetime
    facts: Mapping[str, str] = field(default_factory=dict)


Event = SubmissionDone | SessionOpened | SessionClosed | AuthFailed
