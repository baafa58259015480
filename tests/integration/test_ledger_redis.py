"""A real Redis that is restarted, cut off, slow, full, a replica, or forgets the scripts."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from redis import Redis

from smtpgate.core.account import UNLIMITED, SendingLimits
from smtpgate.core.limits import Charge, Reservation, Subject
from smtpgate.ledger.redis import RedisLedger
from smtpgate.ports import LedgerUnavailableError
from tests.support.authority import Authority
from tests.support.badline import open_line
from tests.support.daemons import LOOPBACK, Lab, eventually, free_port
from tests.support.inprocess import login, open_gate, send
from tests.support.ledgers import RedisServer, redis_server, soon, used_24h

NOW: Final = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
SUBJECT: Final = Subject("999999999999")
CHARGES: Final = [
    Charge(SUBJECT, SendingLimits(100, UNLIMITED)),
    Charge(Subject("999999999999", "user", "mailer"), SendingLimits(UNLIMITED, 1000)),
]
TIMEOUT_S: Final = 0.5


@pytest.fixture
def server(lab: Lab) -> RedisServer:
    return redis_server(lab)


@pytest.fixture
def admin(server: RedisServer) -> Iterator[Redis]:
    with Redis.from_url(server.url, decode_responses=True) as client:
        yield client


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[RedisLedger]:
    ledger = RedisLedger(url, timeout_s=TIMEOUT_S)
    try:
        yield ledger
    finally:
        await ledger.close()


async def used(ledger: RedisLedger) -> int | None:
    try:
        return await used_24h(ledger, SUBJECT, NOW)
    except LedgerUnavailableError:
        return None


async def try_many(ledger: RedisLedger, number: int) -> int:
    """How many passed; the others were told in time that the ledger is unavailable."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    tries = [ledger.reserve(CHARGES, 1, NOW) for _ in range(number)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert loop.time() - started < TIMEOUT_S * 3
    passed = [one for one in outcomes if isinstance(one, Reservation)]
    failed = [one for one in outcomes if isinstance(one, LedgerUnavailableError)]
    assert len(passed) + len(failed) == number
    return len(passed)


async def test_a_restart_of_the_server_loses_nothing(server: RedisServer) -> None:
    async with opened(server.url) as ledger:
        kept, undone = [await ledger.reserve(CHARGES, 5, NOW) for _ in range(2)]
        await ledger.commit(kept, 5, NOW)
        server.daemon.signal(signal.SIGKILL)
        server.daemon.wait()
        assert await try_many(ledger, 20) == 0
        await ledger.refund(undone, NOW)
        server.start()
        await soon(lambda: used(ledger), 5)
        assert (await ledger.reserve(CHARGES, 1, NOW)).used == (6, 6)


async def test_a_restart_between_two_messages_is_not_noticed(server: RedisServer) -> None:
    async with opened(server.url) as ledger:
        await ledger.reserve(CHARGES, 5, NOW)
        server.daemon.signal(signal.SIGTERM)
        server.daemon.wait()
        server.start()
        await asyncio.sleep(0)
        assert (await ledger.reserve(CHARGES, 1, NOW)).used == (6, 6)


async def test_a_server_that_stands_still_holds_nobody_up_and_counts_nothing_twice(
    server: RedisServer,
) -> None:
    async with opened(server.url) as ledger:
        reservation = await ledger.reserve(CHARGES, 5, NOW)
        server.daemon.signal(signal.SIGSTOP)
        try:
            assert await try_many(ledger, 20) == 0
            assert await try_many(ledger, 20) == 0
            assert await ledger.commit(reservation, 2, NOW) == ()
        finally:
            server.daemon.signal(signal.SIGCONT)
        # It carries out what it was asked meanwhile, and then what undoes it.
        await soon(lambda: used(ledger), 2)
        assert await try_many(ledger, 20) == 20
        assert await used(ledger) == 22


@pytest.mark.parametrize("what", ["swallows_questions", "swallows_answers"])
async def test_a_line_that_swallows_is_given_up_and_what_was_counted_is_given_back(
    server: RedisServer, what: str
) -> None:
    async with open_line(server.port) as line, opened(f"redis://{LOOPBACK}:{line.port}") as one:
        assert await try_many(one, 5) == 5
        setattr(line, what, True)
        assert await try_many(one, 10) == 0
        setattr(line, what, False)
        await soon(lambda: used(one), 5)
        assert await try_many(one, 5) == 5
        assert await used(one) == 10


async def test_a_slow_line_is_waited_for_and_a_very_slow_one_is_not(
    server: RedisServer,
) -> None:
    async with open_line(server.port) as line, opened(f"redis://{LOOPBACK}:{line.port}") as one:
        line.delay_s = TIMEOUT_S / 20
        assert await try_many(one, 50) == 50
        line.delay_s = TIMEOUT_S * 2
        assert await try_many(one, 10) == 0
        line.delay_s = 0
        await soon(lambda: used(one), 50)


async def test_a_server_that_forgot_the_scripts_is_told_them_again(
    server: RedisServer, admin: Redis
) -> None:
    async with opened(server.url) as ledger:
        reservation = await ledger.reserve(CHARGES, 5, NOW)
        for _ in range(2):
            admin.script_flush()
            assert await try_many(ledger, 3) == 3
        admin.script_flush()
        await ledger.refund(reservation, NOW)
        assert await used(ledger) == 6


async def test_a_full_server_is_unavailable_until_it_has_room(
    server: RedisServer, admin: Redis
) -> None:
    async with opened(server.url) as ledger:
        assert await try_many(ledger, 3) == 3
        admin.config_set("maxmemory", "1")
        with pytest.raises(LedgerUnavailableError, match=r"OOM|maxmemory"):
            await ledger.reserve(CHARGES, 1, NOW)
        with pytest.raises(LedgerUnavailableError, match=r"OOM|maxmemory"):
            await ledger.probe()
        admin.config_set("maxmemory", "0")
        await ledger.probe()
        assert await try_many(ledger, 3) == 3
        assert await used(ledger) == 6


async def test_a_server_that_became_a_replica_is_unavailable(
    server: RedisServer, admin: Redis
) -> None:
    async with opened(server.url) as ledger:
        assert await try_many(ledger, 3) == 3
        admin.replicaof(LOOPBACK, "1")
        with pytest.raises(LedgerUnavailableError, match="read only replica"):
            await ledger.reserve(CHARGES, 1, NOW)
        with pytest.raises(LedgerUnavailableError, match="read only replica"):
            await ledger.probe()
        account, user = await ledger.standings(CHARGES, NOW)
        assert (account.left, user.used_24h) == (97, 3), "what only reads can be asked"
        admin.replicaof("NO", "ONE")
        assert await try_many(ledger, 3) == 3


async def test_a_cluster_has_all_keys_of_a_message_in_one_slot(lab: Lab) -> None:
    server = redis_server(lab, "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with Redis.from_url(server.url) as admin:
        admin.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        eventually(lambda: _is_whole(admin), "the cluster to be ready")
        async with opened(server.url) as ledger:
            assert await try_many(ledger, 10) == 10
            reservation = await ledger.reserve(CHARGES, 10, NOW)
            await ledger.commit(reservation, 3, NOW)
            assert [one.used_24h for one in await ledger.standings(CHARGES, NOW)] == [13, 13]
        slots = {admin.execute_command("CLUSTER", "KEYSLOT", key) for key in _keys(admin)}
    assert len(slots) == 1


def _is_whole(admin: Redis) -> bool:
    return bool(admin.cluster("INFO")["cluster_state"] == "ok")


def _keys(admin: Redis) -> list[str]:
    return list(admin.scan_iter("*"))


async def test_everything_that_is_kept_ends_by_itself(
    server: RedisServer, admin: Redis
) -> None:
    async with opened(server.url) as ledger:
        await ledger.reserve(CHARGES, 10, NOW)
        await ledger.commit(await ledger.reserve(CHARGES, 1, NOW), 1, NOW)
    left = {key.split(":")[3]: admin.ttl(key) for key in admin.scan_iter("*")}
    assert set(left) == {"account", "user", "open"}, "what is committed is no longer open"
    assert 900 <= left["open"] <= 960
    for kind in ("account", "user"):
        assert 48 * 3600 <= left[kind] <= 48 * 3600 + 120


async def test_the_password_and_tls_come_from_the_url(lab: Lab) -> None:
    authority = Authority(lab)
    certificate = authority.certificate("redis.example")
    server = redis_server(lab)
    tls_port = str(free_port())
    with Redis(LOOPBACK, server.port) as admin:
        admin.config_set("tls-cert-file", str(certificate.cert_file))
        admin.config_set("tls-key-file", str(certificate.key_file))
        admin.config_set("tls-ca-cert-file", str(authority.ca_file))
        admin.config_set("tls-auth-clients", "no")
        admin.config_set("tls-port", tls_port)
        admin.config_set("requirepass", "sesame")
    trusted = f"rediss://:sesame@{LOOPBACK}:{tls_port}/0?ssl_ca_certs={authority.ca_file}"
    async with opened(trusted) as ledger:
        assert await try_many(ledger, 3) == 3
    for url, problem in (
        (trusted.partition("?")[0], "certificate verify failed"),
        (f"redis://:wrong@{LOOPBACK}:{server.port}/0", "WRONGPASS|invalid username-password"),
        (f"redis://{LOOPBACK}:{server.port}/0", "unauthenticated"),
    ):
        async with opened(url) as ledger:
            with pytest.raises(LedgerUnavailableError, match=problem) as refusal:
                await ledger.reserve(CHARGES, 1, NOW)
            assert "sesame" not in str(refusal.value)


async def test_a_gate_counts_in_redis_and_refuses_when_it_is_gone(
    server: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "redis.url").write_text(f"{server.url}\n")
    (tmp_path / "redis.url").chmod(0o600)
    sections = '[ledger]\nkind = "redis"\nurl_file = "redis.url"\ntimeout_s = 0.5'
    async with open_gate(tmp_path, sections=sections) as (gate, sink):
        dialog = await login(gate)
        assert (await send(dialog)).startswith("250")
        assert await used_24h(gate.ledger, SUBJECT, gate.clock.now()) == 1
        server.daemon.signal(signal.SIGKILL)
        server.daemon.wait()
        reply = await send(dialog)
        assert reply.startswith("451 4.3.0 Temporary service failure (ledger-unavailable; ")
        server.start()
        assert (await send(dialog)).startswith("250")
        assert len(sink.messages) == 2
