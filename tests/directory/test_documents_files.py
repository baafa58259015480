import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from smtpgate.core.identity import PrivateKey
from smtpgate.core.secret import Secret
from smtpgate.directory.documents.desired import Desired, DesiredKey
from smtpgate.directory.documents.models import DirectoryError
from smtpgate.directory.documents.read import read_desired
from smtpgate.directory.policies import MAY_SEND
from smtpgate.directory.quotas import MAX_CAPS
from tests.support.cases import CASES
from tests.support.privatekey import load_cheap_key
from tests.support.rows import rows

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


def read(path: Path, loader: KeyLoader | None = None) -> Desired:
    return read_desired(
        path, region="us-east-1", partition="aws", load_key=loader or KeyLoader()
    )


def sole_key(path: Path) -> DesiredKey:
    (key,) = read(path).access_keys
    return key


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "delegate.toml").write_text(DELEGATE)
    (tmp_path / "owner.toml").write_text(OWNER)
    for name, text in {"secret": "a secret\n", "one.pem": "KEY one\n"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    return tmp_path


@rows("bad", BAD, ids=[bad.name for bad in BAD])
def test_bad_documents_are_refused_with_every_problem(bad: Path) -> None:
    with pytest.raises(DirectoryError) as refusal:
        read(bad)
    output = str(refusal.value).replace(f"{bad}/", "").replace(str(bad), ".")
    assert output + "\n" == (bad / "expected-error").read_text()
    assert "wJalrXUtnFEMI" not in output


def test_there_are_bad_documents_of_every_kind() -> None:
    assert len(BAD) >= 25


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError) as refusal:
        read(tmp_path / "none")
    wanted = f"{tmp_path}/none: cannot be read: no such file or directory"
    assert str(refusal.value) == wanted


def test_every_document_counts_and_nothing_else(folder: Path) -> None:
    (folder / ".#owner.toml").write_text("what an editor left")
    (folder / "owner.toml~").write_text("what an editor left")
    (folder / "policy.json").write_text("a policy of somebody")
    (folder / "more.accounts.json").write_text('{"accounts": {"777777777777": {}}}')
    declared = read(folder)
    assert [account.id[0] for account in declared.accounts] == ["9", "7", "8"]
    assert (len(declared.access_keys), len(declared.identities)) == (1, 1)


def test_one_document_may_be_read_alone(folder: Path) -> None:
    declared = read(folder / "owner.toml")
    assert [account.id for account in declared.accounts] == ["888888888888"]
    assert not declared.access_keys


def test_a_file_of_another_kind_is_no_document(folder: Path) -> None:
    (folder / "accounts.yaml").write_text("accounts: {}")
    with pytest.raises(DirectoryError, match=r"is named neither \*\.toml nor \*\.json"):
        read(folder / "accounts.yaml")


@pytest.mark.parametrize("name", ["of.accounts.json", "of.toml"])
def test_a_document_that_cannot_be_read_is_named(folder: Path, name: str) -> None:
    (folder / name).mkdir()
    with pytest.raises(DirectoryError, match=r"of\..*: cannot be read: is a directory"):
        read(folder)


def test_a_json_document_says_the_same_as_one_in_toml(folder: Path) -> None:
    (folder / "delegate.toml").write_text(
        DELEGATE + 'expires = 2030-01-01T01:00:00+01:00\nnetworks = ["192.0.2.0/24"]\n'
    )
    (folder / "any.json").write_text(
        json.dumps(
            {
                "accounts": {
                    "999999999999": {
                        "name": "Delegate",
                        "users": {
                            "mailer": {
                                "access_keys": [
                                    {
                                        "id": KEY_ID,
                                        "secret_file": "secret",
                                        "expires": "2030-01-01T00:00:00Z",
                                        "networks": ["192.0.2.0/24"],
                                    }
                                ]
                            }
                        },
                    }
                }
            }
        )
    )
    one, other = read(folder / "delegate.toml"), read(folder / "any.json")
    here = [key.location for key in (*one.access_keys, *other.access_keys)]
    assert [location.file.name for location in here] == ["delegate.toml", "any.json"]
    assert [replace(key, location=here[0]) for key in other.access_keys] == list(
        one.access_keys
    )
    assert one.accounts[0].name == other.accounts[0].name == "Delegate"


def test_a_json_document_has_numbers_of_both_kinds(folder: Path) -> None:
    (folder / "any.json").write_text(
        '{"accounts": {"888888888888": {"max_24h_send": -1, "max_send_rate_per_s": 2.5e1}}}'
    )
    (account,) = read(folder / "any.json").accounts
    assert (account.max_24h_send, account.max_send_rate_per_s) == (-1, 25.0)


def test_an_account_may_be_spread_over_documents(folder: Path) -> None:
    (folder / "more.toml").write_text(
        "[accounts.999999999999]\nmax_24h_send = 7\n[accounts.999999999999.users.intern]\n"
        '[accounts.999999999999.identities."example.com"]\n'
    )
    declared = read(folder)
    accounts = {account.id: account for account in declared.accounts}
    assert accounts["999999999999"].name == "Delegate"
    assert accounts["999999999999"].max_24h_send == 7
    assert [user.name for user in declared.users] == ["mailer", "intern"]
    assert [one.name for one in declared.identities] == ["example.com", "ses-example.com"]


def test_a_pause_and_its_reason_may_stand_in_two_documents(folder: Path) -> None:
    (folder / "delegate.toml").write_text('[accounts.999999999999]\nstatus = "paused"\n')
    (folder / "more.toml").write_text('[accounts.999999999999]\npaused_reason = "spam"\n')
    pauses = {account.id: account.pause for account in read(folder).accounts}
    assert pauses["999999999999"].after(None) == "spam"


def test_an_account_without_a_name_is_called_by_its_id(folder: Path) -> None:
    (folder / "delegate.toml").write_text(DELEGATE.replace('name = "Delegate"', ""))
    names = {account.id: account.name for account in read(folder).accounts}
    assert names["999999999999"] == "999999999999"


@rows(
    "said, now, then",
    [
        ("", None, None),
        ("", "complaints", "complaints"),
        ('paused_reason = "spam"', None, None),
        ('paused_reason = "spam"', "complaints", "complaints"),
        ('status = "active"', "complaints", None),
        ('status = "active"\npaused_reason = "spam"', None, None),
        ('status = "paused"\npaused_reason = "spam"', None, "spam"),
        ('status = "paused"\npaused_reason = "spam"', "complaints", "spam"),
    ],
)
def test_a_pause_is_what_is_said_of_it_or_what_it_was(
    folder: Path, said: str, now: str | None, then: str | None
) -> None:
    (folder / "one.toml").write_text(f"[accounts.777777777777]\n{said}\n")
    (account,) = read(folder / "one.toml").accounts
    assert account.pause.after(now) == then


def test_one_key_file_for_many_domains_is_parsed_once(folder: Path) -> None:
    loader = KeyLoader()
    (folder / "more.toml").write_text(OWNER.replace("ses-example.com", "example.com"))
    (folder / "copy.pem").write_bytes((folder / "one.pem").read_bytes())
    with (folder / "more.toml").open("a") as file:
        file.write('[accounts.888888888888.identities."example.net"]\n')
        file.write('dkim = [{ selector = "one", key_file = "copy.pem" }]\n')
    assert len(read(folder, loader).identities) == 3
    assert loader.calls == 1


def test_secrets_that_everybody_can_read_are_warnings(folder: Path) -> None:
    for name in ("secret", "one.pem"):
        (folder / name).chmod(0o644)
    warnings = read(folder).warnings
    assert len(warnings) == 2
    assert all("chmod 600" in warning for warning in warnings)


def test_an_action_that_does_not_exist_is_a_warning(folder: Path) -> None:
    statement = '"Effect": "Allow", "Action": "ses:SendRawMail", "Resource": "*"'
    policy = f'{{"Version": "2012-10-17", "Statement": {{{statement}}}}}'
    (folder / "send.json").write_text(policy)
    with (folder / "owner.toml").open("a") as file:
        file.write('[accounts.888888888888.users.a]\npolicies = { send = "send.json" }\n')
    (warning,) = read(folder).warnings
    assert "users.a.policies.send: send.json: Statement.Action: `ses:SendRawMail'" in warning
    assert "is not an action; did you mean `ses:SendRawEmail'?" in warning


def test_what_a_document_names_is_beside_it(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep/other.toml").write_text(DELEGATE.replace('"secret"', '"../secret"'))
    assert sole_key(folder / "deep").secret == Secret("a secret")


def test_an_access_key_may_have_an_end_and_networks(folder: Path) -> None:
    assert (sole_key(folder).expires_at, sole_key(folder).networks) == (None, ())
    (folder / "delegate.toml").write_text(
        DELEGATE
        + "expires = 2027-01-01T01:00:00+01:00\n"
        + 'networks = ["192.0.2.0/24", "2001:db8::7", "2001:db8::7/128"]\n'
    )
    key = sole_key(folder)
    assert key.expires_at == datetime(2027, 1, 1, tzinfo=UTC)
    assert key.networks == ("192.0.2.0/24", "2001:db8::7/128")


def test_an_identity_caps_so_many_accounts_and_no_more(folder: Path) -> None:
    for count in (MAX_CAPS, MAX_CAPS + 1):
        caps = {f"{number:012}": {"max_24h_send": 1} for number in range(count)}
        tables = {"888888888888": {"identities": {"example.com": {"caps": caps}}}}
        (folder / "any.json").write_text(json.dumps({"accounts": tables}))
        if count == MAX_CAPS:
            assert len(read(folder / "any.json").identities[0].caps) == count
    with pytest.raises(DirectoryError, match=r"caps: an identity caps at most 1000 accounts$"):
        read(folder / "any.json")


def test_no_secret_shows(folder: Path) -> None:
    declared = read(folder)
    assert "a secret" not in repr(declared)
    assert "KEY one" not in repr(declared)


def test_policies_are_for_the_identity_of_the_region_and_partition(folder: Path) -> None:
    arn = "arn:aws-cn:ses:cn-north-1:888888888888:identity/ses-example.com"
    (folder / "p.json").write_text(
        '{"Statement": {"Effect": "Allow", "Principal": {"AWS": "999999999999"}, '
        f'"Action": "ses:SendRawEmail", "Resource": "{arn}"}}}}'
    )
    (folder / "owner.toml").write_text(OWNER + 'policies = { p = "p.json" }\n')
    found = read_desired(
        folder, region="cn-north-1", partition="aws-cn", load_key=load_cheap_key
    )
    assert [policy.name for policy in found.identities[0].policies] == ["p"]
    with pytest.raises(DirectoryError, match="must be exactly arn:aws:ses:us-east-1"):
        read(folder)


def test_a_policy_is_kept_as_it_was_written(folder: Path) -> None:
    text = MAY_SEND.replace("\n", "\r\n")
    (folder / "p.json").write_bytes(text.encode())
    (folder / "one.toml").write_text(
        '[accounts.888888888888.users.mailer]\npolicies = { p = "p.json" }\n'
    )
    (user,) = read(folder / "one.toml").users
    assert user.policies[0].document == text
