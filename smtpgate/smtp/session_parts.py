"""The parts and settings that the sessions of a listener share."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from smtpgate.admission import Admission
from smtpgate.banning import BanList
from smtpgate.config.sections import ListenerConfig
from smtpgate.pipeline import Pipeline
from smtpgate.ports import Clock, EventSink, Upstreams
from smtpgate.smtp.certificate import ServerTls
from smtpgate.smtp.credentials import Authenticator
from smtpgate.smtp.intake import Intake
from smtpgate.smtp.watch import SessionWatch
from smtpgate.spool import Spool
from smtpgate.tasks import LoopTurns, Offload, TaskOwner
from smtpgate.tracing import Tracer


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionParts:
    """All that the sessions of one listener share; ``upstreams`` are there for their limits.

    ``can_report``: the gate sends reports by mail (RFC 3464).
    """

    config: ListenerConfig
    hostname: str
    max_message_octets: int
    max_recipients: int
    normalize_bare_lf: bool
    can_report: bool
    spool: Spool
    tls: ServerTls | None
    admission: Admission
    pipeline: Pipeline
    upstreams: Upstreams
    authenticator: Authenticator
    watch: SessionWatch
    bans: BanList
    events: EventSink
    clock: Clock
    tasks: TaskOwner
    offload: Offload
    turns: LoopTurns
    intake: Intake
    on_error: Callable[[BaseException], None]
    new_message_id: Callable[[datetime], str]
    new_session_id: Callable[[], str]
    tracer: Tracer
