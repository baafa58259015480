"""Queries of the path of a message: compiled once, and asked with little overhead."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Select
from sqlalchemy.dialects.sqlite import pysqlite

_SQLITE: Final = pysqlite.dialect()


class Lookup:
    """A query with named parameters."""

    def __init__(self, query: Select[Any]) -> None:
        compiled = query.compile(dialect=_SQLITE)
        self.query = query
        self.sql = str(compiled)
        """The query for SQLite's driver; its values are in the order of ``values``."""
        self._names: Sequence[str] = compiled.positiontup or ()

    def values(self, parameters: Mapping[str, Any]) -> list[Any]:
        """The values of the parameters for SQLite's driver, which takes texts and numbers."""
        return [parameters[name] for name in self._names]
