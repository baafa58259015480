"""``smtpgate suppression``: entries, files, settings."""

import json
from pathlib import Path
from typing import Final

import pytest

from tests.support.desk import Desk
from tests.support.world import DELEGATE, DOMAIN, DOMAIN_NAME, OWNER

JANE: Final = "jane@example.org"
LIST: Final = """\
emailAddress,reason,lastUpdateTime,messageId
a@example.org,BOUNCE,2026-11-01T00:00:00Z,
b@example.org,COMPLAINT,2026-11-02T00:00:00Z,
"""


@pytest.fixture(scope="module")
def furnished(two_accounts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two accounts, an identity and a configuration set."""
    desk = Desk(tmp_path_factory.mktemp("furnished"), two_accounts)
    desk.says("identity", "register", DOMAIN, "--trust")
    desk.says("configuration-set", "create", f"{OWNER}/spring")
    return desk.database


def test_an_address_is_added_shown_and_removed(stocked: Desk) -> None:
    said = stocked.says(
        "suppression", "add", OWNER, "Jane@Example.org", "--reason", "complaint"
    )
    assert said == f"{JANE} is on the suppression list of {OWNER}\n"
    shown = stocked.answers("suppression", "show", OWNER, "JANE@example.org")
    assert (shown["address"], shown["reason"], shown["message_id"]) == (JANE, "COMPLAINT", None)
    assert [one["address"] for one in stocked.answers("suppression", "list", OWNER)] == [JANE]
    assert stocked.answers("suppression", "list", OWNER, "--reason", "bounce") == []
    stocked.says("suppression", "remove", OWNER, JANE)
    said = stocked.refuses("suppression", "show", OWNER, JANE)
    assert f"{JANE} is not on the suppression list of {OWNER}" in said
    assert "not on the" in stocked.refuses("suppression", "remove", OWNER, JANE)
    entries = stocked.answers("audit", "list", "--kind", "list")
    assert {(one["action"], one["name"]) for one in entries} == {
        ("add", JANE),
        ("remove", JANE),
    }


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("add", OWNER, "jane"), "`jane': Missing final '@domain'"),
        (("add", "333333333333", JANE), "there is no account 333333333333"),
        (("settings", "333333333333"), "there is no account 333333333333"),
        (("settings", OWNER, "--identity", "x.example", "--delegates", "on"), "no identity"),
        (
            ("settings", OWNER, "--configuration-set", "none-such", "--reasons", "none"),
            "does not exist",
        ),
        (("import", OWNER, "/nonexistent"), "/nonexistent: No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_said(
    stocked: Desk, arguments: tuple[str, ...], problem: str
) -> None:
    assert problem in stocked.refuses("suppression", *arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ("add", OWNER, JANE, "--reason", "spam"),
        ("list", OWNER, "--reason", "spam"),
        ("settings", OWNER, "--reasons", "spam"),
        ("settings", OWNER, "--reasons", "account"),
        ("settings", OWNER, "--delegates", "on"),
        ("settings", OWNER, "--identity", DOMAIN_NAME),
        ("settings", OWNER, "--configuration-set", "spring"),
        ("import", OWNER, "-", "--format", "xml"),
    ],
)
def test_misuse_is_known_before_anything_is_done(
    stocked: Desk, arguments: tuple[str, ...]
) -> None:
    stocked.refuses("suppression", *arguments, status=2)


@pytest.mark.parametrize("name", ["list.csv", "list.json"])
def test_a_list_is_exported_and_imported_elsewhere(stocked: Desk, name: str) -> None:
    said = stocked.says("suppression", "import", OWNER, "-", stdin=LIST)
    assert said == "imported: 2 addresses, left out: 0 lines\n"
    assert stocked.says("suppression", "export", OWNER) == LIST
    file = stocked.folder / name
    assert stocked.says("suppression", "export", OWNER, str(file)).startswith("2 addresses")
    assert file.read_text().startswith("{") == name.endswith("json")
    stocked.says("suppression", "import", DELEGATE, str(file))
    assert stocked.says("suppression", "export", DELEGATE) == LIST
    said = stocked.says("suppression", "import", OWNER, str(file), "--remove")
    assert said == "removed: 2 addresses, left out: 0 lines\n"
    assert stocked.says("suppression", "export", OWNER) == ""


def test_an_import_leaves_out_bad_lines_and_says_so(stocked: Desk) -> None:
    file = stocked.folder / "list.csv"
    file.write_bytes(b"a@example.org,BOUNCE\nb@example.org\n\xff@example.org,BOUNCE\n")
    said = stocked.refuses("suppression", "import", OWNER, str(file))
    assert f"{file}:2: reason is missing" in said
    assert f"{file}:3: emailAddress" in said
    assert [one["address"] for one in stocked.answers("suppression", "list", OWNER)] == [
        "a@example.org"
    ]


def test_a_check_changes_nothing_and_many_errors_are_not_all_shown(stocked: Desk) -> None:
    text = "a@example.org,BOUNCE\n" + "nothing,BOUNCE\n" * 60 + "b@example.org," + "x" * 9000
    result = stocked.give("suppression", "import", OWNER, "-", "--dry-run", stdin=text)
    assert result.exit_code == 1
    assert result.stdout == "to be imported: 1 address, left out: 61 lines\n"
    assert "and 11 more lines like these" in result.stderr
    words = ("import", OWNER, "-", "--remove", "--dry-run")
    said = stocked.says("suppression", *words, stdin="a@example.org,BOUNCE\n")
    assert said == "to be removed: 1 address, left out: 0 lines\n"
    assert stocked.answers("suppression", "list", OWNER) == []


@pytest.mark.slow
def test_an_import_of_many_lines_is_a_few_changes(stocked: Desk) -> None:
    text = "".join(f"a{at}@example.org,BOUNCE\n" for at in range(4500))
    stocked.says("suppression", "import", OWNER, "-", stdin=text)
    assert stocked.answers("suppression", "settings", OWNER)["addresses"]["BOUNCE"] == 4500
    imports = stocked.answers("audit", "list", "--action", "import")
    assert [one["after"] for one in imports] == [
        {"addresses": number, "source": "standard input"} for number in (2000, 2000, 500)
    ]
    assert "a7@" not in json.dumps(imports)


def test_settings_are_of_the_account_its_sets_and_identities(stocked: Desk) -> None:
    settings = ("suppression", "settings", OWNER)
    assert stocked.answers(*settings) == {
        "account": OWNER,
        "reasons": ["BOUNCE", "COMPLAINT"],
        "addresses": {"BOUNCE": 0, "COMPLAINT": 0},
        "configuration_sets": {},
        "for_delegates": [],
    }
    stocked.says(*settings, "--reasons", "complaint")
    stocked.says(*settings, "--configuration-set", "spring", "--reasons", "none")
    stocked.says(*settings, "--identity", DOMAIN_NAME, "--delegates", "on")
    shown = stocked.answers(*settings)
    assert shown["reasons"] == ["COMPLAINT"]
    assert shown["configuration_sets"] == {"spring": []}
    its_set = stocked.answers("configuration-set", "show", f"{OWNER}/spring")
    assert its_set["suppressed_reasons"] == []
    assert shown["for_delegates"] == [DOMAIN_NAME]
    stocked.says(*settings, "--configuration-set", "spring", "--reasons", "account")
    stocked.says(*settings, "--identity", DOMAIN_NAME, "--delegates", "off")
    shown = stocked.answers(*settings)
    assert (shown["configuration_sets"], shown["for_delegates"]) == ({}, [])
    assert "COMPLAINT" in stocked.says(*settings)
