"""A second host of a directory and journal in PostgreSQL, set up for itself and then joined."""

import shutil
from pathlib import Path

import pytest

from smtpgate.gate.errors import OpenError
from smtpgate.gate.serve import serve
from tests.support.databases import Databases
from tests.support.documents import content, noted
from tests.support.hosts import change, config_of, host, share, smtpgate, started
from tests.support.tenants import raw


async def test_a_start_without_the_journal_s_key_changes_nothing_and_with_it_keeps_secrets(
    tmp_path: Path, postgres_databases: Databases
) -> None:
    url = postgres_databases.empty()
    one, two = host(tmp_path / "one"), host(tmp_path / "two")
    for folder in (one, two):
        for name in ("directory", "journal"):
            share(folder, name, url)
    for name in ("directory", "journal"):
        await smtpgate(one, name, "upgrade")
    change(two, "max_24h_send = 1000", "max_24h_send = 5", "directory/accounts.toml")
    async with started(one) as gate:
        store = gate.store
        before, seen = await content(store), await noted(store)
        shutil.copy(one / "private/master.key", two / "private/master.key")
        for _ in range(2):
            with pytest.raises(OpenError, match=r"copy journal\.key from a host"):
                await serve(config_of(two))
            assert (await content(store), await noted(store)) == (before, seen)
        (two / "state").mkdir(exist_ok=True)
        shutil.copy(one / "state/journal.key", two / "state/journal.key")
        async with started(two):
            after = await content(store)
        named = await raw(
            store,
            "SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = "
            "current_database()",
        )
    assert [row.application_name for row in named] == ["smtpgate"]
    assert after["secrets"] == before["secrets"]
    assert after["DKIM keys"] == before["DKIM keys"]
    assert after["accounts"]["999999999999"]["max_24h_send"] == 5
