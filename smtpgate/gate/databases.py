"""A database from the section that names it."""

from smtpgate.config.sections import DatabaseConfig
from smtpgate.gate.errors import OpenError
from smtpgate.sql.database import Database, parse_url
from smtpgate.sql.engines import DatabaseUrlError


def new_database(
    name: str, section: DatabaseConfig, url: str, unavailable: type[Exception]
) -> Database:
    """The database at that URL, not connected yet. Raises OpenError with the section's key."""
    try:
        return Database(parse_url(url), unavailable)
    except DatabaseUrlError as error:
        key = "url" if section.url_file is None else "url_file"
        raise OpenError(f"{name}.{key}: {error}") from None
