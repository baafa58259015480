"""How the tables came to be what they are: one module a revision, applied in order.

The only door to alembic.
"""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

__all__ = ["UnknownRevisionError", "migrate"]


class UnknownRevisionError(Exception):
    """Tables of a revision that is not among these."""


def migrate(connection: Connection, to: str = "head") -> None:
    """Apply what is missing, on that connection and in its transaction.

    Raises UnknownRevisionError.
    """
    config = Config()
    config.set_main_option("script_location", str(files(__name__)))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, to)
    except CommandError:
        raise UnknownRevisionError from None
