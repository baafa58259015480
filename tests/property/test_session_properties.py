"""Any octets of a client, cut anywhere: the replies and the messages of a second reading."""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, reject
from hypothesis import strategies as st

from smtpgate.core.message.body import StoredMessage, head_of, pieces_of
from smtpgate.core.message.envelope import Submission
from smtpgate.core.reply import Reply, reply_of
from smtpgate.ports import ClientGone
from smtpgate.smtp import chunks, messages, protocol
from smtpgate.smtp.intake import Intake
from smtpgate.smtp.session_parts import SessionParts
from tests.oracle.naive_session import MAILS, RCPTS, NaiveSession, NotInTheTableError
from tests.support.inprocess import auth_plain, open_gate
from tests.support.session_wire import converse

LOGIN = b"PLAIN " + auth_plain().encode()
LOGGED_IN = b"EHLO client.example\r\nAUTH " + LOGIN + b"\r\n"
MAX_OCTETS, MAX_RECIPIENTS = 120, 2
MUCH = 1_000_000_000
REPLY_LINE = re.compile(
    rb"(?:220 |250[ -]|354 |[245][0-9]{2}[ -][245]\.[0-9]+\.[0-9]+ )[ -~]*\r\n"
)

contents = st.lists(
    st.sampled_from(
        [b"\r\n", b".", b"\n", b"\r", b"a", b"..", b"\r\n.", b".\r\n", b"QUIT\r\n", b"\xff\0"]
    )
    | st.binary(max_size=6),
    max_size=12,
).map(b"".join)


def chunk(octets: bytes, word: bytes, off: int) -> bytes:
    """A chunk with its command; ``off`` is the error of its size."""
    return b"BDAT %d%s\r\n%s" % (max(0, len(octets) + off), word, octets)


words = st.sampled_from([b"", b" LAST", b" last"])
commands = st.one_of(
    st.sampled_from(
        [b"EHLO client.example", b"EHLO x y", b"HELO x", b"EHLO", b"NOOP", b"RSET"]
    ),
    st.sampled_from(
        [b"VRFY x", b"XYZZY", b"STARTTLS", b"AUTH " + LOGIN, b"BDAT", b"BDAT 1 LA"]
    ),
    st.sampled_from([b"QUIT", b"HELP", b"EXPN x", b"DATA x", b"", b" NOOP", b"BDAT 1 LAST"]),
    st.sampled_from(sorted(MAILS)).map(b"MAIL ".__add__),
    st.sampled_from(sorted(RCPTS)).map(b"RCPT ".__add__),
    st.just(b"DATA"),
).map(lambda line: line + b"\r\n")
data = contents.map(lambda octets: b"DATA\r\n" + octets + b"\r\n.\r\n")
bdat = st.builds(chunk, contents, words, st.just(0) | st.integers(-3, 3))
begun = st.sampled_from(
    [
        b"MAIL FROM:<>\r\nRCPT TO:<jane@example.net>\r\n",
        b"MAIL FROM:<marketing@ses-example.com>\r\nRCPT TO:<joe@example.net>\r\n",
    ]
)
parts_of_sessions = st.one_of(begun, begun, bdat, bdat, data, commands, contents)
sessions = st.tuples(
    st.sampled_from([b"", LOGGED_IN]),
    st.lists(parts_of_sessions, max_size=20).map(b"".join),
).map(b"".join)


@dataclass
class Bench:
    """Sessions of a real gate, whose messages end here."""

    loop: asyncio.AbstractEventLoop
    parts: SessionParts
    messages: list[bytes]
    errors: list[BaseException]

    def converse(self, pieces: list[bytes], spool_octets: int, turns: int) -> bytes:
        self.messages.clear()
        intake = Intake(MAX_OCTETS + 40, spool_octets=spool_octets, spool_limit=MAX_OCTETS + 40)
        parts = replace(self.parts, intake=intake)
        said = self.loop.run_until_complete(converse(parts, pieces, turns=turns))
        assert (intake.taken, intake.spooled.taken, intake.files) == (0, 0, 0)
        assert not self.errors
        return said


class _Accepting:
    """A pipeline that accepts every message, and keeps it."""

    def __init__(self, messages: list[bytes]) -> None:
        self._messages = messages

    async def submit(self, submission: Submission, *, client_gone: ClientGone = None) -> Reply:
        assert client_gone is not None
        await asyncio.sleep(0)
        message = submission.message
        is_stored = isinstance(message, StoredMessage)
        body = b"".join(pieces_of(message.body)) if isinstance(message, StoredMessage) else b""
        assert len(head_of(message) + body) == len(message), is_stored
        self._messages.append(head_of(message) + body)
        return reply_of("accepted", message_id="x")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with asyncio.Runner() as runner, pytest.MonkeyPatch.context() as patch:
        # Small pieces, so that a message of a few octets goes the way of a large one.
        for module in (protocol, messages, chunks):
            patch.setattr(module, "PAUSE_OCTETS", 16)
        for module in (messages, chunks):
            patch.setattr(module, "AHEAD_OCTETS", 32)
        loop = runner.get_loop()
        folder: Path = tmp_path_factory.mktemp("session")
        context = open_gate(folder)
        gate, _ = loop.run_until_complete(context.__aenter__())
        kept: list[bytes] = []
        errors: list[BaseException] = []
        parts = gate.listeners["plain"].parts
        free = {"max_errors": MUCH, "max_junk_commands": MUCH, "max_excess_recipients": MUCH}
        config = parts.config.model_copy(update=free | {"early_talkers": "allow"})
        parts = replace(
            parts,
            config=config,
            pipeline=_Accepting(kept),  # type: ignore[arg-type]
            max_message_octets=MAX_OCTETS,
            max_recipients=MAX_RECIPIENTS,
            on_error=errors.append,
        )
        try:
            yield Bench(loop, parts, kept, errors)
        finally:
            loop.run_until_complete(context.__aexit__(None, None, None))
        assert "Traceback" not in (folder / "log").read_text()


def cut_at(octets: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(octets) + 1) for cut in cuts} | {0, len(octets)})
    return [octets[a:b] for a, b in pairwise(places)]


def codes_of(said: bytes) -> list[str]:
    lines = said.splitlines(keepends=True)
    assert all(REPLY_LINE.fullmatch(line) for line in lines), said
    return [line[:3].decode() for line in lines if line[3:4] == b" "]


@given(
    sessions,
    st.lists(st.integers(0, 5000), max_size=12),
    st.sampled_from([MUCH, 20]),
    st.integers(0, 4),
)
@example(b"\nQUIT\r\nNOOP\r\n", [], MUCH, 0)
@example(LOGGED_IN + b"MAIL FROM:<>\r\nRCPT TO:<joe@example.net>\r\nDATA\r\n.\r\n", [], 20, 0)
def test_replies_and_messages_are_those_of_a_second_reading(
    bench: Bench, octets: bytes, cuts: list[int], spool_octets: int, turns: int
) -> None:
    """No traceback, no reply out of order, no message that did not end, no octet changed."""
    try:
        wanted = NaiveSession(octets, LOGIN, MAX_OCTETS, MAX_RECIPIENTS).run()
    except NotInTheTableError:
        reject()
    said = bench.converse(cut_at(octets, cuts), spool_octets, turns)
    assert codes_of(said) == wanted.codes
    assert bench.messages == wanted.messages


@given(contents, st.lists(st.integers(0, 5000), max_size=6), st.sampled_from([MUCH, 20]))
def test_the_pipeline_gets_exactly_the_octets_by_data_and_by_bdat(
    bench: Bench, message: bytes, cuts: list[int], spool_octets: int
) -> None:
    """Lines end with CRLF alone, so what looks like an end of data to others is none."""
    message = message[: MAX_OCTETS - 60] + b"\r\n"
    begin = b"MAIL FROM:<>\r\nRCPT TO:<joe@example.net>\r\n"
    stuffed = re.sub(rb"(\A|\r\n)\.", rb"\1..", message)
    by_bdat = b"".join(chunk(part, b"", 0) for part in cut_at(message, cuts))
    octets = b"".join(
        [
            LOGGED_IN,
            begin + b"DATA\r\n" + stuffed + b".\r\n",
            begin + by_bdat + b"BDAT 0 LAST\r\n",
        ]
    )
    bench.converse(cut_at(octets, cuts), spool_octets, 1)
    assert bench.messages == [message, message]
