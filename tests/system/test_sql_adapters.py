"""The driver finds an adapter for the values that most rows have."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from smtpgate.ledger.sqlite_file import LedgerFile
from smtpgate.sql.adapters import register_adapters
from smtpgate.sql.engines import prepare_sqlite

KEYS: set[Any] = {(kind, sqlite3.PrepareProtocol) for kind in (bytes, type(None))}


@pytest.fixture(autouse=True)
def no_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in KEYS:
        monkeypatch.delitem(sqlite3.adapters, key, raising=False)


def test_whatever_opens_a_file_registers_adapters(tmp_path: Path) -> None:
    prepare_sqlite(create_engine(f"sqlite:///{tmp_path / 'journal.sqlite'}"))
    assert sqlite3.adapters.keys() >= KEYS
    for key in KEYS:
        del sqlite3.adapters[key]
    LedgerFile(tmp_path / "ledger.sqlite", busy_timeout_s=1).close()
    assert sqlite3.adapters.keys() >= KEYS


def test_values_are_as_they_were() -> None:
    register_adapters()
    with closing(sqlite3.connect(":memory:")) as connection:
        values = (None, b"\0octets", b"", "text", 7)
        (found,) = connection.execute("VALUES (?, ?, ?, ?, ?)", values)
    assert found == values
