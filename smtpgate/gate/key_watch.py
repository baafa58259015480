"""The watch over access keys, wired to the directory, the outbox and the journal of a gate."""

from smtpgate.admin.key_watcher import KeyWatcher
from smtpgate.config import Config
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.sinks import OnError
from smtpgate.journal.absent import NoJournal
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.reader import JournalReader
from smtpgate.outbox.sender import OutboxSender
from smtpgate.ports import Clock, EventSink


def new_key_watcher(
    config: Config,
    store: DirectoryStore,
    clock: Clock,
    events: EventSink,
    on_error: OnError,
) -> KeyWatcher | None:
    """The watch over keys, not running yet; ``None`` if the configuration has none."""
    if not config.watch.enabled:
        return None
    return KeyWatcher(
        store,
        config.watch,
        hostname=config.hostname,
        clock=clock,
        events=events,
        on_error=on_error,
    )


def let_it_mail(
    watcher: KeyWatcher, outbox: OutboxSender | None, journal: LiveJournal | NoJournal
) -> None:
    """Have its reports mailed by the outbox, and bounces found by the journal."""
    if outbox is not None:
        watcher.deliver = outbox.queue.add
    if isinstance(journal, LiveJournal):

        async def find_key(message_id: str) -> str:
            record = await JournalReader(journal.store, journal.key).get(message_id)
            return "" if record is None else record.username

        watcher.find_key = find_key
