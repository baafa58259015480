"""The begin and the end of a transaction of SQLite, each with one hand-over of the interpreter.

For a statement by ``execute`` the driver releases Python's lock five times. A thread that waits
for it is woken each time, and the event loop may run before the driver goes on.
"""

import sqlite3


def begin(connection: sqlite3.Connection, *, to_write: bool = True) -> None:
    """Begin a transaction; one that writes has the file's lock from now on."""
    # It would commit a transaction that is open, and there is none.
    connection.executescript("BEGIN IMMEDIATE" if to_write else "BEGIN")


def commit(connection: sqlite3.Connection) -> None:
    """Commit the transaction. Raises sqlite3.Error, also when SQLite has ended it before."""
    if not connection.in_transaction:
        raise sqlite3.OperationalError("the transaction was rolled back")
    connection.commit()
