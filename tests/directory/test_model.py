"""The store against a naive one: dictionaries, in which every rule is a plain condition."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from smtpgate.core.proof.verification import VerificationState
from smtpgate.core.secret import Secret
from smtpgate.directory.accounts import (
    AccountRow,
    account_page,
    create_account,
    delete_account,
    update_account,
)
from smtpgate.directory.change import Change, ConflictError, NotFoundError, RefusedChangeError
from smtpgate.directory.identities import (
    IdentityRow,
    create_identity,
    delete_identity,
    identity,
    identity_page,
    update_identity,
)
from smtpgate.directory.keys import (
    AccessKeyRow,
    access_key_page,
    create_access_key,
    delete_access_key,
    update_access_key,
)
from smtpgate.directory.live import LiveDirectory
from smtpgate.directory.policies import (
    PolicyOwner,
    delete_policy,
    policies_of,
    policy_history,
    put_policy,
    roll_back_policy,
)
from smtpgate.directory.store import DirectoryStore
from smtpgate.directory.users import UserRow, create_user, delete_user, user_page
from tests.support.clock import MovableClock
from tests.support.databases import Databases
from tests.support.directory import ACTOR, live, open_store
from tests.support.tenants import identity_place, notes, sender_policy
from tests.support.world import REGION

T = TypeVar("T")
Refusal = type[RefusedChangeError] | None
Who = tuple[str, str | None]  # an account, and a user of it in lower case or its root

ACCOUNTS: Final = ("111111111111", "222222222222")
USERS: Final = ("mailer", "Mailer", "other")
DOMAINS: Final = ("example.com", "other.example")
KEYS: Final = tuple(f"AKIA{number:016}" for number in range(6))
PERMITTED: Final = ("MaySend", "MayAlsoSend")
accounts = st.sampled_from(ACCOUNTS)
users = st.sampled_from(USERS)
owners = st.sampled_from([*USERS, None])
domains = st.sampled_from(DOMAINS)
keys = st.sampled_from(KEYS)
sids = st.sampled_from("AB")
versions = st.integers(1, 4) | st.none()


@dataclass
class Model:
    """A directory, in plain words of Python."""

    accounts: dict[str, str | None] = field(default_factory=dict)  # why paused
    users: dict[tuple[str, str], str] = field(default_factory=dict)  # key: name
    keys: dict[str, tuple[Who, bool]] = field(default_factory=dict)
    identities: dict[tuple[str, str], str] = field(default_factory=dict)  # state
    history: dict[tuple[str, str], list[str | None]] = field(default_factory=dict)
    lines: int = 0

    def current(self, place: tuple[str, str]) -> tuple[int | None, str | None]:
        """The version and the document that hold now."""
        past = self.history.get(place, [])
        return (len(past), past[-1]) if past and past[-1] is not None else (None, None)

    def active(self, who: Who) -> int:
        return sum(owner == who and is_active for owner, is_active in self.keys.values())


class StoreAgainstModel(RuleBasedStateMachine):
    """Each step is done by both; both refuse it, for the same kind of reason, or neither."""

    databases: Databases

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.stack = AsyncExitStack()
        self.model = Model()
        self.clock = MovableClock()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize()
    def open(self) -> None:
        self.store: DirectoryStore = self.run(
            self.stack.enter_async_context(open_store(self.databases.fresh(), clock=self.clock))
        )
        self.live: LiveDirectory = live(self.store, self.clock)

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.runner.close()

    def do(
        self,
        expected: type[RefusedChangeError] | None,
        work: Callable[[Change], Awaitable[Any]],
    ) -> bool:
        """True if the step was made; it is refused if, and as, the model says."""

        async def change() -> None:
            async with self.store.changing(ACTOR) as made:
                await work(made)

        self.clock.move(1)
        if expected is None:
            self.run(change())
            return True
        with pytest.raises(expected):
            self.run(change())
        return False

    # -- accounts and users --------------------------------------------------------------------

    @rule(account=accounts)
    def create_account(self, account: str) -> None:
        taken = ConflictError if account in self.model.accounts else None
        if self.do(taken, lambda change: create_account(change, AccountRow(id=account))):
            self.model.accounts[account] = None
            self.model.lines += 1

    @rule(account=accounts, reason=st.sampled_from(["abuse", "unpaid"]) | st.none())
    def pause(self, account: str, reason: str | None) -> None:
        missing = None if account in self.model.accounts else NotFoundError
        changes = {"paused_reason": reason}
        if self.do(missing, lambda change: update_account(change, account, changes)):
            self.model.lines += self.model.accounts[account] != reason
            self.model.accounts[account] = reason

    @rule(account=accounts)
    def delete_account(self, account: str) -> None:
        model = self.model
        expected: Refusal = None
        if account not in model.accounts:
            expected = NotFoundError
        elif any(
            account == owner
            for owner in [
                *(one for one, _ in model.users),
                *(one for (one, _), _ in model.keys.values()),
                *(one for one, _ in model.identities),
            ]
        ):
            expected = ConflictError
        if self.do(expected, lambda change: delete_account(change, account)):
            del model.accounts[account]
            model.lines += 1

    @rule(account=accounts, name=users)
    def create_user(self, account: str, name: str) -> None:
        model = self.model
        expected: Refusal = None
        if account not in model.accounts:
            expected = NotFoundError
        elif (account, name.lower()) in model.users:
            expected = ConflictError
        row = UserRow(account_id=account, name=name)
        if self.do(expected, lambda change: create_user(change, row, may_send=False)):
            model.users[account, name.lower()] = name
            model.lines += 1

    @rule(account=accounts, name=users)
    def delete_user(self, account: str, name: str) -> None:
        model, key = self.model, (account, name.lower())
        expected = None if key in model.users else NotFoundError
        if self.do(expected, lambda change: delete_user(change, account, name)):
            del model.users[key]
            gone = [one for one, (owner, _) in model.keys.items() if owner == key]
            for one in gone:
                del model.keys[one]
            model.lines += 1 + len(gone)

    # -- access keys ---------------------------------------------------------------------------

    @rule(account=accounts, name=owners, key=keys, is_active=st.booleans())
    def create_key(self, account: str, name: str | None, key: str, is_active: bool) -> None:
        model, who = self.model, (account, name and name.lower())
        expected: Refusal = None
        if account not in model.accounts or (who[1] is not None and who not in model.users):
            expected = NotFoundError
        elif key in model.keys or (is_active and model.active(who) >= 2):
            expected = ConflictError
        row = AccessKeyRow(id=key, account_id=account, user_name=name, is_active=is_active)
        secret, master_keys = Secret("its secret"), self.store.master_keys
        if self.do(
            expected, lambda change: create_access_key(change, master_keys, row, secret)
        ):
            model.keys[key] = (who, is_active)
            model.lines += 1

    @rule(key=keys, is_active=st.booleans())
    def switch_key(self, key: str, is_active: bool) -> None:
        model = self.model
        expected: Refusal = None
        if key not in model.keys:
            expected = NotFoundError
        else:
            who, was_active = model.keys[key]
            if is_active and not was_active and model.active(who) >= 2:
                expected = ConflictError
        changes = {"is_active": is_active}
        if self.do(expected, lambda change: update_access_key(change, key, changes)):
            who, was_active = model.keys[key]
            model.keys[key] = (who, is_active)
            model.lines += is_active != was_active

    @rule(key=keys)
    def delete_key(self, key: str) -> None:
        expected = None if key in self.model.keys else NotFoundError
        if self.do(expected, lambda change: delete_access_key(change, key)):
            del self.model.keys[key]
            self.model.lines += 1

    # -- identities and policies ---------------------------------------------------------------

    @rule(account=accounts, domain=domains, state=st.sampled_from(["pending", "success"]))
    def create_identity(self, account: str, domain: str, state: VerificationState) -> None:
        model = self.model
        expected: Refusal = None
        if account not in model.accounts:
            expected = NotFoundError
        elif (account, domain) in model.identities:
            expected = ConflictError
        row = IdentityRow(account_id=account, region=REGION, name=domain, state=state)
        if self.do(expected, lambda change: create_identity(change, row, "aws")):
            model.identities[account, domain] = state
            model.lines += 1

    @rule(account=accounts, domain=domains, state=st.sampled_from(["failed", "success"]))
    def verify(self, account: str, domain: str, state: str) -> None:
        async def work(change: Change) -> None:
            row = await identity(change.connection, account, REGION, domain)
            await update_identity(change, row, {"state": state}, action="verify")

        key = (account, domain)
        if self.do(None if key in self.model.identities else NotFoundError, work):
            self.model.lines += self.model.identities[key] != state
            self.model.identities[key] = state

    @rule(account=accounts, domain=domains)
    def delete_identity(self, account: str, domain: str) -> None:
        async def work(change: Change) -> None:
            row = await identity(change.connection, account, REGION, domain)
            await delete_identity(change, row, "aws")

        model, key = self.model, (account, domain)
        if self.do(None if key in model.identities else NotFoundError, work):
            del model.identities[key]
            model.lines += 1
            if model.current(key)[0] is not None:
                model.history[key].append(None)
                model.lines += 1

    @rule(account=accounts, domain=domains, sid=sids, seen=versions)
    def put_policy(self, account: str, domain: str, sid: str, seen: int | None) -> None:
        model, key = self.model, (account, domain)
        version, stored = model.current(key)
        expected: Refusal = None
        if key not in model.identities:
            expected = NotFoundError
        elif seen != version:
            expected = ConflictError
        document, place = (
            sender_policy(domain, account, sid=sid),
            identity_place(domain, account),
        )
        if (
            self.do(
                expected,
                lambda change: put_policy(
                    change, place, "send", document, expected_version=seen
                ),
            )
            and document != stored
        ):
            model.history.setdefault(key, []).append(document)
            model.lines += 1

    @rule(account=accounts, domain=domains, seen=versions)
    def delete_policy(self, account: str, domain: str, seen: int | None) -> None:
        model, key = self.model, (account, domain)
        version, _ = model.current(key)
        expected: Refusal = None
        if version is None:
            expected = NotFoundError
        elif seen not in (None, version):
            expected = ConflictError
        place = identity_place(domain, account)
        if self.do(
            expected, lambda change: delete_policy(change, place, "send", expected_version=seen)
        ):
            model.history[key].append(None)
            model.lines += 1

    @rule(account=accounts, domain=domains, version=st.integers(1, 4))
    def roll_back(self, account: str, domain: str, version: int) -> None:
        model, key = self.model, (account, domain)
        past = model.history.get(key, [])
        wanted = past[version - 1] if version <= len(past) else None
        expected = None if wanted is not None and key in model.identities else NotFoundError
        place, (_, stored) = identity_place(domain, account), model.current(key)
        work: Callable[[Change], Awaitable[Any]] = lambda change: roll_back_policy(  # noqa: E731
            change, place, "send", version
        )
        if self.do(expected, work) and wanted != stored:
            model.history[key].append(wanted)
            model.lines += 1

    # -- what must hold ------------------------------------------------------------------------

    @invariant()
    def both_hold_the_same(self) -> None:
        if hasattr(self, "store"):
            self.run(self._compare())

    async def _compare(self) -> None:
        model = self.model
        async with self.store.reading() as connection:
            assert {
                row.id: row.paused_reason for row in await account_page(connection)
            } == model.accounts
            assert {
                (row.account_id, row.key): row.name for row in await user_page(connection)
            } == model.users
            assert {
                row.id: (
                    (row.account_id, row.user_name and row.user_name.lower()),
                    row.is_active,
                )
                for row in await access_key_page(connection)
            } == model.keys
            assert {
                (row.account_id, row.name): row.state
                for row in await identity_page(connection, REGION)
            } == model.identities
            for (account, domain), past in model.history.items():
                place: PolicyOwner = identity_place(domain, account)
                stored = {
                    row.version: row.document for row in await policies_of(connection, place)
                }
                version, document = model.current((account, domain))
                assert stored == ({} if version is None else {version: document})
                rows = await policy_history(connection, place, "send")
                assert [row.document for row in reversed(rows)] == past
                assert [row.version for row in reversed(rows)] == list(range(1, len(past) + 1))
        assert len(await notes(self.store)) == model.lines
        await self._compare_live()

    async def _compare_live(self) -> None:
        """The answers to the path after the feed's next reading, partly from memory."""
        model = self.model
        await self.live.catch_up()
        for domain in DOMAINS:
            output = {
                one.owner_id: (one.is_verified, len(one.policies))
                for one in await self.live.identities(domain)
            }
            assert output == {
                account: (
                    state == "success",
                    int(model.current((account, domain))[0] is not None),
                )
                for (account, name), state in model.identities.items()
                if name == domain
            }
        for key_id in KEYS:
            key = await self.live.access_key(key_id)
            stored = model.keys.get(key_id)
            if key is None or stored is None:
                assert key is None
                assert stored is None
                continue
            principal = key.principal
            name = principal.user_name and principal.user_name.lower()
            assert ((principal.account.id, name), key.is_active) == stored
            assert principal.account.paused_reason == model.accounts[principal.account.id]


@pytest.mark.slow
def test_a_store_agrees_with_dictionaries(databases: Databases) -> None:
    class Machine(StoreAgainstModel):
        pass

    Machine.databases = databases
    limits = settings(max_examples=max(settings().max_examples // 4, 3), stateful_step_count=40)
    run_state_machine_as_test(Machine, settings=limits)
