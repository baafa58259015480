"""What form a message must have: its line ends, and what the upstream gets of it."""

from pathlib import Path

from tests.support.inprocess import MESSAGE, is_signed, login, open_gate

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
