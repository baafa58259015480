"""The relay against a server of other hands, and on another event loop."""

import asyncio
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from aiosmtpd.smtp import Envelope as TheirEnvelope
from aiosmtpd.smtp import Session as TheirSession

from smtpgate.core.address import ReversePath, parse_mailbox
from smtpgate.core.message.envelope import Envelope
from smtpgate.core.secret import Secret
from smtpgate.core.upstream import Octets
from tests.support.deliveries import DoubtError, UnsentError, deliver
from tests.support.upstream_server import (
    BOB,
    HANG_UP,
    TO_BOB,
    TO_BOTH,
    UpstreamServer,
    half_reader,
    open_upstream,
    relay_to,
)


def dotty(octets: int, seed: int = 1) -> bytes:
    """Text with many dots where they matter, and no bare CR or LF."""
    words = random.Random(seed).choices([b".", b"\r\n", b"\r\n.", b"..", b"text"], k=1000)
    text = b"".join(words) * (octets // 1000 + 1)
    return text[:octets].rstrip(b"\r\n") + b"\r\n"


@dataclass
class Peer:
    """aiosmtpd as it is, with a handler that keeps what it gets."""

    messages: list[bytes] = field(default_factory=list)
    envelopes: list[TheirEnvelope] = field(default_factory=list)
    sessions: list[TheirSession] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self,
        server: SMTP,
        session: TheirSession,
        envelope: TheirEnvelope,
        address: str,
        options: list[str],
    ) -> str:
        if address.startswith("carol"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: TheirSession, envelope: TheirEnvelope
    ) -> str:
        assert isinstance(envelope.original_content, bytes)
        self.messages.append(envelope.original_content)
        self.envelopes.append(envelope)
        self.sessions.append(session)
        return "250 2.0.0 kept"

    def login(
        self,
        server: SMTP,
        session: TheirSession,
        envelope: TheirEnvelope,
        mechanism: str,
        data: object,
    ) -> AuthResult:
        is_right = data == LoginPassword(b"gate", b"tanstaaftanstaaf")
        return AuthResult(success=is_right, handled=is_right)


@asynccontextmanager
async def aiosmtpd(**settings: Any) -> AsyncIterator[tuple[Peer, UpstreamServer]]:  # noqa: ANN401
    loop, peer = asyncio.get_running_loop(), Peer()
    server = await loop.create_server(
        lambda: SMTP(
            peer,
            hostname="mx.example.net",
            enable_SMTPUTF8=True,
            authenticator=peer.login,
            loop=loop,
            **settings,
        ),
        "127.0.0.1",
        0,
    )
    facts = UpstreamServer((), None)
    facts.port = server.sockets[0].getsockname()[1]
    try:
        yield peer, facts
    finally:
        server.close()


async def test_aiosmtpd_gets_the_message_octet_for_octet() -> None:
    async with aiosmtpd() as (peer, facts), relay_to(facts) as upstream:
        for size in (0, 1, 2, 100, 10_000):
            pieces: list[Octets] = [b"Subject: Spring\r\n\r\n", dotty(size)]
            delivery = await deliver(upstream, TO_BOB, pieces)
            assert str(delivery.reply) == "250 2.0.0 kept"
            assert peer.messages[-1] == b"".join(pieces)
        assert len({id(session) for session in peer.sessions}) == 1
        assert upstream.extensions is not None
        assert {"8BITMIME", "SMTPUTF8", "SIZE"} <= upstream.extensions


async def test_aiosmtpd_refuses_one_recipient_and_gets_nothing() -> None:
    async with aiosmtpd() as (peer, facts), relay_to(facts) as upstream:
        delivery = await deliver(upstream, TO_BOTH, [b"Subject: Spring\r\n\r\n"])
        assert [str(entry.reply) for entry in delivery.recipients] == [
            "250 2.0.0 OK",
            "550 5.1.1 no such user",
        ]
        assert peer.messages == []
        assert (await deliver(upstream, TO_BOB, [b"Subject: Spring\r\n\r\n"])).is_accepted


async def test_aiosmtpd_refuses_a_message_by_its_announced_size() -> None:
    async with aiosmtpd(data_size_limit=1000) as (peer, facts), relay_to(facts) as upstream:
        delivery = await deliver(upstream, TO_BOB, [b"x" * 1001])
        assert delivery.reply.code == 552
        assert delivery.recipients == ()
        assert peer.messages == []


async def test_aiosmtpd_takes_addresses_and_headers_beyond_ascii() -> None:
    joerg = parse_mailbox("jörg@bücher.example")
    envelope = Envelope.of(ReversePath(joerg), [joerg], body_8bit=True)
    async with aiosmtpd() as (peer, facts), relay_to(facts) as upstream:
        message = "Subject: Frühling\r\n\r\nGrüße\r\n".encode()
        assert (await deliver(upstream, envelope, [message])).is_accepted
        assert peer.messages == [message]
        assert peer.envelopes[0].mail_from == "jörg@xn--bcher-kva.example"
        assert set(peer.envelopes[0].mail_options) >= {"BODY=8BITMIME", "SMTPUTF8"}


async def test_aiosmtpd_takes_a_quoted_local_part_and_the_null_reverse_path() -> None:
    envelope = Envelope.of(ReversePath(None), [parse_mailbox('"two words"@example.net'), BOB])
    async with aiosmtpd() as (peer, facts), relay_to(facts) as upstream:
        assert (await deliver(upstream, envelope, [b"Subject: Bounce\r\n\r\n"])).is_accepted
        assert peer.envelopes[0].rcpt_tos == ['"two words"@example.net', "bob@example.net"]


@pytest.mark.parametrize("password", ["tanstaaftanstaaf", "wrong"])
async def test_aiosmtpd_wants_tls_and_a_login(tmp_path: Path, password: str) -> None:
    authority, ca_file = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("mx.example.net").configure_cert(context)
    async with (
        aiosmtpd(tls_context=context, require_starttls=True, auth_required=True) as (
            peer,
            facts,
        ),
        relay_to(
            facts,
            tls="required",
            ca_file=Path(ca_file),
            tls_name="mx.example.net",
            username="gate",
            password=Secret(password),
        ) as upstream,
    ):
        if password == "wrong":
            with pytest.raises(UnsentError, match="refused our login: 535"):
                await deliver(upstream, TO_BOB, [b"Subject: Spring\r\n\r\n"])
        else:
            await deliver(upstream, TO_BOB, [b"Subject: Spring\r\n\r\n"])
            assert peer.sessions[0].ssl is not None
            assert peer.sessions[0].authenticated


# -- on uvloop, as the gate runs in production -------------------------------------------------


async def one_after_another(tls: bool) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("mx.example.net").configure_cert(context)
    with authority.cert_pem.tempfile() as ca_file:
        async with (
            open_upstream("PIPELINING", "STARTTLS", tls=context) as server,
            relay_to(
                server,
                tls="required" if tls else "off",
                ca_file=Path(ca_file),
                tls_name="mx.example.net",
            ) as upstream,
        ):
            for size in (0, 5000, 2_000_000):
                message = dotty(size)
                assert (await deliver(upstream, TO_BOB, [message])).is_accepted
                assert server.messages[-1] == message
            assert [visit.is_encrypted for visit in server.visits] == [tls]


async def in_doubt() -> None:
    async with open_upstream("PIPELINING") as server, relay_to(server) as upstream:
        server.answers["MESSAGE"] = HANG_UP
        with pytest.raises(DoubtError):
            await deliver(upstream, TO_BOB, [b"A: b\r\n\r\n"])


async def broken_handshake() -> None:
    async with (
        open_upstream("STARTTLS") as server,
        relay_to(server, tls="opportunistic") as upstream,
    ):
        server.answers["HANDSHAKE"] = "554 no"
        assert (await deliver(upstream, TO_BOB, [b"A: b\r\n\r\n"])).is_accepted
        assert len(server.visits) == 2


async def half_a_message(then: str) -> None:
    async with half_reader(then=then, data_timeout_s=0.2) as upstream:
        with pytest.raises(UnsentError):
            await deliver(upstream, TO_BOB, [b"0123456789abcde\r\n" * 900_000])


async def nobody_there() -> None:
    async with open_upstream() as server:
        pass
    async with relay_to(server) as upstream:
        with pytest.raises(UnsentError, match="connection refused"):
            await deliver(upstream, TO_BOB, [b"A: b\r\n\r\n"])


async def in_chunks() -> None:
    async with (
        open_upstream("PIPELINING", "CHUNKING") as server,
        relay_to(server) as upstream,
    ):
        for size in (5000, 2_000_000):
            message = dotty(size)
            assert (await deliver(upstream, TO_BOB, [message])).is_accepted
            assert server.messages[-1] == message
        server.answers["BDAT"] = "552 5.3.4 too big"
        delivery = await deliver(upstream, TO_BOB, [dotty(9_000_000)])
        assert str(delivery.reply) == "552 5.3.4 too big"
        assert upstream.idle_connections == 1


async def second_address() -> None:
    places = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 25))
        for host in ("127.0.0.9", "127.0.0.1")
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("smtpgate.relay.names.look_up", lambda *_: places)
        async with (
            open_upstream() as server,
            relay_to(server, host="mx.example.net", source_address=("127.0.0.7",)) as upstream,
        ):
            assert (await deliver(upstream, TO_BOB, [b"A: b\r\n\r\n"])).is_accepted
            assert server.visits[0].peer == "127.0.0.7"


@pytest.mark.parametrize(
    "scene",
    [
        lambda: one_after_another(False),
        lambda: one_after_another(True),
        in_doubt,
        broken_handshake,
        lambda: half_a_message("hang up"),
        pytest.param(lambda: half_a_message("stop reading"), marks=pytest.mark.slow),
        nobody_there,
        in_chunks,
        second_address,
    ],
    ids=[
        "clear",
        "tls",
        "in doubt",
        "broken handshake",
        "broken off",
        "stalled",
        "refused",
        "chunks",
        "second address",
    ],
)
def test_the_relay_works_on_uvloop(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scene())
