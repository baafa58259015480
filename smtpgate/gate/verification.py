"""The worker that checks identities in the background of a gate."""

from collections.abc import Callable
from random import SystemRandom

from smtpgate.admin.verification_worker import VerificationWorker
from smtpgate.config import Config
from smtpgate.directory.change import Actor
from smtpgate.directory.registered_identities import DirectoryIdentities
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.resolver import new_dns_checks
from smtpgate.ports import Clock, EventSink


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
        new_dns_checks(config),
        clock=clock,
        chance=SystemRandom().random,
        events=events,
        on_error=on_error,
    )
