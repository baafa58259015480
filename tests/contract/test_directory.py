"""What every directory must answer, wherever it keeps its accounts."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from smtpgate.core.account import SendingLimits
from smtpgate.core.secret import Secret
from smtpgate.directory.files import FileDirectory
from smtpgate.ports import Directory
from tests.support.privatekey import CheapKey, load_cheap_key

ARN: Final = "arn:aws:ses:us-east-1:888888888888:identity/ses-example.com"
# The announcement's two accounts, a paused one, and a domain that two accounts claim.
ACCOUNTS: Final = """\
[accounts.888888888888]
name = "Identity owner"
[[accounts.888888888888.access_keys]]
id = "AKIA8888ROOT00000001"
secret_file = "root.secret"
[accounts.888888888888.identities."SES-Example.com"]
verified = true
policies = { marketing = "marketing.json" }
dkim = [{ selector = "one", key_file = "one.pem" }, { selector = "two", key_file = "two.pem" }]
[accounts.888888888888.identities."Ceo@ses-example.com"]
verified = true
[accounts.888888888888.identities."new.example"]
[accounts.999999999999]
name = "Delegate sender"
max_24h_send = -1
max_send_rate_per_s = 2.5
[accounts.999999999999.users.mailer]
path = "/team-a/"
policies = { send = "may-send.json" }
[[accounts.999999999999.users.mailer.access_keys]]
id = "AKIA9999MAILER000001"
secret_file = "mailer.secret"
[[accounts.999999999999.users.mailer.access_keys]]
id = "AKIA9999MAILER000002"
secret_file = "mailer.secret"
status = "inactive"
[accounts.999999999999.identities."ses-example.com"]
[accounts.777777777777]
status = "paused"
paused_reason = "too many complaints"
[accounts.777777777777.users.mailer]
[[accounts.777777777777.users.mailer.access_keys]]
id = "AKIA7777MAILER000001"
secret_file = "mailer.secret"
"""
FILES: Final = {
    "accounts.toml": ACCOUNTS,
    "root.secret": "root's secret\n",
    "mailer.secret": "mailer's secret\n",
    "one.pem": "KEY one\n",
    "two.pem": "KEY two\n",
    "may-send.json": """\
{"Version": "2012-10-17",
 "Statement": {"Effect": "Allow", "Action": "ses:SendRawEmail", "Resource": "*"}}
""",
    "marketing.json": """\
{"Version": "2012-10-17",
 "Statement": {"Sid": "AuthorizeMarketer", "Effect": "Allow",
  "Principal": {"AWS": "999999999999"}, "Action": "ses:SendRawEmail",
  "Resource": "arn:aws:ses:us-east-1:888888888888:identity/ses-example.com"}}
""",
}


def in_files(folder: Path) -> Directory:
    for name, text in FILES.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    return FileDirectory.load(
        folder,
        region="us-east-1",
        partition="aws",
        default_limits=SendingLimits(200, 1),
        address_tag_idiom=False,
        load_key=load_cheap_key,
    )


DIRECTORIES: Final[dict[str, Callable[[Path], Directory]]] = {"files": in_files}


@pytest.fixture(params=list(DIRECTORIES))
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Directory:
    return DIRECTORIES[request.param](tmp_path)


async def test_a_key_leads_to_its_user_with_policies_and_limits(directory: Directory) -> None:
    key = await directory.access_key("AKIA9999MAILER000001")
    assert key is not None
    assert key.is_active
    assert key.secret == Secret("mailer's secret")
    principal = key.principal
    assert principal.user_name == "mailer"
    assert principal.arn == "arn:aws:iam::999999999999:user/team-a/mailer"
    assert [policy.name for policy in principal.policies] == ["send"]
    assert principal.account.name == "Delegate sender"
    assert principal.account.limits == SendingLimits(-1, 2.5)
    assert principal.account.paused_reason is None


async def test_the_key_of_an_account_itself_leads_to_its_root(directory: Directory) -> None:
    key = await directory.access_key("AKIA8888ROOT00000001")
    assert key is not None
    assert key.principal.is_root
    assert key.principal.arn == "arn:aws:iam::888888888888:root"
    assert key.principal.account.limits == SendingLimits(200, 1)


async def test_an_inactive_key_is_found_and_lets_nobody_in(directory: Directory) -> None:
    key = await directory.access_key("AKIA9999MAILER000002")
    assert key is not None
    assert not key.is_active


async def test_a_paused_account_says_why(directory: Directory) -> None:
    key = await directory.access_key("AKIA7777MAILER000001")
    assert key is not None
    assert key.principal.account.paused_reason == "too many complaints"


@pytest.mark.parametrize("key_id", ["", "AKIA0000NOBODY000000", "akia9999mailer000001"])
async def test_an_unknown_key_is_none(directory: Directory, key_id: str) -> None:
    assert await directory.access_key(key_id) is None


async def test_users_of_one_name_in_two_accounts_have_ids_of_their_own(
    directory: Directory,
) -> None:
    one = await directory.access_key("AKIA9999MAILER000001")
    other = await directory.access_key("AKIA7777MAILER000001")
    assert one is not None
    assert other is not None
    ids = {one.principal.user_id, other.principal.user_id}
    assert len(ids) == 2
    assert all(len(user_id) == 21 and user_id.startswith("AIDA") for user_id in ids)


async def test_every_account_that_claims_a_name_is_told(directory: Directory) -> None:
    found = {
        identity.owner_id: identity
        for identity in await directory.identities("ses-example.com")
    }
    assert set(found) == {"888888888888", "999999999999"}
    assert found["888888888888"].is_verified
    assert not found["999999999999"].is_verified


async def test_an_identity_has_its_policies_and_keys(directory: Directory) -> None:
    identity = (await directory.identities("ses-example.com"))[0]
    assert str(identity.arn) == ARN
    assert [policy.name for policy in identity.policies] == ["marketing"]
    assert [key.selector for key in identity.dkim_keys] == ["one", "two"]
    assert [key.private_key for key in identity.dkim_keys] == [
        CheapKey(b"KEY one\n"),
        CheapKey(b"KEY two\n"),
    ]


async def test_what_is_not_said_to_be_verified_is_not(directory: Directory) -> None:
    (identity,) = await directory.identities("new.example")
    assert not identity.is_verified


@pytest.mark.parametrize(
    "name", ["", "example.com", "sub.ses-example.com", "ceo@ses-example.com"]
)
async def test_only_the_very_name_is_found(directory: Directory, name: str) -> None:
    assert not await directory.identities(name)


async def test_the_local_part_of_an_address_keeps_its_letter_case(directory: Directory) -> None:
    (identity,) = await directory.identities("Ceo@ses-example.com")
    assert not identity.is_domain
