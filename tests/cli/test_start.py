"""Commands import nothing that they do not need: a person waits for all of it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Final

import pytest

from tests.support.desk import Desk

# Never needed with SQLite: sessions of SQLAlchemy's ORM, PostgreSQL, migrations, servers, DNS.
_UNUSED: Final = frozenset(
    (
        *("sqlalchemy.orm", "sqlalchemy.dialects.postgresql", "asyncpg", "alembic", "redis"),
        *("starlette", "uvicorn", "aiosmtpd", "prometheus_client", "joserfc", "h11"),
        *("dns", "smtpgate.relay", "smtpgate.oauth", "smtpgate.probes", "smtpgate.doctor"),
    )
)
# What a command lists or explains is printed without Rich unless it is a table.
_FORBIDDEN: Final[Mapping[tuple[str, ...], frozenset[str]]] = {
    ("account", "list"): _UNUSED | {"rich", "smtpgate.journal", "smtpgate.admin.identities"},
    ("identity", "list"): _UNUSED
    | {"rich", "smtpgate.journal", "smtpgate.admin.gate_mail", "smtpgate.admin.notifications"},
    ("explain", "0100"): _UNUSED | {"rich", "smtpgate.journal.live", "smtpgate.sql.thread"},
}
_PROGRAM: Final = """
import sys
from smtpgate.cli import main
try:
    main()
finally:
    print(*sys.modules)
"""


@pytest.mark.slow
@pytest.mark.parametrize("words", _FORBIDDEN, ids=" ".join)
def test_a_command_imports_nothing_that_it_does_not_need(
    desk: Desk, words: tuple[str, ...]
) -> None:
    _ = desk.says("directory", "upgrade")
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *words],
        env={**os.environ, **desk.environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    loaded = set(done.stdout.split())
    assert "sqlalchemy" in loaded, done.stderr
    assert "there is no configuration" not in done.stderr
    assert sorted(loaded & _FORBIDDEN[words]) == []
