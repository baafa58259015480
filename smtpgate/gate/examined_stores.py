"""Checks of the doctor in the stores: directory, ledger, journal, outbox, clocks."""

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Final

from smtpgate.admin import quotas
from smtpgate.admin.refs import OwnerRef
from smtpgate.admin.session import operator_session
from smtpgate.config.toml import FileProblemsError, reason
from smtpgate.core.account import SendingLimits
from smtpgate.core.limits import Charge, Subject
from smtpgate.core.wording import numbered
from smtpgate.directory.accounts import account_page
from smtpgate.directory.sealing import MasterKeyError
from smtpgate.directory.store import SCHEMA, DirectoryStore
from smtpgate.doctor.case import ExaminedGate
from smtpgate.doctor.finding import DoctorFinding, found
from smtpgate.doctor.identities import examine_identities
from smtpgate.gate.check import journal_found
from smtpgate.gate.directory import is_missing, open_directory
from smtpgate.gate.documents import read_documents
from smtpgate.gate.errors import OpenError
from smtpgate.gate.journal import JOURNAL_TROUBLES, journal_error, open_journal_store
from smtpgate.gate.ledger import open_ledger_to_read
from smtpgate.outbox.kept import KeptTasks
from smtpgate.ports import (
    DirectoryUnavailableError,
    JournalUnavailableError,
    LedgerUnavailableError,
)
from smtpgate.sql.upgrade import SchemaError, is_upgradable

_SLOW_S: Final = 0.5
_MAX_SKEW: Final = timedelta(seconds=5)
_LATE: Final = timedelta(hours=1)
_MAX_ACCOUNTS: Final = 500
_NEAR: Final = 0.9
_MASTER_KEY: Final = "directory.master_key_file: "
_DIRECTORY_TROUBLES: Final = (
    OpenError,
    OSError,
    SchemaError,
    MasterKeyError,
    DirectoryUnavailableError,
)
_KINDS: Final[Mapping[type[Exception], str]] = {
    MasterKeyError: "master-key-unusable",
    SchemaError: "directory-schema",
    DirectoryUnavailableError: "directory-unavailable",
}
# No account has this number; nothing is counted for it.
_NOBODY: Final = "000000000000"


async def examine_directory(gate: ExaminedGate) -> AsyncIterator[DoctorFinding]:
    """The database, its tables, the master key, and the documents that a start would apply."""
    try:
        async with open_directory(gate.config, gate.clock, [], use="connect") as store:
            async for finding in _about_directory(gate, store):
                yield finding
    except OpenError as error:
        text = str(error)
        kind = "master-key-unusable" if _MASTER_KEY in text else "directory-unavailable"
        yield found(kind, "directory", text.removeprefix(_MASTER_KEY))


async def _about_directory(
    gate: ExaminedGate, store: DirectoryStore
) -> AsyncIterator[DoctorFinding]:
    name = store.database.name
    for problem in await _problems_of_documents(gate, store):
        yield found("documents-invalid", "directory.apply", problem)
    if is_missing(store):
        yield found("directory-missing", "directory", f"there is no {name} yet")
        return
    began = gate.clock.monotonic()
    try:
        if await is_upgradable(store.database, SCHEMA):
            yield found("directory-to-upgrade", "directory", f"{name} is of an older version")
            return
        _ = await store.look()
    except tuple(_KINDS) as error:
        yield found(_KINDS[type(error)], "directory", str(error))
    took_s = gate.clock.monotonic() - began
    if took_s > _SLOW_S:
        yield found("directory-slow", name, f"it took {took_s:.1f} s to answer")


async def _problems_of_documents(gate: ExaminedGate, store: DirectoryStore) -> list[str]:
    documents = gate.config.directory.apply
    if documents is None:
        return []
    try:
        _ = await read_documents(store, documents)
    except FileProblemsError as error:
        return list(map(str, error.problems))
    return []


async def examine_registered(gate: ExaminedGate) -> AsyncIterator[DoctorFinding]:
    """The identities of a directory that can be read; if it cannot, its own check says so."""
    try:
        async with open_directory(gate.config, gate.clock, [], use="read") as store:
            async for finding in examine_identities(gate, store):
                yield finding
    except _DIRECTORY_TROUBLES:
        return


async def examine_ledger(gate: ExaminedGate) -> AsyncIterator[DoctorFinding]:
    """Ask the ledger for the use of nobody."""
    config = gate.config
    if config.ledger.kind == "memory":
        yield found("ledger-forgets", "ledger", 'ledger.kind is "memory"')
        return
    charge = Charge(Subject(_NOBODY), SendingLimits(1, 1))
    try:
        async with open_ledger_to_read(config) as ledger:
            _ = await ledger.limit_statuses([charge], gate.clock.now())
    except (OpenError, LedgerUnavailableError) as error:
        yield found("ledger-unavailable", "ledger", str(error))
    except OSError as error:
        yield found("ledger-unavailable", "ledger", f"{error.filename}: {reason(error)}")


async def examine_quotas(gate: ExaminedGate) -> AsyncIterator[DoctorFinding]:
    """The accounts that are near the end of their 24-hour quota."""
    config, clock = gate.config, gate.clock
    if config.ledger.kind == "memory":
        return
    try:
        async with (
            open_directory(config, clock, [], use="read") as store,
            open_ledger_to_read(config) as ledger,
        ):
            session = operator_session(config, store, clock, name="doctor", origin="doctor")
            async with store.reading() as connection:
                accounts = await account_page(connection, limit=_MAX_ACCOUNTS)
            for account in accounts:
                limits = await quotas.of(session, OwnerRef(account.id, None))
                known = await quotas.with_limit_statuses(ledger, limits, clock.now())
                for one in known:
                    finding = _near(one)
                    if finding is not None:
                        yield finding
    except (*_DIRECTORY_TROUBLES, LedgerUnavailableError):
        return  # the checks of the stores say so


def _near(one: quotas.QuotaDetails) -> DoctorFinding | None:
    most, status = one.limits.max_24h_send, one.limit_status
    if status is None or most <= 0 or status.used_24h < most * _NEAR:
        return None
    text = f"{status.used_24h} of {most} recipients in 24 hours are used"
    return found("quota-near", one.name, text)


async def examine_journal(gate: ExaminedGate) -> AsyncIterator[DoctorFinding]:
    """The database, its tables and key, and the tasks of the outbox beside it."""
    config = gate.config
    if not config.journal.enabled:
        yield found("journal-off", "journal", "journal.enabled is false")
        return
    try:
        async with open_journal_store(config) as store:
            if await journal_found(store):
                return  # the next start makes or upgrades it
            if not config.has_outbox:
                return
            tasks = await KeptTasks(store).open_tasks()
    except (*JOURNAL_TROUBLES, OSError) as error:
        yield found("journal-unavailable", "journal", str(journal_error(error)))
        return
    except OpenError as error:
        yield found("journal-unavailable", "journal", str(error))
        return
    if tasks.dead:
        text = f"{numbered(tasks.dead, 'tasks')} were given up"
        yield found("outbox-dead", "outbox", text)
    now = gate.clock.now()
    if tasks.oldest is not None and now - tasks.oldest > _LATE:
        waits = numbered(tasks.waiting, "tasks")
        text = f"{waits} not done yet, the oldest since {tasks.oldest:%Y-%m-%d %H:%M} UTC"
        yield found("outbox-late", "outbox", text)


async def examine_clock(gate: ExaminedGate) -> AsyncIterator[DoctorFinding]:
    """Compare the clock with those of the servers that the gate has."""
    compared = 0
    async for name, skew in _skews(gate):
        compared += 1
        if abs(skew) > _MAX_SKEW:
            text = f"this machine is {abs(skew).total_seconds():.0f} s "
            text += "ahead of it" if skew > timedelta() else "behind it"
            yield found("clock-differs", name, text)
    if not compared:
        yield found("clock-alone", "clock", "there is no server to compare the clock with")


async def _skews(gate: ExaminedGate) -> AsyncIterator[tuple[str, timedelta]]:
    """This clock's time minus that of each server which answers."""
    config, clock = gate.config, gate.clock
    if config.ledger.kind == "redis":
        try:
            async with open_ledger_to_read(config) as ledger:
                before = clock.now()
                theirs = await ledger.probe()
                if theirs is not None:
                    yield "ledger", before + (clock.now() - before) / 2 - theirs
        except (OpenError, LedgerUnavailableError):
            pass  # the check of the ledger says so
    try:
        async with open_directory(config, clock, [], use="connect") as store:
            _ = None if store.database.is_sqlite else await store.database.now()  # connects
            before = clock.now()
            theirs = await store.database.now()
            if theirs is not None:
                yield "directory", before + (clock.now() - before) / 2 - theirs
    except _DIRECTORY_TROUBLES:
        pass
    if not config.journal.enabled:
        return
    try:
        async with open_journal_store(config) as journal:
            before = clock.now()
            theirs = await journal.database.now()
            if theirs is not None:
                yield "journal", before + (clock.now() - before) / 2 - theirs
    except (OpenError, JournalUnavailableError):
        pass
