"""Applying documents: in one transaction, as it was agreed to, and noted without secrets."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from smtpgate.directory.accounts import update_account
from smtpgate.directory.change import ConflictError, RefusedChangeError
from smtpgate.directory.dkim import DkimKeyRow, add_dkim_keys
from smtpgate.directory.documents.apply import planned
from smtpgate.directory.documents.desired import Desired
from smtpgate.directory.documents.known_keys import key_loader
from smtpgate.directory.documents.models import DirectoryError
from smtpgate.directory.identities import IdentityRow, identity, update_identity
from smtpgate.directory.policies import PolicyOwner, policy_history
from smtpgate.directory.quotas import MAX_CAPS, Quota, QuotaKey, quota_at
from smtpgate.directory.store import DirectoryStore
from smtpgate.signing.private_keys import KeyFileError, generate_private_key, load_private_key
from tests.support.clock import MovableClock
from tests.support.directory import ACTOR
from tests.support.documents import NOTHING, Files, applied, content, noted, read
from tests.support.tenants import add_account, add_identity, limit, notes, raw
from tests.support.world import DELEGATE, OWNER, REGION

EVERYTHING: Final = """\
[accounts.888888888888]
name = "Owner"
[accounts.888888888888.users.mailer]
policies = { send = "may-send.json" }
[[accounts.888888888888.users.mailer.access_keys]]
id = "AKIA8888888888880001"
secret_file = "one.secret"
[accounts.888888888888.identities."example.com"]
verified = true
dkim = [{ selector = "a", key_file = "one.pem" }]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for documents, with the files that they name."""
    folder = tmp_path / "documents"
    folder.mkdir()
    return Files.made(folder).folder


def written(folder: Path, text: str) -> Desired:
    (folder / "accounts.toml").write_text(text)
    return read(folder)


async def read_identity(store: DirectoryStore, name: str = "example.com") -> IdentityRow:
    async with store.reading() as connection:
        return await identity(connection, OWNER, REGION, name)


async def changed(store: DirectoryStore, row: IdentityRow, **columns: Any) -> None:  # noqa: ANN401
    async with store.changing(ACTOR) as change:
        await update_identity(change, row, columns, action="change")


# -- as it was agreed to -----------------------------------------------------------------------


async def test_a_plan_that_is_no_longer_right_is_not_carried_out(
    store: DirectoryStore, folder: Path
) -> None:
    declared = written(folder, EVERYTHING)
    await add_account(store, OWNER, name="Owner")
    plan = await planned(store, declared, prune=True)
    async with store.changing(ACTOR) as change:
        await update_account(change, OWNER, {"name": "Somebody"})
    before = await content(store)
    with pytest.raises(ConflictError, match="look at the new plan"):
        await applied(store, declared, expected=plan)
    assert await content(store) == before


async def test_a_plan_is_right_while_only_times_change(
    store: DirectoryStore, folder: Path, clock: MovableClock
) -> None:
    await applied(store, written(folder, EVERYTHING))
    declared = written(folder, EVERYTHING.replace("true", "false"))
    plan = await planned(store, declared, prune=True)
    await changed(store, await read_identity(store), checked_at=clock.now())
    assert await applied(store, declared, expected=plan) == plan


async def test_what_is_refused_in_the_middle_changes_nothing(
    store: DirectoryStore, folder: Path
) -> None:
    await applied(store, written(folder, "[accounts.777777777777]"))
    before, seen = await content(store), await noted(store)
    await raw(store, "UPDATE master_keys SET id = 'another'")
    with pytest.raises(RefusedChangeError, match="master key m1 was replaced"):
        await applied(store, written(folder, EVERYTHING))
    assert (await content(store), await noted(store)) == (before, seen)


# -- what is noted -----------------------------------------------------------------------------


async def test_every_step_is_noted_with_who_made_it_and_without_secrets(
    store: DirectoryStore, folder: Path
) -> None:
    await applied(store, written(folder, EVERYTHING))
    await applied(store, written(folder, EVERYTHING.replace("one.", "two.")), force=True)
    await applied(store, NOTHING)
    lines = await notes(store)
    assert [(line.action, line.kind) for line in lines] == [
        ("create", "account"),
        ("create", "user"),
        ("create", "key"),
        ("create", "identity"),
        ("put-policy", "user"),
        ("add-dkim-key", "identity"),
        ("apply-documents", "store"),
        ("replace-secret", "key"),
        ("delete-dkim-key", "identity"),
        ("add-dkim-key", "identity"),
        ("force-documents", "store"),
        ("delete", "key"),
        ("delete", "identity"),
        ("delete-policy", "user"),
        ("delete", "user"),
        ("delete", "account"),
        ("apply-documents", "store"),
    ]
    assert {(line.actor, line.origin) for line in lines} == {(ACTOR.name, ACTOR.origin)}
    for word in ("secret one", "secret two", "PRIVATE KEY"):
        assert word not in repr(lines)


async def test_many_of_a_kind_are_noted_in_the_order_of_the_documents(
    store: DirectoryStore, folder: Path
) -> None:
    names = [f"user-{number}" for number in range(230)]
    text = "".join(f"[accounts.{OWNER}.users.{name}]\n" for name in names)
    plan = await applied(store, written(folder, text))
    assert len(plan.steps) == 231
    assert [line.name for line in await notes(store) if line.kind == "user"] == names
    await applied(store, NOTHING)
    assert not any((await content(store)).values())


async def test_a_policy_that_comes_back_goes_on_with_its_versions(
    store: DirectoryStore, folder: Path
) -> None:
    with_it = written(folder, EVERYTHING)
    await applied(store, with_it)
    await applied(store, written(folder, EVERYTHING.replace("policies", "#")))
    plan = await applied(store, with_it)
    assert str(plan) == "+ policy send of user 888888888888/mailer (version 3)"
    async with store.reading() as connection:
        place = PolicyOwner.of_user(OWNER, "mailer")
        history = await policy_history(connection, place, "send")
    assert [row.version for row in history] == [3, 2, 1]
    assert [row.document is None for row in history] == [False, True, False]


# -- limits ------------------------------------------------------------------------------------


LIMITED: Final = """\
[accounts.888888888888]
max_24h_send = 500
[accounts.888888888888.users.mailer]
max_24h_send = 100
[[accounts.888888888888.users.mailer.access_keys]]
id = "AKIA8888888888880001"
secret_file = "one.secret"
max_24h_send = 100
[accounts.888888888888.identities."example.com".caps.999999999999]
max_24h_send = 100
"""
RAISE: Final[dict[str, Any]] = {
    "raised_24h_send": 1000,
    "raised_send_rate_per_s": 50.0,
    "raised_until": datetime(2026, 11, 30, tzinfo=UTC),
}
ACCOUNT: Final = QuotaKey.of_account(OWNER)
LIMITED_PLACES: Final = (
    QuotaKey.of_user(OWNER, "mailer"),
    QuotaKey.of_key(OWNER, "AKIA8888888888880001"),
    QuotaKey.of_grant(OWNER, REGION, "example.com", DELEGATE),
)


async def test_raises_stay_whatever_documents_say_of_limits(
    store: DirectoryStore, folder: Path, clock: MovableClock
) -> None:
    await applied(store, written(folder, LIMITED))
    for place in (ACCOUNT, *LIMITED_PLACES):
        await limit(store, place, **RAISE)
    assert not await planned(store, written(folder, LIMITED), prune=True)
    clock.move(30 * 86_400)  # one that has ended is not their business either
    for said, left in (("max_24h_send = 7", 7), ("", None), ("max_24h_send = 0", 0)):
        text = re.sub("max_24h_send = [0-9]+", said, LIMITED)
        if not said:
            text = text.replace(".caps.999999999999", "")  # which pruning takes away then
        await applied(store, written(folder, text))
        assert not await planned(store, written(folder, text), prune=True)
        async with store.reading() as connection:
            assert await quota_at(connection, ACCOUNT) == Quota(**RAISE)
            for place in LIMITED_PLACES:
                current = await quota_at(connection, place)
                assert current == Quota(max_24h_send=left, **RAISE)
    await applied(store, NOTHING)
    assert await raw(store, "SELECT * FROM quotas") == []


async def test_limits_are_noted_with_what_they_were(
    store: DirectoryStore, folder: Path
) -> None:
    await applied(store, written(folder, LIMITED))
    await applied(store, written(folder, LIMITED.replace("= 100", "= 7")))
    lines = [line for line in await notes(store) if line.action == "limit"]
    subjects = [{}, {}, {"delegate": DELEGATE}]
    assert [(line.kind, line.before, line.after) for line in lines] == [
        (kind, delegate | before, delegate | after)
        for before, after in (
            ({}, {"max_24h_send": 100}),
            ({"max_24h_send": 100}, {"max_24h_send": 7}),
        )
        for kind, delegate in zip(("user", "key", "identity"), subjects, strict=True)
    ]


def capping(accounts: Iterable[int]) -> str:
    caps = ", ".join(f'"{one:012}" = {{ max_24h_send = 1 }}' for one in accounts)
    return f'[accounts.{OWNER}.identities."example.com"]\ncaps = {{ {caps} }}\n'


async def test_caps_that_no_document_names_count_too(
    store: DirectoryStore, folder: Path
) -> None:
    await applied(store, written(folder, capping(range(MAX_CAPS))))
    for accounts, beside in (([MAX_CAPS], 1000), ([0, MAX_CAPS], 999)):
        with pytest.raises(DirectoryError) as refusal:
            await planned(store, written(folder, capping(accounts)), prune=False)
        assert str(refusal.value).endswith(
            f'"example.com".caps: are {len(accounts)} beside {beside} others in the directory, '
            f"and at most 1000 may be"
        )
    await applied(store, written(folder, capping([0, MAX_CAPS])), prune=True)
    assert len((await content(store))["limits"]) == 2


# -- verification ------------------------------------------------------------------------------


async def test_trust_verifies_and_the_dns_is_not_asked(
    store: DirectoryStore, folder: Path, clock: MovableClock
) -> None:
    await applied(store, written(folder, EVERYTHING))
    row = await read_identity(store)
    assert (row.state, row.method, row.verified_at) == ("success", "trust", clock.now())
    assert row.next_check_at is None
    assert len(row.token) == 44


async def test_a_domain_that_is_trusted_no_longer_has_to_prove_itself(
    store: DirectoryStore, folder: Path, clock: MovableClock
) -> None:
    await applied(store, written(folder, EVERYTHING))
    token = (await read_identity(store)).token
    clock.move(5)
    await applied(store, written(folder, EVERYTHING.replace("true", "false")))
    row = await read_identity(store)
    assert (row.state, row.method, row.verified_at) == ("pending", None, None)
    assert row.next_check_at == clock.now() + timedelta(minutes=1)
    assert row.token == token


async def test_a_proof_is_left_alone_when_nobody_vouches(
    store: DirectoryStore, folder: Path, clock: MovableClock
) -> None:
    await applied(store, written(folder, EVERYTHING.replace("verified = true\n", "")))
    proof = {"state": "success", "method": "txt", "verified_at": clock.now()}
    await changed(store, await read_identity(store), **proof)
    for said in ("verified = false\n", ""):
        text = EVERYTHING.replace("verified = true\n", said)
        assert not await planned(store, written(folder, text), prune=True)


async def test_who_vouches_for_what_is_proved_does_not_need_the_proof_any_more(
    store: DirectoryStore, folder: Path, clock: MovableClock
) -> None:
    await applied(store, written(folder, EVERYTHING.replace("verified = true\n", "")))
    missing = {"method": "txt", "missing_since": clock.now(), "next_check_at": clock.now()}
    await changed(store, await read_identity(store), state="success", **missing)
    await applied(store, written(folder, EVERYTHING))
    row = await read_identity(store)
    assert (row.method, row.missing_since, row.next_check_at) == ("trust", None, None)


# -- what cannot be done -----------------------------------------------------------------------


async def test_a_secret_that_cannot_be_opened_is_reported(
    store: DirectoryStore, folder: Path
) -> None:
    declared = written(folder, EVERYTHING)
    await applied(store, declared)
    await raw(store, "UPDATE access_keys SET secret = :sealed", sealed=b"\x01\x02m1damaged")
    with pytest.raises(DirectoryError, match=r"access_keys\[0\]\.id: its secret in the dir"):
        await planned(store, declared, prune=False)


async def test_an_account_with_identities_elsewhere_is_not_pruned(
    store: DirectoryStore,
) -> None:
    await add_account(store, OWNER)
    await add_identity(store, account_id=OWNER, region="eu-west-1")
    with pytest.raises(DirectoryError, match="identities in other regions") as refusal:
        await planned(store, NOTHING, prune=True, force=True)
    assert str(refusal.value).startswith("account 888888888888: no document names it")


async def test_identities_of_other_regions_are_nobodys_business_here(
    store: DirectoryStore, folder: Path
) -> None:
    declared = written(folder, EVERYTHING)
    await applied(store, declared)
    await add_identity(store, "example.net", OWNER, region="eu-west-1")
    assert not await planned(store, declared, prune=True)


# -- private keys ------------------------------------------------------------------------------


def badly_computed() -> bytes:
    """A private key that only its arithmetic tells from a good one."""
    loaded = serialization.load_pem_private_key(generate_private_key(), password=None)
    assert isinstance(loaded, rsa.RSAPrivateKey)
    good = loaded.private_numbers()
    bad = rsa.RSAPrivateNumbers(
        p=good.p,
        q=good.q,
        d=good.d,
        dmp1=good.dmp1 + 2,
        dmq1=good.dmq1,
        iqmp=good.iqmp,
        public_numbers=good.public_numbers,
    )
    return bad.private_key(unsafe_skip_rsa_key_validation=True).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


async def test_only_private_keys_that_are_new_are_checked(
    store: DirectoryStore, folder: Path
) -> None:
    known, new = badly_computed(), badly_computed()
    await applied(store, written(folder, EVERYTHING))
    row = DkimKeyRow(account_id=OWNER, region=REGION, domain="example.com", selector="bad")
    async with store.changing(ACTOR) as change:
        await add_dkim_keys(change, store.master_keys, [(row, known)])
    load = await key_loader(store)
    assert load(known).algorithm == "rsa-sha256"
    for refused in (load, load_private_key):
        with pytest.raises(KeyFileError):
            refused(new)


async def test_a_private_key_that_cannot_be_opened_counts_as_new(
    store: DirectoryStore, folder: Path
) -> None:
    await applied(store, written(folder, EVERYTHING))
    await raw(store, "UPDATE dkim_keys SET private_key = :sealed", sealed=b"\x01\x02m1damaged")
    load = await key_loader(store)
    assert load((folder / "one.pem").read_bytes()).algorithm == "ed25519-sha256"
