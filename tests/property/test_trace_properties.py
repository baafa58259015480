"""No secret and no octet of a message is in a trace, in any place where a client sends it."""

import asyncio
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smtpgate.core.transcript import TraceTarget, command_text, printable, reply_texts
from smtpgate.smtp.session_parts import SessionParts
from smtpgate.tracing import Tracer
from tests.support.inprocess import auth_plain, open_gate
from tests.support.session_wire import converse

# No octets that a gate or its upstream say by themselves.
_SECRET = "s3cr3t-{}-planted"
_BEGIN = b"EHLO client.example\r\n"
_LOGIN = b"AUTH PLAIN " + auth_plain().encode() + b"\r\n"
_ENVELOPE = b"MAIL FROM:<marketing@ses-example.com>\r\nRCPT TO:<jane@example.net>\r\n"

secrets = st.integers(0, 999_999).map(lambda number: _SECRET.format(number).encode())


def encoded(octets: bytes) -> bytes:
    return b64encode(octets)


def login_of(kind: str, secret: bytes) -> bytes:
    """Credentials, in a way in which clients send them, or send them wrongly."""
    plain, bearer = b"\0user\0" + secret, b"user=x\1auth=Bearer " + secret + b"\1\1"
    return {
        "plain": b"AUTH PLAIN " + encoded(plain),
        "plain later": b"AUTH PLAIN\r\n" + encoded(plain),
        "login": b"AUTH LOGIN\r\n" + encoded(b"user") + b"\r\n" + encoded(secret),
        "login at once": b"AUTH LOGIN " + encoded(b"user") + b"\r\n" + encoded(secret),
        "bearer": b"AUTH XOAUTH2 " + encoded(bearer),
        "bearer later": b"AUTH XOAUTH2\r\n" + encoded(bearer),
        "unknown": b"AUTH CRAM-MD5\r\n" + encoded(b"user " + secret),
        "no base64": b"AUTH PLAIN " + secret,
        "no mechanism": b"AUTH " + encoded(plain),
        "no blank": b"AUTH=" + encoded(plain),
        "small letters": b"auth login\r\n" + encoded(secret) + b"\r\n" + secret,
        "alone": encoded(secret) + b"\r\n" + secret,
        "bare line feed": b"AUTH PLAIN\n" + encoded(plain),
        "an argument": b"NOOP " + secret,
    }[kind] + b"\r\n"


def message_of(kind: str, secret: bytes) -> bytes:
    """A message, in a way in which it is taken or refused, with lines like commands."""
    body = b"Subject: %s\r\n\r\nhelo %s\r\nMail from: %s\r\nRCPT %s\r\nNOOP %s\r\n" % (
        *(secret,) * 5,
    )
    return {
        "data": _ENVELOPE + b"DATA\r\n" + body + b".\r\n",
        "refused data": b"DATA\r\n" + body + b".\r\n",
        "no recipient": b"MAIL FROM:<marketing@ses-example.com>\r\nDATA\r\n" + body + b".\r\n",
        "chunk": _ENVELOPE + b"BDAT %d LAST\r\n" % len(body) + body,
        "refused chunk": b"BDAT %d\r\n" % len(body) + body,
        "chunks": _ENVELOPE
        + b"BDAT 20\r\n%sBDAT %d LAST\r\n%s" % (body[:20], len(body) - 20, body[20:]),
    }[kind]


logins = st.sampled_from(
    [
        *(
            "plain",
            "plain later",
            "login",
            "login at once",
            "bearer",
            "bearer later",
            "unknown",
        ),
        *("no base64", "no mechanism", "no blank", "small letters", "alone"),
        *("bare line feed", "an argument"),
    ]
)
messages = st.sampled_from(
    ["data", "refused data", "no recipient", "chunk", "refused chunk", "chunks"]
)
parts_of_sessions = st.one_of(
    st.builds(login_of, logins, secrets),
    st.builds(message_of, messages, secrets),
    st.just(_LOGIN),
    st.sampled_from([b"RSET\r\n", b"NOOP\r\n", b"QUIT\r\n"]),
)
sessions = st.lists(parts_of_sessions, min_size=1, max_size=6).map(b"".join)


@dataclass
class TracedBench:
    """Sessions of a real gate, each traced."""

    loop: asyncio.AbstractEventLoop
    parts: SessionParts
    tracer: Tracer

    def texts(self, pieces: list[bytes]) -> list[str]:
        """The lines of the trace of a session."""
        trace = self.tracer.begin(TraceTarget(network="192.0.2.0/24"))
        _ = self.loop.run_until_complete(converse(self.parts, pieces, turns=1))
        self.tracer.end(trace)
        assert self.tracer.kept == 0
        return [line.text for line in trace._waiting]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TracedBench]:
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        folder: Path = tmp_path_factory.mktemp("traced")
        context = open_gate(folder)
        gate, _ = loop.run_until_complete(context.__aenter__())
        parts = gate.listeners["plain"].parts
        much = dict.fromkeys(("max_errors", "max_junk_commands", "max_auth_failures"), 1000)
        config = parts.config.model_copy(update=much | {"early_talkers": "allow"})
        try:
            yield TracedBench(loop, replace(parts, config=config), gate.service.tracer)
        finally:
            loop.run_until_complete(context.__aexit__(None, None, None))
        assert "Traceback" not in (folder / "log").read_text()


@given(sessions, st.booleans(), st.lists(st.integers(0, 3000), max_size=12))
# A line of a body that is a command, and whose refusal repeats its argument.
@example(b"DATA\r\nMail from: s3cr3t-planted\r\nVRFY s3cr3t\r\n.\r\n", True, [])
def test_no_secret_that_a_client_sends_is_in_a_trace(
    bench: TracedBench, octets: bytes, logs_in: bool, cuts: list[int]
) -> None:
    """Pipelined, cut at any octet, in the right place or in a wrong one."""
    octets = _BEGIN + (_LOGIN if logs_in else b"") + octets
    places = sorted({cut % (len(octets) + 1) for cut in cuts} | {0, len(octets)})
    shown = "\n".join(bench.texts([octets[a:b] for a, b in pairwise(places)]))
    assert "EHLO client.example" in shown
    assert "s3cr3t" not in shown
    assert "planted" not in shown
    for word in octets.replace(b"=", b" ").split():
        if len(word) >= 16 and b":<" not in word and b"client" not in word:
            assert word.decode("latin-1") not in shown


@given(st.binary(max_size=700))
def test_a_line_of_a_trace_prints_and_is_short(octets: bytes) -> None:
    for text in (command_text(octets), printable(octets), *reply_texts(octets)):
        assert text.isprintable() or not text
        assert len(text) < 5100


@given(
    *(st.text("0123456789 \n", max_size=60),) * 2, st.text("abcdef", min_size=1), st.booleans()
)
def test_a_secret_that_a_server_repeats_goes(
    before: str, after: str, secret: str, is_twice: bool
) -> None:
    said = (before + secret * (1 + is_twice) + after).encode()
    texts = reply_texts(said, [secret.encode()])
    assert not set("".join(texts)) & set("abcdef")
    assert "***" in "".join(texts)
