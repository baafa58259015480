"""The directory while a gate runs: the path reads it, a worker checks identities."""

from collections.abc import Callable
from random import SystemRandom

from smtpgate.admin.verification_worker import VerificationWorker
from smtpgate.config import Config
from smtpgate.directory.change import Actor
from smtpgate.directory.feed import Changes
from smtpgate.directory.live import LiveDirectory, LiveSettings
from smtpgate.directory.load import Loader
from smtpgate.directory.registered_identities import DirectoryIdentities
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.clients import new_resolver
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
        Loader.of(
            store,
            config.default_limits,
            address_tag_idiom=config.policy.address_tag_idiom,
        ),
        settings=LiveSettings(
            max_octets=config.directory.cache_octets, max_stale_s=config.directory.max_stale_s
        ),
        clock=clock,
        on_changes=on_changes,
        events=events,
    )


def new_verification_worker(
    config: Config,
    store: DirectoryStore,
    clock: Clock,
    *,
    events: EventSink,
    on_error: Callable[[BaseException], None],
) -> VerificationWorker:
    """The task that checks the identities of the directory, beside a running gate."""
    actor = Actor("smtpgate serve", config.hostname)
    return VerificationWorker(
        DirectoryIdentities(store, actor, "recheck"),
        new_resolver(config),
        label=config.directory.verification_label,
        clock=clock,
        chance=SystemRandom().random,
        events=events,
        on_error=on_error,
    )
