"""Values of SQLite's rows that need no adapter."""

import sqlite3
from typing import TypeVar

T = TypeVar("T")


def register_adapters() -> None:
    """Have the driver take octets and ``None`` as they are; the second time changes nothing.

    It does so in any case, but looks for an adapter of each such value first. A look-up that
    finds none takes longer than the rest of the value's way into the row.
    """
    sqlite3.register_adapter(bytes, _itself)
    sqlite3.register_adapter(type(None), _itself)


def _itself(value: T) -> T:
    return value
