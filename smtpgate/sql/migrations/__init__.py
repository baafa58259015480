"""How tables came to be what they are: each owner's revisions, one module each, in order.

The only door to alembic, but for the revisions themselves.
"""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

__all__ = ["UnknownRevisionError", "migrate"]


class UnknownRevisionError(Exception):
    """Tables of a revision that is not among the owner's."""


def migrate(
    connection: Connection, revisions: str, version_table: str, to: str = "head"
) -> None:
    """Apply what is missing of a package of revisions, on that connection.

    It is all in the connection's transaction. Raises UnknownRevisionError.
    """
    config = Config()
    config.set_main_option("script_location", str(files(__name__)))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(files(revisions)))
    config.attributes["connection"] = connection
    config.attributes["version_table"] = version_table
    try:
        command.upgrade(config, to)
    except CommandError:
        raise UnknownRevisionError from None
