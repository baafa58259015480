"""``smtpgate audit``: who changed what."""

import asyncio
import json
import os
import pwd
import signal
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from smtpgate.admin.audit import AuditEntry, AuditFilter, follow
from smtpgate.cli.audit import diff_of
from smtpgate.cli.session import person
from smtpgate.directory.accounts import AccountRow, create_account, update_account
from smtpgate.directory.store import DirectoryStore
from smtpgate.tasks import TaskOwner
from tests.support.admin import session_of
from tests.support.desk import Desk
from tests.support.directory import ACTOR
from tests.support.forks import Fork
from tests.support.rows import rows
from tests.support.waiting import until
from tests.support.world import DELEGATE, DOMAIN, OWNER, grant


@pytest.fixture(scope="module")
def furnished(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two accounts, of which one was paused by another user."""
    desk = Desk(tmp_path_factory.mktemp("furnished"), sqlite_template)
    desk.says("account", "create", OWNER, "--name", "Identity owner")
    desk.says("account", "create", DELEGATE)
    how = {"SUDO_USER": "jane", "SSH_CLIENT": "192.0.2.7 50000 22"}
    desk.says("account", "pause", OWNER, "--reason", "unpaid", environment=how)
    return desk.database


def test_entries_are_listed_with_the_newest_last(stocked: Desk) -> None:
    rows = stocked.answers("audit", "list")
    assert [row["action"] for row in rows] == ["create", "create", "pause"]
    newest = rows[-1]
    assert (newest["kind"], newest["account"], newest["actor"]) == ("account", OWNER, "jane")
    assert newest["origin"] == f"cli on {socket.gethostname()} from 192.0.2.7"
    assert newest["before"] == {"paused_reason": None}
    assert newest["after"] == {"paused_reason": "unpaid"}
    assert datetime.fromisoformat(newest["at"]).tzinfo == UTC
    table = stocked.says("audit", "list")
    assert table.index("create") < table.index("pause")
    assert f"account {OWNER}" in table


@rows(
    "options, found",
    [
        (("--account", OWNER), [1, 3]),
        (("--actor", "jane"), [3]),
        (("--action", "create"), [1, 2]),
        (("--kind", "account", "--limit", "2"), [2, 3]),
        (("--kind", "key"), []),
        (("--kind", "template"), []),
        (("--name", "nobody"), []),
        (("--since", "1h"), [1, 2, 3]),
        (("--until", "1h"), []),
        (("--since", "2020-01-01", "--until", "2099-01-01T00:00Z"), [1, 2, 3]),
        (("--limit", "1"), [3]),
    ],
)
def test_entries_are_found(stocked: Desk, options: tuple[str, ...], found: list[int]) -> None:
    assert [row["seq"] for row in stocked.answers("audit", "list", *options)] == found
    if not found:
        assert stocked.says("audit", "list", *options) == "no entries\n"


def test_an_entry_is_shown_as_a_diff(stocked: Desk) -> None:
    shown = stocked.says("audit", "show", "3")
    assert "jane" in shown
    assert '-paused_reason: null\n+paused_reason: "unpaid"\n' in shown
    assert stocked.answers("audit", "show", "3") == stocked.answers("audit", "list")[-1]


def test_of_a_policy_the_lines_that_changed_are_shown(stocked: Desk) -> None:
    stocked.says("identity", "register", DOMAIN)
    put = ("identity", "policy", "put", DOMAIN, "marketing", "-")
    stocked.says(*put, stdin=grant())
    stocked.says(*put, "--version", "1", stdin=grant(Sid="Changed"))
    newest = stocked.answers("audit", "list", "--limit", "1")[0]["seq"]
    shown = stocked.says("audit", "show", str(newest))
    assert '-      "Sid": "Grant",\n+      "Sid": "Changed",\n' in shown
    assert "-version: 1\n+version: 2\n" in shown


def test_a_document_of_one_line_is_compared_line_by_line() -> None:
    before = {"document": '{"a": 1, "b": 2}\n'}
    after = {"document": '{"a": 1, "b": 3}\n'}
    assert '-    "b": 2' in list(diff_of(before, after))
    assert "-  no JSON" in list(diff_of({"document": "no JSON\n"}, None))


def test_no_secret_is_in_the_log(stocked: Desk) -> None:
    made = stocked.answers("key", "create", OWNER)
    log = stocked.says("audit", "list", "--json")
    assert made["id"] in log
    assert made["secret"] not in log
    assert made["smtp_password"] not in log


@rows(
    "words, status, says",
    [
        (("show", "9"), 1, "the audit log has no entry 9"),
        (("show", "0"), 2, "ENTRY"),
        (("list", "--since", "yesterday"), 2, "--since: `yesterday' is no time"),
        (("list", "--until", "2027-13-01"), 2, "--until: `2027-13-01' is no time"),
        (("list", "--kind", "policy"), 2, "policy"),
    ],
)
def test_what_cannot_be_asked_is_reported(
    stocked: Desk, words: tuple[str, ...], status: int, says: str
) -> None:
    assert says in stocked.refuses("audit", *words, status=status)


async def collect(numbers: list[int], entries: AsyncIterator[AuditEntry]) -> None:
    async for entry in entries:
        numbers += [entry.seq]


async def test_what_is_added_is_reported_as_it_comes(store: DirectoryStore) -> None:
    async with store.changing(ACTOR) as change:
        for account_id in (OWNER, DELEGATE):
            await create_account(change, AccountRow(id=account_id))
    reported: list[int] = []
    has_paused, go_on = asyncio.Event(), asyncio.Event()

    async def pause() -> None:
        has_paused.set()
        await go_on.wait()
        go_on.clear()

    tasks = TaskOwner()
    wanted = AuditFilter(account_id=OWNER)
    _ = tasks.start(collect(reported, follow(session_of(store), wanted, pause, newest=5)))
    await has_paused.wait()
    assert reported == [1]
    async with store.changing(ACTOR) as change:
        for account_id in (DELEGATE, OWNER):
            await update_account(change, account_id, {"name": "new"})
    has_paused.clear()
    go_on.set()
    await has_paused.wait()
    assert reported == [1, 4]
    tasks.cancel()
    await tasks.drain(1)


async def test_without_a_number_only_what_is_new_is_reported(store: DirectoryStore) -> None:
    async with store.changing(ACTOR) as change:
        await create_account(change, AccountRow(id=OWNER))
    reported: list[int] = []
    has_paused = asyncio.Event()

    async def pause() -> None:
        has_paused.set()
        await asyncio.Event().wait()

    tasks = TaskOwner()
    _ = tasks.start(collect(reported, follow(session_of(store), AuditFilter(), pause)))
    await has_paused.wait()
    assert reported == []
    tasks.cancel()
    await tasks.drain(1)


@pytest.mark.slow
async def test_following_goes_on_until_it_is_interrupted(stocked: Desk) -> None:
    process = Fork(
        *("-m", "smtpgate", "audit", "list", "--follow", "--limit", "1", "--json"),
        output=stocked.folder / "reported",
        errors=stocked.folder / "errors",
        environment={**os.environ, **stocked.environment},
    )

    def actions() -> list[str]:
        whole = [line for line in process.output().splitlines(keepends=True) if "\n" in line]
        return [json.loads(line)["action"] for line in whole]

    await until(lambda: actions() == ["pause"] or not process.is_running)
    await asyncio.to_thread(stocked.says, "account", "resume", OWNER)
    await until(lambda: actions() == ["pause", "resume"] or not process.is_running)
    process.signal(signal.SIGINT)
    status = await asyncio.to_thread(process.wait)
    assert (status, actions(), process.errors()) == (0, ["pause", "resume"], "")


def test_who_gives_a_command_is_known_behind_sudo_too() -> None:
    here = f"cli on {socket.gethostname()}"
    assert person({"SUDO_USER": "jane", "LOGNAME": "root"})[0] == "jane"
    assert person({"LOGNAME": "somebody"})[0] == pwd.getpwuid(os.getuid()).pw_name
    assert person({})[1] == here
    assert person({"SSH_CLIENT": "192.0.2.7 1 22"})[1] == f"{here} from 192.0.2.7"
