"""Documents applied to a directory: it has what they say, whatever it had before."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smtpgate.directory.documents.apply import planned
from smtpgate.directory.documents.desired import Desired
from smtpgate.directory.documents.export import export
from smtpgate.directory.documents.models import DirectoryError
from smtpgate.directory.store import DirectoryStore
from tests.support.documents import NOTHING, Files, applied, content, noted, read
from tests.support.world import DELEGATE

Tables = dict[str, Any]

ACCOUNTS: Final = ("111111111111", "222222222222", "333333333333")
KEY_IDS: Final = tuple(f"AKIA00000000000000{number:02}" for number in range(6))
DOMAINS: Final = ("example.com", "example.net")
ADDRESS: Final = "it's me@example.com".replace(" ", ".")
EXPIRES: Final = datetime(2030, 1, 1, 12, 30, 15, 250_000, tzinfo=UTC)
# Fields that are changed while the gate runs, and may be left unsaid.
OF_OPERATION: Final = frozenset({"status", "verified", "stage"})

# The same database serves all examples of a test: each begins with what the last one left.
several = settings(
    max_examples=max(settings().max_examples // 3, 3),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for documents, with the files that they name."""
    folder = tmp_path / "documents"
    folder.mkdir()
    files = Files.made(folder)
    for account_id in ACCOUNTS:
        for name in (*DOMAINS, ADDRESS):
            for delegate in ACCOUNTS[:2]:
                files.delegate(account_id, name, delegate)
    return folder


def optional(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[Tables]:
    """Tables with some of the keys."""
    return st.fixed_dictionaries({}, optional=values)


TEXTS: Final = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=20
).filter(str.strip)
PAUSES: Final = st.one_of(
    st.just({"status": "active"}),
    st.builds(lambda reason: {"status": "paused", "paused_reason": reason}, TEXTS),
)
USER_POLICIES: Final = st.dictionaries(
    st.sampled_from(["a", "B", "c_-"]), st.sampled_from(["may-send.json", "may-all.json"])
)
DAILY: Final = st.sampled_from([-1, 0, 7, 2**63 - 1])
RATES: Final = st.sampled_from([-1, 0.1, 14, 1e6])
CAPS: Final = st.dictionaries(
    st.sampled_from(["777777777777", DELEGATE]),
    optional(max_24h_send=DAILY, max_send_rate_per_s=RATES).filter(bool),
)
USERS: Final = st.dictionaries(
    st.sampled_from(["mailer", "Other", ".."]),
    optional(
        path=st.sampled_from(["/", "/team/", '/a"b/']),
        tags=st.dictionaries(st.sampled_from(["team", "Größe", "a.b"]), TEXTS),
        policies=USER_POLICIES,
        max_24h_send=DAILY,
        max_send_rate_per_s=RATES,
    ),
    max_size=3,
)
KEYS: Final = st.dictionaries(
    st.sampled_from(KEY_IDS),
    st.tuples(
        st.fixed_dictionaries(
            {
                "secret_file": st.sampled_from(["one.secret", "two.secret"]),
                "status": st.sampled_from(["active", "inactive"]),
            },
            optional={
                "expires": st.just(EXPIRES),
                "networks": st.lists(st.sampled_from(["192.0.2.0/24", "2001:db8::7"])),
                "max_24h_send": DAILY,
                "max_send_rate_per_s": RATES,
            },
        ),
        st.integers(0, 100),
    ),
)
DKIM_KEYS: Final = st.lists(
    st.fixed_dictionaries(
        {
            "selector": st.sampled_from(["one", "two", "x.y"]),
            "key_file": st.sampled_from(["one.pem", "two.pem"]),
            "stage": st.sampled_from(["pending", "active", "retiring"]),
        }
    ),
    unique_by=lambda table: table["selector"],
)


@st.composite
def identities(draw: st.DrawFn, account_id: str) -> Tables:
    found: Tables = {}
    for name in draw(st.lists(st.sampled_from([*DOMAINS, ADDRESS]), unique=True)):
        files = st.sampled_from([f"{account_id}-{name}-{one}.json" for one in ACCOUNTS[:2]])
        policies = st.dictionaries(st.sampled_from(["p", "q"]), files)
        table = draw(optional(policies=policies, caps=CAPS)) | draw(PAUSES)
        table["verified"] = draw(st.booleans())
        if name != ADDRESS:
            table["dkim"] = draw(DKIM_KEYS)
        found[name] = table
    return found


@st.composite
def directories(draw: st.DrawFn) -> Tables:
    """Everything that documents say, each state included."""
    accounts: Tables = {}
    owners: list[Tables] = []
    for account_id in draw(st.lists(st.sampled_from(ACCOUNTS), unique=True)):
        table = draw(
            optional(
                name=TEXTS,
                organization=st.just("o-exampleorg0"),
                contact=st.just("admin@example.com"),
                max_24h_send=DAILY,
                max_send_rate_per_s=RATES,
            )
        )
        table |= draw(PAUSES)
        table["users"] = draw(USERS)
        table["identities"] = draw(identities(account_id))
        owners += [table, *table["users"].values()]
        accounts[account_id] = table
    for key_id, (key, owner) in draw(KEYS).items() if owners else ():
        keys = owners[owner % len(owners)].setdefault("access_keys", [])
        if sum(other["status"] == "active" for other in keys) >= 2:
            key["status"] = "inactive"
        keys.append({"id": key_id, **key})
    return accounts


def written(folder: Path, accounts: Tables) -> Desired:
    """The accounts in documents of both forms."""
    for old in (*folder.glob("*.toml"), *folder.glob("*accounts.json")):
        old.unlink()
    (folder / "none.toml").write_text("")
    for number, (account_id, table) in enumerate(accounts.items()):
        tables = {"accounts": {account_id: table}}
        if number % 2:
            text = json.dumps(tables, default=datetime.isoformat)
            (folder / f"{account_id}.accounts.json").write_text(text)
        else:
            (folder / f"{account_id}.toml").write_text(tomli_w.dumps(tables))
    return read(folder)


def without_states(table: Tables) -> Tables:
    """The same documents, with nothing said of what is changed while the gate runs."""

    def without(value: object) -> object:
        if isinstance(value, dict):
            return {k: without(v) for k, v in value.items() if k not in OF_OPERATION}
        return [without(item) for item in value] if isinstance(value, list) else value

    return {account_id: without(account) for account_id, account in table.items()}


async def state(store: DirectoryStore) -> tuple[Any, int]:
    """The directory's rows, and the number of its audit entries."""
    return await content(store), await noted(store)


@several
@given(directories(), directories())
async def test_documents_that_are_forced_make_the_same_of_every_directory(
    store: DirectoryStore, folder: Path, first: Tables, second: Tables
) -> None:
    await applied(store, written(folder, first), force=True)
    declared = written(folder, second)
    before = await state(store)
    plan = await planned(store, declared, prune=True, force=True)
    assert await state(store) == before
    await applied(store, declared, force=True, expected=plan)
    current = await state(store)
    assert not await applied(store, declared)
    assert await state(store) == current
    await applied(store, NOTHING)
    assert not any((await content(store)).values())
    await applied(store, declared)
    assert await content(store) == current[0]


@several
@given(directories(), directories())
async def test_without_pruning_nothing_goes_and_all_that_is_said_holds(
    store: DirectoryStore, folder: Path, first: Tables, second: Tables
) -> None:
    await applied(store, written(folder, first))
    declared = written(folder, second)
    before = await state(store)
    try:
        plan = await applied(store, declared, prune=False)
    except DirectoryError:
        assert await state(store) == before
        return
    replaced = [step for step in plan.steps if step.sign == "-"]
    assert all(step.what.startswith("access key") for step in replaced)
    left = await planned(store, declared, prune=True)
    assert {step.sign for step in left.steps} <= {"-"}
    current = await content(store)
    for kind in ("accounts", "users", "access keys", "identities", "policies", "DKIM keys"):
        assert before[0][kind].keys() <= current[kind].keys()
    caps = {place for place in before[0]["limits"] if place[0] == "identity"}
    assert caps <= current["limits"].keys()


@several
@given(directories())
async def test_states_that_are_not_spoken_of_stay(
    store: DirectoryStore, folder: Path, accounts: Tables
) -> None:
    await applied(store, written(folder, accounts))
    assert not await planned(store, written(folder, without_states(accounts)), prune=True)


@several
@given(directories())
async def test_what_is_exported_is_what_the_directory_holds_and_tells_no_secret(
    store: DirectoryStore, folder: Path, accounts: Tables
) -> None:
    declared = written(folder, accounts)
    # By force: without it a key whose secret differs from an earlier example's stays as it is.
    await applied(store, declared, force=True)
    exported = folder.parent / "exported"
    shutil.rmtree(exported, ignore_errors=True)
    documents = await export(store, exported, accounts=None)
    assert len(documents) == len(accounts)
    (exported / "none.toml").write_text("")
    assert not await planned(store, read(exported), prune=True)
    text = "".join(path.read_text() for path in exported.rglob("*") if path.is_file())
    assert "secret" not in text
    assert "PRIVATE KEY" not in text
