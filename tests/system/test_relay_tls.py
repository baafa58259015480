import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import trustme

from smtpgate.config.upstream import UpstreamConfig
from smtpgate.core.message.body import Body
from smtpgate.core.secret import Secret
from smtpgate.core.upstream import CommandError, Octets
from smtpgate.relay import PooledUpstream
from smtpgate.relay.client_tls import tls_context
from smtpgate.tasks import TaskOwner
from tests.support.bodies import stored
from tests.support.clock import MovableClock
from tests.support.deliveries import UnsentError, deliver
from tests.support.upstream_server import (
    HANG_UP,
    SILENCE,
    TO_BOB,
    UpstreamServer,
    open_upstream,
    relay_to,
)

MESSAGE: list[Octets] = [b"Subject: Spring\r\n\r\n", b".Hello\r\n"]
USERNAME, PASSWORD = "gate", Secret("tanstaaftanstaaf")


@cache
def authority() -> trustme.CA:
    return trustme.CA()


@cache
def server_tls() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority().issue_cert("mx.example.net").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def ca_file() -> Iterator[Path]:
    with authority().cert_pem.tempfile() as path:
        yield Path(path)


@pytest.fixture(scope="module")
def other_ca_file() -> Iterator[Path]:
    with trustme.CA().cert_pem.tempfile() as path:
        yield Path(path)


@contextmanager
def no_mail(server: UpstreamServer, says: str) -> Iterator[None]:
    with pytest.raises(UnsentError, match=says):
        yield
    assert all("MAIL" not in visit.verbs for visit in server.visits)


@pytest.mark.parametrize("is_implicit", [False, True], ids=["STARTTLS", "implicit"])
async def test_a_verified_server_gets_mail_encrypted(ca_file: Path, is_implicit: bool) -> None:
    async with (
        open_upstream(
            "STARTTLS", "PIPELINING", tls=server_tls(), is_implicit=is_implicit
        ) as server,
        relay_to(
            server,
            tls="required",
            tls_implicit=is_implicit,
            ca_file=ca_file,
            tls_name="mx.example.net",
        ) as upstream,
    ):
        for _ in range(2):
            assert (await deliver(upstream, TO_BOB, MESSAGE)).is_accepted
        (visit,) = server.visits
        assert visit.is_encrypted
        assert visit.messages == [b"".join(MESSAGE)] * 2
        hello = ["EHLO"] if is_implicit else ["EHLO", "STARTTLS", "EHLO"]
        assert visit.verbs == [*hello, *["MAIL", "RCPT", "DATA"] * 2]


@pytest.mark.parametrize("is_stored", [False, True], ids=["in memory", "in a file"])
async def test_a_large_message_arrives_encrypted(ca_file: Path, is_stored: bool) -> None:
    head, piece = b"Subject: Spring\r\n\r\n", b".0123456789abcde\r\n" * 10_000
    large: list[Body] = [head, stored(*[piece] * 10) if is_stored else piece * 10]
    async with (
        open_upstream("STARTTLS", "PIPELINING", tls=server_tls()) as server,
        relay_to(
            server, tls="required", ca_file=ca_file, tls_name="mx.example.net"
        ) as upstream,
    ):
        assert (await deliver(upstream, TO_BOB, large)).is_accepted
        assert server.messages == [head + piece * 10]


@pytest.mark.parametrize("is_implicit", [False, True], ids=["STARTTLS", "implicit"])
async def test_a_certificate_for_another_name_is_not_accepted(
    ca_file: Path, is_implicit: bool
) -> None:
    async with (
        open_upstream("STARTTLS", tls=server_tls(), is_implicit=is_implicit) as server,
        relay_to(
            server,
            tls="required",
            tls_implicit=is_implicit,
            ca_file=ca_file,
            tls_name="mx.example.org",
        ) as upstream,
    ):
        with no_mail(server, "certificate not accepted: hostname mismatch"):
            await deliver(upstream, TO_BOB, MESSAGE)


async def test_a_certificate_without_the_address_is_not_accepted(ca_file: Path) -> None:
    async with (
        open_upstream("STARTTLS", tls=server_tls()) as server,
        relay_to(server, tls="required", ca_file=ca_file) as upstream,
    ):
        with no_mail(server, "certificate not accepted: IP address mismatch"):
            await deliver(upstream, TO_BOB, MESSAGE)


@pytest.mark.parametrize("is_implicit", [False, True], ids=["STARTTLS", "implicit"])
async def test_a_certificate_of_an_unknown_authority_is_not_accepted(
    other_ca_file: Path, is_implicit: bool
) -> None:
    async with (
        open_upstream("STARTTLS", tls=server_tls(), is_implicit=is_implicit) as server,
        relay_to(
            server,
            tls="required",
            tls_implicit=is_implicit,
            ca_file=other_ca_file,
            tls_name="mx.example.net",
        ) as upstream,
    ):
        with no_mail(server, "cannot connect: certificate not accepted: unable to get local"):
            await deliver(upstream, TO_BOB, MESSAGE)
        assert upstream.open_connections == 0


async def test_the_systems_authorities_are_trusted_by_default_and_ours_is_none() -> None:
    async with (
        open_upstream("STARTTLS", tls=server_tls()) as server,
        relay_to(server, tls="required", tls_name="mx.example.net") as upstream,
    ):
        with no_mail(server, "certificate not accepted"):
            await deliver(upstream, TO_BOB, MESSAGE)


def test_a_ca_file_without_a_certificate_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("[gate]\n")
    config = UpstreamConfig(name="one", host="mx.example.net", tls="required", ca_file=file)
    with pytest.raises(OSError, match=r"ca\.pem: has no certificate in PEM"):
        _ = tls_context(config)


async def test_opportunistic_tls_takes_any_certificate(other_ca_file: Path) -> None:
    async with (
        open_upstream("STARTTLS", tls=server_tls()) as server,
        relay_to(server, tls="opportunistic", ca_file=other_ca_file) as upstream,
    ):
        assert (await deliver(upstream, TO_BOB, MESSAGE)).is_accepted
        assert [visit.is_encrypted for visit in server.visits] == [True]


@pytest.mark.parametrize("tls", ["required", "opportunistic"])
async def test_what_is_said_in_clear_behind_starttls_is_not_believed(
    tls: str, ca_file: Path
) -> None:
    async with (
        open_upstream("STARTTLS", tls=server_tls()) as server,
        relay_to(server, tls=tls, ca_file=ca_file, tls_name="mx.example.net") as upstream,
    ):
        server.answers["STARTTLS"] = (
            "220 2.0.0 go ahead\r\n250-mx.example.net\r\n250 PIPELINING"
        )
        with no_mail(server, "it sent a reply to no command"):
            await deliver(upstream, TO_BOB, MESSAGE)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (SILENCE, "^upstream next: cannot connect: timed out$"),
        (HANG_UP, "^upstream next: "),
        ("554 no", "^upstream next: cannot connect: TLS failed: wrong version number$"),
    ],
)
async def test_a_handshake_that_fails_is_unavailable(answer: str, says: str) -> None:
    async with (
        open_upstream("STARTTLS") as server,
        relay_to(server, tls="required") as upstream,
    ):
        server.answers["HANDSHAKE"] = answer
        with no_mail(server, says):
            await deliver(upstream, TO_BOB, MESSAGE)
        assert upstream.open_connections == 0


@pytest.mark.parametrize("answer", [SILENCE, HANG_UP, "554 no"])
async def test_opportunistic_tls_that_fails_is_followed_by_a_fresh_plain_connection(
    answer: str,
) -> None:
    async with (
        open_upstream("STARTTLS") as server,
        relay_to(server, tls="opportunistic") as upstream,
    ):
        server.answers["HANDSHAKE"] = answer
        assert (await deliver(upstream, TO_BOB, MESSAGE)).is_accepted
        assert [visit.verbs[:2] for visit in server.visits] == [
            ["EHLO", "STARTTLS"],
            ["EHLO", "MAIL"],
        ]
        assert upstream.open_connections == 1


async def test_required_tls_is_never_left_out() -> None:
    async with open_upstream() as server, relay_to(server, tls="required") as upstream:
        with no_mail(server, "it does not offer STARTTLS"):
            await deliver(upstream, TO_BOB, MESSAGE)


async def test_a_login_goes_over_tls(ca_file: Path) -> None:
    async with (
        open_upstream("STARTTLS", "AUTH PLAIN LOGIN", tls=server_tls()) as server,
        relay_to(
            server,
            tls="required",
            ca_file=ca_file,
            tls_name="mx.example.net",
            username=USERNAME,
            password=PASSWORD,
        ) as upstream,
    ):
        assert (await deliver(upstream, TO_BOB, MESSAGE)).is_accepted
        (visit,) = server.visits
        assert visit.verbs[:4] == ["EHLO", "STARTTLS", "EHLO", "AUTH"]
        assert visit.commands[3] == "AUTH PLAIN AGdhdGUAdGFuc3RhYWZ0YW5zdGFhZg=="


async def test_a_login_in_clear_needs_a_loopback_address() -> None:
    async with (
        open_upstream("AUTH PLAIN") as server,
        relay_to(server, tls="opportunistic", username=USERNAME, password=PASSWORD) as upstream,
    ):
        assert (await deliver(upstream, TO_BOB, MESSAGE)).is_accepted
        assert server.visits[0].verbs[:2] == ["EHLO", "AUTH"]


async def test_a_refused_login_is_unavailable_and_shows_no_password() -> None:
    async with (
        open_upstream("AUTH PLAIN") as server,
        relay_to(server, username=USERNAME, password=PASSWORD) as upstream,
    ):
        server.answers["AUTH"] = "535 5.7.8 no"
        with no_mail(server, r"^upstream next: it refused our login: 535 5\.7\.8 no$"):
            await deliver(upstream, TO_BOB, MESSAGE)


async def test_a_password_of_which_no_command_can_be_made_is_found_at_start() -> None:
    server = UpstreamServer((), None)
    with pytest.raises(CommandError, match="NUL"):
        PooledUpstream(
            server.config(username="gate", password=Secret("a\0b")),
            clock=MovableClock(),
            tasks=TaskOwner(),
        )
