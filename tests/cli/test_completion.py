"""Names completed in the shell, as the shell asks for them."""

from pathlib import Path

import pytest

from tests.support.desk import Desk
from tests.support.world import DELEGATE, DOMAIN, OWNER


@pytest.fixture(scope="module")
def furnished(two_accounts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Something of every kind that has a name."""
    desk = Desk(tmp_path_factory.mktemp("furnished"), two_accounts)
    for name in ("mailer", "mole", "alerts"):
        desk.says("user", "create", f"{DELEGATE}/{name}")
    desk.says("identity", "register", DOMAIN)
    return desk.database


def offered(desk: Desk, line: str) -> list[str]:
    """The words that bash is offered for the last word of a line."""
    environment = {
        "_SMTPGATE_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    result = desk.give(environment=environment)
    assert result.stderr == ""
    return result.stdout.split()


def test_accounts_users_identities_and_keys_are_completed(stocked: Desk) -> None:
    key_id = stocked.answers("key", "create", OWNER)["id"]
    for line, found in {
        "smtpgate account show 8": [OWNER],
        "smtpgate account show ": [OWNER, DELEGATE],
        "smtpgate account show 7": [],
        "smtpgate user show 99": [f"{DELEGATE}/"],
        f"smtpgate user show {DELEGATE}/m": [f"{DELEGATE}/mailer", f"{DELEGATE}/mole"],
        "smtpgate key create 8": [OWNER],
        f"smtpgate key create {DELEGATE}/al": [f"{DELEGATE}/alerts"],
        f"smtpgate identity show {OWNER}/s": [DOMAIN],
        f"smtpgate identity policy list {OWNER}/s": [DOMAIN],
        f"smtpgate user policy list {DELEGATE}/al": [f"{DELEGATE}/alerts"],
        "smtpgate key show A": [key_id],
        "smtpgate user list --account 8": [OWNER],
    }.items():
        assert offered(stocked, line) == found, line


def test_a_name_that_is_typed_to_its_end_is_offered_too(stocked: Desk) -> None:
    stocked.says("user", "create", f"{DELEGATE}/mailer-2")
    stocked.says("identity", "register", f"{DOMAIN}.au")
    for line, found in {
        f"smtpgate account show {OWNER}": [OWNER],
        f"smtpgate user show {DELEGATE}": [f"{DELEGATE}/"],
        f"smtpgate user show {DELEGATE}/mailer": [f"{DELEGATE}/mailer", f"{DELEGATE}/mailer-2"],
        f"smtpgate identity show {DOMAIN}": [DOMAIN, f"{DOMAIN}.au"],
    }.items():
        assert offered(stocked, line) == found, line


def test_many_users_hide_none_that_begins_with_a_capital(stocked: Desk) -> None:
    stocked.fill_with_users(DELEGATE, 120)
    stocked.says("user", "create", f"{DELEGATE}/Zoe")
    assert offered(stocked, f"smtpgate user show {DELEGATE}/Z") == [f"{DELEGATE}/Zoe"]


def test_the_directory_may_be_named_on_the_line(stocked: Desk) -> None:
    config = str(stocked.config)
    stocked.environment = {"SMTPGATE_CONFIG": "/nonexistent"}
    assert offered(stocked, f"smtpgate account show --config {config} 8") == [OWNER]
    assert offered(stocked, "smtpgate account show 8") == []


def test_a_directory_that_cannot_be_asked_offers_nothing_and_says_nothing(
    stocked: Desk,
) -> None:
    stocked.database.write_bytes(b"no database" * 100)
    assert offered(stocked, "smtpgate account show 8") == []
    stocked.database.unlink()
    assert offered(stocked, "smtpgate account show 8") == []
    assert not stocked.database.exists()
