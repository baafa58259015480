"""A database of its own for each test: a SQLite file, or one of a real PostgreSQL server."""

import asyncio
import shutil
from collections.abc import Coroutine, Iterator, MutableMapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import Compiled

from smtpgate.journal.store import SCHEMA
from smtpgate.sql import engines, upgrade
from smtpgate.sql.database import Database, parse_url, sqlite_url
from smtpgate.sql.upgrade import Schema
from tests.support.directory import open_store
from tests.support.postgres_pool import PostgresPool

_NUMBERS: Final = count(1)
_DIRECTORY: Final = "directory_template"
_JOURNAL: Final = "journal_template"


class _Statements(MutableMapping[Any, Compiled]):
    """Compiled statements, by all that they depend on; of an engine's dialect, its class."""

    def __init__(self) -> None:
        self._compiled: dict[Any, Compiled] = {}

    def __getitem__(self, key: Any) -> Compiled:  # noqa: ANN401 - SQLAlchemy's
        return self._compiled[type(key[0]), key[1:]]

    def __setitem__(self, key: Any, compiled: Compiled) -> None:  # noqa: ANN401 - SQLAlchemy's
        self._compiled[type(key[0]), key[1:]] = compiled

    def __delitem__(self, key: Any) -> None:  # noqa: ANN401 - SQLAlchemy's
        del self._compiled[type(key[0]), key[1:]]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._compiled)

    def __len__(self) -> int:
        return len(self._compiled)


def compile_statements_once() -> None:
    """Let all databases share what SQLAlchemy compiles, and keeps, for each of them.

    To compile the same statements again for each test takes longer than to run them.
    """
    statements = _Statements()

    @event.listens_for(Engine, "engine_connect")
    def share(connection: Connection) -> None:
        connection.execution_options(compiled_cache=statements)


def wait_for_no_disk() -> None:
    """Have SQLite leave it to the system when a change goes to the disk: nobody cuts the power.

    A process that is killed loses nothing by it. Tests that start processes of their own have
    them wait as the program does.
    """
    settings = engines._SETTINGS
    engines._SETTINGS = tuple(  # type: ignore[assignment, misc]
        setting.replace("synchronous=FULL", "synchronous=OFF") for setting in settings
    )
    assert settings != engines._SETTINGS


def make_tables_once() -> None:
    """Have the tables of a new SQLite file made by the statements that made the first ones.

    SQLAlchemy and Alembic take a tenth of a second to find them.
    """
    bring_to_head = upgrade._bring_to_head
    statements: dict[tuple[str, str], list[tuple[str, tuple[Any, ...]]]] = {}

    def bring(
        connection: Connection, schema: Schema, before: str | None, database: Database
    ) -> None:
        key = schema.owner, schema.head
        if connection.dialect.name != "sqlite" or _objects(connection):
            bring_to_head(connection, schema, before, database)
        elif key in statements:
            for sql, values in statements[key]:
                connection.exec_driver_sql(sql, values)
        else:
            bring_to_head(connection, schema, before, database)
            statements[key] = [*_statements_of(connection)]

    upgrade._bring_to_head = bring


def _objects(connection: Connection) -> list[tuple[str, str, str]]:
    """The type, name and SQL of all tables, indexes and triggers, in the order of their making.

    SQLite makes those without SQL by itself.
    """
    found = connection.exec_driver_sql(
        "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"
        " AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
    )
    return [(row[0], row[1], row[2]) for row in found]


def _statements_of(connection: Connection) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Tables with their rows first: a trigger is for rows that come later."""
    objects = _objects(connection)
    tables = [(name, sql) for kind, name, sql in objects if kind == "table"]
    for _, sql in tables:
        yield sql, ()
    for name, _ in tables:
        for row in connection.exec_driver_sql(f"SELECT * FROM {name}"):
            yield f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", tuple(row)
    yield from ((sql, ()) for kind, _, sql in objects if kind != "table")


class Databases(Protocol):
    """The source of a test's databases."""

    def empty(self) -> str:
        """The URL of a new database with nothing in it."""

    def fresh(self) -> str:
        """The URL of a new database with current tables, and no accounts."""

    def for_journal(self) -> str:
        """The URL of a new database for a journal.

        A server's has the tables; in a file they are made when it is opened.
        """

    def cut_off(self, url: str) -> None:
        """Let nobody reach a database, and cut the connections that there are."""

    def give_back(self, url: str) -> None:
        """Let everybody reach it again."""


async def _make_directory(url: str) -> None:
    async with open_store(url):
        pass


async def make_tables(url: str, schema: Schema) -> None:
    """Make the current tables of a schema in an empty database."""
    database = Database(parse_url(url), ConnectionError)
    await upgrade.upgrade(database, schema)
    await database.close()


def _run(making: Coroutine[None, None, None]) -> None:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(making)


class SqliteDatabases:
    """Files in a folder, copied from one whose tables were made once."""

    def __init__(self, folder: Path, template: Path) -> None:
        self._folder = folder
        self._template = template

    @classmethod
    def make_template(cls, folder: Path) -> Path:
        """A file with current tables."""
        path = folder / "template.sqlite"
        _run(_make_directory(sqlite_url(path)))
        return path

    def empty(self) -> str:
        """The URL of a file that is not there yet."""
        return sqlite_url(self._folder / f"directory-{next(_NUMBERS)}.sqlite")

    def fresh(self) -> str:
        """The URL of a file with current tables."""
        path = self._folder / f"directory-{next(_NUMBERS)}.sqlite"
        shutil.copy(self._template, path)
        return sqlite_url(path)

    def for_journal(self) -> str:
        """The URL of a file that is not there yet."""
        return self.empty()

    def cut_off(self, url: str) -> None:
        """Take the file away from its place."""
        path = _path(url)
        path.rename(path.with_suffix(".gone"))

    def give_back(self, url: str) -> None:
        """Put it where it was."""
        path = _path(url)
        path.with_suffix(".gone").rename(path)


def _path(url: str) -> Path:
    return Path(parse_url(url).database or "")


class PostgresDatabases:
    """Databases of a server: as templates are whose tables were made once, or empty."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool
        self._names: list[str] = []

    @staticmethod
    def make_templates(pool: PostgresPool) -> None:
        """Make a directory's and a journal's current tables once."""
        pool.make_template(_DIRECTORY, lambda url: _run(_make_directory(url)))
        pool.make_template(_JOURNAL, lambda url: _run(make_tables(url, SCHEMA)))

    @classmethod
    @contextmanager
    def of(cls, pool: PostgresPool) -> Iterator["PostgresDatabases"]:
        """Databases that are taken away at the end."""
        databases = cls(pool)
        try:
            yield databases
        finally:
            for name in databases._names:
                pool.drop(name)
            pool.give_back()

    def empty(self) -> str:
        """The URL of a database with nothing in it."""
        name = self._pool.create("template1")
        self._names.append(name)
        return self._pool.server.url(name)

    def fresh(self) -> str:
        """The URL of a database with current tables."""
        return self._pool.server.url(self._pool.take(_DIRECTORY))

    def for_journal(self) -> str:
        """The URL of a database with the tables of a journal."""
        return self._pool.server.url(self._pool.take(_JOURNAL))

    def cut_off(self, url: str) -> None:
        """Take no connections to a database, and end those that there are."""
        name = parse_url(url).database
        server = self._pool.server
        server.sql("postgres", f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        server.sql(
            "postgres",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        )

    def give_back(self, url: str) -> None:
        """Take connections to it again."""
        name = parse_url(url).database
        self._pool.server.sql("postgres", f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
