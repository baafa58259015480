"""``smtpgate directory``: the database itself; and ``smtpgate backup``."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from smtpgate.admin.session import Session
from smtpgate.cli.listing import print_facts
from smtpgate.cli.session import run
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    example,
    misused,
    output,
    print_upgrade,
    warn,
)
from smtpgate.config.toml import read_secret
from smtpgate.core.wording import numbered
from smtpgate.directory.audit import AuditFilter, audit_page
from smtpgate.directory.backup import backup
from smtpgate.directory.copying import copy as copy_directory
from smtpgate.directory.counts import counted
from smtpgate.directory.rekey import rekey
from smtpgate.directory.schema import HEAD
from smtpgate.directory.sealing import MasterKeyError, MasterKeys, new_master_key
from smtpgate.directory.upgrade import revision_of
from smtpgate.directory.upgrade import upgrade as upgrade_tables
from smtpgate.gate.errors import OpenError
from smtpgate.ports import DirectoryUnavailableError
from smtpgate.sql.database import Database, parse_url
from smtpgate.sql.engines import DatabaseUrlError

directory_app: Final = typer.Typer(
    name="directory",
    help="The directory's database: its tables, its master keys, its copies.",
    no_args_is_help=True,
)


@directory_app.command(epilog=example("directory status"))
def status(config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Show which database it is, what is in it, and which master keys it needs."""

    async def operation(session: Session) -> dict[str, Any]:
        store = session.store
        async with store.reading() as connection:
            counts = await counted(connection)
            newest = await audit_page(connection, AuditFilter(), newest_first=True, limit=1)
        last = newest[0] if newest else None
        return {
            "database": store.database.name,
            "kind": "sqlite" if store.database.is_sqlite else "postgresql",
            "revision": await revision_of(store.database),
            "region": session.region,
            "master_keys": list(store.master_keys.ids),
            "current_master_key": store.master_keys.current,
            **{what.replace(" ", "_").lower(): number for what, number in counts.items()},
            "last_change": last.seq if last else None,
            "last_change_at": last.at if last else None,
            "last_change_by": last.actor if last else None,
        }

    print_facts(run(config, operation), as_json=json)


@directory_app.command(epilog=example("directory upgrade"))
def upgrade(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Make the tables, or bring them to this version; there is no way back but a backup.

    A directory in SQLite is upgraded by every start. One in PostgreSQL is not, since other
    hosts may still run the version before.
    """

    async def operation(session: Session) -> str | None:
        try:
            before, _ = await upgrade_tables(session.store.database)
        except OSError as error:
            raise OpenError(f"directory: {error}") from None
        await session.store.open(may_upgrade=False)
        return before

    before = run(config, operation, opens=False)
    print_upgrade(before, HEAD)


@directory_app.command("new-master-key", epilog=example("directory new-master-key m2"))
def print_master_key(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="What to call it, such as m2.")],
) -> None:
    """Print a line for the master key file, with a key that was never used; keep it secret.

    Put it above the others, restart the gates, and seal everything under it: `directory rekey'.
    """
    line = new_master_key(key_id)
    try:
        _ = MasterKeys.parse(line)
    except MasterKeyError as error:
        raise misused(str(error)) from None
    output.print(line.rstrip())


@directory_app.command("rekey", epilog=example("directory rekey"))
def seal_anew(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Seal all secrets under the first master key of the file; the others may be deleted then.

    Gates may run, once they were restarted with that file.
    """

    async def operation(session: Session) -> dict[str, int]:
        return await rekey(session.store, session.actor)

    for what, number in run(config, operation, changes=True).items():
        output.print(f"{numbered(number, what)} sealed anew")
    output.print("the older master keys may be deleted from the file")


def back_up(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The copy; its folder is made.")],
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file of that name.")
    ] = False,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Copy the directory into a file while gates run.

    For a directory in SQLite; PostgreSQL has pg_dump. The master key file is not in the copy.
    """

    async def operation(session: Session) -> None:
        try:
            await backup(session.store.database, file, replace=force)
        except OSError as error:
            raise OpenError(f"{file}: {error.strerror or error}") from None

    run(config, operation)
    output.print(f"the directory is in {file}; keep the master key file too")


@directory_app.command(
    epilog=example("directory copy postgresql://smtpgate@db.example.com/smtpgate")
)
def copy(
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="URL", help="The other database, as in directory.url.", show_default=False
        ),
    ] = None,
    url_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A file with the URL, if a password is in it.",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Copy everything into another database, such as from SQLite to PostgreSQL.

    Secrets are copied sealed: the other database needs the same master key file. The
    configuration stays as it is. Stop the gates before: what is changed after the copy is in
    the old database alone.
    """
    target = _database(url, url_file)

    async def operation(session: Session) -> int:
        try:
            return await copy_directory(
                session.store,
                target,
                lambda table, rows: output.print(f"{table}: {numbered(rows, 'rows')}"),
            )
        except OSError as error:
            raise OpenError(f"{target.name}: {error}") from None
        finally:
            await target.close()

    last = run(config, operation)
    output.print(
        f"the directory is in {target.name} too; to use that, name it in directory.url"
    )
    warn(
        [
            f"changes after entry {last} of the audit log are in the old database alone; if a "
            f"gate still runs on it or a command changes it, they are lost with it"
        ]
    )


def _database(url: str | None, url_file: Path | None) -> Database:
    """The database that the words name. Raises BadParameter."""
    if (url is None) == (url_file is None):
        raise misused("name the other database by its URL, or by --url-file")
    warnings: list[str] = []
    try:
        wanted = parse_url(
            url or "" if url_file is None else read_secret(url_file, warnings).value
        )
        database = Database(wanted, DirectoryUnavailableError)
    except (DatabaseUrlError, ValueError) as error:
        raise misused(f"the other database: {error}") from None
    if wanted.password is not None and url_file is None:
        raise misused(
            "the URL holds a password: put it into a file and name that by --url-file"
        )
    warn(warnings)
    return database
