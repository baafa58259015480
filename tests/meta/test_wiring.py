"""Parts are put together in one place, and only those that are needed are loaded."""

import subprocess
import sys
from typing import Final

import pytest

from tests.support.source import ROOT, calls, modules

# The parts of a gate. Everybody else gets them from a function of `smtpgate/gate/`.
_PARTS: Final = frozenset(
    {
        "Admission",
        "DirectoryStore",
        "DnsResolver",
        "HttpServer",
        "JournalStore",
        "JsonLog",
        "KeyUses",
        "LedgerWatch",
        "Listener",
        "LiveDirectory",
        "LiveJournal",
        "MemoryLedger",
        "Metrics",
        "Pacer",
        "Pipeline",
        "PooledUpstream",
        "RedisLedger",
        "SqliteLedger",
        "VerificationWorker",
    }
)
_PATH: Final = ("smtpgate.smtp", "smtpgate.pipeline", "smtpgate.relay")
_SERVERS: Final = ("starlette", "uvicorn", "uvloop", "prometheus_client", "aiosmtpd")
_LATER: Final = ("alembic", "asyncpg", "redis", "dns")
# Packages that an import must not load: a command waits for all that it loads.
_NOT_LOADED: Final = {
    "smtpgate.config": (*_PATH, *_SERVERS, *_LATER, "sqlalchemy", "cryptography", "asyncio"),
    "smtpgate.gate.directory": (*_PATH, *_SERVERS, *_LATER, "smtpgate.core.events"),
    "smtpgate.gate.preview": (*_PATH, *_SERVERS, *_LATER),
}


def test_the_parts_of_a_gate_are_made_in_one_place() -> None:
    elsewhere = {
        f"{module.path}:{call.lineno}: {name}"
        for module in modules()
        for name, call in calls(module.tree)
        if name.rpartition(".")[2] in _PARTS and not module.path.startswith("smtpgate/gate/")
    }
    assert not elsewhere


def test_every_part_is_made_there() -> None:
    made = {
        name.rpartition(".")[2]
        for module in modules()
        if module.path.startswith("smtpgate/gate/")
        for name, _ in calls(module.tree)
    }
    assert not _PARTS - made


@pytest.mark.slow
@pytest.mark.parametrize("module", _NOT_LOADED)
def test_an_import_loads_nothing_that_its_users_do_not_need(module: str) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(answer.stdout.split())
    assert module in loaded
    assert not loaded & set(_NOT_LOADED[module])
