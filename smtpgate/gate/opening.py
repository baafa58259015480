"""From a configuration to an open directory and journal, for the gate and every command."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from random import SystemRandom
from typing import Final

from smtpgate.config import Config, DatabaseConfig
from smtpgate.core.identity import PrivateKey
from smtpgate.core.wording import numbered
from smtpgate.directory.change import Actor, RefusedChangeError
from smtpgate.directory.counts import counted, in_words
from smtpgate.directory.declared.apply import apply, planned
from smtpgate.directory.declared.before import FROM_DOCUMENTS
from smtpgate.directory.declared.content import Declared
from smtpgate.directory.declared.known_keys import key_loader
from smtpgate.directory.declared.plan import Plan
from smtpgate.directory.declared.read import read_declared
from smtpgate.directory.feed import Changes
from smtpgate.directory.live import LiveDirectory, LiveSettings
from smtpgate.directory.registry import DirectoryRegistry
from smtpgate.directory.sealing import MasterKeyError
from smtpgate.directory.store import DirectoryStore, read_master_keys
from smtpgate.directory.upgrade import SCHEMA as DIRECTORY_SCHEMA
from smtpgate.dns.resolver import DnsResolver
from smtpgate.journal.absent import NoJournal
from smtpgate.journal.live import JournalSettings, LiveJournal
from smtpgate.journal.store import SCHEMA as JOURNAL_SCHEMA
from smtpgate.journal.store import JournalStore
from smtpgate.journal.terms import TermKeyError
from smtpgate.ports import (
    Clock,
    DirectoryUnavailableError,
    EventSink,
    JournalUnavailableError,
)
from smtpgate.signing.private_keys import load_private_key
from smtpgate.sql.database import Database, parse_url
from smtpgate.sql.engines import DatabaseUrlError
from smtpgate.sql.upgrade import SchemaError, is_upgradable
from smtpgate.upkeep.worker import Upkeep

_CREDENTIAL: Final = "master.key"
_TERM_KEY: Final = "journal.key"
_JOURNAL_TROUBLES: Final = (JournalUnavailableError, SchemaError, TermKeyError, OSError)
# Steps and differences that are named one by one.
_SHOWN: Final = 50


class OpeningError(Exception):
    """A store that cannot be opened; the text names the key and says what to do."""


def directory_store(config: Config, clock: Clock, warnings: list[str]) -> DirectoryStore:
    """The directory that the configuration names; nothing is asked of the database yet.

    Raises OpeningError.
    """
    url, unavailable = config.directory_url, DirectoryUnavailableError
    database = _database("directory", config.directory, url, unavailable)
    try:
        master_keys = read_master_keys(_master_key_file(config), warnings)
    except MasterKeyError as error:
        raise OpeningError(f"directory.master_key_file: {error}") from None
    return DirectoryStore(
        database=database,
        master_keys=master_keys,
        region=config.gate.region,
        partition=config.gate.partition,
        now=clock.now,
    )


async def open_directory(config: Config, clock: Clock, warnings: list[str]) -> DirectoryStore:
    """The same, opened. Raises OpeningError."""
    store = directory_store(config, clock, warnings)
    try:
        await open_store(store)
    except OpeningError:
        await store.close()
        raise
    return store


async def open_store(store: DirectoryStore, *, registers: bool = True) -> None:
    """Look at the tables of a directory: SQLite's are made or brought up to date.

    ``registers`` makes a new master key known to it. Raises OpeningError.
    """
    try:
        await store.open(may_upgrade=store.database.is_sqlite, registers=registers)
    except (DirectoryUnavailableError, MasterKeyError, OSError, SchemaError) as error:
        raise OpeningError(f"directory: {error}") from None


def live_directory(
    config: Config,
    store: DirectoryStore,
    clock: Clock,
    on_changes: Callable[[Changes], None] | None = None,
    events: EventSink | None = None,
) -> LiveDirectory:
    """The directory as the path of a message sees it; started, it follows changes."""
    return LiveDirectory(
        store,
        store.loader(
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


def directory_upkeep(
    config: Config,
    store: DirectoryStore,
    clock: Clock,
    *,
    hostname: str,
    events: EventSink,
    on_error: Callable[[BaseException], None],
) -> Upkeep:
    """What looks after the identities of the directory, to be run beside a gate."""
    actor = Actor("smtpgate serve", hostname)
    return Upkeep(
        DirectoryRegistry(store, actor, "recheck"),
        DnsResolver(
            config.dns.nameservers,
            timeout_s=config.dns.timeout_s,
            lifetime_s=config.dns.lifetime_s,
        ),
        label=config.directory.verification_label,
        clock=clock,
        chance=SystemRandom().random,
        events=events,
        on_error=on_error,
    )


async def apply_declared(config: Config, store: DirectoryStore, warnings: list[str]) -> Plan:
    """Apply what the documents of ``directory.apply`` changed; the plan is what was done.

    A new master key is made known with it, so that documents with errors do not.
    Raises OpeningError or DirectoryError, and changes nothing then.
    """
    if config.directory.apply is None:
        return Plan()
    actor = Actor("smtpgate serve", f"{FROM_DOCUMENTS}{config.directory.apply}")
    try:
        load_key = await key_loader(store)
        declared = await _declared(store, config.directory.apply, load_key)
        warnings += declared.warnings
        async with store.changing(actor) as change:
            await store.register(change.connection)
            return await apply(change, store, declared, prune=config.directory.prune)
    except (DirectoryUnavailableError, MasterKeyError, RefusedChangeError) as error:
        raise OpeningError(f"directory.apply: {error}") from None


async def look_at_directory(config: Config, clock: Clock, warnings: list[str]) -> list[str]:
    """What starting would find, and what it would apply; nothing is changed.

    Raises OpeningError or DirectoryError.
    """
    store = directory_store(config, clock, warnings)
    try:
        return [line async for line in _looked_at(config, store, warnings)]
    except (DirectoryUnavailableError, MasterKeyError, SchemaError) as error:
        raise OpeningError(f"directory: {error}") from None
    finally:
        await store.close()


async def _looked_at(
    config: Config, store: DirectoryStore, warnings: list[str]
) -> AsyncIterator[str]:
    declared = None
    if config.directory.apply is not None:
        declared = await _declared(store, config.directory.apply)
        warnings += declared.warnings
        yield f"directory.apply: {config.directory.apply}: {_declared_counts(declared)}"
    path = store.database.path
    if path is not None and not path.exists():
        yield f"directory: {store.database.name}, to be made by the first start"
    elif await is_upgradable(store.database, DIRECTORY_SCHEMA):
        yield f"directory: {store.database.name}, to be upgraded by the next start"
    else:
        _ = await store.look()
        yield f"directory: {store.database.name}: {await _counted(store)}"
        if declared is not None:
            plan = await planned(store, declared, config.directory.prune)
            for line in plan_lines(plan):
                yield line


def plan_lines(plan: Plan) -> Iterator[str]:
    """The steps that the next start takes, and the drift that it leaves, with their numbers."""
    if not plan.steps:
        yield "directory.apply: no steps to be taken by the next start"
    else:
        number = numbered(len(plan.steps), "steps")
        yield f"directory.apply: {number} to be taken by the next start:"
    yield from _some([f"  {step}" for step in plan.steps])
    if plan.drift:
        number = numbered(len(plan.drift), "differences")
        yield (
            f"directory.apply: {number} that the next start leaves, since the directory was "
            f"changed by command (`smtpgate apply --force' ends them):"
        )
    yield from _some([f"  {one}" for one in plan.drift])


def _some(lines: Sequence[str]) -> Iterator[str]:
    yield from lines[:_SHOWN]
    if len(lines) > _SHOWN:
        yield f"  and {len(lines) - _SHOWN} more; `smtpgate apply --dry-run' has them all"


def journal_store(config: Config) -> JournalStore:
    """The journal that the configuration names; nothing is asked of the database yet.

    Raises OpeningError.
    """
    url, unavailable = config.journal_url, JournalUnavailableError
    database = _database("journal", config.journal, url, unavailable)
    return JournalStore(database=database, key_file=config.gate.state_dir / _TERM_KEY)


async def look_at_journal(config: Config, warnings: list[str]) -> str:
    """Where the journal is kept, and what starting would find there; nothing is changed.

    What is wrong with one that mail does not wait for is a warning. Raises OpeningError.
    """
    journal = config.journal
    if not journal.enabled:
        return "journal: off"
    store = journal_store(config)
    found = ""
    try:
        path = store.database.path
        if path is not None and not path.exists():
            found = ", to be made by the first start"
        elif await is_upgradable(store.database, JOURNAL_SCHEMA):
            found = ", to be upgraded by the next start"
        else:
            await store.look()
            await store.read_some()
    except _JOURNAL_TROUBLES as error:
        if journal.on_failure == "refuse":
            raise _journal_error(error) from None
        warnings.append(str(_journal_error(error)))
    finally:
        await store.close()
    return f"journal: {store.database.name}{found}, for {journal.max_age_days} days"


def journal_of(
    config: Config, clock: Clock, events: EventSink, on_error: Callable[[BaseException], None]
) -> LiveJournal | NoJournal:
    """The journal of a gate, not started yet. Raises OpeningError."""
    journal = config.journal
    if not journal.enabled:
        return NoJournal()
    store = journal_store(config)
    settings = JournalSettings(
        keep_recipients=journal.recipients,
        keep_subject=journal.subject,
        max_age=timedelta(days=journal.max_age_days),
        max_octets=journal.max_octets,
        is_needed=journal.on_failure == "refuse",
        may_upgrade=store.database.is_sqlite,
    )
    return LiveJournal(store, settings, clock=clock, events=events, on_error=on_error)


async def open_journal(journal: LiveJournal | NoJournal) -> None:
    """Start a journal. Raises OpeningError."""
    try:
        await journal.start()
    except _JOURNAL_TROUBLES as error:
        raise _journal_error(error) from None


def _journal_error(error: Exception) -> OpeningError:
    cure = ""
    if "damaged" in str(error):
        cure = "; or move it away with its -wal and -shm, and the gate makes a new one"
    return OpeningError(f"journal: {error}{cure}")


def _database(
    name: str, section: DatabaseConfig, url: str, unavailable: type[Exception]
) -> Database:
    try:
        return Database(parse_url(url), unavailable)
    except DatabaseUrlError as error:
        key = "url" if section.url_file is None else "url_file"
        raise OpeningError(f"{name}.{key}: {error}") from None


def _declared_counts(declared: Declared) -> str:
    counts = {
        "accounts": declared.accounts,
        "users": declared.users,
        "access keys": declared.access_keys,
        "identities": declared.identities,
    }
    return in_words({what: len(found) for what, found in counts.items()})


async def _counted(store: DirectoryStore) -> str:
    async with store.reading() as connection:
        return in_words(await counted(connection))


async def _declared(
    store: DirectoryStore,
    path: Path,
    load_key: Callable[[bytes], PrivateKey] = load_private_key,
) -> Declared:
    return await asyncio.to_thread(
        read_declared,
        path,
        region=store.region,
        partition=store.partition,
        load_key=load_key,
    )


def _master_key_file(config: Config) -> Path:
    """What systemd hands to the service, or else the file that the configuration names.

    https://systemd.io/CREDENTIALS/
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder is not None and (credential := Path(folder, _CREDENTIAL)).exists():
        return credential
    return config.directory.master_key_file
