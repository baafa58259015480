"""``smtpgate policy lint`` at the command line."""

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from smtpgate.cli import app
from tests.support.world import DELEGATE, IDENTITY

CLEAN = {
    "Version": "2012-10-17",
    "Statement": {
        "Effect": "Allow",
        "Principal": {"AWS": DELEGATE},
        "Action": "ses:SendRawEmail",
        "Resource": IDENTITY,
        "Condition": {"StringEquals": {"ses:FromAddress": "news@ses-example.com"}},
    },
}
ANNOUNCED = json.dumps(CLEAN).replace(
    '"StringEquals": {"ses:FromAddress": "news@', '"StringLike": {"ses:FromAddress": "news+.*@'
)


def lint(*arguments: str | Path, stdin: str = "") -> Result:
    return CliRunner().invoke(app, ["policy", "lint", *map(str, arguments)], input=stdin)


def write(path: Path, document: object) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_a_clean_policy_is_silent(tmp_path: Path) -> None:
    result = lint(write(tmp_path / "clean.json", CLEAN), "--identity", IDENTITY)
    assert (result.exit_code, result.output) == (0, "")


def test_a_warning_is_reported_with_what_to_write_instead_and_fails_nothing(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "announced.json", ANNOUNCED)
    result = lint(path)
    assert result.exit_code == 0
    first, second = result.stdout.splitlines()
    assert first.startswith(
        f"{path}: regex-as-glob warning: Statement.Condition.StringLike.ses:FromAddress: "
    )
    assert second == "    write instead: `news@ses-example.com' and `news+*@ses-example.com'"


def test_what_is_no_policy_is_an_error_a_problem_and_the_next_file_is_read(
    tmp_path: Path,
) -> None:
    broken = write(
        tmp_path / "broken.json", {"Statement": {"Effect": "Alow", "Principal": "*"}}
    )
    missing = tmp_path / "missing.json"
    result = lint(broken, missing, write(tmp_path / "announced.json", ANNOUNCED))
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[:4] == [
        f"{broken}: invalid-policy error: Statement.Effect: `Alow' is not `Allow' or `Deny' "
        "(did you mean `Allow'?)",
        f"{broken}: invalid-policy error: Statement.Action: is missing",
        f"{broken}: invalid-policy error: Statement.Resource: is missing",
        f"{missing}: unreadable error: document: cannot be read: no such file or directory",
    ]
    assert "regex-as-glob" in lines[4]


def test_what_is_no_json_is_reported_with_its_place(tmp_path: Path) -> None:
    result = lint(write(tmp_path / "x.json", '{\n"Version" "2012-10-17"}'))
    assert result.exit_code == 1
    assert "invalid-policy error: line 2 column 11: expected a colon" in result.stdout


def test_the_kind_is_seen_by_the_principal_also_when_it_is_misspelt(tmp_path: Path) -> None:
    statement = {"Effect": "Allow", "Action": "ses:SendRawEmail", "Resource": "*"}
    user = write(tmp_path / "user.json", {"Statement": statement})
    assert (lint(user).exit_code, lint(user).output) == (0, "")
    assert "Statement.Principal: is missing" in lint("--kind", "identity", user).stdout
    misspelt = write(tmp_path / "m.json", {"Statement": [{**statement, "Principle": "*"}]})
    assert "did you mean `Principal'" in lint(misspelt).stdout
    clean = write(tmp_path / "clean.json", CLEAN)
    assert "must not name principals" in lint("--kind", "user", clean).stdout


def test_a_policy_for_another_identity_cannot_be_attached_which_is_reported_once(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "clean.json", CLEAN)
    other = IDENTITY.replace("ses-example.com", "example.com")
    result = lint(path, "--identity", other)
    assert result.exit_code == 1
    (line,) = result.stdout.splitlines()
    assert line.startswith(f"{path}: not-attachable error: Statement.Resource: must be exactly")


def test_a_policy_that_is_too_long_is_reported_once(tmp_path: Path) -> None:
    path = write(tmp_path / "long.json", json.dumps(CLEAN) + " " * 4096)
    result = lint(path, "--identity", IDENTITY)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1
    assert "over-size-limit error" in lint(path).stdout


def test_an_identity_is_named_by_its_arn() -> None:
    assert lint("--identity", "ses-example.com", "x.json").exit_code == 2


def test_findings_come_as_json_too(tmp_path: Path) -> None:
    path = write(tmp_path / "announced.json", ANNOUNCED)
    result = lint("--json", path, tmp_path / "missing.json")
    assert result.exit_code == 1
    first, second = json.loads(result.stdout)
    assert list(first) == ["file", "code", "severity", "path", "message", "proposal"]
    assert (first["code"], first["severity"]) == ("regex-as-glob", "warning")
    assert (second["code"], second["proposal"]) == ("unreadable", None)
    assert json.loads(lint("--json", write(tmp_path / "clean.json", CLEAN)).stdout) == []


def test_a_policy_may_come_by_standard_input() -> None:
    assert "-: regex-as-glob warning" in lint("-", stdin=ANNOUNCED).stdout


def test_octets_that_are_no_text_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'{"Id": "\xff"}')
    assert "line 1 column 9: not UTF-8" in lint(path).stdout
