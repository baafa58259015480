"""The fixtures of all tests: a clock that can be moved, databases, hypothesis profiles.

``SMTPGATE_HYPOTHESIS`` chooses: ``dev`` (the default), ``thorough``, ``ci`` or ``fuzz``.
``fuzz`` looks elsewhere each time; the others try the same examples in each run, so that a
failure is the change's. Only ``dev`` runs SQLite's statements in no thread, and tries no
constants of the program's, for which hypothesis would parse every module.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Final

import pytest
import typer.main
import typer.testing
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

from smtpgate.directory.store import DirectoryStore
from tests.support.clock import MovableClock, MovableLoops
from tests.support.daemons import Lab
from tests.support.databases import (
    Databases,
    PostgresDatabases,
    SqliteDatabases,
    compile_statements_once,
    make_tables_once,
    wait_for_no_disk,
)
from tests.support.desk import Desk
from tests.support.directory import open_store
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.postgres_pool import PostgresPool
from tests.support.privatekey import reuse_rsa_keys
from tests.support.statements_at_once import (
    run_statements_at_once,
    run_statements_in_threads,
)

_MOST_CPU_S: Final = 4.0  # a busy machine takes twice as long for half a second
_SLOW: Final = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)

settings.register_profile("dev", max_examples=5, deadline=None, derandomize=True, database=None)
settings.register_profile("thorough", parent=settings.get_profile("dev"), max_examples=100)
settings.register_profile("ci", parent=settings.get_profile("dev"), max_examples=500)
settings.register_profile(
    "fuzz", max_examples=50_000, deadline=None, suppress_health_check=_SLOW, print_blob=True
)
_OUT_OF_MAKE_TEST: Final = frozenset({"slow", "integration", "fuzz", "bench"})
_PROFILE: Final = os.environ.get("SMTPGATE_HYPOTHESIS", "dev")
settings.load_profile(_PROFILE)

# Typer's runner would make all commands of the program again for each one that is given, which
# takes longer than most of them do.
typer.testing._get_command = cache(typer.main.get_command)  # type: ignore[attr-defined]

asyncio.set_event_loop_policy(MovableLoops())
compile_statements_once()
make_tables_once()
wait_for_no_disk()
reuse_rsa_keys()
if _PROFILE == "dev":
    run_statements_at_once()
    providers._get_local_constants = lambda: providers._local_constants


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that takes long by itself, and has no mark that keeps it out of make test."""
    started_s = time.process_time()
    result = yield
    took_s = time.process_time() - started_s
    marks = {mark.name for mark in item.iter_markers()}
    if took_s > _MOST_CPU_S and _PROFILE == "dev" and not marks & _OUT_OF_MAKE_TEST:
        pytest.fail(f"it took {took_s:.1f} s of a processor; mark it as slow", pytrace=False)
    return result


@pytest.fixture
def clock() -> MovableClock:
    """A clock that stands still until it is moved."""
    return MovableClock()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for all tests."""
    with Lab() as lab:
        yield postgres_server(lab)


@pytest.fixture(scope="session")
def postgres_pool(postgres: PostgresServer) -> Iterator[PostgresPool]:
    """The databases of that server, which tests use one after another."""
    with closing(PostgresPool(postgres)) as pool:
        PostgresDatabases.make_templates(pool)
        yield pool


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that SQLite's others are copied from."""
    return SqliteDatabases.make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def sqlite_databases(sqlite_template: Path, tmp_path: Path) -> Databases:
    """SQLite files for one test."""
    return SqliteDatabases(tmp_path, sqlite_template)


@pytest.fixture
def postgres_databases(postgres_pool: PostgresPool) -> Iterator[Databases]:
    """Databases of PostgreSQL for one test."""
    with PostgresDatabases.of(postgres_pool) as databases:
        yield databases


@pytest.fixture
def sqlite_in_threads() -> Iterator[None]:
    """SQLite's statements run in threads, as in the program."""
    run_statements_in_threads()
    yield
    if _PROFILE == "dev":
        run_statements_at_once()


@pytest.fixture
def desk(sqlite_template: Path, tmp_path: Path) -> Desk:
    """A place to give commands at, with an empty directory."""
    return Desk(tmp_path, sqlite_template)


# The same tests on both; those on PostgreSQL run with the integration tests.
@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def databases(request: pytest.FixtureRequest) -> Databases:
    """The databases of a test of the directory's store."""
    name = "sqlite_databases" if request.param == "sqlite" else "postgres_databases"
    found: Databases = request.getfixturevalue(name)
    return found


@pytest.fixture
async def store(databases: Databases, clock: MovableClock) -> AsyncIterator[DirectoryStore]:
    """An open store with nothing in it."""
    async with open_store(databases.fresh(), clock=clock) as opened:
        yield opened
