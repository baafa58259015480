"""The beginning of a transaction of SQLite, for connections of which the driver begins none.

For each step of a statement the driver releases the interpreter's lock, and then waits for it
beside a busy event loop. So a transaction is begun as a script and ended by ``commit()``, each
with one release: as a statement either has three, for the step, for the statement's reset and
for the number of the last row.
"""

import sqlite3


def begin_to_write(connection: sqlite3.Connection) -> None:
    """Begin a transaction; no other process can write until its end, so reads stay true."""
    # Not a deferred one: its first write would fail at once while another process writes.
    connection.executescript("BEGIN IMMEDIATE")


def begin_to_read(connection: sqlite3.Connection) -> None:
    """Begin to read one moment's state; neither this nor any writer waits for the other."""
    connection.executescript("BEGIN")
