"""Documents, commands and restarts in any order, against a directory of plain dictionaries.

The naive directory has objects with fields and nothing else. What documents say of an object is
a dictionary too, and what they said last is another.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smtpgate.core.secret import Secret
from smtpgate.directory.accounts import (
    AccountRow,
    create_account,
    delete_account,
    update_account,
)
from smtpgate.directory.change import Change
from smtpgate.directory.dkim import (
    DkimKeyRow,
    add_dkim_key,
    delete_dkim_key,
    dkim_key,
    update_dkim_key,
)
from smtpgate.directory.documents.current_fields import current_fields
from smtpgate.directory.documents.desired import Desired
from smtpgate.directory.documents.object_keys import ObjectKey
from smtpgate.directory.documents.plan import Plan
from smtpgate.directory.identities import (
    IdentityRow,
    create_identity,
    delete_identity,
    identity,
    update_identity,
)
from smtpgate.directory.keys import (
    AccessKeyRow,
    create_access_key,
    delete_access_key,
    update_access_key,
)
from smtpgate.directory.policies import PolicyOwner, delete_policy, policies_of, put_policy
from smtpgate.directory.quotas import QuotaKey, set_quota
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.users import UserRow, create_user, delete_user
from tests.support.directory import ACTOR
from tests.support.documents import NOTHING, Files, applied, present, read
from tests.support.world import DELEGATE, OWNER, REGION

NAME, KEY_ID = "example.com", "AKIA8888888888880001"
ARN: Final = f"arn:aws:ses:{REGION}:{OWNER}:identity/{NAME}"
USER_PLACE: Final = PolicyOwner.of_user(OWNER, "mailer")
IDENTITY_PLACE: Final = PolicyOwner.of_identity(OWNER, REGION, NAME, ARN)
CAP_PLACE: Final = QuotaKey.of_grant(OWNER, REGION, NAME, DELEGATE)
Fields = dict[str, Any]
Objects = dict[str, Fields]


class Kind(NamedTuple):
    """An object of the little world: how it is kept, what it is called, whose it is."""

    key: ObjectKey
    what: str
    owner: str | None
    new: Mapping[str, Any]
    """The value of a field of which the documents say nothing."""
    values: Mapping[str, tuple[Any, ...]]
    """The values that documents and commands may give a field."""
    unsaid: frozenset[str] = frozenset()
    """Fields that documents may leave as they are."""


LIMIT: Final = {"max_24h_send": (None, 5, 7)}
PAUSE: Final = {"paused_reason": (None, "a", "b")}
NO_LIMITS: Final = {"max_24h_send": None, "max_send_rate_per_s": None}
FILES: Final = ("one.json", "two.json")
WORLD: Final[Mapping[str, Kind]] = {
    "owner": Kind(
        ObjectKey("account", OWNER),
        f"account {OWNER}",
        None,
        {"name": OWNER, "paused_reason": None, **NO_LIMITS},
        {**LIMIT, **PAUSE},
        frozenset(PAUSE),
    ),
    "delegate": Kind(
        ObjectKey("account", DELEGATE),
        f"account {DELEGATE}",
        None,
        {"name": DELEGATE, "paused_reason": None, **NO_LIMITS},
        LIMIT,
    ),
    "user": Kind(
        ObjectKey("user", OWNER, "", "mailer"),
        f"user {OWNER}/mailer",
        "owner",
        NO_LIMITS,
        LIMIT,
    ),
    "user policy": Kind(
        ObjectKey("user-policy", OWNER, "", "mailer", "send"),
        f"policy send of user {OWNER}/mailer",
        "user",
        {},
        {"document": ("may-send.json", "may-all.json")},
    ),
    "key": Kind(
        ObjectKey("key", "", "", KEY_ID),
        f"access key {KEY_ID} of {OWNER}/mailer",
        "user",
        {"is_active": True, "networks": (), "certificates": (), **NO_LIMITS},
        {
            "is_active": (True, False),
            "networks": ((), ("192.0.2.0/24",)),
            "certificates": ((), (f"sha256:{'0a' * 32}",)),
            **LIMIT,
        },
        frozenset({"is_active"}),
    ),
    "identity": Kind(
        ObjectKey("identity", OWNER, REGION, NAME),
        f"identity {OWNER}/{NAME}",
        "owner",
        {"is_verified": False, "paused_reason": None},
        {"is_verified": (True, False), **PAUSE},
        frozenset({"is_verified", "paused_reason"}),
    ),
    "identity policy": Kind(
        ObjectKey("identity-policy", OWNER, REGION, NAME, "grant"),
        f"policy grant of identity {OWNER}/{NAME}",
        "identity",
        {},
        {"document": ("first.json", "second.json")},
    ),
    "cap": Kind(
        ObjectKey("cap", OWNER, REGION, NAME, DELEGATE),
        f"cap on {DELEGATE} of identity {OWNER}/{NAME}",
        "identity",
        NO_LIMITS,
        {"max_24h_send": (5, 7)},
    ),
    "dkim": Kind(
        ObjectKey("dkim-key", OWNER, REGION, NAME, "a"),
        f"DKIM key a of identity {OWNER}/{NAME}",
        "identity",
        {"stage": "active"},
        {"stage": ("pending", "active", "retiring")},
        frozenset({"stage"}),
    ),
}


# -- the naive directory -----------------------------------------------------------------------


@dataclass
class Naive:
    """The directory, and the last applied documents."""

    there: Objects = field(default_factory=dict)
    before: Objects = field(default_factory=dict)

    def parts(self, name: str) -> list[str]:
        """An object's own fields."""
        direct = [one for one in self.there if WORLD[one].owner == name]
        return direct + [deep for one in direct for deep in self.parts(one)]

    def delete(self, name: str) -> None:
        for one in (name, *self.parts(name)):
            del self.there[one]

    def apply(self, said: Objects, *, prune: bool, force: bool) -> None:
        for name, fields in said.items():
            before = None if force else self.before.get(name)
            owner = WORLD[name].owner
            if name in self.there:
                for key, value in fields.items():
                    if before is None or key not in before or before[key] != value:
                        self.there[name][key] = value
            elif before is None and (owner is None or owner in self.there):
                self.there[name] = {**WORLD[name].new, **fields}
        if prune:
            for name in sorted(self.there, key=list(WORLD).index, reverse=True):
                is_theirs = name not in said and (force or name in self.before)
                is_account = WORLD[name].owner is None
                if is_theirs and not (is_account and self.parts(name)):
                    self.delete(name)
        self.before = deepcopy(said) if prune else {**self.before, **deepcopy(said)}

    def drift(self, said: Objects, before: Objects, *, prune: bool) -> set[str]:
        """The differences from documents that said something else before.

        What belongs to something that is not there counts when they have changed it.
        """
        found = {
            name
            for name, fields in said.items()
            if name in self.there
            and any(self.there[name].get(key) != value for key, value in fields.items())
        }
        for name in said.keys() - self.there.keys():
            owner = WORLD[name].owner
            if owner is None or owner in self.there or before.get(name) != said[name]:
                found.add(name)
        return found | (self.there.keys() - said.keys() if prune else set())


# -- the same as documents ---------------------------------------------------------------------


def toml(said: Objects) -> Fields:  # noqa: C901 - a branch a kind
    """The accounts of a document that says so."""
    accounts: Fields = {}
    for name, fields in said.items():
        kind = WORLD[name]
        table = {key: value for key, value in fields.items() if key == "max_24h_send" and value}
        if "paused_reason" in fields:
            reason = fields["paused_reason"]
            table |= (
                {"status": "paused", "paused_reason": reason}
                if reason
                else {"status": "active"}
            )
        owner = accounts.get(OWNER, {})
        match kind.key.kind:
            case "account":
                accounts[kind.key.account_id] = table
            case "user":
                owner.setdefault("users", {})["mailer"] = table
            case "user-policy":
                owner["users"]["mailer"]["policies"] = {"send": fields["document"]}
            case "key":
                table |= {"id": KEY_ID, "secret_file": "one.secret"}
                table["networks"] = list(fields["networks"])
                table["certificates"] = list(fields["certificates"])
                if "is_active" in fields:
                    table["status"] = "active" if fields["is_active"] else "inactive"
                owner["users"]["mailer"]["access_keys"] = [table]
            case "identity":
                if "is_verified" in fields:
                    table["verified"] = fields["is_verified"]
                owner.setdefault("identities", {})[NAME] = table
            case "identity-policy":
                owner["identities"][NAME]["policies"] = {"grant": fields["document"]}
            case "cap":
                owner["identities"][NAME]["caps"] = {DELEGATE: table}
            case "dkim-key":
                key = {"selector": "a", "key_file": "one.pem"}
                key |= {"stage": fields["stage"]} if "stage" in fields else {}
                owner["identities"][NAME]["dkim"] = [key]
    return {"accounts": accounts}


@st.composite
def documents(draw: st.DrawFn) -> Objects:
    """Documents: each object or not, with those fields that may be unsaid or not."""
    said: Objects = {}
    for name, kind in WORLD.items():
        if (kind.owner is not None and kind.owner not in said) or not draw(st.integers(0, 4)):
            continue
        fields = {}
        for key, values in kind.values.items():
            if key in kind.unsaid and draw(st.booleans()):
                continue
            fields[key] = draw(st.sampled_from(values))
        said[name] = fields
    return said


# -- commands ----------------------------------------------------------------------------------


class Commands:
    """The changes by command, made to both."""

    def __init__(self, store: DirectoryStore, folder: Path, naive: Naive) -> None:
        self._store = store
        self._folder = folder
        self._naive = naive

    def document(self, name: str) -> str:
        return (self._folder / name).read_text()

    async def delete(self, name: str) -> None:
        if name not in self._naive.there or (
            WORLD[name].owner is None and self._naive.parts(name)
        ):
            return
        self._naive.delete(name)
        async with self._store.changing(ACTOR) as change:
            await self._delete(change, name)

    async def _delete(self, change: Change, name: str) -> None:
        match name:
            case "owner" | "delegate":
                await delete_account(change, WORLD[name].key.account_id)
            case "user":
                await delete_user(change, OWNER, "mailer")
            case "user policy":
                await delete_policy(change, USER_PLACE, "send")
            case "key":
                await delete_access_key(change, KEY_ID)
            case "identity":
                row = await identity(change.connection, OWNER, REGION, NAME)
                await delete_identity(change, row, "aws")
            case "identity policy":
                await delete_policy(change, IDENTITY_PLACE, "grant")
            case "cap":
                await set_quota(change, CAP_PLACE, NO_LIMITS)
            case "dkim":
                signing = await dkim_key(change.connection, OWNER, REGION, NAME, "a")
                await delete_dkim_key(change, signing)

    async def create(self, name: str) -> None:
        kind, there = WORLD[name], self._naive.there
        if name in there or (kind.owner is not None and kind.owner not in there):
            return
        first = {key: values[0] for key, values in kind.values.items() if key not in kind.new}
        there[name] = {**kind.new, **first}
        async with self._store.changing(ACTOR) as change:
            await self._create(change, name)
        if name == "cap":
            await self.set(name, "max_24h_send", 5)

    async def _create(self, change: Change, name: str) -> None:
        match name:
            case "owner" | "delegate":
                await create_account(change, AccountRow(id=WORLD[name].key.account_id))
            case "user":
                row = UserRow(account_id=OWNER, name="mailer")
                await create_user(change, row, may_send=False)
            case "user policy":
                await put_policy(change, USER_PLACE, "send", self.document("may-send.json"))
            case "key":
                key = AccessKeyRow(id=KEY_ID, account_id=OWNER, user_name="mailer")
                keys, secret = self._store.master_keys, Secret("secret one")
                await create_access_key(change, keys, key, secret)
            case "identity":
                new = IdentityRow(account_id=OWNER, region=REGION, name=NAME)
                await create_identity(change, new, "aws")
            case "identity policy":
                text = self.document("first.json")
                await put_policy(change, IDENTITY_PLACE, "grant", text)
            case "dkim":
                pem = (self._folder / "one.pem").read_bytes()
                signing = DkimKeyRow(
                    account_id=OWNER, region=REGION, domain=NAME, selector="a", stage="active"
                )
                await add_dkim_key(change, self._store.master_keys, signing, pem)

    async def set(self, name: str, key: str, value: Any) -> None:  # noqa: ANN401 - by the field
        if name not in self._naive.there:
            return
        self._naive.there[name][key] = value
        async with self._store.changing(ACTOR) as change:
            await self._set(change, name, key, value)

    async def _set(self, change: Change, name: str, key: str, value: Any) -> None:  # noqa: ANN401
        places = {
            "user": QuotaKey.of_user(OWNER, "mailer"),
            "key": QuotaKey.of_key(OWNER, KEY_ID),
            "cap": CAP_PLACE,
        }
        match name, key:
            case (("owner" | "delegate"), _):
                await update_account(change, WORLD[name].key.account_id, {key: value})
            case _, "max_24h_send":
                await set_quota(change, places[name], {key: value})
            case (("user policy" | "identity policy"), _):
                place = USER_PLACE if name == "user policy" else IDENTITY_PLACE
                (row,) = await policies_of(change.connection, place)
                text = self.document(value)
                await put_policy(change, place, row.name, text, expected_version=row.version)
            case "key", _:
                await update_access_key(change, KEY_ID, {key: value})
            case "identity", _:
                owner = await identity(change.connection, OWNER, REGION, NAME)
                is_trusted = {"state": "success", "method": "trust"}
                none = {"state": "not-started", "method": None}
                columns = {key: value}
                if key == "is_verified":
                    columns = is_trusted if value else none
                await update_identity(change, owner, columns, action="change")
            case "dkim", _:
                signing = await dkim_key(change.connection, OWNER, REGION, NAME, "a")
                await update_dkim_key(change, signing, {key: value}, action="change")


FIELDS: Final = [
    (name, key, value)
    for name, kind in WORLD.items()
    for key, values in kind.values.items()
    for value in values
]
STEPS: Final = st.one_of(
    st.tuples(st.just("documents"), documents()),
    st.tuples(st.just("delete"), st.sampled_from(list(WORLD))),
    st.tuples(st.just("create"), st.sampled_from(list(WORLD))),
    st.tuples(st.just("set"), st.sampled_from(FIELDS)),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("force"), st.none()),
)


# -- both --------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for documents, with the files that they name."""
    folder = tmp_path / "documents"
    folder.mkdir()
    files = Files.made(folder)
    for name, delegate in (("first", DELEGATE), ("second", "777777777777")):
        Path(files.delegate(OWNER, NAME, delegate)).rename(folder / f"{name}.json")
    return folder


def written(folder: Path, said: Objects) -> Desired:
    (folder / "accounts.toml").write_text(tomli_w.dumps(toml(said)))
    return read(folder)


async def must_be_alike(store: DirectoryStore, folder: Path, naive: Naive) -> None:
    found = await present(store)
    for name, kind in WORLD.items():
        there, wanted = current_fields(found, kind.key), naive.there.get(name)
        assert (there is None) == (wanted is None), name
        for key, value in (wanted or {}).items():
            text = (folder / value).read_text() if key == "document" else value
            assert (there or {})[key] == text, (name, key)


def output(plan: Plan) -> set[str]:
    names = {kind.what: name for name, kind in WORLD.items()}
    return {names[one.what] for one in plan.drift}


@settings(
    max_examples=max(settings().max_examples // 6, 3),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
)
@given(first=documents(), steps=st.lists(STEPS, max_size=8), prune=st.booleans())
async def test_documents_change_what_they_changed_and_nothing_that_people_did(
    store: DirectoryStore,
    folder: Path,
    first: Objects,
    steps: list[tuple[str, Any]],
    prune: bool,
) -> None:
    await applied(store, NOTHING, prune=True, force=True)
    naive, said = Naive(), first
    commands = Commands(store, folder, naive)
    for step, argument in [("documents", first), *steps]:
        match step:
            case "delete":
                await commands.delete(argument)
            case "create":
                await commands.create(argument)
            case "set":
                await commands.set(*argument)
            case _:
                said, force = argument or said, step == "force"
                before = deepcopy(naive.before)
                naive.apply(said, prune=prune, force=force)
                declared = written(folder, said)
                plan = await applied(store, declared, prune=prune, force=force)
                assert naive.drift(said, before, prune=prune) == output(plan)
                await must_be_alike(store, folder, naive)
                assert not await applied(store, declared, prune=prune)
        await must_be_alike(store, folder, naive)
