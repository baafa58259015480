"""Questions of the path find their rows by an index, however many identities there are."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.directory import open_store, sqlite_in

ADDRESSES = (
    "SELECT DISTINCT name FROM identities "
    "WHERE region = 'us-east-1' AND domain = 'example.com' AND name != 'example.com'"
)


OWN = (
    "SELECT max_24h_send FROM quotas WHERE account_id = '111111111111' AND kind = 'user' "
    "AND region = '' AND subject = 'mailer' AND delegate_id = ''"
)
CAPS = (
    "SELECT max_24h_send FROM quotas WHERE account_id IN ('111111111111', '222222222222') "
    "AND region = 'us-east-1' AND subject = 'example.com' AND kind = 'identity'"
)


@pytest.mark.parametrize(
    ("question", "by"),
    [
        (OWN, "(account_id=? AND kind=? AND region=? AND subject=? AND delegate_id=?)"),
        (CAPS, "(account_id=? AND kind=? AND region=? AND subject=?)"),
    ],
)
async def test_limits_are_found_by_whose_they_are(
    tmp_path: Path, question: str, by: str
) -> None:
    async with open_store(sqlite_in(tmp_path)):
        pass
    with closing(sqlite3.connect(tmp_path / "directory.sqlite")) as connection:
        ((*_, plan),) = connection.execute(f"EXPLAIN QUERY PLAN {question}")
    assert by in plan


async def test_the_addresses_of_a_domain_are_found_by_the_domain(tmp_path: Path) -> None:
    async with open_store(sqlite_in(tmp_path)):
        pass
    with closing(sqlite3.connect(tmp_path / "directory.sqlite")) as connection:
        ((*_, plan),) = connection.execute(f"EXPLAIN QUERY PLAN {ADDRESSES}")
    assert "(region=? AND domain=?)" in plan
