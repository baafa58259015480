"""Databases of PostgreSQL that tests use one after another, each as it was made.

To copy a database takes a sixth of a second of a processor, and to empty the tables that a test
has filled a hundredth. A database in which a test has changed more than rows is not used again.
"""

import subprocess
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, count
from typing import Final

from tests.support.postgres import PostgresServer, program

_END: Final = "-- end of the answer --"
_THIS: Final = "(SELECT oid FROM pg_database WHERE datname = current_database())"
# A statement that changes more than rows leaves another number of rows in one of these, or a
# row of a later transaction.
_CATALOGS: Final = {
    **dict.fromkeys(("pg_class", "pg_attribute", "pg_attrdef", "pg_constraint"), "true"),
    **dict.fromkeys(("pg_trigger", "pg_proc", "pg_namespace"), "true"),
    "pg_database": f"oid = {_THIS}",
    "pg_db_role_setting": f"setdatabase = {_THIS}",
}
_STATE: Final = " UNION ALL ".join(
    f"SELECT '{name}', count(*), max(xmin::text::bigint) FROM {name} WHERE {which}"
    for name, which in _CATALOGS.items()
)
# A gate that was killed may still have a connection, with a transaction.
_ALONE: Final = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
# All tables are emptied, and get the rows again that they had; sequences begin again.
_MAKE_RESTORE: Final = """
CREATE SCHEMA as_made;
DO $make$
DECLARE
    steps text := '';
    one record;
    has_rows boolean;
BEGIN
    FOR one IN SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public' LOOP
        steps := steps || format('DELETE FROM public.%I;', one.name);
        EXECUTE format('SELECT EXISTS (SELECT FROM public.%I)', one.name) INTO has_rows;
        IF has_rows THEN
            EXECUTE format('CREATE TABLE as_made.%I AS TABLE public.%I', one.name, one.name);
            steps := steps || format(
                'INSERT INTO public.%I OVERRIDING SYSTEM VALUE TABLE as_made.%I;',
                one.name, one.name
            );
        END IF;
    END LOOP;
    FOR one IN SELECT sequencename AS name, start_value, last_value FROM pg_sequences LOOP
        steps := steps || format(
            'PERFORM setval(%L, %s, %L);', 'public.' || quote_ident(one.name),
            coalesce(one.last_value, one.start_value), one.last_value IS NOT NULL
        );
    END LOOP;
    EXECUTE format(
        'CREATE PROCEDURE as_made.restore() LANGUAGE plpgsql'
        ' SET session_replication_role = replica AS %L',
        'BEGIN ' || steps || ' END'
    );
END
$make$"""


class _PromptError(Exception):
    """The server has ended the connection, or has refused a statement."""


class _Prompt:
    """An operator's prompt, at which statements can be given until it is closed."""

    def __init__(self, url: str) -> None:
        self._psql = subprocess.Popen(
            [program("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def ask(self, *statements: str) -> list[str]:
        """Give statements; the lines of their answers. Raises _PromptError."""
        assert self._psql.stdin
        assert self._psql.stdout
        try:
            self._psql.stdin.write(f"{';'.join(statements)};\n\\echo {_END}\n")
            self._psql.stdin.flush()
        except BrokenPipeError:
            raise _PromptError("psql has ended") from None
        lines: list[str] = []
        for line in self._psql.stdout:
            if line.rstrip("\n") == _END:
                return lines
            lines.append(line)
        raise _PromptError("".join(lines))

    def close(self) -> None:
        """End it."""
        self._psql.kill()
        self._psql.communicate()


@dataclass(frozen=True, slots=True)
class _Kept:
    """A database with its prompt, and the ``state`` of its catalogs when it was made."""

    name: str
    prompt: _Prompt
    state: list[str]


class PostgresPool:
    """The databases of a server, by the template that they were copied from."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self._numbers = count(1)
        self._prompt = _Prompt(server.url())
        self._kept: dict[str, list[_Kept]] = defaultdict(list)
        self._used: list[tuple[str, _Kept]] = []

    def make_template(self, template: str, make_tables: Callable[[str], None]) -> None:
        """Make a database that others can be copied from, by a function that gets its URL."""
        make_tables(self.server.create_database(template))
        with closing(_Prompt(self.server.url(template))) as prompt:
            prompt.ask(_MAKE_RESTORE)

    def take(self, template: str) -> str:
        """The name of a database that is as its template, and that nobody uses."""
        kept = self._kept[template].pop() if self._kept[template] else self._copy(template)
        self._used.append((template, kept))
        return kept.name

    def _copy(self, template: str) -> _Kept:
        name = self.create(template)
        prompt = _Prompt(self.server.url(name))
        return _Kept(name, prompt, prompt.ask(_STATE))

    def create(self, template: str) -> str:
        """The name of a new database, for one test; it must be dropped."""
        name = f"directory_{next(self._numbers)}"
        self._prompt.ask(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop(self, name: str) -> None:
        """Drop a database, with all connections to it."""
        self._prompt.ask(f"DROP DATABASE {name} WITH (FORCE)")

    def give_back(self) -> None:
        """Restore all databases that were taken, and drop those that are not as they were."""
        while self._used:
            template, kept = self._used.pop()
            if _is_restored(kept):
                self._kept[template].append(kept)
            else:
                kept.prompt.close()
                self.drop(kept.name)

    def close(self) -> None:
        """End all prompts, also those of databases that were not given back."""
        taken = (kept for _, kept in self._used)
        for kept in chain(*self._kept.values(), taken):
            kept.prompt.close()
        self._prompt.close()


def _is_restored(kept: _Kept) -> bool:
    try:
        kept.prompt.ask(_ALONE)
        if kept.prompt.ask(_STATE) != kept.state:
            return False
        kept.prompt.ask("CALL as_made.restore()")
    except _PromptError:
        return False
    return True
