"""A database from the section, or from the arguments, that name it."""

from pathlib import Path

from smtpgate.config.sections import DatabaseConfig
from smtpgate.config.toml import read_secret
from smtpgate.gate.errors import OpenError
from smtpgate.ports import DirectoryUnavailableError
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


def other_database(url: str | None, url_file: Path | None, warnings: list[str]) -> Database:
    """A second database for a copy of the directory, not connected yet.

    A URL with a password must be in a file: arguments can be seen by other users. Raises
    ValueError.
    """
    if (url is None) == (url_file is None):
        raise ValueError("name the other database by its URL, or by --url-file")
    text = url or "" if url_file is None else read_secret(url_file, warnings).value
    try:
        wanted = parse_url(text)
        database = Database(wanted, DirectoryUnavailableError)
    except DatabaseUrlError as error:
        raise ValueError(f"the other database: {error}") from None
    if wanted.password is not None and url_file is None:
        raise ValueError(
            "the URL holds a password: put it into a file and name that by --url-file"
        )
    return database
