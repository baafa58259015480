"""Indexes of some rows of a table, the same on SQLite and PostgreSQL."""

from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Index, Table, event


def partial_index(name: str, column: Column[Any], where: ColumnElement[bool]) -> None:
    """Index a column of a table, for the rows for which a condition holds.

    ``postgresql_where`` imports PostgreSQL's dialect, and a command on SQLite would wait for
    that. So PostgreSQL's condition is added when its tables are made.
    """
    index = Index(name, column, sqlite_where=where)

    def before_create(_table: Table, connection: Connection, **_: object) -> None:
        if connection.dialect.name == "postgresql":
            index.dialect_options["postgresql"]["where"] = where

    event.listen(column.table, "before_create", before_create)
