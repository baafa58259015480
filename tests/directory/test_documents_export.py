"""An export: documents that can be read by others, and by the gate again."""

import stat
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from smtpgate.directory.accounts import update_account
from smtpgate.directory.change import NotFoundError
from smtpgate.directory.documents.apply import planned
from smtpgate.directory.documents.export import export
from smtpgate.directory.identities import identity, update_identity
from smtpgate.directory.policies import MAY_SEND, put_policy
from smtpgate.directory.quotas import QuotaKey
from smtpgate.directory.store import DirectoryStore
from tests.support.directory import ACTOR
from tests.support.documents import applied, read
from tests.support.tenants import (
    ACME,
    OTHER,
    add_account,
    add_identity,
    add_key,
    add_user,
    identity_place,
    limit,
    sender_policy,
    signing_key,
)
from tests.support.world import REGION

THIRD: Final = "333333333333"
DOCUMENT: Final = """\
[accounts.111111111111]
name = "Acme \\"and\\" sons"
organization = "o-exampleorg0"
contact = "admin@example.com"
max_24h_send = 500
max_send_rate_per_s = 2.5
access_keys = [
    { id = "AKIA1111111111110000", status = "inactive" },
]

[accounts.111111111111.users.mailer]
path = "/team/"
max_24h_send = 100

[accounts.111111111111.users.mailer.tags]
team = "news"

[accounts.111111111111.users.mailer.policies]
may-send = "111111111111/users/mailer/may-send.json"

[[accounts.111111111111.users.mailer.access_keys]]
id = "AKIA1111111111110001"
expires = 2030-01-01 00:00:00+00:00
networks = [
    "192.0.2.0/24",
]
certificates = [
    "sha256:0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a",
]
max_send_rate_per_s = 0.5

[accounts.111111111111.identities."example.com"]
verified = true
dkim = [
    { selector = "one" },
]

[accounts.111111111111.identities."example.com".caps.222222222222]
max_24h_send = -1
max_send_rate_per_s = 2.0

[accounts.111111111111.identities."news@example.net"]
status = "paused"
paused_reason = "complaints"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of an export; it is not there yet."""
    return tmp_path / "state/export"


def tree(folder: Path) -> list[Path]:
    """The folder and all that is in it; nothing when it is not there."""
    return [folder, *folder.rglob("*")] if folder.exists() else []


async def acme(store: DirectoryStore) -> None:
    """An account that has something of everything."""
    await add_account(
        store,
        name='Acme "and" sons',
        organization_id="o-exampleorg0",
        contact="admin@example.com",
        max_24h_send=500,
        max_send_rate_per_s=2.5,
    )
    await add_user(store, path="/team/", tags={"team": "news"})
    await add_key(store, "AKIA1111111111110000", is_active=False)
    await add_key(
        store,
        "AKIA1111111111110001",
        user_name="mailer",
        expires_at=datetime(2030, 1, 1, tzinfo=UTC),
        networks=("192.0.2.0/24",),
        certificates=(f"sha256:{'0a' * 32}",),
    )
    await add_identity(store)
    await signing_key(store, stage="retiring")
    await add_identity(
        store, "news@example.net", state="pending", method=None, paused_reason="complaints"
    )
    until = datetime(2026, 11, 30, tzinfo=UTC)
    raised: dict[str, Any] = {"raised_24h_send": 5000, "raised_until": until}
    await limit(store, QuotaKey.of_account(ACME), **raised)
    await limit(store, QuotaKey.of_user(ACME, "mailer"), max_24h_send=100, **raised)
    of_key = QuotaKey.of_key(ACME, "AKIA1111111111110001")
    await limit(store, of_key, max_send_rate_per_s=0.5, **raised)
    cap = {"max_24h_send": -1, "max_send_rate_per_s": 2.0}
    await limit(store, QuotaKey.of_grant(ACME, REGION, "example.com", OTHER), **cap, **raised)
    # A raise alone limits nobody.
    await limit(store, QuotaKey.of_grant(ACME, REGION, "example.com", THIRD), **raised)


async def test_an_account_is_a_document_with_its_policies_beside_it(
    store: DirectoryStore, folder: Path
) -> None:
    await acme(store)
    (document,) = await export(store, folder, accounts=None)
    assert document == folder / "111111111111.toml"
    assert document.read_text() == DOCUMENT
    assert (folder / "111111111111/users/mailer/may-send.json").read_text() == MAY_SEND
    assert not await planned(store, read(folder), prune=True)


MAIL: Final = """\
[accounts.111111111111]
name = "Acme"
suppress = [
    "complaint",
]

[accounts.111111111111.identities."example.com"]
verified = true
suppress_for_delegates = true
configuration_set = "spring"
reputation = "pause"

[accounts.111111111111.identities."example.com".mail_from]
domain = "bounce.example.com"
on_mx_failure = "reject"

[accounts.111111111111.identities."example.com".notifications]
bounce = "bounces"
complaint = "bounces"
headers = [
    "bounce",
]
forwarding = false

[accounts.111111111111.identities."example.com".tags]
team = "news"

[accounts.111111111111.configuration_sets.autumn]
tags = { season = "2" }

[accounts.111111111111.configuration_sets.spring]
status = "paused"
suppress = []
reputation = "rate"

[accounts.111111111111.configuration_sets.spring.destinations.all]
types = [
    "SEND",
    "BOUNCE",
]
topic = "bounces"
enabled = false

[accounts.111111111111.notifications."222222222222/example.net"]
delivery = "bounces"

[accounts.111111111111.topics.bounces]
display_name = "The bounces"
signature_version = "2"
open_to = [
    "222222222222",
]
tags = { a = "", b = "c d" }
"""


async def test_topics_sets_and_settings_of_mail_are_exported_as_they_were_declared(
    store: DirectoryStore, folder: Path, tmp_path: Path
) -> None:
    source = tmp_path / "accounts.toml"
    others = '[accounts.222222222222.identities."example.net"]\n'
    source.write_text(MAIL + others)
    await applied(store, read(source))
    first, _ = await export(store, folder, accounts=None)
    assert tomllib.loads(first.read_text()) == tomllib.loads(MAIL)
    plan = await planned(store, read(folder), prune=True)
    assert (plan.steps, plan.drift) == ((), ())


async def test_only_its_owner_can_read_an_export(store: DirectoryStore, folder: Path) -> None:
    await acme(store)
    await export(store, folder, accounts=None)
    for path in tree(folder):
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


async def test_the_accounts_that_are_asked_for_are_exported(
    store: DirectoryStore, folder: Path
) -> None:
    await acme(store)
    await add_account(store, OTHER)
    assert await export(store, folder, accounts=[OTHER]) == [folder / f"{OTHER}.toml"]
    assert tree(folder) == [folder, folder / f"{OTHER}.toml"]


async def test_an_account_that_is_not_there_is_reported_and_nothing_is_written(
    store: DirectoryStore, folder: Path
) -> None:
    await add_account(store)
    with pytest.raises(NotFoundError, match="there is no account 222222222222"):
        await export(store, folder, accounts=[ACME, OTHER])
    assert not tree(folder.parent)


async def test_nothing_that_is_there_is_overwritten(
    store: DirectoryStore, folder: Path
) -> None:
    await add_account(store)
    await export(store, folder, accounts=None)
    async with store.changing(ACTOR) as change:
        await update_account(change, ACME, {"name": "Acme"})
    with pytest.raises(OSError, match="Directory not empty"):
        await export(store, folder, accounts=None)
    assert 'name = "111111111111"' in (folder / "111111111111.toml").read_text()


async def test_what_is_hidden_in_the_folder_does_not_matter(
    store: DirectoryStore, folder: Path
) -> None:
    hidden = folder / ".git"
    hidden.mkdir(parents=True)
    assert await export(store, folder, accounts=None) == []


async def test_a_name_that_means_something_to_the_file_system_is_escaped(
    store: DirectoryStore, folder: Path
) -> None:
    names = ["..", ".hidden", "a@b+c", f"{'x' * 63}.", "A"]
    await add_account(store)
    for name in names:
        await add_user(store, name)
    await export(store, folder, accounts=None)
    assert not await planned(store, read(folder), prune=True)
    found = [path for path in tree(folder.parent) if path.name == "may-send.json"]
    assert len(found) == len(names)
    assert folder / ACME / "users/%2E./may-send.json" in found


async def test_a_name_that_is_too_long_for_a_file_is_cut(
    store: DirectoryStore, folder: Path
) -> None:
    await add_account(store)
    for end in ("a", "b"):
        domain = ".".join(["x" * 60, "y" * 60, "z" * 60, f"{end}.example"])
        name = f"somebody.else@{domain}"
        await add_identity(store, name)
        place = identity_place(name)
        async with store.changing(ACTOR) as change:
            await put_policy(change, place, "delegate", sender_policy(name))
    await export(store, folder, accounts=None)
    assert not await planned(store, read(folder), prune=True)
    names = [path.parent.name for path in tree(folder) if path.name == "delegate.json"]
    assert {len(name) for name in names} == {200}
    assert len(set(names)) == 2


async def test_a_proof_is_not_written_and_stays(store: DirectoryStore, folder: Path) -> None:
    await add_account(store)
    await add_identity(store, state="pending", method=None)
    async with store.changing(ACTOR) as change:
        row = await identity(change.connection, ACME, REGION, "example.com")
        proof = {"state": "success", "method": "txt"}
        await update_identity(change, row, proof, action="change")
    (document,) = await export(store, folder, accounts=None)
    assert "verified" not in document.read_text()
    assert not await planned(store, read(folder), prune=True)
