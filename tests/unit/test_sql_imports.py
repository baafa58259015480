"""The parts of SQLAlchemy that are imported, and tables that need others of it."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_mock_engine
from sqlalchemy.schema import ExecutableDDLElement

from smtpgate.journal.schema import metadata
from smtpgate.sql.asynchronous import AsyncConnection, create_async_engine, module_of_engine

PARTIAL = {
    "ix_journal_records_relaying ON journal_records (id) WHERE outcome = 'relaying'",
    "ix_journal_events_provisional ON journal_events (message_id) WHERE is_provisional = 1",
}


def test_the_classes_of_the_engine_are_those_of_the_whole_package() -> None:
    whole = importlib.import_module("sqlalchemy.ext.asyncio")
    assert whole.AsyncConnection is AsyncConnection
    assert whole.create_async_engine is create_async_engine
    assert whole.AsyncSession


def _package(folder: Path, name: str, files: dict[str, str]) -> None:
    (folder / name).mkdir()
    for file, text in files.items():
        (folder / name / file).write_text(text)


def test_the_engine_is_imported_without_the_code_of_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    code = {"__init__.py": "from .engine import X; whole = True", "engine.py": "X = 1"}
    _package(tmp_path, "engine_apart", code)
    assert module_of_engine("engine_apart").__name__ == "engine_apart.engine"
    assert "engine_apart" not in sys.modules
    package: Any = importlib.import_module("engine_apart")
    assert package.whole
    assert module_of_engine("engine_apart") is package


@pytest.mark.parametrize(
    "engine", [None, "from . import made_by_the_package"], ids=["absent", "not-by-itself"]
)
def test_without_such_a_module_the_whole_package_is_imported(
    engine: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"engine_within_{engine is None}".lower()
    code = {"__init__.py": "made_by_the_package = 1\nX = 1"}
    _package(tmp_path, name, code | ({} if engine is None else {"engine.py": engine}))
    found: Any = module_of_engine(name)
    assert (found.__name__, found.X) == (name, 1)
    assert sys.modules[name] is found


@pytest.mark.parametrize("url", ["sqlite://", "postgresql+asyncpg://"])
def test_partial_indexes_have_their_condition_in_both_databases(url: str) -> None:
    made: list[str] = []

    def execute(statement: ExecutableDDLElement, *_: object) -> None:
        made.append(str(statement.compile(dialect=engine.dialect)))

    engine = create_mock_engine(url, execute)
    metadata.create_all(engine, checkfirst=False)
    assert {f"CREATE INDEX {one}" for one in PARTIAL} <= set(made)
