"""``smtpgate check-config``: reads everything that a start would read, and changes nothing."""

from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

from smtpgate.clock import SystemClock
from smtpgate.config import Config
from smtpgate.core.routing.group import GroupMember
from smtpgate.directory.counts import counted, in_words
from smtpgate.directory.sealing import MasterKeyError
from smtpgate.directory.store import SCHEMA as DIRECTORY_SCHEMA
from smtpgate.directory.store import DirectoryStore
from smtpgate.gate.certificates import Certificates
from smtpgate.gate.directory import is_missing, open_directory
from smtpgate.gate.documents import documents_summary, planned_steps, read_documents
from smtpgate.gate.errors import OpenError
from smtpgate.gate.journal import JOURNAL_TROUBLES, journal_error, new_journal_store
from smtpgate.gate.ledger import describe_ledger
from smtpgate.gate.listen import files_of_start, require_open_files, shortage_of_files
from smtpgate.gate.shares import number_of_workers
from smtpgate.gate.state_dir import look_at_state_dir, shortage_of_space
from smtpgate.gate.tokens import unusable_secrets
from smtpgate.gate.upstream import new_upstream, suspicious_upstreams
from smtpgate.journal.store import SCHEMA as JOURNAL_SCHEMA
from smtpgate.journal.store import JournalStore
from smtpgate.ports import Clock, DirectoryUnavailableError
from smtpgate.sql.upgrade import SchemaError, is_upgradable
from smtpgate.tasks import TaskOwner


async def check(config: Config) -> list[str]:
    """The findings and steps of a start, a line each, warnings first.

    Raises OpenError or DirectoryError.
    """
    clock, warnings = SystemClock(), list[str]()
    require_open_files(files_of_start(config))
    warnings += Certificates(config).warnings(clock.now())
    if (shortage := shortage_of_files(config)) is not None:
        warnings.append(shortage)
    if isinstance(config.log.target, Path) and not config.log.target.parent.is_dir():
        warnings.append(f"log.target: there is no folder {config.log.target.parent}")
    control = config.gate.control_socket
    if control is not None and not control.parent.is_dir():
        warnings.append(
            f"gate.control_socket: there is no folder {control.parent}; the systemd unit makes "
            f"/run/smtpgate at the start"
        )
    new_upstream(config, clock, TaskOwner())
    warnings += await suspicious_upstreams(config)
    warnings += unusable_secrets(config.upstreams, clock.now())
    warnings += look_at_state_dir(config.gate.state_dir)
    if (shortage := shortage_of_space(config)) is not None:
        warnings.append(shortage)
    summary = await _about_directory(config, clock, warnings)
    journal = await _about_journal(config, warnings)
    return [
        *(f"warning: {warning}" for warning in warnings),
        f"workers: {number_of_workers(config)}",
        *(
            f"listener {one.name}: {one.address} port {one.port}, tls {one.tls}"
            for one in config.listeners
        ),
        *(
            f"upstream {one.name}: {one.host} port {one.port}, tls {one.tls}"
            for one in config.upstreams
        ),
        *_routes(config),
        *summary,
        describe_ledger(config),
        journal,
    ]


def _routes(config: Config) -> Iterator[str]:
    """The routes; the only one of a configuration without any needs no line."""
    for route in config.route_table if config.routes else ():
        fallback = f", then {_names(route.fallback)}" if route.fallback else ""
        default = " (default)" if route.conditions.is_for_all else ""
        yield f"route {route.name}{default}: {_names(route.group)}{fallback}"


def _names(members: Iterable[GroupMember]) -> str:
    return ", ".join(member.upstream for member in members)


async def _about_directory(config: Config, clock: Clock, warnings: list[str]) -> list[str]:
    """The state of the directory at a start, and the documents that it would apply."""
    async with open_directory(config, clock, warnings, use="connect") as store:
        try:
            return [line async for line in _looked_at(config, store, warnings)]
        except (DirectoryUnavailableError, MasterKeyError, SchemaError) as error:
            raise OpenError(f"directory: {error}") from None


async def _looked_at(
    config: Config, store: DirectoryStore, warnings: list[str]
) -> AsyncIterator[str]:
    desired = None
    if config.directory.apply is not None:
        desired = await read_documents(store, config.directory.apply)
        warnings += desired.warnings
        yield documents_summary(config.directory.apply, desired)
    if is_missing(store):
        yield f"directory: {store.database.name}, to be made by the first start"
    elif await is_upgradable(store.database, DIRECTORY_SCHEMA):
        yield f"directory: {store.database.name}, to be upgraded by the next start"
    else:
        _ = await store.look()
        yield f"directory: {store.database.name}: {await _counted(store)}"
        if desired is not None:
            for line in await planned_steps(config, store, desired):
                yield line


async def _counted(store: DirectoryStore) -> str:
    async with store.reading() as connection:
        return in_words(await counted(connection))


async def _about_journal(config: Config, warnings: list[str]) -> str:
    """The member of the journal, and its state at a start.

    A fault of a journal that mail does not wait for is a warning.
    """
    journal = config.journal
    if not journal.enabled:
        return "journal: off"
    store, found = new_journal_store(config), ""
    try:
        found = await journal_found(store)
    except (*JOURNAL_TROUBLES, OSError) as error:
        if journal.on_failure == "refuse":
            raise journal_error(error) from None
        warnings.append(str(journal_error(error)))
    finally:
        await store.close()
    return f"journal: {store.database.name}{found}, for {journal.max_age_days} days"


async def journal_found(store: JournalStore) -> str:
    """The state of a journal that a start would change; empty if it is as it should be.

    Raises one of JOURNAL_TROUBLES, or OSError.
    """
    path = store.database.path
    if path is not None and not path.exists():
        return ", to be made by the first start"
    if await is_upgradable(store.database, JOURNAL_SCHEMA):
        return ", to be upgraded by the next start"
    await store.look()
    await store.read_some()
    return ""
