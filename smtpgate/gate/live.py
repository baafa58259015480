"""The live directory, as the path of messages reads it."""

from collections.abc import Callable

from smtpgate.config import Config
from smtpgate.directory.feed import Changes
from smtpgate.directory.live import LiveDirectory, LiveSettings
from smtpgate.directory.load import Loader
from smtpgate.directory.store import DirectoryStore
from smtpgate.ports import Clock, EventSink


def new_live_directory(
    config: Config,
    store: DirectoryStore,
    clock: Clock,
    on_changes: Callable[[Changes], None] | None = None,
    events: EventSink | None = None,
) -> LiveDirectory:
    """The directory as the path of a message reads it; started, it follows changes."""
    return LiveDirectory(
        store,
        new_loader(config, store),
        settings=LiveSettings(
            max_octets=config.directory.cache_octets, max_stale_s=config.directory.max_stale_s
        ),
        clock=clock,
        on_changes=on_changes,
        events=events,
    )


def new_loader(config: Config, store: DirectoryStore) -> Loader:
    """The reader of answers from the database, with the defaults of the configuration."""
    idiom = config.policy.address_tag_idiom
    return Loader.of(store, config.default_limits, address_tag_idiom=idiom)
