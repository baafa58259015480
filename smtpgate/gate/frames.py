"""Frames between parent and workers, as MessagePack: values, never code."""

from datetime import timedelta
from typing import Any, ClassVar, Final, TypeAlias

import msgspec

from smtpgate.admission import Note
from smtpgate.api.notes import ApiNote
from smtpgate.control import ControlRequest
from smtpgate.core.limits import Charge, Counted, Crossing, LimitName, LimitStatus
from smtpgate.core.limits.bans import ClientFailed, ClientStanding
from smtpgate.core.routing.notes import RelayNote
from smtpgate.core.secret import Secret
from smtpgate.core.watch.batch import UseOfKey
from smtpgate.directory.keys import KeyUse
from smtpgate.journal.events import EventRow
from smtpgate.journal.statements import Entry
from smtpgate.journal.tasks import TaskRow
from smtpgate.ledger.transactions import Look
from smtpgate.metrics.histogram import HistogramState
from smtpgate.metrics.observed import Count, SubmissionSums
from smtpgate.ports import Reading
from smtpgate.smtp.certificate import PairOctets
from smtpgate.store.requests import Begin, Completion, Finish


class Frame(msgspec.Struct, array_like=True, tag=True, gc=False):
    """One frame."""


PeerNote: TypeAlias = Note | ApiNote | RelayNote | ClientFailed


class Noted(Frame):
    """A note of a worker that the others need too; the parent passes it on.

    With a number it answers ``PassedOn`` then.
    """

    note: PeerNote
    number: int = 0


class PassedOn(Frame):
    """The note of that number was sent to all other workers."""

    number: int


# -- requests that only workers answer, without a value ----------------------------------------


class CatchUpPart(ControlRequest, frozen=True):
    """Obey what has changed in the directory."""

    name: ClassVar[str] = "catch-up"


class Settings(msgspec.Struct, frozen=True, gc=False):
    """A configuration, as the parent has read and checked it, and its certificates.

    ``config`` is pickled, which only a parent may do: its workers trust it as they trust the
    code that it forked. It is empty for the one that the gate started with. ``number``
    increases with each change.
    """

    number: int
    config: bytes
    certificates: dict[str, tuple[PairOctets, ...]]


class PreparePart(ControlRequest, frozen=True):
    """Prepare for another configuration."""

    name: ClassVar[str] = "prepare"

    settings: Settings


class AbandonPart(ControlRequest, frozen=True):
    """Forget what was prepared."""

    name: ClassVar[str] = "abandon"


class SwitchPart(ControlRequest, frozen=True):
    """Use the configuration, also without having been asked to prepare for it."""

    name: ClassVar[str] = "switch"

    settings: Settings


class CertificatesPart(ControlRequest, frozen=True):
    """Use certificates that the parent has read and checked."""

    name: ClassVar[str] = "certificates"

    certificates: dict[str, tuple[PairOctets, ...]]


# -- from the parent to a worker ---------------------------------------------------------------


class Ping(Frame):
    """Answer with a Pong of that number."""

    number: int


class Setup(Frame):
    """Begin, with what has changed since the fork server was forked, and the ban list."""

    settings: Settings
    bans: tuple[ClientStanding, ...] = ()


class Ask(Frame):
    """Answer a request of the control socket: values, then the end."""

    number: int
    name: str
    arguments: bytes  # JSON


class StopAnswer(Frame):
    """Nobody waits for the answer to that request any more."""

    number: int


class Drain(Frame):
    """Take no more connections, finish what is under way, and end."""

    drain_s: float
    finish_s: float


class JournalKey(Frame):
    """The key and the number with which a worker makes entries of the parent's journal."""

    writer: int | None
    key: bytes


class BeginDone(Frame):
    """A message may be relayed: what was counted, and the problem of the journal.

    The worker has the rest of the reservation, and nothing is counted without charges.
    """

    number: int
    counted: tuple[Counted, ...]
    may_cross: bool
    problem: str | None


class BeginRefused(Frame):
    """A message is over a limit; nothing was counted or written."""

    number: int
    charge: Charge
    limit: LimitName
    recipients: int
    left: int
    retry_after: timedelta | None


class FinishDone(Frame):
    """A verdict: the thresholds that are announced now, and whether it is written."""

    number: int
    crossings: tuple[Crossing, ...]
    is_recorded: bool


class LookDone(Frame):
    """The status of charges."""

    number: int
    statuses: tuple[LimitStatus, ...]


class NoteDone(Frame):
    """Provisional events and tasks are written, or the problem of the journal."""

    number: int
    problem: str | None


class NotBegun(Frame):
    """Nothing is known of the message that is to be completed: all of its request is needed."""

    number: int


class NotDone(Frame):
    """The ledger cannot count, or there is a defect."""

    number: int
    problem: str
    is_defect: bool


class TokenShared(Frame):
    """An upstream's access token, and its seconds from now on and in all; or the problem."""

    number: int
    token: Secret | None
    left_s: float
    lifetime_s: float
    problem: str | None


# -- from a worker to the parent ---------------------------------------------------------------


class WorkerState(Frame):
    """The part of a worker in ``/metrics`` and ``/readyz``."""

    readings: list[Reading]
    histograms: list[HistogramState]
    checks: dict[str, tuple[bool, str]]


class Serving(Frame):
    """It takes connections from now on."""


class Pong(Frame):
    """The answer to a Ping; all that happened before was reported before."""

    number: int
    state: WorkerState


class Report(Frame):
    """Events of a worker: lines of the log, sums for the metrics, and uses of access keys.

    ``uses`` are the last logins, ``watched`` what the watch over keys judges.
    """

    lines: list[bytes]
    counts: list[Count]
    submissions: SubmissionSums | None
    uses: list[KeyUse]
    watched: list[UseOfKey]


class Stopped(Frame):
    """The last frame: what was cut short, and the state at the end."""

    cut_off: int
    state: WorkerState


class AskBegin(Frame):
    """A request to the store."""

    number: int
    request: Begin


class AskFinish(Frame):
    """A request to the store."""

    number: int
    request: Finish


class AskComplete(Frame):
    """The rest of an AskFinish, whose message the parent has begun for this worker."""

    number: int
    request: Completion


class AskLook(Frame):
    """A request to the store."""

    number: int
    request: Look


class AskNote(Frame):
    """A request to the journal: provisional events and tasks."""

    number: int
    tasks: tuple[TaskRow, ...]
    events: tuple[EventRow, ...]


class TasksWritten(Frame):
    """Tasks came into force, in a journal that the worker writes by itself."""


class AnswerValue(Frame):
    """One value of the answer to a request of the control socket."""

    number: int
    value: Any  # of lists, dicts, texts and numbers


class AnswerEnd(Frame):
    """The end of an answer; the problem if it was refused."""

    number: int
    problem: str | None


class AskToken(Frame):
    """A request for an upstream's access token, and one that the upstream has refused."""

    number: int
    key: str  # the settings by which it is fetched
    refused: Secret | None


class Keep(Frame):
    """A row for the journal, for which nobody waits."""

    entry: Entry


OfMessage: TypeAlias = AskBegin | AskFinish
OnLine: TypeAlias = OfMessage | AskComplete
StoreAnswer: TypeAlias = (
    BeginDone | BeginRefused | FinishDone | LookDone | NoteDone | NotBegun | NotDone
)
StoreRequest: TypeAlias = OnLine | AskLook | AskNote | Keep
ToWorker: TypeAlias = (
    Setup
    | Ping
    | Ask
    | StopAnswer
    | Drain
    | Noted
    | PassedOn
    | JournalKey
    | StoreAnswer
    | TokenShared
)
OfAnswer: TypeAlias = AnswerValue | AnswerEnd
ToParent: TypeAlias = (
    Serving
    | Pong
    | Report
    | Noted
    | TasksWritten
    | Stopped
    | StoreRequest
    | OfAnswer
    | AskToken
)
NoFrameError = msgspec.DecodeError
"""The octets are no frame, or no packet."""
_encoder: Final = msgspec.msgpack.Encoder()
encode: Final = _encoder.encode
decode_for_worker: Final = msgspec.msgpack.Decoder(ToWorker).decode
decode_for_parent: Final = msgspec.msgpack.Decoder(ToParent).decode
# Packets of a line to the store.
encode_packet: Final = _encoder.encode
decode_requests: Final = msgspec.msgpack.Decoder(list[OnLine]).decode
decode_answers: Final = msgspec.msgpack.Decoder(list[StoreAnswer]).decode
