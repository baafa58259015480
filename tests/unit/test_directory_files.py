import asyncio
from pathlib import Path
from typing import Final

import pytest

from smtpgate.core.account import SendingLimits
from smtpgate.core.identity import PrivateKey
from smtpgate.directory.files import DirectoryError, FileDirectory
from tests.support.cases import CASES
from tests.support.privatekey import load_cheap_key

BAD: Final = sorted(path for path in (CASES / "directory_bad").iterdir() if path.is_dir())
KEY_ID: Final = "AKIA9999MAILER000001"
DELEGATE: Final = f"""\
[accounts.999999999999]
name = "Delegate"
[[accounts.999999999999.users.mailer.access_keys]]
id = "{KEY_ID}"
secret_file = "secret"
"""
OWNER: Final = """\
[accounts.888888888888.identities."ses-example.com"]
verified = true
dkim = [{ selector = "one", key_file = "one.pem" }]
"""


class KeyLoader:
    """Counts how often a key is parsed."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, pem: bytes) -> PrivateKey:
        self.calls += 1
        return load_cheap_key(pem)


def load(folder: Path, loader: KeyLoader | None = None) -> FileDirectory:
    return FileDirectory.load(
        folder,
        region="us-east-1",
        partition="aws",
        default_limits=SendingLimits(200, 1),
        address_tag_idiom=False,
        load_key=loader or KeyLoader(),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "delegate.toml").write_text(DELEGATE)
    (tmp_path / "owner.toml").write_text(OWNER)
    for name, text in {"secret": "a secret\n", "one.pem": "KEY one\n"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    return tmp_path


@pytest.mark.parametrize("bad", BAD, ids=[bad.name for bad in BAD])
def test_a_bad_directory_is_refused_with_every_problem(bad: Path) -> None:
    with pytest.raises(DirectoryError) as refusal:
        load(bad)
    told = str(refusal.value).replace(f"{bad}/", "").replace(str(bad), ".")
    assert told + "\n" == (bad / "expected-error").read_text()
    assert "wJalrXUtnFEMI" not in told


def test_there_are_bad_directories_of_every_kind() -> None:
    assert len(BAD) >= 25


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError) as refusal:
        load(tmp_path / "none")
    wanted = f"{tmp_path}/none: cannot be read: no such file or directory"
    assert str(refusal.value) == wanted


def test_every_toml_file_counts_and_nothing_else(folder: Path) -> None:
    (folder / ".#owner.toml").write_text("what an editor left")
    (folder / "owner.toml~").write_text("what an editor left")
    assert load(folder).counts() == {"accounts": 2, "access keys": 1, "identities": 1}


async def test_an_account_may_be_spread_over_files(folder: Path) -> None:
    (folder / "more.toml").write_text(
        "[accounts.999999999999]\nmax_24h_send = 7\n[accounts.999999999999.users.intern]\n"
        '[accounts.999999999999.identities."example.com"]\n'
    )
    directory = load(folder)
    assert directory.counts() == {"accounts": 2, "access keys": 1, "identities": 2}
    key = await directory.access_key(KEY_ID)
    assert key is not None
    assert key.principal.account.name == "Delegate"
    assert key.principal.account.limits == SendingLimits(7, 1)


async def test_an_account_without_a_name_is_called_by_its_id(folder: Path) -> None:
    (folder / "delegate.toml").write_text(DELEGATE.replace('name = "Delegate"', ""))
    key = await load(folder).access_key(KEY_ID)
    assert key is not None
    assert key.principal.account.name == "999999999999"


async def test_a_paused_account_without_a_reason_is_paused(folder: Path) -> None:
    with (folder / "delegate.toml").open("a") as file:
        file.write('[accounts.777777777777]\nstatus = "paused"\n')
        file.write('[[accounts.777777777777.access_keys]]\nid = "AKIA7777ROOT00000001"\n')
        file.write('secret_file = "secret"\n')
    key = await load(folder).access_key("AKIA7777ROOT00000001")
    assert key is not None
    assert key.principal.account.paused_reason == ""


async def test_a_reason_is_kept_for_the_next_time_while_the_account_is_active(
    folder: Path,
) -> None:
    text = DELEGATE.replace('name = "Delegate"', 'paused_reason = "complaints"')
    (folder / "delegate.toml").write_text(text)
    key = await load(folder).access_key(KEY_ID)
    assert key is not None
    assert key.principal.account.paused_reason is None


async def test_a_reload_sees_what_changed(folder: Path) -> None:
    directory = load(folder)
    text = DELEGATE + 'status = "inactive"\n'
    (folder / "delegate.toml").write_text(text)
    await directory.reload()
    key = await directory.access_key(KEY_ID)
    assert key is not None
    assert not key.is_active


async def test_a_reload_with_an_error_anywhere_changes_nothing(folder: Path) -> None:
    directory = load(folder)
    before = await directory.access_key(KEY_ID)
    (folder / "delegate.toml").write_text(DELEGATE + 'status = "inactive"\n')
    (folder / "owner.toml").write_text(OWNER.replace("verified", "verifed"))
    with pytest.raises(DirectoryError, match="did you mean `verified'"):
        await directory.reload()
    assert await directory.access_key(KEY_ID) is before
    assert directory.counts()["identities"] == 1


async def test_a_reload_parses_only_the_private_keys_that_are_new(folder: Path) -> None:
    loader = KeyLoader()
    directory = load(folder, loader)
    await directory.reload()
    assert loader.calls == 1
    (folder / "one.pem").write_text("KEY another\n")
    await directory.reload()
    assert loader.calls == 2


async def test_reloads_take_turns(folder: Path) -> None:
    directory = load(folder)
    (folder / "delegate.toml").write_text(DELEGATE + 'status = "inactive"\n')
    await asyncio.gather(directory.reload(), directory.reload(), directory.reload())
    key = await directory.access_key(KEY_ID)
    assert key is not None
    assert not key.is_active


def test_one_key_file_for_many_domains_is_parsed_once(folder: Path) -> None:
    loader = KeyLoader()
    (folder / "more.toml").write_text(OWNER.replace("ses-example.com", "example.com"))
    load(folder, loader)
    assert loader.calls == 1


def test_secrets_that_everybody_can_read_are_warnings(folder: Path) -> None:
    for name in ("secret", "one.pem"):
        (folder / name).chmod(0o644)
    warnings = load(folder).warnings
    assert len(warnings) == 2
    assert all("chmod 600" in warning for warning in warnings)


async def test_the_idiom_of_the_announcement_is_read_when_it_is_asked_for(folder: Path) -> None:
    policy = """\
{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": {"AWS": "999999999999"},
 "Action": "ses:SendRawEmail",
 "Resource": "arn:aws:ses:us-east-1:888888888888:identity/ses-example.com",
 "Condition": {"StringLike": {"ses:FromAddress": "marketing+.*@ses-example.com"}}}}
"""
    (folder / "marketing.json").write_text(policy)
    text = OWNER.replace("dkim", 'policies = { marketing = "marketing.json" }\ndkim')
    (folder / "owner.toml").write_text(text)
    found = []
    for idiom in (False, True):
        directory = FileDirectory.load(
            folder,
            region="us-east-1",
            partition="aws",
            default_limits=SendingLimits(200, 1),
            address_tag_idiom=idiom,
            load_key=load_cheap_key,
        )
        (identity,) = await directory.identities("ses-example.com")
        found.append(identity.policies)
    assert found[0] != found[1]


async def test_region_and_partition_are_in_every_arn(folder: Path) -> None:
    directory = FileDirectory.load(
        folder,
        region="cn-north-1",
        partition="aws-cn",
        default_limits=SendingLimits(200, 1),
        address_tag_idiom=False,
        load_key=load_cheap_key,
    )
    (identity,) = await directory.identities("ses-example.com")
    key = await directory.access_key(KEY_ID)
    assert str(identity.arn).startswith("arn:aws-cn:ses:cn-north-1:888888888888:")
    assert key is not None
    assert key.principal.arn == "arn:aws-cn:iam::999999999999:user/mailer"
