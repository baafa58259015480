"""Questions of the path find their rows by an index, however many identities there are."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.support.directory import open_store, sqlite_in

ADDRESSES = (
    "SELECT DISTINCT name FROM identities "
    "WHERE region = 'us-east-1' AND domain = 'example.com' AND name != 'example.com'"
)


async def test_the_addresses_of_a_domain_are_found_by_the_domain(tmp_path: Path) -> None:
    async with open_store(sqlite_in(tmp_path)):
        pass
    with closing(sqlite3.connect(tmp_path / "directory.sqlite")) as connection:
        ((*_, plan),) = connection.execute(f"EXPLAIN QUERY PLAN {ADDRESSES}")
    assert "(region=? AND domain=?)" in plan
