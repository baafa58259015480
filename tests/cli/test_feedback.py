"""``smtpgate feedback read``: one JSON object for each file, without a gate."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from typer.testing import CliRunner, Result

from smtpgate.cli import app
from tests.support.cases import CASES
from tests.support.guides import blocks
from tests.support.reference import guide
from tests.support.reports import status_report

_NO_REASON: Final = {
    "action": None,
    "status": None,
    "reply": None,
    "type": None,
    "subtype": None,
}


def read(*arguments: str | Path, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(app, ["feedback", "read", *map(str, arguments)], input=stdin)


def objects(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_the_example_of_the_guide_is_what_the_command_prints(tmp_path: Path) -> None:
    texts = [block.text for block in blocks(guide("feedback"))]
    message = next(text for text in texts if text.startswith("From: "))
    path = tmp_path / "bounce.eml"
    path.write_text(message)
    (printed,) = objects(read(path))
    expected = json.loads(texts[texts.index(message) + 1])
    assert printed | {"file": "bounce.eml"} == expected
    assert list(printed) == list(expected)


def test_each_file_has_a_line_in_order(tmp_path: Path) -> None:
    bounce, other = tmp_path / "bounce", tmp_path / "other"
    bounce.write_bytes(status_report(["jane@example.net"]))
    other.write_bytes(b"Subject: hello\n\nhello\n")
    printed = objects(read(other, bounce, other))
    assert [one["kind"] for one in printed] == ["none", "bounce", "none"]
    assert [one["file"] for one in printed] == [str(other), str(bounce), str(other)]
    assert printed[0] == {
        "file": str(other),
        "kind": "none",
        "recipients": [],
        "message_id": None,
    }


def test_standard_input_is_read_without_a_file_and_as_a_dash() -> None:
    report = status_report(["jane@example.net"])
    assert objects(read(stdin=report)) == objects(read("-", stdin=report))


def test_a_file_that_cannot_be_read_is_named_and_the_next_one_is_read(tmp_path: Path) -> None:
    bounce = tmp_path / "bounce"
    bounce.write_bytes(status_report(["jane@example.net"]))
    result = read(tmp_path / "missing", tmp_path, bounce)
    assert result.exit_code == 1
    assert [json.loads(line)["kind"] for line in result.stdout.splitlines()] == ["bounce"]
    missing, folder = result.stderr.splitlines()
    assert missing == f"{str(tmp_path / 'missing')!r}: No such file or directory"
    assert folder == f"{str(tmp_path)!r}: Is a directory"


def test_a_wrong_option_is_misuse() -> None:
    assert read("--no-such-option").exit_code == 2


def test_a_complaint_has_its_recipient_and_type() -> None:
    (printed,) = objects(read(CASES / "bounces" / "arf-02.eml"))
    address = "this-local-part-does-not-exist-on-yahoo@yahoo.com"
    assert printed["kind"] == "complaint"
    assert printed["recipients"] == [{"address": address, **_NO_REASON}]
    assert printed["feedback_type"] == "abuse"


def test_a_delay_and_an_answer_have_a_detail() -> None:
    delay = status_report(["jane@example.net"]).replace(b"failed", b"delayed")
    answer = b"From: jane@example.net\nAuto-Submitted: auto-replied\n\nI am away.\n"
    (printed,) = objects(read(stdin=delay))
    assert (printed["kind"], printed["detail"]) == ("bounce", "delay")
    assert printed["recipients"][0]["action"] == "delayed"
    (printed,) = objects(read(stdin=answer))
    assert (printed["kind"], printed["detail"]) == ("none", "answer")


def test_a_form_that_only_flufl_bounce_knows_is_read() -> None:
    message = (
        b'From: "Mail Delivery Subsystem" <MAILER-DAEMON@AOL.com>\n'
        b"Subject: Mail Delivery Problem\n\n"
        b"Your mail to the following recipients could not be delivered because they "
        b"are not accepting mail from news@example.com:\n\tscreenname\n"
    )
    (printed,) = objects(read(stdin=message))
    assert printed["kind"] == "bounce"
    assert [one["address"] for one in printed["recipients"]] == ["screenname@aol.com"]


def test_control_characters_of_a_report_do_not_reach_the_terminal() -> None:
    report = status_report(["jane@example.net"]).replace(b"User unknown", b"\x1b[31m\xc2\x9b")
    result = read(stdin=report)
    assert result.stdout.rstrip("\n").isprintable()
    assert result.stdout.isascii()


def test_a_file_of_records_has_an_object_for_each(tmp_path: Path) -> None:
    path = tmp_path / "records"
    texts = [block.text for block in blocks(guide("feedback"))]
    example = next(text for text in texts if "mx1-48213" in text)
    record = json.loads(example)
    path.write_text(f"{json.dumps(record)}\n\n{json.dumps(record | {'id': 'mx1-2'})}\n")
    first, second = objects(read(path))
    assert (first["kind"], first["id"], second["id"]) == ("bounce", record["id"], "mx1-2")
    assert first["at"] == record["at"]
    assert first["recipients"][0]["subtype"] == "MailboxFull"
    path.write_text(example)
    assert objects(read(path)) == [first]


def test_lines_that_are_no_records_are_named_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "records"
    good = '{"kind": "delivery", "recipients": [{"address": "jane@example.net"}]}'
    path.write_text("\n".join((good, "{", '{"kind": "lost"}', good, *"123456")))
    result = read(path)
    assert result.exit_code == 1
    assert result.stdout.count('"kind": "delivery"') == 2
    assert result.stderr.startswith(f"{str(path)!r}: line 2 is not JSON; line 3 `kind' is none")
    assert result.stderr.endswith(", and 3 more\n")


def test_reading_a_bounce_imports_nothing_of_a_gate() -> None:
    bounce = CASES / "bounces" / "lhost-postfix-01.eml"
    program = (
        "import sys; from smtpgate.cli import app\n"
        f"sys.argv = ['smtpgate', 'feedback', 'read', {str(bounce)!r}]\n"
        "try:\n    app()\n"
        "finally:\n    print(*{name.partition('.')[0] for name in sys.modules} & "
        "{'sqlalchemy', 'starlette', 'cryptography', 'aiosmtpd', 'asyncio', 'flufl', 'rich'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30
    )
    shown, imported = done.stdout.splitlines()
    assert '"kind": "bounce"' in shown
    assert imported == ""
