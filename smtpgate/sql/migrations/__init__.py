"""Applies an owner's revisions, one module each, in their order.

Only this package and the revisions import alembic.
"""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

__all__ = ["UnknownRevisionError", "mark_as_newest", "migrate"]


class UnknownRevisionError(Exception):
    """Tables of a revision that is not among the owner's."""


def migrate(connection: Connection, revisions: str, version_table: str) -> None:
    """Apply the missing revisions of a package, on that connection.

    All of them run in the connection's transaction. Raises UnknownRevisionError.
    """
    try:
        command.upgrade(_config(connection, revisions, version_table), "head")
    except CommandError:
        raise UnknownRevisionError from None


def mark_as_newest(connection: Connection, revisions: str, version_table: str) -> None:
    """Note that tables which were just made are those of the newest revision."""
    command.stamp(_config(connection, revisions, version_table), "head")


def _config(connection: Connection, revisions: str, version_table: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(files(__name__)))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(files(revisions)))
    config.attributes["connection"] = connection
    config.attributes["version_table"] = version_table
    return config
