"""INSERTs that may meet rows that are there: each dialect has its own."""

from importlib import import_module
from typing import Any

from sqlalchemy import Dialect, Table


def insert_into(table: Table, dialect: Dialect) -> Any:  # noqa: ANN401 - the dialects' Inserts
    """An INSERT with ``on_conflict_do_update`` and ``on_conflict_do_nothing``.

    Only the dialect that is used is imported: PostgreSQL's takes a command 40 ms.
    """
    return import_module(f"sqlalchemy.dialects.{dialect.name}").insert(table)
