"""The form of a message: its line ends, and its form for the upstream."""

import json
from pathlib import Path

import pytest

from tests.support.inprocess import MESSAGE, Opened, is_signed, login, open_gate, send
from tests.support.rows import rows

LONGEST = "x" * 998
NORMALIZE = '[message]\nbare_lf = "normalize"'


async def test_dots_behind_a_bare_lf_are_unstuffed_once_line_ends_are_normalized(
    tmp_path: Path,
) -> None:
    head = MESSAGE.partition("\r\n\r\n")[0].replace("\r\n", "\n").encode()
    # As a client writes a body with a line `.hidden` that ends its lines with LF alone.
    wire = head + b"\n\na\n..hidden\n.\n...\r\nb\r\n.\r\n"
    async with open_gate(tmp_path, sections=NORMALIZE) as (gate, sink):
        dialog = await login(gate)
        for command in (
            "MAIL FROM:<marketing@ses-example.com>",
            "RCPT TO:<jane@example.net>",
            "DATA",
        ):
            assert (await dialog.say(command))[:3] in ("250", "354")
        await dialog.send(wire)
        assert (await dialog.reply()).startswith("250 2.0.0 Ok")
        content = sink.messages[0].content
        assert content.partition(b"\r\n\r\n")[2] == b"a\r\n.hidden\r\n.\r\n..\r\nb\r\n"
        assert is_signed(content)


@rows(
    "message, says",
    [
        (f"{MESSAGE}{LONGEST}\r\n", "250 2.0.0 Ok"),
        (
            f"{MESSAGE}{LONGEST}x\r\n",
            "554 5.6.0 Transaction failed: line 2 of the body is longer than 998 octets "
            "(long-line; ",
        ),
        (f"X-Result: {LONGEST[10:]}\r\n{MESSAGE}", "250 2.0.0 Ok"),
        (
            f"X-Result: {LONGEST[9:]}\r\n{MESSAGE}",
            "554 5.6.0 Transaction failed: a line of field 'X-Result' is longer than 998 "
            "octets (long-line; ",
        ),
    ],
    ids=["longest body line", "longer", "longest header line", "longer in the header"],
)
async def test_no_line_over_998_octets_leaves_the_gate(
    usual: Opened, message: str, says: str
) -> None:
    gate, sink = usual
    assert (await send(await login(gate), message)).startswith(says)
    lines = [line for kept in sink.messages for line in kept.content.split(b"\r\n")]
    assert max(map(len, lines), default=0) <= 998


async def test_a_long_line_of_the_body_can_be_let_through_with_a_warning(
    tmp_path: Path,
) -> None:
    async with open_gate(tmp_path, sections='[message]\nlong_lines = "pass"') as (gate, sink):
        dialog = await login(gate)
        assert (await send(dialog, f"{MESSAGE}{LONGEST}x\r\n")).startswith("250")
        assert (await send(dialog, f"X-Result: {LONGEST}\r\n{MESSAGE}")).startswith("554")
        assert is_signed(sink.messages[0].content)
        await gate.log.flush()
        entries = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
        entry = next(one for one in entries if one["event"] == "submission")
        assert (entry["level"], entry["long_line"]) == ("warning", 2)
        assert "smtpgate_long_lines_total 1.0" in gate.metrics.render().decode()


@pytest.mark.parametrize(
    ("field", "says"),
    [
        (
            "Cc: carol\r\n",
            "554 5.6.0 Transaction failed: Missing final '@domain' in header 'Cc': 'carol' "
            "(unqualified-address; ",
        ),
        (
            "Reply-To: dave, erin@example.net\r\n",
            "554 5.6.0 Transaction failed: Missing final '@domain' in header 'Reply-To'",
        ),
        ("Cc: undisclosed-recipients:;\r\n", "250 2.0.0 Ok"),
    ],
)
async def test_an_address_without_a_domain_does_not_leave_the_gate(
    tmp_path: Path, field: str, says: str
) -> None:
    async with open_gate(tmp_path) as (gate, _):
        assert (await send(await login(gate), field + MESSAGE)).startswith(says)


async def test_a_message_that_its_line_ends_make_too_long_is_refused(tmp_path: Path) -> None:
    body = b"\n" * 1500
    async with open_gate(tmp_path, gate="max_message_octets = 2500", sections=NORMALIZE) as (
        gate,
        sink,
    ):
        dialog = await login(gate)
        reply = await send(dialog, MESSAGE.encode() + body + b"\r\n")
        assert reply.startswith("552 5.3.4 Message is too long.")
        assert (await send(dialog)).startswith("250")
        assert len(sink.messages) == 1
