"""The dialogue of the listener for mail that comes back, on both event loops."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
import trustme
import uvloop

from smtpgate.config.sections import FeedbackConfig
from smtpgate.core.reply import Reply
from smtpgate.feedback.listener import FeedbackListener
from tests.support.daemons import LOOPBACK
from tests.support.dialog import Dialog, close_dialogs
from tests.support.rows import rows
from tests.support.waiting import until

TAKEN: Final = "b+x@bounce.example.com"
LOOPS: Final = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
AUTHORITY: Final = trustme.CA()


@dataclass
class Intake:
    """Takes mail to one address and to the postmaster."""

    taken: list[tuple[str, bytes]] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def refusal(self, address: str) -> Reply | None:
        return None if address in (TAKEN, "Postmaster") else Reply(550, "5.1.1", "Not here")

    async def take(self, address: str, octets: bytes) -> Reply:
        if b"fault" in octets:
            raise LookupError("inner words")
        self.taken.append((address, octets))
        return Reply(250, "2.0.0", "Ok")


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("gate.example").configure_cert(context)
    return context


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    AUTHORITY.configure_trust(context)
    return context


@asynccontextmanager
async def listening(
    intake: Intake,
    tls: ssl.SSLContext | None = None,
    **settings: Any,  # noqa: ANN401
) -> AsyncIterator[FeedbackListener]:
    listener = FeedbackListener(
        socket.create_server((LOOPBACK, 0)),
        FeedbackConfig(**settings),
        intake,
        hostname="gate.example",
        tls=tls,
        on_error=intake.errors.append,
    )
    await listener.start()
    try:
        yield listener
    finally:
        await close_dialogs()
        await listener.stop()


async def connected(listener: FeedbackListener) -> Dialog:
    dialog = await Dialog.open(listener.port)
    assert await dialog.reply() == "220 gate.example ESMTP"
    return dialog


async def extensions(dialog: Dialog) -> list[str]:
    lines = (await dialog.say("EHLO mx.example.net")).splitlines()
    assert lines[0] == "250-gate.example"
    return [line[4:] for line in lines[1:]]


@pytest.fixture(params=LOOPS)
def on_each_loop(
    request: pytest.FixtureRequest,
) -> Callable[[Callable[[], Awaitable[None]]], None]:
    def run(test: Callable[[], Awaitable[None]]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(20):
                await test()

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(bounded())

    return run


async def test_it_offers_what_it_has() -> None:
    async with listening(Intake(), max_octets=1000) as listener:
        dialog = await connected(listener)
        offered = ["SIZE 1000", "8BITMIME", "SMTPUTF8", "HELP"]
        assert await extensions(dialog) == offered
        assert (await dialog.say("STARTTLS")).startswith("502 5.5.1")
        too_large = await dialog.say("MAIL FROM:<> SIZE=1001")
        assert too_large.startswith("552")
        assert (await dialog.say("MAIL FROM:<> SIZE=999 BODY=8BITMIME SMTPUTF8")) == "250 OK"
        assert (await dialog.say(f"RCPT TO:<{TAKEN}>")).startswith("250")
        assert (await dialog.say("DATA")).startswith("354")
        await dialog.send(b"x" * 1200 + b"\r\n.\r\n")
        assert (await dialog.reply()).startswith("552")
        assert (await dialog.say("MAIL FROM:<>")) == "250 OK"


def test_a_session_begins_again_after_starttls(
    on_each_loop: Callable[[Callable[[], Awaitable[None]]], None],
) -> None:
    async def test() -> None:
        intake = Intake()
        async with listening(intake, server_context()) as listener:
            dialog = await connected(listener)
            assert await extensions(dialog) == [
                *("SIZE 10485760", "8BITMIME", "SMTPUTF8", "STARTTLS", "HELP")
            ]
            assert (await dialog.say("MAIL FROM:<>")) == "250 OK"
            assert (await dialog.say("STARTTLS now")).startswith("501")
            # What comes in clear text behind STARTTLS is nobody's (RFC 3207 §4.2).
            assert (await dialog.say("STARTTLS\r\nRSET\r\nRSET")).startswith("220")
            await dialog.start_tls(client_context())
            assert (await dialog.say("MAIL FROM:<>")).startswith("503")
            offered = await extensions(dialog)
            assert offered == ["SIZE 10485760", "8BITMIME", "SMTPUTF8", "HELP"]
            assert (await dialog.say("STARTTLS")).startswith("502")
            assert (await dialog.say("AUTH PLAIN AGEAYg==")).startswith("502")
            assert (await dialog.say("MAIL FROM:<>")) == "250 OK"
            assert (await dialog.say(f"RCPT TO:<{TAKEN}>")).startswith("250")
            assert (await dialog.say("DATA")).startswith("354")
            await dialog.send(b"Subject: x\r\n\r\n" + b"y" * 60_000 + b"\r\n.\r\n")
            assert (await dialog.reply()) == "250 2.0.0 Ok"
            assert len(intake.taken[0][1]) == 60_016
            assert (await dialog.say("QUIT")).startswith("221")
            await until(lambda: listener.sessions == 0)

    on_each_loop(test)


def test_a_handshake_that_fails_ends_the_session_and_frees_its_place(
    on_each_loop: Callable[[Callable[[], Awaitable[None]]], None],
) -> None:
    async def test() -> None:
        intake = Intake()
        async with listening(intake, server_context(), handshake_timeout_s=0.2) as listener:
            for octets in (b"this is no TLS\r\n\r\n", b""):
                dialog = await connected(listener)
                assert (await dialog.say("STARTTLS")).startswith("220")
                await dialog.send(octets)
                await until(lambda: listener.sessions == 0)
            assert (await (await connected(listener)).say("NOOP")) == "250 OK"
        assert not intake.errors

    on_each_loop(test)


@rows(
    "command,reply",
    [
        ("VRFY jane", "252 2.5.2"),
        ("VRFY <b+x@bounce.example.com>", "252 2.5.2"),
        ("VRFY \x01<", "252 2.5.2"),
        ("VRFY", "501 5.5.4"),
        ("EXPN staff", "502 5.5.1"),
        ("HELP", "214 2.0.0 This server takes bounces"),
        ("HELP AUTH", "214 2.0.0 This server takes bounces"),
        ("AUTH PLAIN AGEAYg==", "502 5.5.1"),
        ("RSET", "250 OK"),
        ("RSET now", "501"),
        ("NOOP whatever", "250 OK"),
        ("RCPT TO:<a@example.com>", "503"),
        ("MAIL FROM:<>", "503"),
        ("DATA", "503"),
        ("BDAT 10 LAST", "500"),
        ("GET / HTTP/1.1", "500"),
        ("", "500"),
        ("x" * 600, "500"),
    ],
    ids=repr,
)
async def test_commands_that_are_odd_or_out_of_turn(command: str, reply: str) -> None:
    async with listening(Intake()) as listener:
        dialog = await connected(listener)
        assert (await dialog.say(command)).startswith(reply)
        assert (await dialog.say("HELO mx.example.net")).startswith("250 gate.example")


def test_sessions_end_with_their_time_and_with_the_listener_and_too_many_are_refused(
    on_each_loop: Callable[[Callable[[], Awaitable[None]]], None],
) -> None:
    async def test() -> None:
        async with listening(Intake(), session_s=0.2, max_connections_per_client=1) as listener:
            dialog = await connected(listener)
            other = await Dialog.open(listener.port)
            assert (await other.reply()).startswith("421 4.3.2")
            assert await other.is_closed()
            assert await dialog.is_closed()
        async with listening(Intake()) as listener:
            dialog = await connected(listener)
            await listener.stop()
            assert await dialog.is_closed()

    on_each_loop(test)


async def test_rset_forgets_the_addresses() -> None:
    async with listening(Intake()) as listener:
        dialog = await connected(listener)
        await extensions(dialog)
        for command in ("MAIL FROM:<>", f"RCPT TO:<{TAKEN}>", "RSET"):
            assert (await dialog.say(command)).startswith("250")
        assert (await dialog.say("DATA")).startswith("503")


@rows("path", ["<Postmaster>", " <Postmaster>", "Postmaster"])
async def test_the_postmaster_needs_no_domain(path: str) -> None:
    async with listening(Intake()) as listener:
        dialog = await connected(listener)
        await extensions(dialog)
        assert (await dialog.say("MAIL FROM:<a@example.net>")) == "250 OK"
        assert (await dialog.say(f"RCPT TO:{path}")).startswith("250")
        assert (await dialog.say("RCPT TO:<Postmasters>")).startswith("550")
        assert (await dialog.say("RCPT TO:<Postmaster@example.net>")).startswith("550")


async def test_a_session_that_sends_no_mail_ends_after_a_hundred_commands() -> None:
    async with listening(Intake()) as listener:
        dialog = await connected(listener)
        for _ in range(100):
            assert (await dialog.say("NOOP")) == "250 OK"
        assert (await dialog.say("NOOP")).startswith("421 4.7.0")
        assert await dialog.is_closed()


async def test_a_fault_of_the_gate_shows_nothing_of_it() -> None:
    intake = Intake()
    async with listening(intake) as listener:
        dialog = await connected(listener)
        await extensions(dialog)
        for command in ("MAIL FROM:<>", f"RCPT TO:<{TAKEN}>"):
            assert (await dialog.say(command)).startswith("250")
        assert (await dialog.say("DATA")).startswith("354")
        await dialog.send(b"fault\r\n.\r\n")
        assert (await dialog.reply()) == "451 4.3.0 Temporary failure, try again later"
    assert [str(error) for error in intake.errors] == ["inner words"]


async def test_a_client_that_leaves_within_a_message_leaves_nothing() -> None:
    intake = Intake()
    async with listening(intake) as listener:
        dialog = await connected(listener)
        await extensions(dialog)
        for command in ("MAIL FROM:<>", f"RCPT TO:<{TAKEN}>"):
            assert (await dialog.say(command)).startswith("250")
        assert (await dialog.say("DATA")).startswith("354")
        await dialog.send(b"Subject: cut")
        await dialog.close()
        await until(lambda: listener.sessions == 0)
    assert (intake.taken, intake.errors) == ([], [])
