"""Documents applied after people gave commands: theirs is only what they changed themselves."""

import re
import shlex
from asyncio import to_thread
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from smtpgate.directory.change import Actor
from smtpgate.directory.documents.apply import FORCED, apply, planned
from smtpgate.directory.documents.desired import Desired
from smtpgate.directory.documents.plan import Plan
from smtpgate.directory.policies import MAY_SEND, PolicyOwner, delete_policy
from smtpgate.directory.store import DirectoryStore
from tests.support.cases import load_cases
from tests.support.desk import Desk
from tests.support.directory import ACTOR, open_store
from tests.support.documents import Files, applied, content, noted, read
from tests.support.tenants import notes, raw
from tests.support.topics import add_topic
from tests.support.world import OWNER, REGION

pytestmark = pytest.mark.slow

CASES: Final = load_cases("documents/30-three-way.toml")
ARN: Final = f"arn:aws:ses:{REGION}:{OWNER}:identity/example.com"
GATE: Final = Actor("smtpgate serve", "directory.apply = /etc/smtpgate/directory")
GRANTED: Final = """\
[accounts.888888888888.identities."example.com"]
policies = { delegate = "owner-999.json" }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for documents, with the files that they name."""
    folder = tmp_path / "documents"
    folder.mkdir()
    files = Files.made(folder)
    (folder / "may-tag.json").write_text(MAY_SEND.replace("MaySend", "Tagged"))
    for delegate in ("999999999999", "777777777777"):
        path = Path(files.delegate(OWNER, "example.com", delegate))
        path.rename(folder / f"owner-{delegate[:3]}.json")
    return folder


def written(folder: Path, text: str) -> Desired:
    (folder / "accounts.toml").write_text(text)
    return read(folder)


def of_a_command(text: str) -> str:
    """The text with the id of an access key that a command made up."""
    return re.sub(r"AKIA(?!8888)[A-Z0-9]{16}", "AKIA-OF-A-COMMAND", text)


async def commanded(desk: Desk, folder: Path, case: Mapping[str, Any]) -> None:
    """The commands of a case, given as people give them."""
    for line in case["commands"]:
        words = shlex.split(line.format(documents=folder, arn=ARN))
        await to_thread(desk.says, *words)


# -- as the table says -------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=[case["note"] for case in CASES])
async def test_what_was_changed_by_command_stays_and_is_reported(
    desk: Desk, folder: Path, case: dict[str, Any]
) -> None:
    prune = case.get("prune", False)
    async with open_store(f"sqlite:///{desk.database}") as store:
        await applied(store, written(folder, case["before"]), prune=prune)
        await commanded(desk, folder, case)
        declared = written(folder, case.get("after", case["before"]))
        plan = await planned(store, declared, prune)
        assert of_a_command(str(plan)).splitlines() == case["plan"]
        drift = [of_a_command(str(one)) for one in plan.drift]
        assert drift == case.get("drift", [])
        assert await applied(store, declared, prune=prune, expected=plan) == plan
        current, seen = await content(store), await noted(store)
        for _ in range(2):
            assert not await applied(store, declared, prune=prune)
        assert (await content(store), await noted(store)) == (current, seen)
        await applied(store, declared, prune=prune, force=True)
        left = await planned(store, declared, prune)
        assert (left.steps, left.drift) == ((), ())


# -- columns, and the audit log ----------------------------------------------------------------


async def test_a_plan_has_what_documents_said_what_they_say_and_what_is_there(
    store: DirectoryStore, folder: Path
) -> None:
    text = "[accounts.888888888888]\nmax_24h_send = {}\nmax_send_rate_per_s = 5\n"
    await applied(store, written(folder, text.format(1000)))
    await raw(store, "UPDATE accounts SET max_24h_send = 7, max_send_rate_per_s = 9")
    plan = await planned(store, written(folder, text.format(500)), prune=False)
    (step,), (drift,) = plan.steps, plan.drift
    assert drift.columns == step.columns
    assert step.columns.documents_before is not None
    assert step.columns.documents_now is not None
    assert step.columns.directory is not None
    limits = [
        (said["max_24h_send"], said["max_send_rate_per_s"])
        for said in (
            step.columns.documents_before,
            step.columns.documents_now,
            step.columns.directory,
        )
    ]
    assert limits == [(1000, 5), (500, 5), (7, 9)]


async def test_the_audit_log_says_whether_documents_were_forced(
    store: DirectoryStore, folder: Path
) -> None:
    declared = written(folder, GRANTED)
    await applied(store, declared)
    await revoked(store)
    await applied(store, declared)
    assert FORCED not in {line.action for line in await notes(store)}
    await applied(store, declared, force=True)
    assert [line.action for line in await notes(store)][-2:] == ["put-policy", FORCED]


async def test_no_secret_is_kept_of_what_documents_said(
    store: DirectoryStore, folder: Path
) -> None:
    text = (
        '[[accounts.888888888888.access_keys]]\nid = "AKIA8888888888880001"\n'
        'secret_file = "one.secret"\n[accounts.888888888888.identities."example.com"]\n'
        'dkim = [{ selector = "a", key_file = "one.pem" }]\n'
    )
    await applied(store, written(folder, text))
    kept = repr(await raw(store, "SELECT * FROM applied_objects"))
    assert "AKIA8888888888880001" in kept
    for word in ("secret one", "PRIVATE KEY", (folder / "one.pem").read_text().split("\n")[1]):
        assert word not in kept


# -- several documents -------------------------------------------------------------------------


async def test_other_documents_applied_meanwhile_bring_no_revoked_grant_back(
    store: DirectoryStore, folder: Path
) -> None:
    declared = written(folder, GRANTED)
    await applied(store, declared, prune=False)
    await revoked(store)
    for other in ("[accounts.777777777777]", GRANTED.partition("policies")[0]):
        await applied(store, written(folder, other), prune=False)
    plan = await applied(store, written(folder, GRANTED), prune=False)
    assert str(plan) == ""
    assert [str(one).partition(": ")[2] for one in plan.drift] == ["deleted in the directory"]


async def test_what_documents_pruned_they_can_make_again(
    store: DirectoryStore, folder: Path
) -> None:
    await applied(store, written(folder, GRANTED))
    await applied(store, written(folder, "[accounts.888888888888]"))
    plan = await applied(store, written(folder, GRANTED))
    assert [step.sign for step in plan.steps] == ["+", "+"]
    assert not plan.drift


async def revoked(store: DirectoryStore) -> None:
    async with store.changing(ACTOR) as change:
        place = PolicyOwner.of_identity(OWNER, REGION, "example.com", ARN)
        await delete_policy(change, place, "delegate")


async def served(store: DirectoryStore, declared: Desired, *, prune: bool = False) -> Plan:
    """Applied as by the start of a gate."""
    async with store.changing(GATE) as change:
        return await apply(change, store, declared, prune=prune)


async def test_pruning_leaves_an_account_that_has_topics(
    store: DirectoryStore, folder: Path
) -> None:
    both = "[accounts.777777777777]\n[accounts.888888888888]\n"
    await served(store, written(folder, both), prune=True)
    await add_topic(store, account_id="777777777777")
    plan = await served(store, written(folder, "[accounts.888888888888]\n"), prune=True)
    assert not plan.steps
    assert [str(one) for one in plan.drift] == [
        "topic 777777777777/bounces: in no document",
        "account 777777777777: in no document, and not empty",
    ]
