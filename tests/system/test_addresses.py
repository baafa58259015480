"""The addresses of an upstream: which is connected to, and from where."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from smtpgate.relay import PooledUpstream
from smtpgate.relay.client_tls import OnFiles
from smtpgate.relay.names import Address
from smtpgate.relay.race import first_success, interleaved
from smtpgate.tasks import TaskOwner
from tests.support.clock import MovableClock, move_loop, settle
from tests.support.deliveries import UnsentError, deliver
from tests.support.rows import rows
from tests.support.upstream_server import TO_BOB, UpstreamServer, open_upstream, relay_to

MESSAGE = [b"Subject: Spring\r\n\r\n", b"Hello\r\n"]
FOUR, SIX = socket.AF_INET, socket.AF_INET6


def address(text: str, port: int = 25) -> Address:
    place = (text, port, 0, 0) if ":" in text else (text, port)
    return (SIX if ":" in text else FOUR, socket.SOCK_STREAM, 6, "", place)


def shown(addresses: Sequence[Address]) -> list[str]:
    return [one[4][0] for one in addresses]


# -- the race ----------------------------------------------------------------------------------


@rows(
    "found, wanted",
    [
        ([], []),
        (["192.0.2.1"], ["192.0.2.1"]),
        (["2001:db8::1", "192.0.2.1"], ["2001:db8::1", "192.0.2.1"]),
        (
            ["2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1"],
            ["2001:db8::1", "192.0.2.1", "2001:db8::2", "2001:db8::3"],
        ),
        (
            ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"],
            ["192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2"],
        ),
    ],
)
def test_families_take_turns_and_that_of_the_first_begins(
    found: list[str], wanted: list[str]
) -> None:
    assert shown(interleaved([address(one) for one in found])) == wanted


class Attempts:
    """Attempts that succeed or fail when a test says so."""

    def __init__(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        self.began: list[int] = []
        self.ends = [loop.create_future() for _ in range(number)]
        self.discarded: list[int] = []
        self.tasks = TaskOwner()

    def run(self) -> asyncio.Task[int]:
        attempts = [self._attempt(number) for number in range(len(self.ends))]
        return asyncio.create_task(first_success(attempts, self.discarded.append, self.tasks))

    def _attempt(self, number: int) -> Callable[[], Any]:
        async def attempt() -> int:
            self.began.append(number)
            await self.ends[number]
            return number

        return attempt


async def test_the_next_attempt_begins_a_quarter_of_a_second_later() -> None:
    attempts = Attempts(3)
    race = attempts.run()
    await settle()
    assert attempts.began == [0]
    await move_loop(0.2)
    assert attempts.began == [0]
    await move_loop(0.1)
    assert attempts.began == [0, 1]
    await move_loop(0.3)
    assert attempts.began == [0, 1, 2]
    attempts.ends[1].set_result(None)
    assert await race == 1
    assert await attempts.tasks.finish(1) == 0
    assert attempts.ends[0].cancelled()
    assert attempts.discarded == []


async def test_the_next_attempt_begins_at_once_after_a_failure() -> None:
    attempts = Attempts(2)
    race = attempts.run()
    await settle()
    attempts.ends[0].set_exception(ConnectionRefusedError(111, "refused"))
    await settle()
    assert attempts.began == [0, 1]
    attempts.ends[1].set_result(None)
    assert await race == 1


async def test_a_first_success_begins_no_other_attempt() -> None:
    attempts = Attempts(2)
    race = attempts.run()
    await settle()
    attempts.ends[0].set_result(None)
    assert await race == 0
    await move_loop(1)
    assert attempts.began == [0]


async def test_two_that_succeed_in_one_moment_are_one_and_one_too_many() -> None:
    attempts = Attempts(2)
    race = attempts.run()
    await settle()
    await move_loop(0.3)
    for end in attempts.ends:
        end.set_result(None)
    won = await race
    await settle()
    assert attempts.discarded == [1 - won]


async def test_all_that_fail_are_a_failure_and_a_defect_stays_one() -> None:
    attempts = Attempts(2)
    race = attempts.run()
    await settle()
    attempts.ends[0].set_exception(ConnectionRefusedError(111, "refused"))
    await settle()
    attempts.ends[1].set_exception(TimeoutError())
    with pytest.raises(TimeoutError):
        await race
    attempts = Attempts(2)
    race = attempts.run()
    await settle()
    attempts.ends[0].set_exception(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await race


async def test_a_race_that_is_given_up_leaves_nothing() -> None:
    attempts = Attempts(2)
    race = attempts.run()
    await settle()
    await move_loop(0.3)
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    await settle()
    assert all(end.cancelled() for end in attempts.ends)
    assert await attempts.tasks.finish(1) == 0


# -- connections -------------------------------------------------------------------------------


def look_up_as(monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
    """Have every name resolved to these addresses."""
    monkeypatch.setattr(
        "smtpgate.relay.names.look_up",
        lambda _host, port: [address(text, port) for text in texts],
    )


async def test_an_address_that_refuses_is_passed_over_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look_up_as(monkeypatch, "127.0.0.9", "127.0.0.1")
    async with open_upstream() as server, relay_to(server, host="mx.example.net") as upstream:
        assert (await deliver(upstream, TO_BOB, MESSAGE)).is_accepted


async def test_connections_come_from_the_configured_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look_up_as(monkeypatch, "::1", "127.0.0.1")  # without a source of its own IPv6 is not used
    async with (
        open_upstream() as server,
        relay_to(server, host="mx.example.net", source_address=("127.0.0.7",)) as upstream,
    ):
        assert (await deliver(upstream, TO_BOB, MESSAGE)).is_accepted
        assert server.visits[0].peer == "127.0.0.7"


async def test_an_upstream_without_an_address_of_the_source_s_family_is_unreachable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look_up_as(monkeypatch, "127.0.0.1")
    async with (
        open_upstream() as server,
        relay_to(server, host="mx.example.net", source_address=("::1",)) as upstream,
    ):
        with pytest.raises(UnsentError, match="no address of the source's family"):
            await deliver(upstream, TO_BOB, MESSAGE)


async def test_a_source_that_this_machine_has_not_says_so() -> None:
    async with (
        open_upstream() as server,
        relay_to(server, source_address=("192.0.2.1",)) as upstream,
    ):
        with pytest.raises(UnsentError, match="cannot assign requested address"):
            await deliver(upstream, TO_BOB, MESSAGE)


# -- certificates of ours ----------------------------------------------------------------------

NAME: Final = "mx.example.net"


def written(folder: Path, authority: trustme.CA, name: str) -> dict[str, Path]:
    """A certificate for that name, in the files of a configuration."""
    certificate = authority.issue_cert(name)
    cert_file, key_file = folder / "client.crt", folder / "client.key"
    certificate.cert_chain_pems[0].write_to_path(str(cert_file))
    certificate.private_key_pem.write_to_path(str(key_file))
    return {"cert_file": cert_file, "key_file": key_file}


@asynccontextmanager
async def wanting_certificates(
    folder: Path,
    *,
    has_certificate: bool = True,
    on_files: OnFiles | None = None,
) -> AsyncIterator[tuple[UpstreamServer, PooledUpstream, trustme.CA]]:
    """A server that wants certificates of one authority, and a relay that has none or one."""
    ours, theirs = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # so that a refusal ends the handshake
    theirs.issue_cert(NAME).configure_cert(context)
    ours.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    ca_file = folder / "ca.pem"
    theirs.cert_pem.write_to_path(str(ca_file))
    given: dict[str, Any] = {
        "tls": "required",
        "tls_name": NAME,
        "ca_file": ca_file,
        "max_messages": 1,
    }
    if has_certificate:
        given |= written(folder, ours, "gate.example.com")
    async with (
        open_upstream("STARTTLS", tls=context) as server,
        relay_to(server, on_files=on_files, **given) as upstream,
    ):
        yield server, upstream, ours


async def test_a_server_that_wants_a_certificate_gets_ours(tmp_path: Path) -> None:
    async with wanting_certificates(tmp_path) as (server, upstream, _):
        assert (await deliver(upstream, TO_BOB, MESSAGE)).is_accepted
        assert server.visits[0].client_names == ["gate.example.com"]


async def test_without_a_certificate_it_refuses_us(tmp_path: Path) -> None:
    async with wanting_certificates(tmp_path, has_certificate=False) as (_, upstream, _):
        with pytest.raises(UnsentError, match="upstream next: "):
            await deliver(upstream, TO_BOB, MESSAGE)


async def test_a_changed_certificate_is_used_and_one_that_cannot_be_is_not(
    tmp_path: Path,
) -> None:
    problems: list[str | None] = []

    def on_files(upstream: str, problem: str | None) -> None:
        assert upstream == "next"
        problems.append(problem)

    async with wanting_certificates(tmp_path, on_files=on_files) as (
        server,
        upstream,
        ours,
    ):
        assert (await deliver(upstream, TO_BOB, MESSAGE)).is_accepted
        written(tmp_path, ours, "new.example.com")
        await move_loop(11)
        assert (await deliver(upstream, TO_BOB, MESSAGE)).is_accepted
        (tmp_path / "client.key").write_text("half a file")
        await move_loop(11)
        assert (await deliver(upstream, TO_BOB, MESSAGE)).is_accepted
        assert [visit.client_names for visit in server.visits] == [
            ["gate.example.com"],
            ["new.example.com"],
            ["new.example.com"],
        ]
        assert len(problems) == 1
        assert "client.key" in str(problems[0])
        readings = {one.metric: one.value for one in upstream.readings()}
        assert readings["smtpgate_upstream_certificate_not_loaded"] == 1
        assert readings["smtpgate_upstream_certificate_not_after_timestamp_seconds"] > 0
        written(tmp_path, ours, "third.example.com")
        await move_loop(11)
        assert (await deliver(upstream, TO_BOB, MESSAGE)).is_accepted
        assert server.visits[-1].client_names == ["third.example.com"]
        assert problems[1:] == [None]


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_an_older_tls_than_wanted_is_refused(
    tmp_path: Path, newest: ssl.TLSVersion
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = newest
    authority.issue_cert(NAME).configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    wanted: dict[str, Any] = {
        "tls": "required",
        "tls_name": NAME,
        "ca_file": ca_file,
        "min_tls": "1.3",
    }
    async with (
        open_upstream("STARTTLS", tls=context) as server,
        relay_to(server, **wanted) as upstream,
    ):
        if newest is ssl.TLSVersion.TLSv1_3:
            assert (await deliver(upstream, TO_BOB, MESSAGE)).is_accepted
        else:
            with pytest.raises(UnsentError, match="cannot connect"):
                await deliver(upstream, TO_BOB, MESSAGE)


@rows(
    "content, says",
    [("nonsense", "client.crt"), ("", "client.crt")],
)
async def test_a_certificate_that_cannot_be_used_is_found_at_the_start(
    tmp_path: Path, content: str, says: str
) -> None:
    files = written(tmp_path, trustme.CA(), NAME)
    files["cert_file"].write_text(content)
    async with open_upstream() as server:
        with pytest.raises(OSError, match=says):
            PooledUpstream(
                server.config(tls="required", **files),
                clock=MovableClock(),
                tasks=TaskOwner(),
            )
