"""What the sessions of a listener have in common."""

from collections.abc import Callable
from dataclasses import dataclass

from smtpgate.config import ListenerConfig
from smtpgate.pipeline import Pipeline
from smtpgate.ports import Authenticator, Clock, EventSink
from smtpgate.smtp.certificate import ServerTls
from smtpgate.smtp.intake import Intake
from smtpgate.smtp.watch import SessionWatch
from smtpgate.tasks import TaskOwner


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What all sessions of a listener share."""

    config: ListenerConfig
    hostname: str
    max_message_octets: int
    max_recipients: int
    tls: ServerTls | None
    pipeline: Pipeline
    authenticator: Authenticator
    watch: SessionWatch
    events: EventSink
    clock: Clock
    tasks: TaskOwner
    intake: Intake
    on_error: Callable[[BaseException], None]
    new_session_id: Callable[[], str]
