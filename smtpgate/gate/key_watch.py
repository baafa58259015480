"""The watch over access keys, wired to the directory of a gate."""

from smtpgate.admin.key_watcher import KeyWatcher
from smtpgate.config import Config
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.sinks import OnError
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
