"""Frames between parent and workers, as MessagePack: values, never code."""

from typing import Final, TypeAlias

import msgspec

from smtpgate.admission import RecipientsNote, RecipientsSeen, RefusedMessage
from smtpgate.directory.keys import KeyUse
from smtpgate.metrics.histogram import HistogramState
from smtpgate.metrics.observed import Count, SubmissionFacts
from smtpgate.ports import Reading


class Frame(msgspec.Struct, array_like=True, tag=True):
    """One frame."""


class Noted(Frame):
    """Notes of a worker that the others need too; the parent passes them on."""

    refused: list[RefusedMessage] = []
    recipients: list[RecipientsNote] = []
    seen: list[RecipientsSeen] = []


# -- from the parent to a worker ---------------------------------------------------------------


class Ping(Frame):
    """Answer with a Pong of that number."""

    number: int


class Reload(Frame):
    """Load the certificates again, and obey what has changed in the directory."""


class Drain(Frame):
    """Take no more connections, finish what is under way, and end."""

    drain_s: float
    finish_s: float


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
    """Events of a worker: lines of the log, events for the metrics, and uses of access keys."""

    lines: list[bytes]
    counts: list[Count]
    submissions: list[SubmissionFacts]
    uses: list[KeyUse]


class Stopped(Frame):
    """The last frame: what was cut short, and the state at the end."""

    cut_off: int
    state: WorkerState


ToWorker: TypeAlias = Ping | Reload | Drain | Noted
ToParent: TypeAlias = Serving | Pong | Report | Noted | Stopped
_encoder: Final = msgspec.msgpack.Encoder()
encode: Final = _encoder.encode
decode_for_worker: Final = msgspec.msgpack.Decoder(ToWorker).decode
decode_for_parent: Final = msgspec.msgpack.Decoder(ToParent).decode
