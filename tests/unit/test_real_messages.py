"""Messages as mail programs write them: each is read, and From and Sender as stated."""

from typing import Any

from smtpgate.core.message.author import Author
from smtpgate.core.message.headers import split_message
from smtpgate.core.message.reading import read_message
from tests.support.cases import CASES, load_cases
from tests.support.mailreaders import python_readers, read_by_gate
from tests.support.rows import rows

FOLDER = CASES / "messages"
MESSAGES = load_cases("messages/want.toml")


def shown(author: Author | None) -> list[str] | None:
    return None if author is None else [author.display_name or "", str(author.mailbox)]


@rows("case", MESSAGES, ids=lambda case: case["file"])
def test_a_message_of_a_real_program_is_read(case: dict[str, Any]) -> None:
    octets = (FOLDER / case["file"]).read_bytes()
    message = read_message(octets, smtputf8=case.get("smtputf8", False))
    assert [shown(author) for author in message.authors] == case["from"]
    assert shown(message.sender) == case.get("sender")


@rows("case", MESSAGES, ids=lambda case: case["file"])
def test_other_programs_read_it_alike(case: dict[str, Any]) -> None:
    (message,) = read_by_gate((FOLDER / case["file"]).read_bytes())
    for name, read in python_readers().items():
        assert read(message) == message.addresses, name


def test_every_message_has_its_case() -> None:
    files = sorted(file.name for file in FOLDER.glob("*.eml"))
    assert files == [case["file"] for case in MESSAGES]
    assert len(files) >= 60


@rows("case", MESSAGES, ids=lambda case: case["file"])
def test_it_leaves_as_it_came_but_for_white_space_before_colons(case: dict[str, Any]) -> None:
    octets = (FOLDER / case["file"]).read_bytes()
    message = split_message(octets)
    after = b"".join([*message.block.raw_parts, b"\r\n", message.body])
    head, _, body = octets.partition(b"\r\n\r\n")
    assert after.replace(b" ", b"") == (head + b"\r\n\r\n" + body).replace(b" ", b"")
