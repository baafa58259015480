"""``smtpgate apply`` and ``smtpgate export``: the directory as documents."""

from pathlib import Path

import pytest

from tests.support.desk import Desk
from tests.support.rights import as_user_without_rights, opened_to_all
from tests.support.rows import rows
from tests.support.world import DELEGATE, DOMAIN, OWNER, grant

DOCUMENT = f"""\
[accounts.{OWNER}]
name = "Identity owner"
[accounts.{OWNER}.identities."ses-example.com"]
verified = true
policies = {{ marketing = "marketing.json" }}
caps = {{ {DELEGATE} = {{ max_24h_send = 500 }} }}
[accounts.{DELEGATE}]
name = "Delegate sender"
[accounts.{DELEGATE}.users.mailer]
policies = {{ may-send = "may-send.json" }}
max_send_rate_per_s = 2
"""
MAY_SEND = """\
{"Version": "2012-10-17",
 "Statement": {"Effect": "Allow", "Action": "ses:SendRawEmail", "Resource": "*"}}
"""


@pytest.fixture
def documents(desk: Desk) -> Path:
    """A folder with a document, and the policies that it names."""
    folder = desk.folder / "documents"
    folder.mkdir()
    (folder / "accounts.toml").write_text(DOCUMENT)
    (folder / "marketing.json").write_text(grant())
    (folder / "may-send.json").write_text(MAY_SEND)
    return folder


def test_what_documents_say_is_made_and_then_there_is_nothing_to_do(
    desk: Desk, documents: Path
) -> None:
    done = desk.give("apply", documents)
    assert done.exit_code == 0, done.output
    assert f"+ account {OWNER}" in done.stdout
    assert f"+ user {DELEGATE}/mailer (max_send_rate_per_s: 2)" in done.stdout
    assert f"+ cap on {DELEGATE} of identity {DOMAIN}" in done.stdout
    assert done.stderr.endswith("made, 0 changed, 0 deleted\n")
    assert [row["id"] for row in desk.answers("account", "list")] == [OWNER, DELEGATE]
    assert desk.says("identity", "policy", "show", DOMAIN, "marketing") == grant()
    again = desk.give("apply", documents)
    assert (again.exit_code, again.stdout, again.stderr) == (0, "", "nothing to do\n")


def test_a_single_document_is_applied(desk: Desk, documents: Path) -> None:
    desk.says("apply", documents / "accounts.toml")
    assert len(desk.answers("account", "list")) == 2


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    desk: Desk, documents: Path
) -> None:
    planned = desk.give("apply", documents, "--dry-run")
    assert planned.exit_code == 0
    assert f"+ account {OWNER}" in planned.stdout
    assert planned.stderr.startswith("to be: ")
    assert desk.answers("account", "list") == []
    steps = desk.answers("apply", documents, "--dry-run")
    assert {step["sign"] for step in steps} == {"+"}


def test_pruning_needs_a_yes(desk: Desk, documents: Path) -> None:
    desk.says("apply", documents)
    desk.says("account", "create", "123456789012")
    desk.says("apply", documents)
    assert "! account 123456789012: in no document" in desk.says("apply", documents, "--prune")
    reported = desk.refuses("apply", documents, "--prune", "--force", status=2)
    assert "this deletes 1 of the directory: say --yes" in reported
    assert len(desk.answers("account", "list")) == 3
    words = ("apply", documents, "--prune", "--force", "--yes")
    assert "- account 123456789012" in desk.says(*words)
    assert len(desk.answers("account", "list")) == 2


def test_pruning_asks_on_a_terminal(desk: Desk, documents: Path) -> None:
    desk.says("account", "create", "123456789012")
    status, shown = desk.at_terminal("apply", str(documents), "--prune", "--force", typed="n\n")
    assert (status, "Go on?" in shown) == (1, True)
    assert len(desk.answers("account", "list")) == 1


def test_every_problem_of_the_documents_is_reported(desk: Desk, documents: Path) -> None:
    (documents / "marketing.json").unlink()
    (documents / "may-send.json").write_text("{}")
    reported = desk.refuses("apply", documents)
    assert "marketing.json" in reported
    assert "may-send" in reported
    assert desk.answers("account", "list") == []
    assert "/nonexistent" in desk.refuses("apply", "/nonexistent")


def test_a_policy_that_lint_calls_an_error_is_not_applied(desk: Desk, documents: Path) -> None:
    never = {"StringLike": {"ses:Recipients": "*@example.net"}}
    (documents / "marketing.json").write_text(grant(Condition=never))
    refused = desk.refuses("apply", documents)
    assert "policies.marketing: Statement.Condition.StringLike.ses:Recipients" in refused
    assert desk.answers("account", "list") == []
    desk.configure("[directory]", '[directory]\napply = "documents"')
    assert "policies.marketing: Statement" in desk.refuses("check-config", desk.config)


def test_an_export_can_be_applied_and_holds_no_secret(
    desk: Desk, documents: Path, tmp_path: Path
) -> None:
    desk.says("apply", documents)
    made = desk.answers("key", "create", f"{DELEGATE}/mailer")
    folder = tmp_path / "export"
    reported = desk.says("export", folder)
    assert all(Path(line).is_file() for line in reported.splitlines())
    written = "".join(path.read_text() for path in folder.rglob("*") if path.is_file())
    assert made["id"] in written
    assert made["secret"] not in written
    again = desk.give("apply", folder, "--prune", "--yes")
    assert (again.exit_code, again.stderr) == (0, "nothing to do\n")


def test_one_account_is_exported(desk: Desk, documents: Path, tmp_path: Path) -> None:
    desk.says("apply", documents)
    reported = desk.says("export", tmp_path / "one", "--account", OWNER)
    assert OWNER in reported
    assert DELEGATE not in reported


@rows(
    "words, status, says",
    [
        (("export", "/dev/null/x"), 1, "/dev/null"),
        (("export", "{folder}"), 1, "irectory not empty"),
        (("export", "{folder}/new", "--account", "12"), 2, "12 digits"),
        (("export", "{folder}/new", "--account", "123456789012"), 1, "no account 123456789012"),
    ],
)
def test_what_cannot_be_exported_is_reported(
    desk: Desk, words: tuple[str, ...], status: int, says: str
) -> None:
    filled = [word.format(folder=desk.folder) for word in words]
    assert says in desk.refuses(*filled, status=status)


AS_OWNER = ("--as", OWNER, "--from", "a@example.com", "--to", "b@c.test")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("documents", ("apply", "{documents}", "--dry-run")),
        ("state", ("account", "list")),
        ("smtpgate.toml", ("account", "list")),
        ("private", ("check-config", "{config}")),
        *(
            pytest.param(place, words, marks=pytest.mark.slow)
            for place, words in (
                ("state", ("apply", "{documents}", "--dry-run")),
                ("state", ("journal", "search")),
                ("private", ("account", "list")),
                ("private", ("simulate", *AS_OWNER)),
                ("smtpgate.toml", ("check-config", "{config}")),
            )
        ),
    ],
)
def test_a_file_that_this_user_may_not_read_is_named(
    desk: Desk, documents: Path, place: str, words: tuple[str, ...]
) -> None:
    filled = [word.format(documents=documents, config=desk.config) for word in words]
    private = desk.folder / "private"
    private.mkdir(mode=0o700)
    (desk.folder / "master.key").rename(private / "master.key")
    desk.configure('"master.key"', '"private/master.key"')
    desk.says("apply", documents)
    desk.give(*filled)  # imports all that it takes
    opened_to_all(desk.folder)
    closed = desk.folder / place
    closed.chmod(0)
    try:
        with as_user_without_rights():
            reported = desk.refuses(*filled)
    finally:
        closed.chmod(0o700)
    assert str(closed) in reported
    assert "permission denied" in reported.lower()
    assert "Errno" not in reported
