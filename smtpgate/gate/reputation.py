"""The worker that judges senders in the background of a gate, and their rates for commands."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import SystemRandom

from smtpgate.admin.reputation_worker import ReputationWorker
from smtpgate.admin.session import Operator
from smtpgate.config import Config
from smtpgate.core.account import Principal
from smtpgate.directory.change import Actor
from smtpgate.directory.rated_senders import DirectoryReputations
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.journal import open_journal_session
from smtpgate.journal.live import LiveJournal
from smtpgate.journal.reputation_query import JournalReputationCounts
from smtpgate.journal.store import JournalStore
from smtpgate.ports import Clock, EventSink, ReputationCounts


def new_reputation_worker(
    config: Config,
    store: DirectoryStore,
    journal: object,
    clock: Clock,
    *,
    events: EventSink,
    on_error: Callable[[BaseException], None],
) -> ReputationWorker | None:
    """The task that judges the senders of the directory, if the configuration has it."""
    if not config.has_reputation or not isinstance(journal, LiveJournal):
        return None
    return ReputationWorker(
        _counts(config, journal.store),
        DirectoryReputations(store, Actor("smtpgate serve", config.hostname)),
        config.reputation.rules,
        max_accounts=config.metrics.max_identities,
        clock=clock,
        chance=SystemRandom().random,
        events=events,
        on_error=on_error,
    )


def _counts(config: Config, store: JournalStore) -> JournalReputationCounts:
    gate = config.gate
    return JournalReputationCounts(store, partition=gate.partition, region=gate.region)


@asynccontextmanager
async def open_reputation_counts(
    config: Config, clock: Clock, caller: Operator | Principal
) -> AsyncIterator[ReputationCounts]:
    """The counts in the journal, for a command. Raises OpenError or OSError."""
    async with open_journal_session(config, clock, caller) as session:
        yield _counts(config, session.reader.store)
