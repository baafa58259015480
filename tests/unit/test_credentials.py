from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from smtpgate.core.account import AccessKey
from smtpgate.core.secret import Secret, smtp_password
from smtpgate.smtp.credentials import Authenticator
from tests.support.clock import MovableClock
from tests.support.directory import DeclaredDirectory
from tests.support.rows import rows

HOME: Final = "192.0.2.7"
ACCOUNTS: Final = """\
[[accounts.999999999999.access_keys]]
id = "AKIA9999ROOT00000001"
secret_file = "secret"
expires = 2026-11-23T10:00:01Z
networks = ["192.0.2.0/24"]
[[accounts.999999999999.access_keys]]
id = "AKIA9999ROOT00000002"
secret_file = "secret"
status = "inactive"
[[accounts.777777777777.access_keys]]
id = "AKIA7777ROOT00000001"
secret_file = "secret"
[accounts.777777777777]
status = "paused"
paused_reason = "unpaid"
"""


def password_of(secret: str) -> bytes:
    return smtp_password(Secret(secret), "us-east-1").value.encode()


RIGHT: Final = password_of("a secret")


@pytest.fixture
async def authenticator(tmp_path: Path, clock: MovableClock) -> AsyncIterator[Authenticator]:
    for name, text in {"accounts.toml": ACCOUNTS, "secret": "a secret"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    async with DeclaredDirectory.open(tmp_path, clock) as directory:
        yield Authenticator(directory.live, "us-east-1", clock)


@pytest.mark.parametrize("key_id", [b"AKIA9999ROOT00000001", b"AKIA7777ROOT00000001"])
async def test_the_right_password_of_a_usable_key_is_that_key(
    authenticator: Authenticator, key_id: bytes
) -> None:
    key = await authenticator.authenticate(key_id, RIGHT, HOME)
    assert isinstance(key, AccessKey)
    assert key.id == key_id.decode()


@pytest.mark.parametrize(
    ("key_id", "address", "seconds", "reason"),
    [
        (b"AKIA9999ROOT00000002", HOME, 0, "access-key-inactive"),
        (b"AKIA9999ROOT00000001", HOME, 1, "access-key-expired"),
        (b"AKIA9999ROOT00000001", "198.51.100.1", 0, "network-not-allowed"),
        (b"AKIA9999ROOT00000001", "198.51.100.1", 1, "access-key-expired"),
    ],
)
async def test_only_who_knows_the_password_makes_the_log_say_what_is_wrong_with_the_key(
    authenticator: Authenticator,
    clock: MovableClock,
    key_id: bytes,
    address: str,
    seconds: int,
    reason: str,
) -> None:
    clock.move(seconds)
    assert await authenticator.authenticate(key_id, RIGHT, address) == reason
    wrong = await authenticator.authenticate(key_id, b"wrong", address)
    assert wrong == "invalid-credentials"


@rows(
    "username",
    [b"", b"AKIANOBODY0000000000", b"AKIA" * 1000, b"\xff\xfe", b"akia9999root00000001"],
)
@rows("password", [b"", RIGHT, password_of("no such key")])
async def test_a_key_that_there_is_not_lets_nobody_in(
    authenticator: Authenticator, username: bytes, password: bytes
) -> None:
    found = await authenticator.authenticate(username, password, HOME)
    assert found == "invalid-credentials"
