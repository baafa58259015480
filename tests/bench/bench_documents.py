"""Times of large documents: 10,000 users with keys and policies, and as many identities.

Seconds, printed and not judged. On SQLite, whose file is on the machine's disk.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from smtpgate.directory.documents.apply import planned
from tests.support.directory import open_store, sqlite_in
from tests.support.documents import NOTHING, Files, applied, read

pytestmark = pytest.mark.bench

ACCOUNTS: Final = 10
USERS: Final = 1000


@contextmanager
def timed(what: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    print(f"\n{what}: {time.perf_counter() - start:.2f} s", end="")


def written(folder: Path) -> None:
    """A document for each account."""
    files = Files.made(folder)
    for number in range(ACCOUNTS):
        account_id, lines = f"{number:012}", []
        for one in range(USERS):
            user, domain = f"accounts.{account_id}.users.u{one}", f"d{one}.example.com"
            policy = files.delegate(account_id, domain, "999999999999")
            lines += [
                f'[{user}]\npolicies = {{ send = "may-send.json" }}\n[[{user}.access_keys]]',
                f'id = "AKIA{number:06}{one:010}"\nsecret_file = "one.secret"',
                f'[accounts.{account_id}.identities."{domain}"]\nverified = true',
                f'policies = {{ delegate = "{policy}" }}',
            ]
        (folder / f"{account_id}.toml").write_text("\n".join(lines))


async def test_large_documents(tmp_path: Path) -> None:
    written(tmp_path)
    with timed("read"):
        desired = read(tmp_path)
    async with open_store(sqlite_in(tmp_path)) as store:
        with timed("planned for an empty directory"):
            plan = await planned(store, desired, prune=True)
        with timed(f"applied, {len(plan.steps)} steps"):
            await applied(store, desired)
        with timed("planned when there is nothing to do"):
            assert not await planned(store, desired, prune=True)
        with timed("pruned to nothing"):
            await applied(store, NOTHING)
