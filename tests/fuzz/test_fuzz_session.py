"""Any octets of a client: replies that are well-formed, or an orderly close; no traceback."""

import asyncio
import re
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.dialog import Dialog
from tests.support.inprocess import MESSAGE, auth_plain, open_gate

REPLY_LINE = re.compile(
    r"(?:220 |250[ -]|334 |354 |[245][0-9]{2}[ -][245]\.[0-9]+\.[0-9]+ )[ -~]*"
)

FREE = 'max_auth_failures = 100\nearly_talkers = "allow"'
COMMANDS = [
    b"EHLO client.example\r\n",
    b"HELO x\r\n",
    b"NOOP\r\n",
    b"RSET\r\n",
    b"STARTTLS\r\n",
    b"QUIT\r\n",
    b"AUTH PLAIN " + auth_plain().encode() + b"\r\n",
    b"AUTH LOGIN\r\n",
    b"AUTH PLAIN\r\n",
    b"*\r\n",
    b"=\r\n",
    b"MAIL FROM:<marketing@ses-example.com>\r\n",
    b"MAIL FROM:<>\r\n",
    b"RCPT TO:<jane@example.net>\r\n",
    b"DATA\r\n",
    b"BDAT 10\r\n",
    b"BDAT 0 LAST\r\n",
    b"BDAT %d LAST\r\n%s" % (len(MESSAGE), MESSAGE.encode()),
    b"BDAT x\r\n",
    MESSAGE.encode() + b".\r\n",
    MESSAGE.encode(),
    b".\r\n",
    b"\r\n.\r\n",
    b"\n.\n",
    b"From: a@example.com, \x00<b@example.com>\r\n\r\n.\r\n",
    b"X-SES-SOURCE-ARN: arn:aws:ses:::\r\nFrom: x\r\n\r\n.\r\n",
]
sessions = st.lists(st.one_of(st.sampled_from(COMMANDS), st.binary(max_size=40)), max_size=25)


def test_any_octets_get_replies_or_an_orderly_close(tmp_path: Path) -> None:
    async def converse(port: int, pieces: list[bytes]) -> None:
        dialog = await Dialog.open(port)
        greeting = await dialog.line()
        for piece in pieces:
            dialog.writer.write(piece)
        dialog.writer.write_eof()
        async with asyncio.timeout(10):
            said = await dialog.reader.read()
        await dialog.close()
        lines = [greeting, *said.decode("ascii").split("\r\n")]
        assert lines.pop() == ""
        for line in lines:
            assert REPLY_LINE.fullmatch(line), line

    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        context = open_gate(tmp_path, listener=FREE)
        gate, _ = loop.run_until_complete(context.__aenter__())
        try:
            port = gate.listeners["plain"].port

            @settings(suppress_health_check=list(HealthCheck), deadline=None)
            @given(sessions)
            def any_session(pieces: list[bytes]) -> None:
                loop.run_until_complete(converse(port, pieces))

            any_session()
            assert not gate.sessions or loop.run_until_complete(gate.sessions.drain(5)) == 0
        finally:
            loop.run_until_complete(context.__aexit__(None, None, None))
    assert "Traceback" not in (tmp_path / "log").read_text()
