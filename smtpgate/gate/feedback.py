"""The parts of ``[feedback]``: the keys of the gate's own return paths, and the listener."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Sequence

from smtpgate.bounce_forms import read_any_report
from smtpgate.config import Config
from smtpgate.core.address import parse_forward_path
from smtpgate.core.feedback.records import ReadLine, read_records
from smtpgate.core.feedback.report import FeedbackReport
from smtpgate.core.feedback.return_path import PathTagger
from smtpgate.core.history.record import Record
from smtpgate.feedback.listener import FeedbackListener
from smtpgate.gate.errors import OpenError
from smtpgate.http import FeedbackPage
from smtpgate.incoming import FeedbackIntake, IntakeAddresses
from smtpgate.journal.reader import JournalReader
from smtpgate.journal.store import JournalStore
from smtpgate.key_file import keys_in, make_key_file, new_key
from smtpgate.ports import Clock, EventSink, Outbox, Subscribers, Upstream
from smtpgate.posted import PostedRecords
from smtpgate.recording import EventRecorder, FindRecipients
from smtpgate.tasks import Threads


def open_tagger(config: Config) -> PathTagger | None:
    """The maker of return paths, or ``None`` if there is no listener for bounces.

    Its keys are those of ``feedback.key_file``, or of a file in the state folder that the first
    start makes. Raises OpenError.
    """
    feedback = config.feedback
    if not feedback.enabled:
        return None
    if feedback.key_file is not None:
        try:
            return PathTagger(keys_in(feedback.key_file.value))
        except ValueError as error:
            raise OpenError(f"feedback.key_file {error}") from None
    path = config.gate.state_dir / "feedback.key"
    try:
        if not path.exists():
            make_key_file(path, new_key())
        return PathTagger(keys_in(path.read_text("ascii")))
    except (OSError, ValueError) as error:
        raise OpenError(f"{path}: {error}") from None


async def _read(octets: bytes) -> FeedbackReport:
    return await asyncio.to_thread(read_any_report, octets)


def _with_recipients(store: JournalStore) -> FindRecipients:
    def find(record: Record, addresses: Collection[str]) -> Awaitable[Record]:
        return JournalReader(store, store.key()).with_recipients(record, addresses)

    return find


def new_feedback_page(
    config: Config,
    store: JournalStore,
    outbox: Outbox,
    subscribers: Subscribers,
    clock: Clock,
    events: EventSink,
    on_error: Callable[[BaseException], None],
) -> FeedbackPage | None:
    """The page for records of mail servers, or ``None`` without a credential for them.

    Raises OpenError.
    """
    feedback, threads = config.feedback, Threads("records")
    if not feedback.credentials:
        return None

    async def read(octets: bytes) -> Sequence[ReadLine]:
        return await threads.run(read_records, octets, feedback.max_post_records)

    records = PostedRecords(
        open_tagger(config),
        read=read,
        records_of=lambda ids: JournalReader(store, store.key()).find(ids),
        with_recipients=_with_recipients(store),
        recorder=EventRecorder(subscribers, outbox, events),
        clock=clock,
        events=events,
    )
    return FeedbackPage(
        records,
        feedback.credentials,
        max_octets=feedback.max_post_octets,
        max_posts=feedback.max_posts,
        clock=clock,
        events=events,
        on_error=on_error,
    )


def new_feedback_listener(
    config: Config,
    listening: socket.socket,
    store: JournalStore,
    outbox: Outbox,
    upstream: Upstream,
    subscribers: Subscribers,
    tls: ssl.SSLContext | None,
    clock: Clock,
    events: EventSink,
    on_error: Callable[[BaseException], None],
) -> FeedbackListener:
    """The listener for mail that comes back. Raises OpenError."""
    tagger, feedback = open_tagger(config), config.feedback
    assert tagger is not None  # noqa: S101 - for mypy; the section is enabled
    intake = FeedbackIntake(
        tagger,
        IntakeAddresses(
            domain=feedback.domain or "",
            complaints=feedback.complaints,
            hostname=config.hostname,
            postmaster=parse_forward_path(f"<{to}>") if (to := feedback.postmaster) else None,
        ),
        read=_read,
        record_of=lambda message_id: JournalReader(store, store.key()).get(message_id),
        with_recipients=_with_recipients(store),
        recorder=EventRecorder(subscribers, outbox, events),
        upstream=upstream,
        answers=feedback.answers,
        clock=clock,
        events=events,
        on_error=on_error,
    )
    return FeedbackListener(
        listening, feedback, intake, hostname=config.hostname, tls=tls, on_error=on_error
    )
