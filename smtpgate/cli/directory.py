"""``smtpgate directory``: the database itself; and ``smtpgate backup``."""

from pathlib import Path
from typing import Annotated, Final

import typer

from smtpgate.admin import maintenance
from smtpgate.admin.errors import RefusedChangeError
from smtpgate.admin.session import Session
from smtpgate.cli.listing import print_facts
from smtpgate.cli.session import change, run
from smtpgate.cli.terminal import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigFile,
    argument,
    example,
    misused,
    option,
    output,
    print_upgrade,
    warn,
)
from smtpgate.core.wording import numbered
from smtpgate.gate.databases import other_database
from smtpgate.gate.errors import OpenError

directory_app: Final = typer.Typer(no_args_is_help=True)


@directory_app.command(epilog=example("directory status"))
def status(config: ConfigFile = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Show which database it is, what is in it, and which master keys it needs."""
    print_facts(run(config, maintenance.status), as_json=json)


@directory_app.command(epilog=example("directory upgrade"))
def upgrade(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Make the tables, or bring them to this version; there is no way back but a backup.

    A directory in SQLite is upgraded by every start. One in PostgreSQL is not, since other
    hosts may still run the version before.
    """

    async def operation(session: Session) -> tuple[str | None, str]:
        try:
            return await maintenance.upgrade_tables(session)
        except OSError as error:
            raise OpenError(f"directory: {error}") from None

    print_upgrade(*run(config, operation, opens=False))


@directory_app.command("new-master-key", epilog=example("directory new-master-key m2"))
def print_master_key(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="What to call it, such as m2.")],
) -> None:
    """Print a line for the master key file, with a key that was never used; keep it secret.

    Put it above the others, restart the gates, and run `directory rekey'.
    """
    try:
        output.print(maintenance.new_master_key(key_id).rstrip())
    except RefusedChangeError as error:
        raise misused(str(error)) from None


@directory_app.command("rekey", epilog=example("directory rekey"))
def rekey(config: ConfigFile = DEFAULT_CONFIG) -> None:
    """Encrypt all secrets with the first key of the master key file.

    First restart the gates with that file; they need not be stopped for this. Afterwards the
    other keys can be deleted from the file.
    """
    for what, number in change(config, maintenance.rekey).items():
        output.print(f"{numbered(number, what)} encrypted with the first master key")
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
            await maintenance.back_up(session, file, replace=force)
        except OSError as error:
            raise OpenError(f"{file}: {error.strerror or error}") from None

    run(config, operation)
    output.print(f"the directory is in {file}; keep the master key file too")


@directory_app.command(
    epilog=example("directory copy postgresql://smtpgate@db.example.com/smtpgate")
)
def copy(
    url: Annotated[
        str | None, argument(metavar="URL", help="The other database, as in directory.url.")
    ] = None,
    url_file: Annotated[
        Path | None, option(metavar="FILE", help="A file with the URL, if a password is in it.")
    ] = None,
    config: ConfigFile = DEFAULT_CONFIG,
) -> None:
    """Copy everything into another database, such as from SQLite to PostgreSQL.

    Secrets stay encrypted: the other database needs the same master key file. The
    configuration stays as it is. Stop the gates before: what is changed after the copy is in
    the old database alone.
    """
    warnings: list[str] = []
    try:
        target = other_database(url, url_file, warnings)
    except ValueError as error:
        raise misused(str(error)) from None
    warn(warnings)

    async def operation(session: Session) -> int:
        try:
            return await maintenance.copy(session, target, _print_rows)
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


def _print_rows(table: str, rows: int) -> None:
    output.print(f"{table}: {numbered(rows, 'rows')}")
