"""``smtpgate user policy``, ``smtpgate identity policy``: policies where they are attached."""

import json
import multiprocessing.util
import re
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.desk import Desk
from tests.support.rows import rows
from tests.support.world import DELEGATE, DOMAIN, MAILER, OWNER, grant
from tests.support.world import IDENTITY as ARN

IDENTITY = ("identity", "policy")
USER = ("user", "policy")


@pytest.fixture(autouse=True)
def drafts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafts that are kept go away with the test."""
    # A fork server keeps the folder of its socket, and the name of ``tmp_path`` is too long.
    _ = multiprocessing.util.get_temp_dir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture(scope="module")
def furnished(two_accounts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The announcement's two accounts, with a domain and a user."""
    desk = Desk(tmp_path_factory.mktemp("furnished"), two_accounts)
    desk.says("identity", "register", DOMAIN, "--trust")
    desk.says("user", "create", MAILER)
    return desk.database


@pytest.fixture(scope="module")
def furnished_with_policy(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with a policy that lets the delegate send."""
    desk = Desk(tmp_path_factory.mktemp("furnished"), furnished)
    desk.says(*IDENTITY, "put", DOMAIN, "marketing", "-", stdin=grant())
    return desk.database


@pytest.fixture
def granted(furnished_with_policy: Path, tmp_path: Path) -> Desk:
    """A desk with a copy of that directory."""
    return Desk(tmp_path, furnished_with_policy)


def version(desk: Desk, name: str = "marketing") -> int:
    rows = {row["name"]: row["version"] for row in desk.answers(*IDENTITY, "list", DOMAIN)}
    found: int = rows[name]
    return found


def editor(desk: Desk, script: str) -> dict[str, str]:
    """An editor that does what the script says with the file ``$1``."""
    path = desk.file("editor", f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return {"EDITOR": str(path), "VISUAL": ""}


def edited_file_in(reported: str) -> Path:
    found = re.search(r"your draft is (\S+)", reported)
    assert found is not None, reported
    return Path(found[1])


def test_a_policy_comes_from_a_file_or_from_standard_input(stocked: Desk) -> None:
    file = stocked.file("marketing.json", grant())
    reported = stocked.says(*IDENTITY, "put", DOMAIN, "from-file", file)
    assert reported == f"policy from-file of {DOMAIN} is at version 1\n"
    stocked.says(*IDENTITY, "put", ARN, "from-stdin", "-", stdin=grant())
    for name in ("from-file", "from-stdin"):
        assert stocked.says(*IDENTITY, "show", DOMAIN, name) == grant()


def test_who_put_a_policy_is_listed_and_shown(granted: Desk) -> None:
    (row,) = granted.answers(*IDENTITY, "list", DOMAIN)
    assert (row["name"], row["version"]) == ("marketing", 1)
    assert row["changed_by"] in granted.says(*IDENTITY, "list", DOMAIN)
    shown = granted.give(*IDENTITY, "show", DOMAIN, "marketing")
    assert shown.stderr.startswith(f"version 1, changed by {row['changed_by']} at ")
    assert granted.answers(*IDENTITY, "show", DOMAIN, "marketing")["document"] == grant()
    assert granted.says(*USER, "list", f"{DELEGATE}/mailer").count("may-send") == 1


def test_who_has_a_strange_name_does_not_drive_the_terminal(granted: Desk) -> None:
    how = {"SUDO_USER": "\x1b[31mjane"}
    granted.says(*IDENTITY, "put", DOMAIN, "other", "-", stdin=grant(), environment=how)
    shown = granted.give(*IDENTITY, "show", DOMAIN, "other").stderr
    refused = granted.refuses(*IDENTITY, "put", DOMAIN, "other", "-", stdin=grant())
    for reported in (shown, refused):
        assert r"changed by \x1b[31mjane" in reported


def test_replacing_needs_the_version_that_was_seen(granted: Desk) -> None:
    other = granted.file("other.json", grant(Sid="Other"))
    reported = granted.refuses(*IDENTITY, "put", DOMAIN, "marketing", other)
    assert "is at version 1, changed by" in reported
    assert reported.rstrip().endswith("(--version N)")
    granted.says(*IDENTITY, "put", DOMAIN, "marketing", other, "--version", "1")
    third = granted.file("third.json", grant(Sid="Third"))
    reported = granted.refuses(*IDENTITY, "put", DOMAIN, "marketing", third, "--version", "1")
    assert "is at version 2, changed by" in reported
    assert granted.says(*IDENTITY, "show", DOMAIN, "marketing") == grant(Sid="Other")


def test_what_lint_warns_of_is_reported_and_saved(stocked: Desk) -> None:
    file = stocked.file("open.json", grant(Principal="*"))
    done = stocked.give(*IDENTITY, "put", DOMAIN, "open", file)
    assert done.exit_code == 0
    assert f"{file}: open-to-anyone warning: " in done.stderr
    assert version(stocked, "open") == 1


@rows(
    "document, says",
    [
        ("{}", "invalid-policy error"),
        (grant(Effect="Maybe"), "invalid-policy error: Statement.Effect"),
        (grant(Resource="*"), "not-attachable error: Statement.Resource"),
        (
            grant(Condition={"StringLike": {"ses:Recipients": "*@example.net"}}),
            "set-operator-missing error",
        ),
    ],
)
def test_what_lint_calls_an_error_is_not_saved(stocked: Desk, document: str, says: str) -> None:
    reported = stocked.refuses(
        *IDENTITY, "put", DOMAIN, "bad", stocked.file("bad.json", document)
    )
    assert says in reported
    assert "nothing was saved" in reported
    assert stocked.answers(*IDENTITY, "list", DOMAIN) == []


def test_a_policy_of_the_wrong_kind_is_refused(stocked: Desk) -> None:
    reported = stocked.refuses(*USER, "put", MAILER, "wrong", stocked.file("a.json", grant()))
    assert "Principal" in reported


def test_a_deleted_policy_comes_back_from_its_history(granted: Desk) -> None:
    assert "--yes" in granted.refuses(*IDENTITY, "delete", DOMAIN, "marketing", status=2)
    granted.says(*IDENTITY, "delete", DOMAIN, "marketing", "--yes")
    assert granted.says(*IDENTITY, "list", DOMAIN) == "no policies\n"
    rows = granted.answers(*IDENTITY, "history", DOMAIN, "marketing")
    assert [(row["version"], row["document"]) for row in rows] == [(2, None), (1, grant())]
    table = granted.says(*IDENTITY, "history", DOMAIN, "marketing")
    assert "deleted" in table
    reported = granted.says(*IDENTITY, "rollback", DOMAIN, "marketing", "1")
    assert reported == f"policy marketing of {DOMAIN} is at version 3\n"
    assert granted.says(*IDENTITY, "show", DOMAIN, "marketing") == grant()


def test_an_earlier_version_can_be_shown(granted: Desk) -> None:
    other = granted.file("other.json", grant(Sid="Other"))
    granted.says(*IDENTITY, "put", DOMAIN, "marketing", other, "--version", "1")
    shown = granted.says(*IDENTITY, "show", DOMAIN, "marketing", "--version", "1")
    assert shown == grant()
    reported = granted.refuses(*IDENTITY, "show", DOMAIN, "marketing", "--version", "3")
    assert "has no policy `marketing' with a version 3" in reported


def test_deleting_with_a_version_needs_that_version(granted: Desk) -> None:
    words = (*IDENTITY, "delete", DOMAIN, "marketing", "--yes", "--version")
    assert "is at version 1" in granted.refuses(*words, "2")
    granted.says(*words, "1")


# -- the editor --------------------------------------------------------------------------------


def test_a_policy_is_edited_and_saved(granted: Desk) -> None:
    how = editor(granted, 'sed -i s/Grant/Edited/ "$1"')
    reported = granted.says(*IDENTITY, "edit", DOMAIN, "marketing", environment=how)
    assert reported == f"policy marketing of {DOMAIN} is at version 2\n"
    assert granted.says(*IDENTITY, "show", DOMAIN, "marketing") == grant(Sid="Edited")


def test_what_was_left_as_it_is_is_not_saved(granted: Desk) -> None:
    how = editor(granted, f'echo "$1" > {granted.folder}/was')
    reported = granted.says(*IDENTITY, "edit", DOMAIN, "marketing", environment=how)
    assert reported == "nothing was changed\n"
    assert version(granted) == 1
    assert not Path((granted.folder / "was").read_text().strip()).parent.exists()


def test_a_draft_with_errors_is_kept_and_its_place_is_reported(granted: Desk) -> None:
    how = editor(granted, 'sed -i s/Allow/Alow/ "$1"')
    reported = granted.refuses(*IDENTITY, "edit", DOMAIN, "marketing", environment=how)
    assert "invalid-policy error" in reported
    draft = edited_file_in(reported)
    assert draft.read_text() == grant(Effect="Alow")
    assert draft.parent.stat().st_mode & 0o077 == 0
    assert version(granted) == 1


@pytest.mark.slow
def test_a_draft_survives_that_another_process_was_faster(granted: Desk) -> None:
    other = granted.file("other.json", grant(Sid="Faster"))
    command = f"{sys.executable} -m smtpgate identity policy put {DOMAIN} marketing {other}"
    how = editor(granted, f'sed -i s/Grant/Slower/ "$1"\n{command} --version 1 >&2')
    reported = granted.refuses(*IDENTITY, "edit", DOMAIN, "marketing", environment=how)
    assert "is at version 2, changed by" in reported
    draft = edited_file_in(reported)
    assert draft.read_text() == grant(Sid="Slower")
    assert granted.says(*IDENTITY, "show", DOMAIN, "marketing") == grant(Sid="Faster")


def test_on_a_terminal_errors_can_be_edited_again(granted: Desk) -> None:
    # The first edit breaks the policy, the second mends it.
    mend = 'grep -q Alow "$1" && sed -i s/Alow/Deny/ "$1"'
    script = f'{mend} || sed -i s/Allow/Alow/ "$1"'
    granted.environment |= editor(granted, script)
    status, shown = granted.at_terminal(*IDENTITY, "edit", DOMAIN, "marketing", typed="y\n")
    assert (status, "Edit it again?" in shown) == (0, True)
    assert granted.says(*IDENTITY, "show", DOMAIN, "marketing") == grant(Effect="Deny")


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ("/nonexistent/editor", "the editor `/nonexistent/editor' cannot be started"),
        ("false", "the editor ended with status 1; your draft is"),
        ("'", "cannot be started"),
    ],
)
def test_an_editor_that_fails_is_reported(granted: Desk, chosen: str, says: str) -> None:
    how = {"VISUAL": chosen}
    assert says in granted.refuses(*IDENTITY, "edit", DOMAIN, "marketing", environment=how)
    assert version(granted) == 1


# -- what cannot be done -----------------------------------------------------------------------


@rows(
    "words, status, says",
    [
        (("put", OWNER, "x", "-"), 2, "names no identity: write ACCOUNT/NAME, or its ARN"),
        (("put", f"{OWNER}/a b", "x", "-"), 2, "neither a domain nor an address"),
        (("put", "arn:aws:ses", "x", "-"), 2, "is not the ARN of an identity"),
        (("put", f"{OWNER}/none.example", "x", "-"), 1, "there is no identity"),
        (("put", DOMAIN, "a name", "-"), 1, "`a name' is no policy name"),
        (("put", DOMAIN, "x", "/nonexistent"), 1, "/nonexistent: cannot be read: no such file"),
        (("put", DOMAIN, "x", "-", "--version", "1"), 1, "was deleted meanwhile"),
        (("show", DOMAIN, "x"), 1, f"identity {DOMAIN} has no policy `x'"),
        (("edit", DOMAIN, "x"), 1, f"identity {DOMAIN} has no policy `x'"),
        (("delete", DOMAIN, "x", "--yes"), 1, "has no policy `x'"),
        (("history", DOMAIN, "x"), 1, "never had a policy `x'"),
        (("rollback", DOMAIN, "x", "1"), 1, "never had a policy `x'"),
        (("list", ARN.replace("us-east-1", "eu-west-1")), 1, "is not of this gate's region"),
    ],
)
def test_what_cannot_be_done_is_reported(
    stocked: Desk, words: tuple[str, ...], status: int, says: str
) -> None:
    assert says in stocked.refuses(*IDENTITY, *words, status=status, stdin=grant())


def test_octets_that_are_no_text_are_reported(stocked: Desk) -> None:
    reported = stocked.refuses(*IDENTITY, "put", DOMAIN, "x", "-", stdin=b"\xff\xfe")
    assert "is not UTF-8 text" in reported


def test_the_history_of_what_was_deleted_is_kept(granted: Desk) -> None:
    granted.says("identity", "delete", DOMAIN, "--yes")
    rows = granted.answers(*IDENTITY, "history", DOMAIN, "marketing")
    assert [json.loads(row["document"] or "null") is None for row in rows] == [True, False]
